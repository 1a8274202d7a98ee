"""DICOM pixel data as it comes: compressed, in colour, of undefined length, mislabelled, cut."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
from odd_dicom import COLUMNS, DEEP, GREY, ROWS, Make, X, Y, codes, wrapped
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from spinezoo_contract.client import film_kind
from spinezoo_contract.errors import FilmError
from spinezoo_contract.types import FilmNoteCode
from spinezoo_spine.films.reader import read_film, read_film_size


def jpeg2000(pixels: np.ndarray, bits: int, **settings: object) -> bytes:
    return imagecodecs.jpeg2k_encode(
        pixels, codecformat="j2k", reversible=True, level=0, bitspersample=bits, **settings
    )


def tiled(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG2000", no_jp2=True, tile_size=(64, 64))
    return buffer.getvalue()


STREAMS: dict[str, tuple[str, Callable[[], bytes], np.ndarray, int]] = {
    "baseline": (JPEGBaseline8Bit, lambda: imagecodecs.jpeg8_encode(GREY, level=95), GREY, 8),
    "extended": (
        JPEGExtended12Bit,
        lambda: imagecodecs.jpeg8_encode(DEEP, level=97, bitspersample=12),
        DEEP,
        12,
    ),
    "lossless": (
        JPEGLosslessSV1,
        lambda: imagecodecs.jpeg8_encode(DEEP, lossless=True, bitspersample=12, predictor=1),
        DEEP,
        12,
    ),
    "lossless by another writer": (
        JPEGLossless,
        lambda: imagecodecs.ljpeg_encode(DEEP, bitspersample=12),
        DEEP,
        12,
    ),
    "lossless of 8 bits": (
        JPEGLosslessSV1,
        lambda: imagecodecs.jpeg8_encode(GREY, lossless=True),
        GREY,
        8,
    ),
    "JPEG-LS": (JPEGLSLossless, lambda: imagecodecs.jpegls_encode(DEEP), DEEP, 12),
    "JPEG-LS of 8 bits": (JPEGLSLossless, lambda: imagecodecs.jpegls_encode(GREY), GREY, 8),
    "JPEG 2000": (JPEG2000Lossless, lambda: jpeg2000(DEEP, 12), DEEP, 12),
    "JPEG 2000 of 8 bits": (JPEG2000Lossless, lambda: jpeg2000(GREY, 8), GREY, 8),
    "JPEG 2000 in tiles": (JPEG2000, lambda: tiled(GREY), GREY, 8),
}


def tolerance(name: str) -> int:
    return {"baseline": 12, "extended": 60}.get(name, 0)


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("has_bot", [True, False])
def test_compressed_films(make_dicom: Make, name: str, fragments: int, has_bot: bool) -> None:
    syntax, build, pixels, bits = STREAMS[name]
    data = wrapped(
        make_dicom, pixels, syntax, build(), fragments=fragments, bot=has_bot, BitsStored=bits
    )
    film = read_film(data)
    assert np.abs(film.pixels.astype(int) - pixels).max() <= tolerance(name)
    assert read_film_size(data) == (ROWS, COLUMNS)
    assert (FilmNoteCode.LOSSY_COMPRESSION in codes(film)) == (tolerance(name) > 0)


@pytest.mark.parametrize("name", [name for name in STREAMS if STREAMS[name][3] == 8])
@pytest.mark.parametrize("stored", [8, 12, 16])
def test_streams_of_8_bits_under_16_allocated(make_dicom: Make, name: str, stored: int) -> None:
    syntax, build, pixels, _ = STREAMS[name]
    wide = pixels.astype(np.uint16)
    film = read_film(wrapped(make_dicom, wide, syntax, build(), BitsStored=stored))
    assert np.abs(film.pixels.astype(int) - pixels).max() <= tolerance(name)
    inverted = wrapped(
        make_dicom,
        wide,
        syntax,
        build(),
        BitsStored=stored,
        PhotometricInterpretation="MONOCHROME1",
    )
    turned = (1 << stored) - 1 - read_film(inverted).pixels.astype(int)
    assert np.abs(turned - pixels).max() <= tolerance(name)


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_a_stream_that_ends_early(make_dicom: Make, name: str, share: float, end: bytes) -> None:
    syntax, build, pixels, bits = STREAMS[name]
    stream = build()
    cut = stream[: int(len(stream) * share)] + end
    data = wrapped(make_dicom, pixels, syntax, cut + bytes(len(cut) % 2), BitsStored=bits)
    with pytest.raises(FilmError, match="truncated"):
        read_film(data)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_lacks_its_end_marker(make_dicom: Make, name: str) -> None:
    syntax, build, pixels, bits = STREAMS[name]
    stream = build().removesuffix(b"\xff\xd9")
    data = wrapped(make_dicom, pixels, syntax, stream, BitsStored=bits)
    film = read_film(data)
    assert np.abs(film.pixels.astype(int) - pixels).max() <= tolerance(name)
    assert FilmNoteCode.END_MARKER_MISSING in codes(film)


def test_a_flat_corner_is_no_missing_data(make_dicom: Make) -> None:
    for name in ("baseline", "extended", "lossless"):
        syntax, _, pixels, bits = STREAMS[name]
        flat = pixels.copy()
        flat[64:, 64:] = 1 << (bits - 1)
        settings = {"lossless": True} if name == "lossless" else {"level": 95}
        stream = imagecodecs.jpeg8_encode(flat, bitspersample=bits, **settings)
        # Some writers fill up with 0xFF before the end marker.
        for whole in (stream, stream.removesuffix(b"\xff\xd9") + b"\xff\xff\xd9"):
            film = read_film(wrapped(make_dicom, flat, syntax, whole, BitsStored=bits))
            assert np.abs(film.pixels.astype(int) - flat).max() <= 90


@pytest.mark.parametrize("bits", [8, 12])
def test_extended_whose_scan_header_says_0(make_dicom: Make, bits: int) -> None:
    pixels = GREY if bits == 8 else DEEP
    stream = bytearray(imagecodecs.jpeg8_encode(pixels, level=97, bitspersample=bits))
    scan = stream.index(b"\xff\xda")
    end = scan + 2 + struct.unpack_from(">H", stream, scan + 2)[0]
    assert stream[end - 2] == 63
    stream[end - 2] = 0
    data = wrapped(make_dicom, pixels, JPEGExtended12Bit, bytes(stream), BitsStored=bits)
    film = read_film(data)
    assert np.abs(film.pixels.astype(int) - pixels).max() <= 60
    assert FilmNoteCode.STREAM_REPAIRED in codes(film)


@pytest.mark.parametrize("name", ["lossless", "JPEG-LS", "JPEG 2000"])
def test_a_stream_deeper_than_the_header_says(make_dicom: Make, name: str) -> None:
    syntax, build, pixels, _ = STREAMS[name]
    with pytest.raises(FilmError, match="values have 10 bits, but they have 12"):
        read_film(wrapped(make_dicom, pixels, syntax, build(), BitsStored=10))
    with pytest.raises(FilmError, match=r"8 bits in 8, its compressed image has 1\d"):
        read_film(wrapped(make_dicom, GREY, syntax, build()))


def test_a_deeper_stream_of_fitting_values(make_dicom: Make) -> None:
    for syntax, stream in (
        (JPEG2000Lossless, jpeg2000(DEEP, 16)),
        (JPEGLosslessSV1, imagecodecs.jpeg8_encode(DEEP, lossless=True, bitspersample=16)),
    ):
        film = read_film(wrapped(make_dicom, DEEP, syntax, stream, BitsStored=12))
        assert (film.pixels == DEEP).all()


def test_overlay_bits_within_compressed_pixels(make_dicom: Make) -> None:
    text = (Y // 5 % 3 == 0) & (X // 7 % 2 == 0)
    cells = DEEP | np.where(text, 1 << 14, 0).astype(np.uint16)
    film = read_film(
        wrapped(make_dicom, cells, JPEG2000Lossless, jpeg2000(cells, 16), BitsStored=12)
    )
    assert (film.pixels == DEEP).all()
    assert FilmNoteCode.BITS_MASKED in codes(film)


@pytest.mark.parametrize("stream_signed", [True, False])
def test_signed_jpeg_2000(make_dicom: Make, stream_signed: bool) -> None:
    signed = DEEP.astype(np.int16) - 2048
    cells = signed if stream_signed else (signed.view(np.uint16) & 0x0FFF)
    film = read_film(
        wrapped(make_dicom, signed, JPEG2000Lossless, jpeg2000(cells, 12), BitsStored=12)
    )
    assert (film.pixels == DEEP).all()


def test_htj2k(make_dicom: Make) -> None:
    try:
        stream = imagecodecs.htj2k_encode(DEEP)
    except (AttributeError, imagecodecs.DelayedImportError):
        pytest.skip("no encoder of HTJ2K is installed")
    film = read_film(wrapped(make_dicom, DEEP, HTJ2KLossless, stream, BitsStored=12))
    assert (film.pixels == DEEP).all()


# ---------------------------------------------------------------------------------------- RLE


def rle(pixels: np.ndarray) -> bytes:
    """One run a row: two segments, the high bytes first."""

    def segment(plane: np.ndarray) -> bytes:
        body = b"".join(bytes([len(row) - 1]) + row.tobytes() for row in plane)
        return body + bytes(len(body) % 2)

    parts = [segment((pixels >> 8).astype(np.uint8)), segment((pixels & 255).astype(np.uint8))]
    offsets = [64, 64 + len(parts[0])]
    return struct.pack("<16I", 2, *offsets, *[0] * 13) + b"".join(parts)


def test_rle(make_dicom: Make) -> None:
    film = read_film(wrapped(make_dicom, DEEP, RLELossless, rle(DEEP), BitsStored=12))
    assert (film.pixels == DEEP).all()


@pytest.mark.parametrize("case", ["one row fewer", "one row more", "a byte too far", "cut"])
def test_rle_that_does_not_fit(make_dicom: Make, case: str) -> None:
    stream = rle(DEEP)
    stored = DEEP
    if case == "one row fewer":
        stored = DEEP[:-1]
    elif case == "one row more":
        stored = np.vstack([DEEP, DEEP[:1]])
    elif case == "a byte too far":
        last = 1 + COLUMNS
        stream = stream[:-last] + bytes([COLUMNS]) + DEEP[-1].astype("u1").tobytes() + b"\x07"
    else:
        stream = stream[: len(stream) // 2]
    stream += bytes(len(stream) % 2)
    data = wrapped(make_dicom, stored, RLELossless, stream, BitsStored=12)
    with pytest.raises(FilmError, match=r"DICOM pixel data|decoder broke off"):
        read_film(data)


# ------------------------------------------------------------------------------------- colour


def planes(*channels: np.ndarray) -> np.ndarray:
    return np.dstack(channels)


COLOUR: dict[str, tuple[np.ndarray, dict[str, object]]] = {
    "RGB": (planes(GREY, GREY, GREY), {"PhotometricInterpretation": "RGB"}),
    "RGB by plane": (
        np.stack([GREY, GREY, GREY]),
        {"PhotometricInterpretation": "RGB", "PlanarConfiguration": 1},
    ),
    "YBR_FULL": (
        planes(GREY, np.full_like(GREY, 128), np.full_like(GREY, 128)),
        {"PhotometricInterpretation": "YBR_FULL"},
    ),
    "RGB of 16 bits": (
        planes(DEEP, DEEP, DEEP),
        {"PhotometricInterpretation": "RGB", "BitsStored": 12},
    ),
}


@pytest.mark.parametrize("name", COLOUR)
def test_grey_films_in_colour(make_dicom: Make, name: str) -> None:
    stored, attributes = COLOUR[name]
    grey = DEEP if stored.dtype == np.uint16 else GREY
    attributes = {"PlanarConfiguration": 0, "SamplesPerPixel": 3, **attributes}
    film = read_film(make_dicom(stored, Rows=ROWS, Columns=COLUMNS, **attributes))
    assert (film.pixels == grey).all()
    assert FilmNoteCode.CHANNELS_MERGED in codes(film)
    stored = stored.copy()
    coloured = stored[1] if name == "RGB by plane" else stored[..., 1]
    coloured[30:40, 30:40] += 90
    with pytest.raises(FilmError, match=r"not grey: .* pixels are coloured"):
        read_film(make_dicom(stored, Rows=ROWS, Columns=COLUMNS, **attributes))


def test_subsampled_colour(make_dicom: Make) -> None:
    neutral = np.full((ROWS, COLUMNS // 2), 128, np.uint8)
    stored = np.stack([GREY[:, ::2], GREY[:, 1::2], neutral, neutral], axis=-1)
    film = read_film(
        make_dicom(
            stored.reshape(ROWS, COLUMNS * 2),
            Rows=ROWS,
            Columns=COLUMNS,
            SamplesPerPixel=3,
            PlanarConfiguration=0,
            PhotometricInterpretation="YBR_FULL_422",
        )
    )
    assert (film.pixels == GREY).all()


@pytest.mark.parametrize(
    ("photometric", "syntax"),
    [
        ("RGB", JPEGBaseline8Bit),
        ("YBR_FULL_422", JPEGBaseline8Bit),
        ("YBR_RCT", JPEG2000Lossless),
        ("RGB", JPEG2000Lossless),
        ("RGB", RLELossless),
    ],
)
def test_compressed_colour(make_dicom: Make, photometric: str, syntax: str) -> None:
    stored = planes(GREY, GREY, GREY)
    attributes = {
        "SamplesPerPixel": 3,
        "PlanarConfiguration": 0,
        "PhotometricInterpretation": photometric,
        "Rows": ROWS,
        "Columns": COLUMNS,
    }
    if syntax == RLELossless:
        data = make_dicom(stored, change=lambda d: d.compress(RLELossless), **attributes)
    else:
        if syntax == JPEGBaseline8Bit:
            space = "RGB" if photometric == "RGB" else "YCBCR"
            stream = imagecodecs.jpeg8_encode(
                stored, level=95, colorspace="RGB", outcolorspace=space
            )
        else:
            stream = jpeg2000(stored, 8, mct=photometric == "YBR_RCT")
        data = wrapped(make_dicom, stored, syntax, stream, **attributes)
    film = read_film(data)
    assert np.abs(film.pixels.astype(int) - GREY).max() <= 12


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("segmented", [False, True])
def test_grey_palettes(make_dicom: Make, bits: int, segmented: bool) -> None:
    step = 1 if bits == 8 else 257
    entries = (255 - np.arange(256)) * step

    def change(dataset: Dataset) -> None:
        for colour in ("Red", "Green", "Blue"):
            name = f"{colour}PaletteColorLookupTable"
            setattr(dataset, f"{name}Descriptor", [256, 0, bits])
            if segmented:  # one discrete entry, then a straight line to the last
                words = [0, 1, int(entries[0]), 1, 255, int(entries[-1])]
                data = struct.pack("<6B" if bits == 8 else "<6H", *words)
                setattr(dataset, f"Segmented{name}Data", data)
            else:
                data = entries.astype("u1" if bits == 8 else "<u2").tobytes()
                setattr(dataset, f"{name}Data", data)

    film = read_film(make_dicom(GREY, PhotometricInterpretation="PALETTE COLOR", change=change))
    expected = entries[GREY]
    assert np.abs(film.pixels.astype(int) - expected).max() <= (1 if segmented else 0) * step


# ---------------------------------------------------------------------------- native pixel data


@pytest.mark.parametrize("fragments", [1, 2])
def test_native_pixels_of_undefined_length(make_dicom: Make, fragments: int) -> None:
    def change(dataset: Dataset) -> None:
        content = DEEP.tobytes()
        size = len(content) // fragments
        dataset.PixelData = b"".join(
            b"\xfe\xff\x00\xe0" + struct.pack("<I", size) + content[place : place + size]
            for place in range(0, len(content), size)
        )
        dataset["PixelData"].is_undefined_length = True

    film = read_film(make_dicom(DEEP, BitsStored=12, change=change))
    assert (film.pixels == DEEP).all()


def test_big_endian_without_preamble_through_the_client(make_dicom: Make) -> None:
    data = make_dicom(DEEP.byteswap(), syntax=ExplicitVRBigEndian, BitsStored=12)
    length = struct.unpack_from("<I", data, 140)[0]
    bare = data[144 + length :]
    assert film_kind(bare) == "dicom"
    assert (read_film(bare, kind=film_kind(bare)).pixels == DEEP).all()


def test_big_endian_bytes_in_words(make_dicom: Make) -> None:
    stored = np.ascontiguousarray(GREY).view(np.uint16).byteswap().view(np.uint8)
    film = read_film(make_dicom(stored, syntax=ExplicitVRBigEndian))
    assert (film.pixels == GREY).all()


@pytest.mark.parametrize(
    "missing",
    ["BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "Modality", "SOPClassUID"],
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_optional_attributes_may_be_missing(make_dicom: Make, missing: str, syntax: str) -> None:
    def change(dataset: Dataset) -> None:
        if syntax == RLELossless:
            dataset.compress(RLELossless)
        elif syntax == JPEG2000Lossless:
            dataset.file_meta.TransferSyntaxUID = UID(syntax)
            dataset.PixelData = encapsulate([jpeg2000(DEEP, 12)])
            dataset["PixelData"].is_undefined_length = True
        delattr(dataset, missing)

    film = read_film(make_dicom(DEEP, BitsStored=12, change=change))
    assert (film.pixels == DEEP).all()


def relabelled(data: bytes, syntax: str) -> bytes:
    """A file of Explicit VR Little Endian with another transfer syntax in its meta header."""
    value = (syntax + "\0" * (len(syntax) % 2)).encode()
    old = b"UI\x14\x00" + ExplicitVRLittleEndian.encode() + b"\0"
    changed = data.replace(old, b"UI" + struct.pack("<H", len(value)) + value)
    (length,) = struct.unpack_from("<I", changed, 140)
    return changed[:140] + struct.pack("<I", length + len(value) - 20) + changed[144:]


MISLABELLED = {
    "compressed, said to be native": (ExplicitVRLittleEndian, True, "they are a JPEG stream"),
    "native, said to be compressed": (JPEGBaseline8Bit, False, "but they are not, or are missing"),
    "JPEG, said to be JPEG 2000": (JPEG2000Lossless, True, "the pixels are a jpeg stream"),
    "an unknown syntax": ("1.2.3.4.5", True, "transfer syntax is not known"),
    "a video": ("1.2.840.10008.1.2.4.102", True, "transfer syntax .* is not known|MPEG|begin"),
}


@pytest.mark.parametrize("name", MISLABELLED)
def test_mislabelled_pixels(make_dicom: Make, name: str) -> None:
    syntax, is_jpeg, words = MISLABELLED[name]
    stream = imagecodecs.jpeg8_encode(GREY, level=50)
    stream += bytes(len(stream) % 2)

    def change(dataset: Dataset) -> None:
        if is_jpeg:
            dataset.PixelData = (
                stream if syntax == ExplicitVRLittleEndian else encapsulate([stream])
            )
            dataset["PixelData"].VR = "OB"
            dataset["PixelData"].is_undefined_length = syntax != ExplicitVRLittleEndian
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian

    data = relabelled(make_dicom(GREY, change=change), syntax)
    with pytest.raises(FilmError, match=words):
        read_film(data)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGBaseline8Bit])
def test_empty_pixel_data(make_dicom: Make, syntax: str) -> None:
    def change(dataset: Dataset) -> None:
        dataset.PixelData = b""

    with pytest.raises(FilmError, match="pixel data is empty"):
        read_film(relabelled(make_dicom(GREY, change=change), syntax))


def test_several_frames_by_the_offset_table(make_dicom: Make) -> None:
    stream = imagecodecs.jpeg8_encode(GREY, level=80)
    stream += bytes(len(stream) % 2)

    def change(dataset: Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.PixelData = encapsulate([stream, stream])
        dataset["PixelData"].is_undefined_length = True

    with pytest.raises(FilmError, match="2 frames"):
        read_film(make_dicom(GREY, change=change))


@pytest.mark.parametrize(
    "table",
    [None, [8], [0xFFFFFFF0], [0, 0], "each fragment"],
    ids=["left out", "begins late", "beyond the end", "twice the same", "each fragment"],
)
def test_an_offset_table_that_is_wrong_or_left_out(make_dicom: Make, table: object) -> None:
    stream = imagecodecs.jpegls_encode(DEEP)
    stream += bytes(len(stream) % 2)
    pieces = [stream[:5000], stream[5000:]]
    if table is not None:
        offsets = [0, 5008] if table == "each fragment" else table
        pieces.insert(0, struct.pack(f"<{len(offsets)}I", *offsets))

    def change(dataset: Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
        items = (struct.pack("<HHI", 0xFFFE, 0xE000, len(piece)) + piece for piece in pieces)
        dataset.PixelData = b"".join(items)
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True

    film = read_film(make_dicom(DEEP, BitsStored=12, change=change))
    assert (film.pixels == DEEP).all()


@pytest.mark.parametrize("marker", [0xC9, 0xCA, 0xCB])
def test_arithmetic_coding_is_named(make_dicom: Make, marker: int) -> None:
    """Its decoders fill in what is missing and do not say so."""
    stream = bytearray(imagecodecs.jpeg8_encode(GREY, level=90))
    stream[stream.index(b"\xff\xc0") + 1] = marker
    with pytest.raises(FilmError, match="arithmetic"):
        read_film(bytes(stream))
    with pytest.raises(FilmError, match="arithmetic coding"):
        read_film(wrapped(make_dicom, GREY, JPEGBaseline8Bit, bytes(stream)))


def test_deflated_data_that_is_cut(make_dicom: Make) -> None:
    data = make_dicom(DEEP, syntax=DeflatedExplicitVRLittleEndian, BitsStored=12)
    assert (read_film(data).pixels == DEEP).all()
    with pytest.raises(FilmError, match="truncated"):
        read_film(data[:-200])


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (lambda plain: zlib.compress(plain, 1), r"header of zlib \(RFC 1950\)"),
        (lambda plain: zlib.compress(plain, 9), r"header of zlib \(RFC 1950\)"),
        (gzip.compress, r"a gzip file \(RFC 1952\)"),
        (bytes, "not deflated at all"),
        (lambda plain: b"\xff" * len(plain), "is damaged"),
    ],
)
def test_data_that_is_said_to_be_deflated_and_is_something_else(
    make_dicom: Make, wrap: Callable[[bytes], bytes], words: str
) -> None:
    data = make_dicom(DEEP, syntax=DeflatedExplicitVRLittleEndian, BitsStored=12)
    begin = 144 + struct.unpack_from("<I", data, 140)[0]
    plain = zlib.decompress(data[begin:], -zlib.MAX_WBITS)
    for read in (read_film, read_film_size):
        with pytest.raises(FilmError, match=f"{words}.*; export it as Explicit VR Little Endian"):
            read(data[:begin] + wrap(plain))


# ------------------------------------------------------------------------------ no films at all

NO_FILMS = {
    "1.2.840.10008.5.1.4.1.1.88.11": "a structured report",
    "1.2.840.10008.5.1.4.1.1.88.22": "a structured report",
    "1.2.840.10008.5.1.4.1.1.88.67": "a structured report",
    "1.2.840.10008.5.1.4.1.1.104.1": "a PDF document",
    "1.2.840.10008.1.3.10": "a DICOMDIR",
    "1.2.840.10008.5.1.4.1.1.11.1": "a presentation state",
    "1.2.840.10008.5.1.4.1.1.88.59": "a list of key images",
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation",
    "1.2.840.10008.5.1.4.1.1.481.5": "a radiotherapy plan",
    "1.2.840.10008.5.1.4.1.1.9.1.1": "a waveform",
}


@pytest.mark.parametrize("sop_class", NO_FILMS)
@pytest.mark.parametrize("with_pixels", [True, False])
def test_objects_that_are_no_images(make_dicom: Make, sop_class: str, with_pixels: bool) -> None:
    def change(dataset: Dataset) -> None:
        dataset.SOPClassUID = UID(sop_class)
        dataset.file_meta.MediaStorageSOPClassUID = UID(sop_class)
        if not with_pixels:
            for keyword in ("PixelData", "Rows", "Columns", "PhotometricInterpretation"):
                delattr(dataset, keyword)

    with pytest.raises(FilmError, match=f"DICOM file is {NO_FILMS[sop_class]}"):
        read_film(make_dicom(GREY, change=change))


def test_a_presentation_film_is_one(make_dicom: Make) -> None:
    film = read_film(make_dicom(GREY, SOPClassUID=DigitalXRayImageStorageForPresentation))
    assert (film.pixels == GREY).all()


def test_a_transfer_syntax_of_another_data_type(make_dicom: Make) -> None:
    """Found by fuzzing."""
    data = make_dicom(GREY)
    changed = data.replace(b"\x02\x00\x10\x00UI", b"\x02\x00\x10\x00LO")
    assert changed != data
    assert (read_film(changed).pixels == GREY).all()


def test_the_wavelet_that_loses_is_noted(make_dicom: Make) -> None:
    for reversible in (True, False):
        stream = imagecodecs.jpeg2k_encode(
            DEEP, codecformat="j2k", reversible=reversible, level=60, bitspersample=12
        )
        film = read_film(wrapped(make_dicom, DEEP, JPEG2000, stream, BitsStored=12))
        assert (FilmNoteCode.LOSSY_COMPRESSION in codes(film)) != reversible
