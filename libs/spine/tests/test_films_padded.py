"""Strips and tiles of TIFF that hold more than they need: padding, or pixels beyond the header."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from spinezoo_contract.errors import FilmError
from spinezoo_spine.films.reader import read_film

ROWS, COLUMNS = 50, 64
Y, X = np.mgrid[:ROWS, :COLUMNS]
DEEP = np.rint(1900 + 1400 * np.sin(Y / 11) * np.cos(X / 13)).astype(np.uint16)
GREY = (DEEP >> 4).astype(np.uint8)


def by_rows(data: bytes, row: int) -> bytes:
    """PackBits as TIFF 6.0 has it: each row by itself."""
    return b"".join(
        imagecodecs.packbits_encode(data[first : first + row]) for first in range(0, len(data), row)
    )


Pack = Callable[[bytes, int], bytes]

CODECS: dict[str, tuple[Callable[..., Any], Pack]] = {
    "zlib": (imagecodecs.zlib_decode, lambda data, _: bytes(imagecodecs.zlib_encode(data))),
    "packbits": (imagecodecs.packbits_decode, by_rows),
    "zstd": (imagecodecs.zstd_decode, lambda data, _: bytes(imagecodecs.zstd_encode(data))),
    "lzw": (imagecodecs.lzw_decode, lambda data, _: bytes(imagecodecs.lzw_encode(data))),
    "lzma": (imagecodecs.lzma_decode, lambda data, _: bytes(imagecodecs.lzma_encode(data))),
}
JUDGED = ["zlib", "packbits", "zstd"]
"""Compressions whose decoders refuse what is too much."""


def written(pixels: np.ndarray, compression: str | None, **more: Any) -> bytes:
    buffer = io.BytesIO()
    more = {"photometric": "minisblack", **more}
    if "tile" not in more:
        more = {"rowsperstrip": 16, **more}
    tifffile.imwrite(buffer, pixels, compression=compression, **more)
    return buffer.getvalue()


def changed(
    data: bytes, change: Callable[[list[bytes]], list[bytes]], compression: str, row: int
) -> bytes:
    """A TIFF whose strips or tiles hold something else before they are packed."""
    unpack, pack = CODECS[compression]
    plain = bytearray(data)
    file = io.BytesIO(data)
    with tifffile.TiffFile(file) as read:
        page = read.pages.first
        strips = [
            bytes(unpack(data[offset : offset + size]))
            for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True)
        ]
        names = (324, 325) if page.is_tiled else (273, 279)
    offsets, sizes = [], []
    for strip in change(strips):
        packed = pack(strip, row)
        offsets.append(len(plain))
        sizes.append(len(packed))
        plain += packed
    file = io.BytesIO(plain)
    with tifffile.TiffFile(file, mode="r+b") as edited:
        for name, values in zip(names, (offsets, sizes), strict=True):
            edited.pages.first.tags[name].overwrite(values, dtype="I")
    return file.getvalue()


def pad(count: int) -> Callable[[list[bytes]], list[bytes]]:
    """So many bytes more in every strip."""
    return lambda strips: [strip + b"\x07" * count for strip in strips]


def fill_last(strips: list[bytes]) -> list[bytes]:
    """The last strip as long as the others."""
    return [*strips[:-1], strips[-1].ljust(len(strips[0]), b"\0")]


@pytest.mark.parametrize("compression", list(CODECS))
@pytest.mark.parametrize("change", [pad(1), pad(3), pad(COLUMNS - 1), fill_last])
def test_padding_is_left_out(compression: str, change: Callable) -> None:
    data = written(GREY, compression)
    assert (read_film(changed(data, change, compression, COLUMNS)).pixels == GREY).all()


LAYOUTS: list[tuple[np.ndarray, dict[str, Any]]] = [
    (DEEP, {}),
    (DEEP, {"byteorder": ">"}),
    (DEEP, {"predictor": True}),
    (DEEP / np.float32(3), {"predictor": 3}),
    (DEEP, {"bigtiff": True}),
    (GREY, {"tile": (32, 48)}),
    (np.dstack([GREY] * 3), {"photometric": "rgb"}),
    (np.stack([GREY] * 3), {"photometric": "rgb", "planarconfig": "separate"}),
]


@pytest.mark.parametrize(
    ("compression", "pixels", "settings"),
    [
        (compression, *layout)
        for compression in JUDGED
        for layout in LAYOUTS
        if compression != "packbits" or "predictor" not in layout[1]  # tifffile writes none such
    ],
)
def test_padding_of_every_layout(compression: str, pixels: np.ndarray, settings: dict) -> None:
    data = written(pixels, compression, **settings)
    expected = read_film(data).pixels
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        samples = page.samplesperpixel if page.planarconfig == 1 else 1
        width = page.tilewidth if page.is_tiled else page.imagewidth
        row = width * samples * page.dtype.itemsize
    for change in (pad(1), pad(row - 1)):
        assert (read_film(changed(data, change, compression, row)).pixels == expected).all()
    with pytest.raises(FilmError, match="holds more pixels than a film of 50 x 64"):
        read_film(changed(data, pad(row), compression, row))


@pytest.mark.parametrize("compression", JUDGED)
def test_the_last_strip_of_every_plane_may_be_filled_up(compression: str) -> None:
    settings = {"photometric": "rgb", "planarconfig": "separate"}
    data = written(np.stack([GREY] * 3), compression, **settings)

    def fill(strips: list[bytes]) -> list[bytes]:
        return [strip.ljust(len(strips[0]), b"\x07") for strip in strips]

    assert (read_film(changed(data, fill, compression, COLUMNS)).pixels == GREY).all()


@pytest.mark.parametrize("compression", list(CODECS))
def test_a_strip_that_lacks_a_byte_is_not_whole(compression: str) -> None:
    def cut(strips: list[bytes]) -> list[bytes]:
        return [strips[0], strips[1][:-1], *(strip + b"\0" for strip in strips[2:])]

    with pytest.raises(FilmError, match="truncated or damaged"):
        read_film(changed(written(GREY, compression), cut, compression, COLUMNS))


@pytest.mark.parametrize("compression", JUDGED)
def test_rows_behind_those_of_the_others_are_no_padding(compression: str) -> None:
    def one_more(strips: list[bytes]) -> list[bytes]:
        return [*strips[:-1], strips[-1].ljust(len(strips[0]) + COLUMNS, b"\0")]

    with pytest.raises(FilmError, match="holds more pixels than a film of 50 x 64"):
        read_film(changed(written(GREY, compression), one_more, compression, COLUMNS))


def test_bytes_that_damage_puts_into_packbits_are_no_padding() -> None:
    """It has no checksum: where damage made a strip longer, rows do not begin with a count."""
    noisy = np.random.default_rng(1).integers(0, 256, GREY.shape).astype(np.uint8)
    data = changed(written(noisy, "packbits"), pad(1), "packbits", COLUMNS)
    assert (read_film(data).pixels == noisy).all()
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        start = file.pages.first.dataoffsets[0]
    assert data[start] == COLUMNS - 1  # the first row as it is
    damaged = bytearray(data)
    damaged[start] += 1
    with pytest.raises(FilmError, match="truncated or damaged"):
        read_film(bytes(damaged))


def test_differences_of_levels_without_compression() -> None:
    assert (read_film(written(GREY, "zlib", predictor=True)).pixels == GREY).all()
    data = written(GREY, None, extratags=[(65000, "H", 1, 2, True)])
    entry = struct.pack("<HHI", 65000, 3, 1)
    assert data.count(entry) == 1
    with pytest.raises(FilmError, match="without compression"):
        read_film(data.replace(entry, struct.pack("<HHI", 317, 3, 1)))


PICTURES = ["lerc", "jpeg2000", "jpegxl", "png", "jpeg", "webp"]


@pytest.mark.parametrize("compression", [*CODECS, *PICTURES])
@pytest.mark.parametrize("name", ["ImageLength", "ImageWidth"])
def test_a_header_of_fewer_rows_or_columns_than_one_strip_has(compression: str, name: str) -> None:
    coloured = compression == "webp"
    pixels = np.dstack([GREY] * 3) if coloured else GREY
    more = {"photometric": "rgb"} if coloured else {}
    data = written(pixels, compression, rowsperstrip=ROWS, **more)
    read_film(data)
    file = io.BytesIO(data)
    with tifffile.TiffFile(file, mode="r+b") as edited:
        tags = edited.pages.first.tags
        tags[name].overwrite(tags[name].value - 18)
        if name == "ImageLength":
            tags["RowsPerStrip"].overwrite(tags[name].value)
    with pytest.raises(FilmError, match="holds more pixels than a film of"):
        read_film(file.getvalue())


@pytest.mark.parametrize("compression", PICTURES)
def test_a_last_picture_may_have_the_rows_of_the_others(compression: str) -> None:
    coloured = compression == "webp"
    pixels = np.dstack([GREY] * 3) if coloured else GREY
    more = {"photometric": "rgb"} if coloured else {}
    whole = written(np.pad(pixels, ((0, 14), (0, 0), (0, 0))[: pixels.ndim]), compression, **more)
    file = io.BytesIO(whole)
    with tifffile.TiffFile(file, mode="r+b") as edited:
        edited.pages.first.tags["ImageLength"].overwrite(ROWS)
    shown = read_film(file.getvalue()).pixels
    assert shown.shape == GREY.shape
    assert (shown == read_film(whole).pixels[:ROWS]).all()
