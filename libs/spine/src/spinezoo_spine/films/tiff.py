"""TIFF and BigTIFF files into films, through tifffile."""

from __future__ import annotations

import contextlib
import io
import logging
import struct
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from spinezoo_contract.errors import FilmError, SpineZooError
from spinezoo_contract.types import NO_SPACING_NOTE, Film, FilmNoteCode
from spinezoo_contract.words import counted

from spinezoo_spine.films.colour import check_opaque, grey_of, rgb_of_ybr
from spinezoo_spine.films.damage import decode_jpeg2000, decode_strictly
from spinezoo_spine.films.kinds import is_tiff
from spinezoo_spine.films.limits import TO_ONE_GREY, FilmLimits, check_raw_size, check_size
from spinezoo_spine.films.notes import LOSSY_NOTE, NoteBook
from spinezoo_spine.films.plausible import is_smoother
from spinezoo_spine.films.segments import check_count, check_last, decode_padded
from spinezoo_spine.films.streams import (
    ARITHMETIC,
    check_complete,
    check_jpeg2000,
    check_progressive,
    ended_stream,
    is_irreversible,
    stream_head,
)
from spinezoo_spine.films.strips import decode_lzw
from spinezoo_spine.films.upright import finished, note_shape, upright_size

_GREY = (tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.MINISBLACK)
_COLOURED = (
    tifffile.PHOTOMETRIC.RGB,
    tifffile.PHOTOMETRIC.YCBCR,
    tifffile.PHOTOMETRIC.SEPARATED,
)

_NAMES: dict[object, str] = {
    tifffile.PHOTOMETRIC.YCBCR: "YCbCr",
    tifffile.PHOTOMETRIC.SEPARATED: "CMYK",
    tifffile.PHOTOMETRIC.MASK: "a mask of transparency",
    tifffile.PHOTOMETRIC.CFA: "a camera's raw image",
}
"""What people call a kind of TIFF, where that is not the standard's word."""

_TAKEN = (
    "NONE",
    "LZW",
    "ADOBE_DEFLATE",
    "DEFLATE",
    "PACKBITS",
    "ZSTD",
    "ZSTD_DEPRECATED",
    "LZMA",
    "LERC",
    "JPEG",
    "JPEG2000",
    "JPEGXL",
    "PNG",
    "WEBP",
)
"""Compressions whose decoders tell a strip that ends early from a whole one."""


_MASK = 4
_SMALLER = 1 | _MASK
"""Bits of New Subfile Type: a smaller copy of another page, a mask."""

_MAX_PAGES = 1000

_LOST = 1e-3
"""Share of the range of a film's levels that may be lost when they become 32 bits."""

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it warns of is told in errors


def _film_page(file: tifffile.TiffFile, book: NoteBook) -> tifffile.TiffPage:
    """The page that holds the film.

    Raises:
        FilmError: There are several, or none.
    """
    pages: list[Any] = []
    for page in file.pages:
        pages.append(page)
        if len(pages) > _MAX_PAGES:
            raise FilmError(f"TIFF has more than {_MAX_PAGES} pages; send one film a file")
    films = [page for page in pages if not int(page.subfiletype or 0) & _SMALLER]
    if not films:  # all are said to be smaller copies, of what is not there
        films = [page for page in pages if not int(page.subfiletype or 0) & _MASK]
    count = len(films)
    if count == 1 and file.is_imagej:
        count = max(1, int((file.imagej_metadata or {}).get("images", 1)))
    if count > 1:
        raise FilmError(f"TIFF has {count} frames (pages); send one film a file")
    if not films:
        raise FilmError("TIFF has no page; send the whole file")
    film: tifffile.TiffPage = films[0]
    if not isinstance(film, tifffile.TiffPage):
        film = film.aspage()
    if len(pages) > 1 or film.subifds:
        book.add(
            FilmNoteCode.PAGES_IGNORED,
            "The file holds smaller copies of the film, which were not used.",
        )
    return film


def _judged(page: tifffile.TiffPage, file_bytes: int, limits: FilmLimits) -> None:
    """Refuses by the header what is no film, too large, or cut off."""
    check_size(page.imagelength, page.imagewidth, limits)
    if page.imagedepth > 1:
        raise FilmError(f"TIFF has {page.imagedepth} planes; send one film a file")
    photometric = page.photometric
    kind = _NAMES.get(photometric, getattr(photometric, "name", str(photometric)))
    if photometric not in (*_GREY, *_COLOURED, tifffile.PHOTOMETRIC.PALETTE):
        raise FilmError(f"TIFF is {kind}, not grey; {TO_ONE_GREY}")
    if page.bitspersample == 1:
        raise FilmError(f"TIFF has one bit a pixel; {TO_ONE_GREY}")
    compression = tifffile.COMPRESSION(page.compression).name
    if compression not in _TAKEN:
        raise FilmError(
            f"TIFF is compressed as {compression}, which is not taken; save it with LZW or without "
            "compression"
        )
    if compression == "NONE" and page.predictor != 1:
        # libtiff shows such levels as they lie, other programs add them up.
        raise FilmError(
            "TIFF has differences of levels (a predictor) without compression, which programs read "
            "in different ways; save it with LZW or as PNG"
        )
    if photometric == tifffile.PHOTOMETRIC.YCBCR and "JP" not in compression:
        subsampled = page.tags.valueof(530, (2, 2))
        if tuple(subsampled) != (1, 1):
            raise FilmError(f"TIFF is YCbCr with shared colours; {TO_ONE_GREY}")
    if photometric == tifffile.PHOTOMETRIC.SEPARATED and (
        "JP" in compression or page.tags.valueof(332, 1) != 1
    ):
        raise FilmError(f"TIFF is CMYK in a form that is not taken; {TO_ONE_GREY}")
    odd = page.dtype is not None and 16 < page.bitspersample < 32
    if odd or page.dtype is None or page.dtype.kind not in "uif":
        raise FilmError(
            f"TIFF has {page.bitspersample} bits a pixel in a form that is not taken; {TO_ONE_GREY}"
        )
    wide = page.dtype.kind == "f"
    check_raw_size(
        page.imagelength, page.imagewidth, 4 if wide else min(2, page.dtype.itemsize), limits
    )
    if page.samplesperpixel > 5:
        raise FilmError(f"TIFF has {page.samplesperpixel} channels; {TO_ONE_GREY}")
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if not segments or any(not size for _, size in segments):
        raise FilmError(
            "TIFF is truncated: it says of some pixels not where they are; send it whole"
        )
    if any(offset + size > file_bytes for offset, size in segments):
        raise FilmError("TIFF is truncated: its pixels end behind the file's end; send it whole")
    check_count(page, [size for _, size in segments])


def tiff_size(data: bytes, limits: FilmLimits) -> tuple[int, int]:
    """(height, width) of a TIFF film as it will be shown, by its header.

    Raises:
        FilmError: As :func:`read_tiff`, as far as the header shows it.
        TooLargeError: Over a limit.
    """
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = _film_page(file, NoteBook())
            _judged(page, len(data), limits)
            return upright_size(page.imagelength, page.imagewidth, _orientation_of(page))
    except (SpineZooError, MemoryError):
        raise
    except Exception as error:
        raise _damaged(error) from None


def _damaged(error: Exception) -> FilmError:
    return FilmError(
        f"TIFF is truncated or damaged ({type(error).__name__}); it is not readable: send the "
        "whole file, or save it as PNG"
    )


def _orientation_of(page: tifffile.TiffPage) -> int:
    tag = page.tags.get(274)
    value = tag.value if tag is not None else 1
    if isinstance(value, bytes) and len(value) == 1:  # written as BYTE
        return value[0]
    return int(value) if isinstance(value, int) else 1


def read_tiff(data: bytes, limits: FilmLimits) -> Film:
    """Decodes a TIFF film.

    Raises:
        FilmError: It is damaged, or not one grey page.
        TooLargeError: Over a limit.
    """
    book = NoteBook()
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = _film_page(file, book)
            _judged(page, len(data), limits)
            if page.compression == tifffile.COMPRESSION.JPEG:
                _check_jpegs(page, data)
            elif "2000" in tifffile.COMPRESSION(page.compression).name:
                _check_jpegs2000(page, data)
            check_last(page, data)
            pixels = _channels(page, data)
            _check_bit_order(page, pixels[..., 0])
            orientation = _orientation_of(page)
            shown = _levels(page, pixels, book)
            if _is_lossy(page, data):
                book.add(LOSSY_NOTE.code, LOSSY_NOTE.text)
            note_shape(page.tags.valueof(282), page.tags.valueof(283), book)
    except (SpineZooError, MemoryError):
        raise
    except Exception as error:
        raise _damaged(error) from None
    check_raw_size(shown.shape[0], shown.shape[1], shown.dtype.itemsize, limits)
    book.add(NO_SPACING_NOTE.code, NO_SPACING_NOTE.text)
    return finished(shown, orientation, book)


def _channels(page: tifffile.TiffPage, data: bytes) -> NDArray[np.generic]:
    """(rows, columns, samples) as they lie in the file."""
    samples = page.samplesperpixel
    shape = (page.imagelength, page.imagewidth)
    if page.compression == tifffile.COMPRESSION.LZW and samples == 1 and page.index == 0:
        # libtiff takes half the time of tifffile; what it does not take, tifffile judges.
        with contextlib.suppress(Exception):
            fast = decode_lzw(page, data)
            if fast.shape == shape and fast.dtype == page.dtype:
                return fast.reshape(*shape, 1)
    try:
        pixels = page.asarray(maxworkers=2)
    except Exception:
        padded = decode_padded(page, data)
        if padded is None:
            raise
        pixels = padded
    if samples > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        return np.moveaxis(pixels.reshape(samples, *shape), 0, -1)
    return pixels.reshape(*shape, samples)


def _check_bit_order(page: tifffile.TiffPage, pixels: NDArray[np.generic]) -> None:
    """Refuses a film whose FillOrder is wrong: compressed ones fail to be read, others do not."""
    plain = page.compression == tifffile.COMPRESSION.NONE and page.bitspersample in (8, 16)
    if page.fillorder == 1 or not plain:
        return
    # Byte by byte: of both as one level, the low one is too small to be seen beside the high one.
    own = np.ascontiguousarray(pixels).view(np.uint8).reshape(*pixels.shape, -1)
    as_they_lie = np.asarray(imagecodecs.bitorder_decode(own))
    if any(is_smoother(own[..., k], as_they_lie[..., k]) for k in range(own.shape[2])):
        raise FilmError(
            "TIFF says that the bits of each byte lie in reverse (FillOrder 2), but they do not; "
            "save it with LZW or as PNG"
        )


def _check_jpegs(page: tifffile.TiffPage, data: bytes) -> None:
    """Refuses a strip or tile of JPEG that ends early: its decoder would fill the rest."""

    def decode(stream: bytes) -> NDArray[np.generic]:
        return np.asarray(imagecodecs.jpeg8_decode(stream, tables=page.jpegtables))

    for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
        stream, ended = ended_stream(data[offset : offset + size])
        head = stream_head(stream)
        if not ended or head is None:
            raise FilmError("TIFF is truncated: a JPEG in it ends early; send the whole file")
        if head.kind == ARITHMETIC:
            raise FilmError("TIFF holds JPEG with arithmetic coding; save it with LZW or as PNG")
        check_progressive(stream)
        check_complete(stream, head, decode(stream), decode, ended=True)
        if head.depth == 8 and head.kind != "jpeg-lossless":
            tables = (page.jpegtables or b"").removesuffix(b"\xff\xd9")
            decode_strictly((tables or b"\xff\xd8") + stream[2:], head.samples, rgb=False)


def _check_jpegs2000(page: tifffile.TiffPage, data: bytes) -> None:
    """Refuses a strip or tile of JPEG 2000 that ends early."""
    for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
        stream = data[offset : offset + size]
        check_jpeg2000(stream)
        decode_jpeg2000(stream[max(0, stream.find(b"\xff\x4f\xff\x51")) :])


def _is_lossy(page: tifffile.TiffPage, data: bytes) -> bool:
    """Whether the pixels have been compressed with loss, by the header of the first strip."""
    compression = tifffile.COMPRESSION(page.compression).name
    if compression not in ("JPEG", "JPEG2000"):  # before bytes are copied
        return compression == "WEBP"
    stream = data[page.dataoffsets[0] : page.dataoffsets[0] + page.databytecounts[0]]
    if compression == "JPEG":
        head = stream_head(stream)
        return head is None or head.kind != "jpeg-lossless"
    return is_irreversible(stream)


def _levels(
    page: tifffile.TiffPage, channels: NDArray[np.generic], book: NoteBook
) -> NDArray[np.generic]:
    """Channels as the one grey channel of a film, bright is dense."""
    photometric = tifffile.PHOTOMETRIC(page.photometric)
    kind = f"TIFF is {_NAMES.get(photometric, photometric.name)}"
    bits = int(page.bitspersample)
    full = float((1 << bits) - 1) if channels.dtype.kind == "u" else 1.0
    if channels.dtype.kind == "i":
        full = float((1 << (bits - 1)) - 1)
    if channels.dtype.kind == "f" and not np.isfinite(channels).all():
        raise FilmError("TIFF has pixels that are not finite; replace NaN and infinities")
    if photometric == tifffile.PHOTOMETRIC.PALETTE:
        return _palette(page, channels[..., 0], kind, book)
    separated = photometric == tifffile.PHOTOMETRIC.SEPARATED
    count = 4 if separated else 3 if photometric in _COLOURED else 1
    if channels.shape[2] < count:
        raise FilmError(f"{kind} with {channels.shape[2]} channels; {TO_ONE_GREY}")
    if channels.shape[2] > count:
        _check_extra(page, channels, count, full, kind)
        book.add(
            FilmNoteCode.CHANNELS_MERGED,
            "The film has a further channel, opaque or empty; it was left out.",
        )
    if count == 1:
        grey = channels[..., 0]
    else:
        merged = channels[..., :count]
        if separated or (photometric == tifffile.PHOTOMETRIC.YCBCR and not _by_jpeg(page)):
            merged = _as_rgb(merged, kind)
        grey = grey_of(merged, full, kind, book)
    has_tag = page.tags.get(262) is not None
    if not has_tag:
        book.add(
            FilmNoteCode.POLARITY_DOUBTFUL,
            "The file does not say whether 0 is black or white; black was assumed.",
        )
    white_is_zero = has_tag and photometric == tifffile.PHOTOMETRIC.MINISWHITE
    return _as_film(grey, bits, white_is_zero=white_is_zero)


def _by_jpeg(page: tifffile.TiffPage) -> bool:
    """Whether the decoder has turned the colours into RGB."""
    return "JP" in tifffile.COMPRESSION(page.compression).name


def _check_extra(
    page: tifffile.TiffPage, channels: NDArray[np.generic], count: int, full: float, kind: str
) -> None:
    """Refuses channels beyond those of the colours that hide or hold something."""
    for place in range(count, channels.shape[2]):
        extra = channels[..., place]
        stated = page.extrasamples[place - count : place - count + 1]
        if stated == (tifffile.EXTRASAMPLE.UNSPECIFIED,) and not extra.any():
            continue
        check_opaque(extra, full, kind)


def _as_rgb(channels: NDArray[np.generic], kind: str) -> NDArray[np.generic]:
    """CMYK or YCbCr of 8 bits as RGB, by the formulas that viewers use."""
    if channels.dtype != np.uint8:
        raise FilmError(f"{kind} with other than 8 bits a channel; {TO_ONE_GREY}")
    if channels.shape[2] == 4:
        inks = channels.astype(np.uint16)
        light = (255 - inks[..., :3]) * (255 - inks[..., 3:])
        return np.asarray((light + 127) // 255, dtype=np.uint8)
    return rgb_of_ybr(channels, 8)


def _palette(
    page: tifffile.TiffPage, places: NDArray[np.generic], kind: str, book: NoteBook
) -> NDArray[np.generic]:
    """Places in a palette as grey levels."""
    table = np.asarray(page.colormap)
    if table.ndim != 2 or table.shape[0] != 3 or places.dtype.kind != "u":
        raise FilmError(f"TIFF palette is damaged; {TO_ONE_GREY}")
    if int(places.max()) >= table.shape[1]:
        raise FilmError(
            f"TIFF palette has {counted(table.shape[1], 'entry')}, fewer than used; {TO_ONE_GREY}"
        )
    colours = np.moveaxis(table[:, places], 0, -1)
    grey = grey_of(colours, 65535.0, kind, book)
    low = (grey.astype(np.uint16) >> 8).astype(np.uint8)
    # Entries of 8 bits are written as 16, times 256 or 257.
    return low if (grey % 256 == 0).all() or (grey == low * np.uint16(257)).all() else grey


def _as_film(grey: NDArray[np.generic], bits: int, *, white_is_zero: bool) -> NDArray[np.generic]:
    """Levels of any type as those of a film.

    Signed levels keep their order: they are counted from the lowest that their type has, where any
    is below zero.
    """
    if grey.dtype.kind == "f":
        if float(np.abs(grey).max()) > 3e38:
            raise FilmError("TIFF has levels beyond 3e38; save it with 16 bits")
        real = grey.astype(np.float32)
        if grey.dtype.itemsize > 4:
            spread = float(grey.max()) - float(grey.min())
            if float(np.abs(real - grey.astype(np.float64)).max()) > spread * _LOST:
                raise FilmError(
                    "TIFF has levels of 64 bits that lie too close together for 32; save it with "
                    "16 bits"
                )
        return real.max() + real.min() - real if white_is_zero else real
    levels: NDArray[np.generic] = grey
    low, high = int(grey.min()), int(grey.max())
    top = (1 << bits) - 1
    if low < 0:
        if low < -32768 or high > 32767:
            raise FilmError(f"TIFF has levels from {low} to {high}; save it with 16 bits")
        offset = 128 if bits <= 8 else 32768
        levels = grey.astype(np.int64) + offset
        top = 2 * offset - 1
    elif grey.dtype.kind == "i":
        top >>= 1
    if high > 65535:
        raise FilmError(f"TIFF has levels from {low} to {high}; save it with 16 bits")
    if white_is_zero:
        levels = min(top, 65535) - levels.astype(np.int64)
    return levels.astype(np.uint8 if bits <= 8 else np.uint16, copy=False)


_SIMPLE_TAGS = 64
_SIMPLE_VALUES = 4096


def is_simple_tiff(data: bytes) -> bool:
    """Whether a TIFF needs no decoder and its header no care: one page, grey, not compressed.

    Only then is it read without a decoding process. A header that says otherwise of itself is not
    simple, however small.
    """
    if not is_tiff(data):
        return False
    order = "<" if data[:2] == b"II" else ">"
    try:
        version, start = struct.unpack_from(f"{order}HI", data, 2)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        if version != 42 or not 0 < count <= _SIMPLE_TAGS:
            return False
        found = {}
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(f"{order}HHI", data, place)
            if values > _SIMPLE_VALUES:
                return False
            if values == 1 and kind in (3, 4):
                letter = "H" if kind == 3 else "I"
                (found[tag],) = struct.unpack_from(f"{order}{letter}", data, place + 8)
            else:
                found[tag] = -1
        (following,) = struct.unpack_from(f"{order}I", data, start + 2 + 12 * count)
    except struct.error:
        return False
    return (
        following == 0
        and found.get(259, 1) == 1
        and found.get(262) in (0, 1)
        and found.get(277, 1) == 1
        and found.get(258) in (8, 16)
        and not {330, 322, 347, 513, 34665, 50706} & found.keys()
    )
