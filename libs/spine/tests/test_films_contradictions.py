"""DICOM headers that contradict the pixels or themselves: read right, or refused by name."""

from __future__ import annotations

import struct
from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
from odd_dicom import COLUMNS, DEEP, GREY, NOISE, ROWS, Make, codes, wrapped
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from spinezoo_contract.errors import FilmError
from spinezoo_contract.types import Film, FilmNoteCode
from spinezoo_spine.films.reader import read_film

WHOLE = np.rint((DEEP - DEEP.min()) * (65535.0 / np.ptp(DEEP))).astype(np.uint16)


def same(film: Film, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    values = [each.astype(float) for each in (film.pixels, expected)]
    spread = [(each - each.min()) / (each.max() - each.min()) for each in values]
    np.testing.assert_allclose(*spread, atol=tolerance)


# ------------------------------------------------------------------------------ sign, byte order

SIGNED = {
    "16 bits": ((WHOLE.astype(np.int32) - 32768).astype(np.int16), 16),
    "12 bits of 16 stored": ((DEEP.astype(np.int32) - 1900).astype(np.int16), 16),
    "8 bits": ((WHOLE // 257).astype(np.uint8) - 128, 8),
}


@pytest.mark.parametrize("name", SIGNED)
def test_a_wrong_sign_is_named(make_dicom: Make, name: str) -> None:
    stored, bits = SIGNED[name]
    stored = stored.astype(f"i{stored.itemsize}")
    unsigned = (stored.astype(np.int32) + (1 << (bits - 1))).astype(f"u{stored.itemsize}")
    for pixels, right in ((stored, 1), (unsigned, 0)):
        same(read_film(make_dicom(pixels, PixelRepresentation=right)), stored)
        if name == "12 bits of 16 stored" and not right:
            continue  # lies on one side of the middle: no level wraps
        with pytest.raises(FilmError, match="Pixel Representation"):
            read_film(make_dicom(pixels, PixelRepresentation=1 - right))


def test_white_letters_on_black_are_no_wrong_sign(make_dicom: Make) -> None:
    stored = GREY.copy()
    stored[:, :50] = 0
    stored[10:80:4, 5:45:3] = 255
    assert (read_film(make_dicom(stored)).pixels == stored).all()
    noisy = (stored // 2 + NOISE * 3).astype(np.uint8)
    assert (read_film(make_dicom(noisy)).pixels == noisy).all()


@pytest.mark.parametrize("bits", [8, 12])
def test_a_painted_grid_is_no_wrong_sign(make_dicom: Make, bits: int) -> None:
    top = (1 << bits) - 1
    stretched = np.clip((DEEP - 1000.0) / 2300, 0, 1) * 0.99 + NOISE / 4000
    stored = np.rint(stretched * top).astype(np.uint8 if bits == 8 else np.uint16)
    stored[5::20] = stored[:, 5::20] = top
    assert (read_film(make_dicom(stored, BitsStored=bits)).pixels == stored).all()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("bits", [12, 16])
def test_bytes_in_the_other_order_are_named(make_dicom: Make, syntax: str, bits: int) -> None:
    stored = DEEP if bits == 12 else WHOLE
    right = stored if syntax == ExplicitVRLittleEndian else stored.byteswap()
    same(read_film(make_dicom(right, syntax=syntax, BitsStored=bits)), stored)
    with pytest.raises(FilmError, match=r"bytes in the other order|bits"):
        read_film(make_dicom(right.byteswap(), syntax=syntax, BitsStored=bits))


@pytest.mark.parametrize("stored", [DEEP, GREY])
def test_sides_that_are_exchanged_are_named(make_dicom: Make, stored: np.ndarray) -> None:
    data = make_dicom(stored, BitsStored=4 + 4 * stored.itemsize, Rows=COLUMNS, Columns=ROWS)
    with pytest.raises(FilmError, match=rf"Rows and Columns are exchanged.* {ROWS} x {COLUMNS}"):
        read_film(data)


def test_noise_is_taken_as_it_is(make_dicom: Make) -> None:
    noise = np.random.default_rng(1).integers(0, 4096, (ROWS, COLUMNS)).astype(np.uint16)
    assert (read_film(make_dicom(noise, BitsStored=12)).pixels == noise).all()


def test_a_pixel_representation_that_is_none(make_dicom: Make) -> None:
    with pytest.raises(FilmError, match="PixelRepresentation 2"):
        read_film(make_dicom(DEEP, BitsStored=12, PixelRepresentation=2))


@pytest.mark.parametrize("bits", [2, 6, 7])
def test_fewer_bits_than_8(make_dicom: Make, bits: int) -> None:
    stored = GREY >> (8 - bits)
    assert (read_film(make_dicom(stored, BitsStored=bits)).pixels == stored).all()
    with pytest.raises(FilmError, match=f"values have {bits} bits, but they have 12"):
        read_film(make_dicom(DEEP, BitsStored=bits))


def test_a_photometric_interpretation_that_is_none(make_dicom: Make) -> None:
    with pytest.raises(FilmError, match="its pixels are MONOCHROME, which is not taken"):
        read_film(make_dicom(GREY, PhotometricInterpretation="MONOCHROME"))
    with pytest.raises(FilmError, match="of an unknown kind, which is not taken"):
        read_film(make_dicom(GREY, PhotometricInterpretation="MONOCHROME 2"))


# ------------------------------------------------------------------------------- size and frames


@pytest.mark.parametrize(("rows", "columns"), [(-1, 0), (0, -1), (-3, 0), (-32, 32)])
def test_native_pixels_of_another_size(make_dicom: Make, rows: int, columns: int) -> None:
    data = make_dicom(DEEP, BitsStored=12, Rows=ROWS + rows, Columns=COLUMNS + columns)
    with pytest.raises(FilmError, match="its header is of another size"):
        read_film(data)


@pytest.mark.parametrize("extra", [b"\0", b"\0\0", bytes(range(64))])
def test_filling_behind_native_pixels(make_dicom: Make, extra: bytes) -> None:
    def change(dataset: Dataset) -> None:
        dataset.PixelData += extra + b"\0" * (len(extra) % 2)

    assert (read_film(make_dicom(DEEP, BitsStored=12, change=change)).pixels == DEEP).all()


@pytest.mark.parametrize("bot", [True, False])
def test_native_pixels_wrapped_like_compressed_ones(make_dicom: Make, bot: bool) -> None:
    data = wrapped(make_dicom, DEEP, ExplicitVRLittleEndian, DEEP.tobytes(), bot=bot, BitsStored=12)
    assert (read_film(data).pixels == DEEP).all()


FRAMES: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
    "JPEG": (JPEGBaseline8Bit, lambda a: imagecodecs.jpeg8_encode(a, level=95)),
    "lossless JPEG": (JPEGLosslessSV1, lambda a: imagecodecs.jpeg8_encode(a, lossless=True)),
    "JPEG-LS": (JPEGLSLossless, imagecodecs.jpegls_encode),
    "JPEG 2000": (JPEG2000Lossless, lambda a: imagecodecs.jpeg2k_encode(a, codecformat="j2k")),
    "RLE": (
        RLELossless,
        lambda a: np.array([1, 64, *[0] * 14], "<u4").tobytes() + imagecodecs.packbits_encode(a),
    ),
}


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("count", [2, 3])
def test_frames_that_the_header_does_not_count(make_dicom: Make, name: str, count: int) -> None:
    syntax, encode = FRAMES[name]
    stream = encode(GREY)
    one = read_film(wrapped(make_dicom, GREY, syntax, stream, bot=False))
    assert np.abs(one.pixels.astype(int) - GREY).max() <= 12
    with pytest.raises(FilmError, match=f"{count} frames"):
        read_film(wrapped(make_dicom, GREY, syntax, *[stream] * count, bot=False))


# ---------------------------------------------------------------------------------------- colour

COLOURS = {"PlanarConfiguration": 0, "SamplesPerPixel": 3, "Rows": ROWS, "Columns": COLUMNS}


def three(grey: np.ndarray) -> np.ndarray:
    middle = np.full_like(grey, 128)
    return np.dstack([grey, middle, middle])


YBR: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
    "lossless JPEG": (
        JPEGLosslessSV1,
        lambda a: imagecodecs.jpeg8_encode(
            a, lossless=True, predictor=1, colorspace="RGB", outcolorspace="RGB"
        ),
    ),
    "JPEG-LS": (JPEGLSLossless, imagecodecs.jpegls_encode),
    "JPEG 2000": (
        JPEG2000Lossless,
        lambda a: imagecodecs.jpeg2k_encode(a, codecformat="j2k", mct=False, level=0),
    ),
}


@pytest.mark.parametrize("name", [*YBR, "RLE"])
def test_grey_films_in_ybr_of_any_compression(make_dicom: Make, name: str) -> None:
    pixels = three(GREY)
    more = {**COLOURS, "PhotometricInterpretation": "YBR_FULL"}
    if name == "RLE":
        data = make_dicom(pixels, change=lambda d: d.compress(RLELossless), **more)
    else:
        data = wrapped(make_dicom, pixels, YBR[name][0], YBR[name][1](pixels), **more)
    assert (read_film(data).pixels == GREY).all()
    pixels[40:60, 40:60, 1] = 200
    if name == "RLE":
        data = make_dicom(pixels, change=lambda d: d.compress(RLELossless), **more)
    else:
        data = wrapped(make_dicom, pixels, YBR[name][0], YBR[name][1](pixels), **more)
    with pytest.raises(FilmError, match="not grey: 400 pixels are coloured"):
        read_film(data)


def test_a_colour_transform_of_the_stream_is_believed_before_the_header(make_dicom: Make) -> None:
    stream = imagecodecs.jpeg2k_encode(np.dstack([GREY] * 3), codecformat="j2k", mct=True, level=0)
    more = {**COLOURS, "PhotometricInterpretation": "YBR_FULL"}
    film = read_film(wrapped(make_dicom, three(GREY), JPEG2000Lossless, stream, **more))
    assert (film.pixels == GREY).all()


def test_dark_coloured_films_of_16_bits_are_coloured(make_dicom: Make) -> None:
    coloured = np.dstack([GREY, np.roll(GREY, 9, 1), np.roll(GREY, 20, 0)]).astype(np.uint16)
    data = make_dicom(coloured, **COLOURS, PhotometricInterpretation="RGB")
    with pytest.raises(FilmError, match="pixels are coloured"):
        read_film(data)


@pytest.mark.parametrize("coloured", [True, False])
def test_palettes_of_8_bits_written_as_16(make_dicom: Make, coloured: bool) -> None:
    def change(dataset: Dataset) -> None:
        for place in range(3):
            entries = np.arange(256) * (1 + 16 * place * coloured) % 256
            dataset.add_new(0x00281101 + place, "US", [256, 0, 16])
            dataset.add_new(0x00281201 + place, "OW", entries.astype("<u2").tobytes())

    data = make_dicom(GREY, PhotometricInterpretation="PALETTE COLOR", change=change)
    if coloured:
        with pytest.raises(FilmError, match="pixels are coloured"):
            read_film(data)
    else:
        same(read_film(data), GREY)


# ------------------------------------------------------------------------- transforms, padding


def with_table(keyword: str, count: int, first: int, entries: np.ndarray) -> dict[str, object]:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [count, first, 12])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return {keyword: Sequence([item])}


@pytest.mark.parametrize(
    "table",
    [
        with_table("ModalityLUTSequence", 4096, 0, np.full(4096, 77)),
        with_table("ModalityLUTSequence", 256, 0, np.arange(256)),
        with_table("ModalityLUTSequence", 256, 30000, np.arange(256)),
    ],
)
def test_a_modality_lut_that_hides_the_film_is_ignored(make_dicom: Make, table: dict) -> None:
    film = read_film(make_dicom(DEEP, BitsStored=12, **table))
    assert (film.pixels == DEEP).all()
    assert FilmNoteCode.LOOK_UP_TABLE_IGNORED in codes(film)


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("items", [[], [Dataset()]])
def test_empty_tables_are_absent(make_dicom: Make, keyword: str, items: list[Dataset]) -> None:
    more = {"RescaleSlope": "-1", "RescaleIntercept": "4095", keyword: Sequence(items)}
    same(read_film(make_dicom(DEEP, BitsStored=12, **more)), 4095 - DEEP.astype(int))


def test_a_rescale_that_leaves_no_levels_is_ignored(make_dicom: Make) -> None:
    film = read_film(
        make_dicom(DEEP, BitsStored=12, RescaleSlope="1e-20", RescaleIntercept="100000")
    )
    assert (film.pixels == DEEP).all()
    assert FilmNoteCode.RESCALE_IGNORED in codes(film)


@pytest.mark.parametrize("inverse", [True, False])
def test_a_presentation_table_is_noted(make_dicom: Make, inverse: bool) -> None:
    entries = np.arange(4096)[:: -1 if inverse else 1]
    table = with_table("PresentationLUTSequence", 4096, 0, entries)
    film = read_film(make_dicom(DEEP, BitsStored=12, **table))
    assert (film.pixels == DEEP).all()
    assert FilmNoteCode.LOOK_UP_TABLE_IGNORED in codes(film)
    assert (FilmNoteCode.POLARITY_DOUBTFUL in codes(film)) == inverse


def test_padding_of_nearly_all_of_the_film_is_not_believed(make_dicom: Make) -> None:
    film = read_film(
        make_dicom(DEEP, BitsStored=12, PixelPaddingValue=0, PixelPaddingRangeLimit=3250)
    )
    assert (film.pixels == DEEP).all()
    assert FilmNoteCode.PADDING_DOUBTFUL in codes(film)


@pytest.mark.parametrize(("vr", "value"), [("DS", "0"), ("UN", b"\0\0"), ("OW", b"\0\0")])
def test_padding_of_another_data_type(make_dicom: Make, vr: str, value: object) -> None:
    stored = DEEP.copy()
    stored[:20] = 0
    data = make_dicom(
        stored, BitsStored=12, change=lambda dataset: dataset.add_new(0x00280120, vr, value)
    )
    assert read_film(data).pixels[:20].max() == stored[20:].min()


# ------------------------------------------------------------------------------ transfer syntaxes


@pytest.mark.parametrize(
    ("syntax", "words"),
    [
        ("1.2.840.10008.1.2.4.102", "an MPEG video"),
        ("1.2.840.10008.1.2.4.107", "an MPEG video"),
        ("1.2.840.10008.1.2.1.98", "wrapped but not compressed"),
        ("1.2.840.10008.1.2.4.110", "JPEG XL"),
        ("1.2.840.10008.1.2.8.1", "deflation"),
    ],
)
def test_transfer_syntaxes_that_are_not_taken_are_named(
    make_dicom: Make, syntax: str, words: str
) -> None:
    data = wrapped(make_dicom, GREY, JPEG2000Lossless, b"\0" * 4000)
    written = syntax.encode() + b"\0" * (len(syntax) % 2)
    place = data.index(b"\x02\0\x10\0UI")  # the library writes none that it does not know
    end = place + 8 + len(JPEG2000Lossless)
    meta_bytes = struct.unpack_from("<I", data, 140)[0] + len(written) - len(JPEG2000Lossless)
    data = b"".join(
        [
            data[:140],
            struct.pack("<I", meta_bytes),
            data[144:place],
            b"\x02\0\x10\0UI",
            struct.pack("<H", len(written)),
            written,
            data[end:],
        ]
    )
    with pytest.raises(FilmError, match=words):
        read_film(data)
