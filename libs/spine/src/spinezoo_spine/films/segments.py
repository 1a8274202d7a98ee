"""Strips and tiles of TIFF: whether they hold the pixels that the header states, and no others.

A strip is whole when it holds at least the bytes of its rows. What is more is padding up to less
than a row; a last strip may be filled up to the rows of the others. TIFF 6.0 says nothing of
either, and libtiff takes both.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from spinezoo_contract.errors import FilmError

from spinezoo_spine.films.streams import stream_head

_COMPRESSION = tifffile.COMPRESSION

_LEAVE_OUT = {_COMPRESSION.LZW: imagecodecs.lzw_decode, _COMPRESSION.LZMA: imagecodecs.lzma_decode}
"""Decompressors of bytes that leave out what is too much."""

_PICTURES: dict[int, Callable[[bytes], Any]] = {
    _COMPRESSION.LERC: imagecodecs.lerc_decode,
    _COMPRESSION.JPEGXL: imagecodecs.jpegxl_decode,
    _COMPRESSION.PNG: imagecodecs.png_decode,
    _COMPRESSION.WEBP: imagecodecs.webp_decode,
}
"""Decoders of pictures that have a size of their own; JPEG and JPEG 2000 state it in front."""

_EXACT = {
    _COMPRESSION.ADOBE_DEFLATE: imagecodecs.zlib_decode,
    _COMPRESSION.DEFLATE: imagecodecs.zlib_decode,
    _COMPRESSION.PACKBITS: imagecodecs.packbits_decode,
    _COMPRESSION.ZSTD: imagecodecs.zstd_decode,
    _COMPRESSION.ZSTD_DEPRECATED: imagecodecs.zstd_decode,
}
"""Decompressors of bytes that refuse to give more than they are asked for."""

_BLOCK = 16
"""JPEG has blocks of 8 or 16 rows and columns, which writers fill up."""

_MOST_BYTES = 64 << 20
"""So many bytes of a strip tell that it holds too many from that it is damaged."""


def check_count(page: tifffile.TiffPage, sizes: list[int]) -> None:
    """Refuses strips or tiles that are not those of a film of the header's size.

    Decoders show what is lacking black, and leave out what is too much.

    Args:
        page: The film's.
        sizes: Bytes of each strip or tile in the file.
    """
    film = f"a film of {page.imagelength} x {page.imagewidth} pixels"
    listed = max([len(sizes), *(page.tags[tag].count for tag in (273, 324) if tag in page.tags)])
    needed = _in_a_plane(page)
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        needed *= page.samplesperpixel
    if len(sizes) < needed:
        raise FilmError(
            f"TIFF is truncated: {film} has {needed} strips or tiles, {len(sizes)} of them are "
            "there; send it whole"
        )
    too_many = listed > needed
    if page.compression == _COMPRESSION.NONE and not page.is_tiled:
        held = needed * _rows(page) * _row_bytes(page)
        too_many = too_many or sum(sizes) >= held + _row_bytes(page)
    if too_many:
        raise _too_much(page)


def check_last(page: tifffile.TiffPage, data: bytes) -> None:
    """Refuses a last strip that holds rows beyond the film, as a header of too few rows leaves it.

    So is one with columns too many. Compressions whose decoders refuse both are left to them.
    """
    compression = _COMPRESSION(page.compression)
    if page.fillorder != 1 or compression == _COMPRESSION.NONE:  # before bytes are copied
        return
    offset, size = page.dataoffsets[-1], page.databytecounts[-1]
    segment = data[offset : offset + size]
    too_much = False
    with contextlib.suppress(Exception):  # tifffile judges what is damaged
        if compression in _LEAVE_OUT and not page.is_tiled:
            held = len(_LEAVE_OUT[compression](segment))
            too_much = held >= (_rows(page) + 1) * _row_bytes(page)
        elif compression in _PICTURES:
            too_much = _is_over(np.shape(_PICTURES[compression](segment)), page, 1)
        elif "JP" in compression.name and (head := stream_head(segment)) is not None:
            jpeg = compression == _COMPRESSION.JPEG
            too_much = _is_over((head.height, head.width), page, _BLOCK if jpeg else 1)
    if too_much:
        raise _too_much(page)


def _is_over(shape: tuple[int, ...], page: tifffile.TiffPage, block: int) -> bool:
    """Whether a picture has rows or columns beyond those of a strip or tile, in whole blocks."""
    most = (_rows(page), page.tilewidth if page.is_tiled else page.imagewidth)
    return any(has > -(-may // block) * block for has, may in zip(shape[:2], most, strict=True))


def decode_padded(page: tifffile.TiffPage, data: bytes) -> NDArray[np.generic] | None:
    """The pixels of a page some of whose strips or tiles hold a little more than they need.

    Args:
        page: The film's.
        data: The file.

    Returns:
        As ``page.asarray``; None where its compression or the order of its bits is another.

    Raises:
        FilmError: A strip holds more than padding.
        Exception: Of the decoder, where a strip is damaged.
    """
    decompress = _EXACT.get(_COMPRESSION(page.compression))
    if decompress is None or page.fillorder != 1:
        return None
    whole, offsets, sizes = bytearray(data), [], []
    for index, (offset, size) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        strip = _unpadded(page, data[offset : offset + size], index, decompress)
        packed = imagecodecs.zlib_encode(strip, level=1)
        offsets.append(len(whole))
        sizes.append(len(packed))
        whole += packed
    file = io.BytesIO(whole)
    with tifffile.TiffFile(file, mode="r+") as copy:
        tags = copy.pages[page.index].aspage().tags
        for names, values in (((273, 324), offsets), ((279, 325), sizes)):
            next(tags[name] for name in names if name in tags).overwrite(values, dtype="I")
        # Not without compression: tifffile then takes predicted strips for one row.
        tags[259].overwrite(int(_COMPRESSION.ADOBE_DEFLATE))
    file.seek(0)
    with tifffile.TiffFile(file) as copy:
        return np.asarray(copy.pages[page.index].asarray())


def _unpadded(
    page: tifffile.TiffPage, segment: bytes, index: int, decompress: Callable[..., Any]
) -> bytes:
    """The bytes of a strip or tile without its padding.

    Raises:
        FilmError: It holds more than padding.
        Exception: Of the decoder.
    """
    row = _row_bytes(page)
    needed = most = _rows(page) * row
    in_a_plane = _in_a_plane(page)
    if not page.is_tiled and index % in_a_plane == in_a_plane - 1:
        needed -= (in_a_plane * _rows(page) - page.imagelength) * row
    most += row - 1
    try:
        held = bytes(decompress(segment, out=most))
    except Exception:
        if len(decompress(segment, out=max(2 * most, _MOST_BYTES))) > most:
            raise _too_much(page) from None
        raise
    if page.compression == _COMPRESSION.PACKBITS and len(held) > needed:
        _check_rows(segment, needed, row)
    return held[:needed]


def _check_rows(packed: bytes, needed: int, row: int) -> None:
    """Refuses PackBits with padding where rows are not packed by themselves.

    It has no checksum, and damage too makes a strip longer. TIFF 6.0 has each row packed by itself.
    """
    place = held = 0
    while held < needed:
        count = packed[place]
        if count == 128:  # says nothing
            place += 1
            continue
        first, held = held, held + (count + 1 if count < 128 else 257 - count)
        place += 1 + (count + 1 if count < 128 else 1)
        if first // row != (held - 1) // row:
            raise FilmError("TIFF is truncated or damaged within; send the whole file")


def _in_a_plane(page: tifffile.TiffPage) -> int:
    """Strips or tiles of a film of the header's size; of one channel where they lie apart."""
    down = -(-page.imagelength // _rows(page))
    return down * (-(-page.imagewidth // page.tilewidth) if page.is_tiled else 1)


def _rows(page: tifffile.TiffPage) -> int:
    """Rows of a strip or tile."""
    if page.is_tiled:
        return int(page.tilelength)
    return max(1, min(int(page.rowsperstrip), page.imagelength))


def _row_bytes(page: tifffile.TiffPage) -> int:
    """Bytes of a row of one strip or tile that is not compressed."""
    together = page.planarconfig != tifffile.PLANARCONFIG.SEPARATE
    samples = page.samplesperpixel if together else 1
    width = page.tilewidth if page.is_tiled else page.imagewidth
    return int(-(-width * page.bitspersample * samples // 8))


def _too_much(page: tifffile.TiffPage) -> FilmError:
    return FilmError(
        f"TIFF holds more pixels than a film of {page.imagelength} x {page.imagewidth} has: its "
        "header is of another film or damaged; save the film again"
    )
