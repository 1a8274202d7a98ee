"""Compressed streams inside DICOM and JPEG files: size, depth, completeness, known faults.

A decoder allocates by the size that the stream states, whatever the DICOM header says, and most
decoders fill what is missing with grey or noise and say nothing. Both are looked at here, without
decoding.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import FilmError

TRUNCATED = "the compressed image is truncated: it ends {}; send the whole file"

ARITHMETIC = "jpeg-arithmetic"
"""Kind of a JPEG whose decoders do not tell where it ends early; no usual program writes it."""

_END = b"\xff\xd9"

_MAX_STEPS = 50_000
"""Most marker segments and fill bytes before the first scan of a JPEG stream."""

STRANGE_TAIL = bytes((37 * place + 11) % 251 for place in range(4096))
"""Bytes after a stream; no 0xFF among them, so that no marker is made."""


@dataclass(frozen=True, slots=True)
class StreamHead:
    """What a JPEG, JPEG-LS or JPEG 2000 stream says of itself.

    Attributes:
        kind: "jpeg", "jpeg-progressive", "jpeg-lossless", "jpeg-ls", "jpeg 2000" or
            :data:`ARITHMETIC`.
        height: Rows.
        width: Columns.
        depth: Bits of a sample.
        samples: Channels.
        signed: Whether samples are signed (JPEG 2000 only).
    """

    kind: str
    height: int
    width: int
    depth: int
    samples: int
    signed: bool = False


def jpeg_segments(stream: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, begin, end) of each marker segment up to the first scan; begin is its content's.

    Raises:
        FilmError: There are more than any film has: going through them would take seconds.
    """
    position = 2
    for _ in range(_MAX_STEPS):
        if position + 4 > len(stream) or stream[position] != 0xFF:
            return
        marker = stream[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
            continue
        if marker == 0xD9:
            return
        (length,) = struct.unpack_from(">H", stream, position + 2)
        yield marker, position + 4, position + 2 + length
        if marker == 0xDA or length < 2:
            return
        position += 2 + length
    raise FilmError(
        f"the compressed image has more than {_MAX_STEPS} header segments; it is damaged: save the "
        "film again"
    )


def check_segments(stream: bytes) -> None:
    """Refuses a JPEG whose header is so long that reading it would take seconds.

    Raises:
        FilmError: It is.
    """
    for _ in jpeg_segments(stream):
        pass


def stream_head(stream: bytes) -> StreamHead | None:
    """What a stream says of itself, or None where it is none of these."""
    start = stream[:4096].find(b"\xff\x4f\xff\x51")
    if start >= 0 and len(stream) >= start + 44:
        width, height, left, top = struct.unpack_from(">IIII", stream, start + 8)
        (samples,) = struct.unpack_from(">H", stream, start + 40)
        depth = stream[start + 42]
        return StreamHead(
            "jpeg 2000", height - top, width - left, (depth & 0x7F) + 1, samples, bool(depth & 0x80)
        )
    if not stream.startswith(b"\xff\xd8"):
        return None
    for marker, begin, _ in jpeg_segments(stream):
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            if begin + 6 > len(stream):
                return None
            depth, height, width, samples = struct.unpack_from(">BHHB", stream, begin)
            lossless = marker in (0xC3, 0xC7, 0xCB, 0xCF)
            kind = "jpeg-ls" if marker == 0xF7 else "jpeg-lossless" if lossless else "jpeg"
            if marker in (0xC2, 0xC6, 0xCA, 0xCE):
                kind = "jpeg-progressive"
            if 0xC9 <= marker <= 0xCF:
                kind = ARITHMETIC
            return StreamHead(kind, height, width, depth, samples)
    return None


def is_sequential_jpeg(data: bytes) -> bool:
    """Whether a file is a JPEG of 8 bits, grey or in three channels, all of it in one pass."""
    head = stream_head(data) if data.startswith(b"\xff\xd8") else None
    return head is not None and (head.kind, head.depth) == ("jpeg", 8) and head.samples in (1, 3)


def repaired(stream: bytes) -> tuple[bytes, str]:
    """A JPEG stream without a known fault, and what was repaired ("" for nothing).

    Many real radiographs of the process JPEG Extended state 0 for the last coefficient of their
    only scan, where 63 belongs.
    """
    sequential = False
    for marker, _begin, end in jpeg_segments(stream):
        sequential = sequential or marker in (0xC0, 0xC1)
        first_and_last = stream[end - 3 : end - 1]
        if marker == 0xDA and sequential and first_and_last == b"\x00\x00":
            fixed = stream[: end - 2] + b"\x3f" + stream[end - 1 :]
            return fixed, "its scan header says 0 where 63 belongs"
    return stream, ""


def ended_stream(stream: bytes) -> tuple[bytes, bool]:
    """A JPEG stream up to and with its end marker, and whether it had one.

    What stands behind the marker, such as padding or a phone's second picture, is dropped. Before
    the first scan there may be other streams' markers, those of a thumbnail.
    """
    begin, progressive = 2, False
    for marker, _, end in jpeg_segments(stream):
        progressive = progressive or marker == 0xC2
        begin = end
    # Within a scan 0xFF is always followed by 0; between those of a progressive stream are tables.
    place = stream.rfind(_END, begin) if progressive else stream.find(_END, begin)
    if place >= 0:
        return stream[: place + 2], True
    return _closed(stream), False


def _closed(stream: bytes) -> bytes:
    """A stream without end marker up to its data's end, and the marker.

    Zeros may fill it up, but the one behind 0xFF is the data's.
    """
    data = stream.rstrip(b"\x00")
    if data.endswith(b"\xff"):
        data = data + b"\x00" if len(data) < len(stream) else data[:-1]
    return data + _END


def names_its_colours(stream: bytes) -> bool:
    """Whether a JPEG stream says in which colour space it is, by a JFIF or an Adobe marker."""
    return any(
        (marker == 0xE0 and stream[begin : begin + 4] == b"JFIF")
        or (marker == 0xEE and stream[begin : begin + 5] == b"Adobe")
        for marker, begin, _ in jpeg_segments(stream)
    )


def check_progressive(stream: bytes) -> None:
    """Refuses a progressive JPEG whose scans do not carry every coefficient to its last bit.

    Raises:
        FilmError: Some scan is missing.
    """
    if not any(marker == 0xC2 for marker, _, _ in jpeg_segments(stream)):
        return
    left = np.full(64, 255, dtype=np.int64)
    position = stream.find(b"\xff\xda")
    while position >= 0 and position + 5 <= len(stream):
        (length,) = struct.unpack_from(">H", stream, position + 2)
        end = position + 2 + length
        if length < 6 or end > len(stream):
            break
        first, last, bits = stream[end - 3], stream[end - 2], stream[end - 1]
        if first <= last < 64:
            left[first : last + 1] = bits & 0x0F
        position = stream.find(b"\xff\xda", end)
    if left.any():
        raise FilmError(TRUNCATED.format("before its last scan"))


def check_complete(
    stream: bytes,
    head: StreamHead,
    decoded: NDArray[np.generic],
    decode: Callable[[bytes], NDArray[np.generic]],
    *,
    ended: bool,
) -> None:
    """Refuses a Huffman-coded stream whose data ends before its last pixel.

    Decoders read up to the last pixel and no further. What follows a complete stream therefore
    changes nothing; after one that ends early it becomes part of the image. The second decoding
    that shows it is needed only where the last pixels look like a decoder's filling, where the end
    marker is missing, or where pixels are sent in several scans.

    Args:
        stream: With its end marker.
        head: Of the stream.
        decoded: The image.
        decode: Decodes a stream.
        ended: Whether the stream had its end marker.

    Raises:
        FilmError: It ends early.
    """
    corner = decoded[-1, -8:].reshape(-1)
    flat = bool((corner == corner[0]).all())
    grey = 1 << (head.depth - 1)
    filled = flat and (head.kind == "jpeg-lossless" or abs(int(corner[0]) - grey) <= 1)
    if ended and not filled and head.kind != "jpeg-progressive":
        return
    try:
        # A stream may fill up with 0xFF before its end marker, as those of dcmtk do.
        data = stream.removesuffix(_END).rstrip(b"\xff")
        other = decode(data + STRANGE_TAIL + _END)
    except Exception:
        raise FilmError(TRUNCATED.format("before its last pixel")) from None
    if other.shape != decoded.shape or not np.array_equal(other, decoded):
        raise FilmError(TRUNCATED.format("before its last pixel"))


def is_irreversible(stream: bytes) -> bool:
    """Whether a JPEG 2000 stream was made with the wavelet that always loses (T.800 A.6.1)."""
    start = stream.find(b"\xff\x52", 0, 65536)
    return start >= 0 and stream[start + 13 : start + 14] == b"\x00"


def is_near_lossless(stream: bytes) -> bool:
    """Whether a JPEG-LS stream allows errors (NEAR of its first scan, T.87 C.2.3)."""
    return any(
        marker == 0xDA and end <= len(stream) and stream[end - 3] != 0
        for marker, _, end in jpeg_segments(stream)
    )


def transforms_colours(stream: bytes) -> bool:
    """Whether a JPEG 2000 stream's channels are made RGB again by decoding it (T.800 A.6.1)."""
    start = stream.find(b"\xff\x52", 0, 65536)
    return (
        stream.find(b"\xff\x4f\xff\x51", 0, 4096) >= 0 and stream[start + 8 : start + 9] == b"\x01"
    )


def check_jpeg2000(stream: bytes) -> bool:
    """Walks the tile-parts of a JPEG 2000 stream by their lengths.

    Returns:
        Whether the end marker is there.

    Raises:
        FilmError: A tile-part is cut off, or there is none.
    """
    start = stream.find(b"\xff\x4f\xff\x51")
    position = stream.find(b"\xff\x90", start)
    while position >= 0 and position + 12 <= len(stream):
        if stream[position : position + 2] != b"\xff\x90":
            break
        (length,) = struct.unpack_from(">I", stream, position + 6)
        if length == 0:  # the last tile-part, up to the end marker
            return stream.rstrip(b"\x00").endswith(_END)
        if length < 14:
            break
        position += length
        if position > len(stream):
            break
        rest = stream[position : position + 2]
        if rest == _END:
            return True
        if not rest.strip(b"\x00\xff"):
            _check_tiles(stream, start, position)
            return False
    raise FilmError(TRUNCATED.format("within a tile"))


def _check_tiles(stream: bytes, start: int, end: int) -> None:
    """Refuses a stream without end marker that lacks whole tiles."""
    width, height, _left, _top, tile_width, tile_height, tile_left, tile_top = struct.unpack_from(
        ">8I", stream, start + 8
    )
    if not tile_width or not tile_height:
        raise FilmError(TRUNCATED.format("within a tile"))
    needed = -(-(width - tile_left) // tile_width) * -(-(height - tile_top) // tile_height)
    seen, position = set(), stream.find(b"\xff\x90", start)
    while 0 <= position < end and stream[position : position + 2] == b"\xff\x90":
        (tile,) = struct.unpack_from(">H", stream, position + 4)
        (length,) = struct.unpack_from(">I", stream, position + 6)
        seen.add(tile)
        position += length
    if len(seen) < needed:
        raise FilmError(TRUNCATED.format(f"after {len(seen)} of {needed} tiles"))
