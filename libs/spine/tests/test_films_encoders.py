"""DICOM films as some encoders write them: big-endian colours, wide palettes, loss beyond bits."""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import pytest
from odd_dicom import COLUMNS, DEEP, GREY, ROWS, Make, X, Y, codes, wrapped
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    RLELossless,
)
from spinezoo_contract.errors import FilmError
from spinezoo_contract.types import FilmNoteCode
from spinezoo_spine.films.reader import read_film


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_big_endian_films_in_colour(make_dicom: Make, photometric: str, bits: int) -> None:
    grey = (DEEP >> 4 if bits == 8 else DEEP << (bits - 12)).astype(np.uint16)
    neutral = np.full_like(grey, 1 << (bits - 1))
    stored = np.dstack([grey, *((grey, grey) if photometric == "RGB" else (neutral, neutral))])
    data = make_dicom(
        stored.astype(">u2"),
        syntax=ExplicitVRBigEndian,
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        PhotometricInterpretation=photometric,
        BitsStored=bits,
        Rows=ROWS,
        Columns=COLUMNS,
    )
    assert (read_film(data).pixels == grey).all()


def test_ybr_of_many_bits_in_jpeg_2000(make_dicom: Make) -> None:
    neutral = np.full_like(DEEP, 2048)
    stored = np.dstack([DEEP, neutral, neutral])
    data = wrapped(
        make_dicom,
        stored,
        JPEG2000Lossless,
        imagecodecs.jpeg2k_encode(
            stored, codecformat="j2k", reversible=True, level=0, bitspersample=12, mct=False
        ),
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        PhotometricInterpretation="YBR_FULL",
        BitsStored=12,
        Rows=ROWS,
        Columns=COLUMNS,
    )
    assert (read_film(data).pixels == DEEP).all()


WHITE = np.where((X // 13 + Y // 13) % 2, 1023, DEEP // 6).astype(np.uint16)


@pytest.mark.parametrize("syntax", [JPEGExtended12Bit, JPEG2000])
def test_values_beyond_their_bits_by_loss_are_white(make_dicom: Make, syntax: str) -> None:
    if syntax == JPEG2000:
        stream = imagecodecs.jpeg2k_encode(
            WHITE, codecformat="j2k", reversible=False, level=45, bitspersample=12
        )
        decoded = imagecodecs.jpeg2k_decode(stream)
    else:
        stream = imagecodecs.jpeg8_encode(WHITE, level=80, bitspersample=12)
        decoded = imagecodecs.jpeg8_decode(stream)
    assert decoded.max() > 1023
    data = wrapped(make_dicom, WHITE, syntax, stream + bytes(len(stream) % 2), BitsStored=10)
    assert (read_film(data).pixels == np.minimum(decoded, 1023)).all()


def test_loss_is_no_reason_for_bits_that_are_wrong(make_dicom: Make) -> None:
    stream = imagecodecs.jpeg8_encode(DEEP, level=95, bitspersample=12)
    with pytest.raises(FilmError, match="header says that values have 10 bits, but they have 12"):
        read_film(wrapped(make_dicom, DEEP, JPEGExtended12Bit, stream, BitsStored=10))


@pytest.mark.parametrize("signed", [False, True])
def test_rle_without_the_bytes_that_are_zero(make_dicom: Make, signed: bool) -> None:
    low = GREY >> 1
    segment = b"".join(imagecodecs.packbits_encode(row.tobytes()) for row in low)
    stream = struct.pack("<16I", 1, 64, *[0] * 14) + segment + bytes(len(segment) % 2)
    wide = low.astype(np.uint16)
    sign = int(signed)
    film = read_film(
        wrapped(make_dicom, wide, RLELossless, stream, BitsStored=8, PixelRepresentation=sign)
    )
    assert (film.pixels == low + 128 * sign).all()
    with pytest.raises(FilmError, match="has 1 RLE segments, its header asks for 2"):
        read_film(wrapped(make_dicom, wide, RLELossless, stream, BitsStored=12))


@pytest.mark.parametrize("process", [53, 55])
def test_processes_that_the_standard_has_retired(make_dicom: Make, process: int) -> None:
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "JPEG", quality=95, progressive=True)
    stream = buffer.getvalue() + bytes(len(buffer.getvalue()) % 2)
    data = wrapped(make_dicom, GREY, f"1.2.840.10008.1.2.4.{process}", stream)
    film = read_film(data)
    assert np.abs(film.pixels.astype(int) - GREY).max() <= 12
    assert FilmNoteCode.LOSSY_COMPRESSION in codes(film)


@pytest.mark.parametrize(
    ("syntax", "bits"),
    [(ExplicitVRLittleEndian, 8), (ExplicitVRLittleEndian, 16), (ExplicitVRBigEndian, 16)],
)
def test_a_palette_of_more_than_256_entries(make_dicom: Make, syntax: str, bits: int) -> None:
    order = "<" if syntax == ExplicitVRLittleEndian else ">"
    entries = (np.arange(4096) >> 4 if bits == 8 else np.arange(4096) * 16).astype(f"{order}u2")
    packed = entries.astype(np.uint8).tobytes() if bits == 8 else entries.tobytes()

    def change(dataset: Dataset) -> None:
        for colour in ("Red", "Green", "Blue"):
            setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [4096, 0, bits])
            setattr(dataset, f"{colour}PaletteColorLookupTableData", packed)

    film = read_film(
        make_dicom(
            DEEP.astype(f"{order}u2"),
            syntax=syntax,
            change=change,
            BitsStored=12,
            PhotometricInterpretation="PALETTE COLOR",
        )
    )
    assert (film.pixels == entries.astype(np.uint16)[DEEP]).all()
