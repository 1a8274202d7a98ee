"""Compressed films that are damaged within, or hold other pixels than their header says."""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
import tifffile
from odd_dicom import Make, codes, wrapped
from PIL import Image
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
)
from spinezoo_contract.errors import FilmError
from spinezoo_contract.types import FilmNoteCode
from spinezoo_spine.films.dicom import read_dicom
from spinezoo_spine.films.reader import FilmLimits, read_film

ROWS, COLUMNS = 240, 200
Y, X = np.mgrid[:ROWS, :COLUMNS]
NOISE = np.random.default_rng(6).normal(0.0, 25.0, (ROWS, COLUMNS))
DEEP = np.rint(1900 + 1400 * np.sin(Y / 31) * np.cos(X / 27) + NOISE).astype(np.uint16)
GREY = (DEEP >> 4).astype(np.uint8)


def jpeg(**settings: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "JPEG", quality=93, **settings)
    return buffer.getvalue()


def lossless(predictor: int, bits: int = 12) -> bytes:
    pixels = GREY if bits == 8 else DEEP
    return imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=bits, predictor=predictor)


def jpeg2000(level: float = 0, **settings: object) -> bytes:
    return imagecodecs.jpeg2k_encode(
        DEEP, codecformat="j2k", reversible=not level, level=level, bitspersample=12, **settings
    )


STREAMS: dict[str, tuple[str, int, Callable[[], bytes]]] = {
    "baseline": (JPEGBaseline8Bit, 8, jpeg),
    "with restart markers": (JPEGBaseline8Bit, 8, lambda: jpeg(restart_marker_rows=4)),
    "extended": (
        JPEGExtended12Bit,
        12,
        lambda: imagecodecs.jpeg8_encode(DEEP, level=93, bitspersample=12),
    ),
    **{
        f"lossless by predictor {number}": (JPEGLossless, 12, lambda n=number: lossless(n))
        for number in range(1, 8)
    },
    "lossless of 8 bits": (JPEGLosslessSV1, 8, lambda: lossless(1, 8)),
    "lossless of 16 bits": (JPEGLosslessSV1, 16, lambda: lossless(1, 16)),
    "lossless by another writer": (
        JPEGLossless,
        12,
        lambda: imagecodecs.ljpeg_encode(DEEP, bitspersample=12),
    ),
    "JPEG-LS": (JPEGLSLossless, 12, lambda: imagecodecs.jpegls_encode(DEEP)),
    "JPEG 2000": (JPEG2000Lossless, 12, jpeg2000),
    "JPEG 2000 with loss": (JPEG2000, 12, lambda: jpeg2000(70)),
}


def film(make: Make, name: str, stream: bytes) -> bytes:
    syntax, bits, _ = STREAMS[name]
    pixels = GREY if bits == 8 else DEEP
    return wrapped(make, pixels, syntax, stream + bytes(len(stream) % 2), BitsStored=bits)


def middle(stream: bytes) -> int:
    return len(stream) * 3 // 5


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "zeroed": lambda s: s[: middle(s)] + bytes(64) + s[middle(s) + 64 :],
    "lost": lambda s: s[: middle(s)] + s[middle(s) + 200 :],
    "twice": lambda s: s[: middle(s) + 200] + s[middle(s) :],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", STREAMS)
def test_damage_within_a_dicom_film(make_dicom: Make, name: str, damage: str) -> None:
    stream = STREAMS[name][2]()
    assert read_film(film(make_dicom, name, stream)).pixels.shape == (ROWS, COLUMNS)
    with pytest.raises(FilmError, match=r"damaged|truncated|cannot be decoded"):
        read_film(film(make_dicom, name, DAMAGES[damage](stream)))


@pytest.mark.parametrize("damage", ["lost", "twice"])
@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"restart_marker_blocks": 40}])
def test_damage_within_a_jpeg_file(settings: dict, damage: str) -> None:
    assert np.abs(read_film(jpeg(**settings)).pixels.astype(int) - GREY).max() < 30
    with pytest.raises(FilmError, match=r"damaged|truncated"):
        read_film(DAMAGES[damage](jpeg(**settings)))


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_damage_within_a_tiff_strip(kind: str) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, GREY, compression=kind, photometric="minisblack")
    data = buffer.getvalue()
    assert read_film(data).pixels.shape == (ROWS, COLUMNS)
    with pytest.raises(FilmError, match=r"damaged|truncated"):
        read_film(DAMAGES["zeroed"](data))


@pytest.mark.parametrize("filling", [b"\xff", b"\xff\xff\xff", b"\xff\x00"])
def test_what_fills_up_a_lossless_stream_is_no_damage(make_dicom: Make, filling: bytes) -> None:
    stream = lossless(1).removesuffix(b"\xff\xd9") + filling + b"\xff\xd9"
    assert (read_film(film(make_dicom, "lossless by predictor 1", stream)).pixels == DEEP).all()


@pytest.mark.parametrize("settings", [{}, {"progressive": True}])
def test_zeros_that_fill_up_a_block_behind_the_last_pixel(settings: dict) -> None:
    stream = jpeg(**settings).removesuffix(b"\xff\xd9")
    pixels = read_film(stream + b"\xff\xd9").pixels
    for count in (4, 16, 32):
        assert (read_film(stream + bytes(count) + b"\xff\xd9").pixels == pixels).all()
    for filling in (bytes(64), bytes(range(1, 17))):
        with pytest.raises(FilmError, match="left behind its last pixel"):
            read_film(stream + filling + b"\xff\xd9")


@pytest.mark.parametrize("name", ["baseline", "extended", "lossless by predictor 1"])
def test_a_stream_without_end_whose_last_byte_is_all_ones(make_dicom: Make, name: str) -> None:
    stream = STREAMS[name][2]().removesuffix(b"\xff\xd9")
    stream += b"\xff\x00" if not stream.endswith(b"\xff\x00") else b""
    found = read_film(film(make_dicom, name, stream))
    assert FilmNoteCode.END_MARKER_MISSING in codes(found)


@pytest.mark.parametrize("level", [35, 50, 65, 80, 95])
def test_jpeg_2000_of_any_quality_is_whole(make_dicom: Make, level: int) -> None:
    shown = read_film(film(make_dicom, "JPEG 2000 with loss", jpeg2000(level))).pixels
    assert np.corrcoef(shown.ravel(), DEEP.ravel())[0, 1] > 0.95
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(
        buffer, "JPEG2000", no_jp2=True, quality_mode="rates", quality_layers=[level, 20, 4]
    )
    data = wrapped(
        make_dicom, GREY, JPEG2000, buffer.getvalue() + bytes(len(buffer.getvalue()) % 2)
    )
    assert np.corrcoef(read_film(data).pixels.ravel(), GREY.ravel())[0, 1] > 0.95


def test_decoders_write_nothing_into_the_log(make_dicom: Make) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        assert (read_film(interlaced()).pixels == GREY).all()
        with pytest.raises(FilmError, match="code blocks end at the wrong place"):
            read_dicom(film(make_dicom, "JPEG 2000", DAMAGES["zeroed"](jpeg2000())), FilmLimits())
    finally:
        logging.getLogger().removeHandler(handler)
    assert not records


def interlaced() -> bytes:
    """A PNG of one level whose pixels come in seven passes."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    raw = b"".join(
        b"\0" + row.tobytes()
        for top, left, down, across in [*passes, (1, 0, 2, 1)]
        for row in GREY[top::down, left::across]
    )
    return png(raw, ROWS, interlace=1)


def png(raw: bytes, rows: int, interlace: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", COLUMNS, rows, 8, 0, 0, 0, interlace)
    chunks = [(b"IHDR", head), (b"IDAT", imagecodecs.zlib_encode(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", imagecodecs.zlib_crc32(name + content))
        for name, content in chunks
    )


@pytest.mark.parametrize("lost", [1, 4, 12])
def test_a_png_without_its_end_says_so(lost: int) -> None:
    data = png(b"".join(b"\0" + row.tobytes() for row in GREY), ROWS)
    assert FilmNoteCode.END_MARKER_MISSING not in codes(read_film(data))
    cut = read_film(data[:-lost])
    assert (cut.pixels == GREY).all()
    assert FilmNoteCode.END_MARKER_MISSING in codes(cut)


# ------------------------------------------------------------ other pixels than the header states


@pytest.mark.parametrize("rows", [ROWS - 1, ROWS - 40, 16])
def test_a_png_of_more_rows_than_its_header_states(rows: int) -> None:
    raw = b"".join(b"\0" + row.tobytes() for row in GREY)
    assert (read_film(png(raw, ROWS)).pixels == GREY).all()
    with pytest.raises(FilmError, match="more pixels than the"):
        read_film(png(raw, rows))


@pytest.mark.parametrize("rows", [ROWS - 8, ROWS - 80, ROWS + 40])
@pytest.mark.parametrize("settings", [{}, {"progressive": True}])
def test_a_jpeg_of_other_rows_than_its_header_states(settings: dict, rows: int) -> None:
    stream = jpeg(**settings)
    stated = struct.pack(">HH", ROWS, COLUMNS)
    assert stream.count(stated) == 1
    with pytest.raises(FilmError, match=r"damaged|truncated"):
        read_film(stream.replace(stated, struct.pack(">HH", rows, COLUMNS)))


def tiff(compression: str | None, **change: int) -> bytes:
    """A TIFF of twelve strips, some of whose tags say something else."""
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, GREY, compression=compression, rowsperstrip=20, photometric="minisblack"
    )
    buffer.seek(0)
    with tifffile.TiffFile(buffer, mode="r+b") as file:
        for name, value in change.items():
            file.pages[0].tags[name].overwrite(value)
    return buffer.getvalue()


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "zstd", "lzma"])
def test_a_tiff_of_other_strips_than_its_header_states(compression: str | None) -> None:
    assert (read_film(tiff(compression)).pixels == GREY).all()
    with pytest.raises(FilmError, match="has 14 strips or tiles, 12 of them are there"):
        read_film(tiff(compression, ImageLength=ROWS + 40))
    with pytest.raises(FilmError, match="holds more pixels than a film of 200 x 200"):
        read_film(tiff(compression, ImageLength=ROWS - 40))


@pytest.mark.parametrize("compression", [None, "lzw", "lzma"])
def test_a_tiff_of_one_strip_with_rows_too_many(compression: str | None) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, GREY, compression=compression, rowsperstrip=ROWS, photometric="minisblack"
    )
    assert (read_film(buffer.getvalue()).pixels == GREY).all()
    buffer.seek(0)
    with tifffile.TiffFile(buffer, mode="r+b") as file:
        file.pages[0].tags["ImageLength"].overwrite(ROWS - 9)
        file.pages[0].tags["RowsPerStrip"].overwrite(ROWS - 9)
    with pytest.raises(FilmError, match="holds more pixels than a film of 231 x 200"):
        read_film(buffer.getvalue())
