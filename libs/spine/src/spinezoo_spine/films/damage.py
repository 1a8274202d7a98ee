"""Damage within compressed pixels, which decoders fill in and do not tell.

A decoder goes on after what it cannot make sense of. What it warned of is heard here, and where it
warns of nothing it is asked to look closer, or the length of its data is compared with what the
pixels need.
"""

from __future__ import annotations

import contextlib
import logging
import re
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import imagecodecs
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from spinezoo_contract.errors import FilmError
from spinezoo_contract.words import are, counted

from spinezoo_spine.films.streams import STRANGE_TAIL, StreamHead, jpeg_segments

_LAST_BYTES = 8
"""Bytes at the end of a JPEG of which any whole one needs some."""

_SPARE_BYTES = 3
"""Bytes behind the last pixel of a JPEG that encoders leave when they fill up a word."""

_SPARE_ZEROS = 32
"""The same where all of them are 0: what fills up a block of a device's memory."""

_LEFT_BYTES, _LACKING_BYTES = 8, 64
"""Bytes of a code block of JPEG 2000 from which on it is damaged, by how many a decoder leaves, or
lacks, at its end. Whole streams of OpenJPEG, Kakadu, JasPer and FFmpeg leave 2 at most, and lack 3,
or up to 21 in a block where a limit of their size cuts it; damaged ones leave or lack hundreds."""


def damaged(why: str) -> FilmError:
    """The error of a film that is damaged within."""
    return FilmError(
        f"the compressed image is truncated or damaged ({why}); send the whole file, or export the "
        "film again without compression"
    )


# ------------------------------------------------------------------------------ decoders' warnings


class _Ears(logging.Handler):
    """Keeps what imagecodecs warns of for the thread that listens; nothing of it is logged."""

    def __init__(self) -> None:
        super().__init__()
        self._own = threading.local()

    @property
    def heard(self) -> list[str] | None:
        """What this thread has heard; None while it does not listen."""
        return getattr(self._own, "heard", None)

    @heard.setter
    def heard(self, messages: list[str] | None) -> None:
        self._own.heard = messages

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a message."""
        if self.heard is not None:
            self.heard.append(record.getMessage())


_EARS = _Ears()
_LOGGER = logging.getLogger("imagecodecs")
_LOGGER.propagate = False  # a stranger's file is not to write into a server's log
_LOGGER.addHandler(_EARS)


@contextlib.contextmanager
def warnings_heard() -> Iterator[list[str]]:
    """What imagecodecs warns of on this thread meanwhile."""
    heard: list[str] = []
    _EARS.heard = heard
    try:
        yield heard
    finally:
        _EARS.heard = None


# -------------------------------------------------------------------------------------------- JPEG


def decode_strictly(stream: bytes, samples: int, *, rgb: bool = True) -> NDArray[np.uint8] | None:
    """A JPEG stream of 8 bits, by a decoder that tells what does not make sense.

    Args:
        stream: With its end marker.
        samples: Channels: 1, 3 or 4.
        rgb: Whether three channels are wanted as RGB; one channel is quicker.

    Returns:
        (rows, columns) or (rows, columns, channels), or None where the decoder does not take the
        stream, for a reason that is no damage.

    Raises:
        FilmError: It is damaged or ends early.
    """
    wanted = {3: "RGB" if rgb else "GRAY", 4: "CMYK"}.get(samples, "GRAY")
    try:
        image = np.asarray(simplejpeg.decode_jpeg(stream, wanted, strict=True))
    except ValueError as error:
        said = str(error)
        spare = re.search(r"(\d+) extraneous bytes", said)
        if spare and int(spare[1]) > _most_spare(stream):
            raise damaged(
                f"{counted(int(spare[1]), 'byte')} {are(int(spare[1]))} left behind its last pixel"
            ) from None
        if not spare and "orrupt JPEG data" in said:
            raise damaged(said.rpartition(": ")[2][:60]) from None
        return None
    return image[..., 0] if wanted == "GRAY" else image


def _most_spare(stream: bytes) -> int:
    """Bytes that may be left behind the last pixel of a JPEG."""
    zeros = len(stream) - 2 - len(stream[:-2].rstrip(b"\0"))
    return max(_SPARE_BYTES, min(zeros, _SPARE_ZEROS))


def check_extended(
    stream: bytes, decoded: NDArray[np.generic], decode: Callable[[bytes], NDArray[np.generic]]
) -> None:
    """Refuses a Huffman-coded stream that ends before or goes on behind its last pixel.

    For streams whose decoder warns of nothing: those of 12 bits. What stands behind a whole stream
    changes nothing, and its last bytes change something.

    Args:
        stream: With its end marker.
        decoded: The image.
        decode: Decodes a stream.

    Raises:
        FilmError: It does.
    """
    data = stream[:-2].rstrip(b"\xff")
    for begin, changes in ((data, False), (data[:-_LAST_BYTES], True)):
        try:
            other = decode(begin + STRANGE_TAIL + b"\xff\xd9")
        except Exception:
            other = None
        changed = other is None or not np.array_equal(other, decoded)
        if changed != changes:
            raise damaged("its data does not end with its last pixel")


@dataclass(frozen=True, slots=True)
class _LosslessScan:
    """The only scan of a lossless JPEG.

    Attributes:
        predictor: 1 to 7 (T.81 table H.1).
        shift: Point transform.
        interval_rows: Rows between two restart markers, or None.
        code_bits: (17,) bits of each category's code, by channel; 0 where it has none.
        begin: Of its entropy-coded data.
    """

    predictor: int
    shift: int
    interval_rows: int | None
    code_bits: tuple[NDArray[np.int64], ...]
    begin: int


def _code_bits(content: bytes) -> dict[int, NDArray[np.int64]]:
    """Bits of each category's code by the number of the table, of a DHT segment (T.81 B.2.4.2)."""
    tables = {}
    while len(content) > 17:
        counts = content[1:17]
        values = content[17 : 17 + sum(counts)]
        bits = np.zeros(17, dtype=np.int64)
        for value, length in zip(values, np.repeat(np.arange(1, 17), list(counts)), strict=False):
            if value < len(bits):
                bits[value] = length
        tables[content[0]] = bits
        content = content[17 + len(values) :]
    return tables


def _lossless_scan(stream: bytes, head: StreamHead) -> _LosslessScan | None:
    """The scan of a stream, or None where it has several or shared channels."""
    tables: dict[int, NDArray[np.int64]] = {}
    interval_rows = None
    for marker, begin, end in jpeg_segments(stream):
        content = stream[begin:end]
        if marker == 0xC4:
            tables |= _code_bits(content)
        elif marker == 0xC3 and head.samples > 1:
            if any(content[7 + 3 * place] != 0x11 for place in range(head.samples)):
                return None
        elif marker == 0xDD:
            (interval,) = struct.unpack_from(">H", content)
            if interval % head.width:
                return None
            interval_rows = interval // head.width or None
        elif marker == 0xDA:
            if content[0] != head.samples or len(content) < 4 + 2 * head.samples:
                return None
            chosen = [content[2 + 2 * place] >> 4 for place in range(head.samples)]
            if any(number not in tables for number in chosen):
                return None
            predictor, shift = content[-3], content[-1] & 0x0F
            bits = tuple(tables[number] for number in chosen)
            known = 1 <= predictor <= 7
            return _LosslessScan(predictor, shift, interval_rows, bits, end) if known else None
    return None


_CATEGORIES = np.array(
    [min(value, 65536 - value).bit_length() for value in range(65536)], dtype=np.uint8
)
"""Category of each difference, taken modulo 65536 (T.81 table H.2)."""


def _needed_bits(rows: NDArray[np.uint16], scan: _LosslessScan, start: int, channel: int) -> int:
    """Bits that the rows of one channel take from a restart on (T.81 H.1.2)."""
    counts = np.zeros(17, dtype=np.int64)
    for first in range(0, len(rows), 256):
        own = rows[first : first + 256]
        above = np.empty_like(own)
        above[1:] = own[:-1]
        if first:
            above[0] = rows[first - 1]
        else:
            above[0, 1:] = own[0, :-1]
            above[0, 0] = start
        guess = above.copy()
        inner = slice(0 if first else 1, None)
        left, up, corner = own[inner, :-1], above[inner, 1:], above[inner, :-1]
        guess[inner, 1:] = _guessed(scan.predictor, left, up, corner)
        counts += np.bincount(_CATEGORIES[own - guess].ravel(), minlength=17)
    if counts[scan.code_bits[channel] == 0].any():
        return -1
    extra = np.minimum(np.arange(17), 16) * (np.arange(17) < 16)
    return int((counts * (scan.code_bits[channel] + extra)).sum())


def _guessed(
    predictor: int, left: NDArray[np.uint16], up: NDArray[np.uint16], corner: NDArray[np.uint16]
) -> NDArray[np.generic]:
    """What a pixel is taken to be by its neighbours (T.81 table H.1)."""
    if predictor <= 3:
        return (left, up, corner)[predictor - 1]
    a, b, c = (each.astype(np.int32) for each in (left, up, corner))
    if predictor == 4:
        return (a + b - c).astype(np.uint16)
    if predictor == 5:
        return (a + ((b - c) >> 1)).astype(np.uint16)
    if predictor == 6:
        return (b + ((a - c) >> 1)).astype(np.uint16)
    return ((a + b) >> 1).astype(np.uint16)


def check_lossless(stream: bytes, head: StreamHead, image: NDArray[np.unsignedinteger]) -> None:
    """Refuses a lossless JPEG whose data is not exactly as long as its pixels need.

    Each pixel takes the bits of its category's code and the category itself, so that the pixels
    tell how many bits there have to be. After damage a decoder finds its way back into step, but
    with pixels too many or too few. What fills up the last byte is all 0 or all 1.

    Args:
        stream: With its end marker.
        head: Of the stream.
        image: As decoded, (rows, columns) or (rows, columns, channels).

    Raises:
        FilmError: It is damaged.
    """
    scan = _lossless_scan(stream, head)
    if scan is None:
        return
    channels = image.reshape(head.height, head.width, head.samples) >> scan.shift
    data = stream[scan.begin : -2]
    rows = head.height if scan.interval_rows is None else scan.interval_rows
    parts = [data] if scan.interval_rows is None else re.split(rb"\xff+[\xd0-\xd7]", data)
    if len(parts) != -(-head.height // rows):
        raise damaged("its restart markers do not fit its size")
    start = 1 << max(0, head.depth - scan.shift - 1)
    for place, part in enumerate(parts):
        own = channels[place * rows : (place + 1) * rows].astype(np.uint16)
        needed = [
            _needed_bits(own[..., channel], scan, start, channel) for channel in range(head.samples)
        ]
        # 0xFF before a marker fills up; one of the data is followed by 0.
        found = part.rstrip(b"\xff").replace(b"\xff\x00", b"\xff")
        spare = 8 * len(found) - sum(needed)
        if min(needed) < 0 or spare < 0:
            raise damaged("its data ends before its last pixel")
        rest = int.from_bytes(found[len(found) - -(-spare // 8) :], "big") & ((1 << spare) - 1)
        if spare and rest not in (0, (1 << spare) - 1):
            raise damaged("its data goes on behind its last pixel")


# --------------------------------------------------------------------------------------- JPEG 2000

_HIGH_THROUGHPUT, _ENDS_TOLD = 0x40, 0x10
"""Bits of the style of code blocks: HTJ2K, and predictable termination (T.800 table A.19)."""


def decode_jpeg2000(stream: bytes) -> NDArray[np.generic]:
    """A JPEG 2000 stream as numbers of its own depth and sign, colours as they lie in it.

    Told that code blocks end predictably, openjpeg says how many bytes of each are left or lacking
    at its end. The pixels stay the same. Encoders end blocks within a byte or two anyway, and
    damage moves the end by dozens.

    Args:
        stream: From its first marker on, without boxes.

    Raises:
        FilmError: A code block is damaged.
        Exception: Of any kind, where it cannot be decoded.
    """
    style, layers = _style_of(stream)
    if style is None or stream[style] & _HIGH_THROUGHPUT:
        return np.asarray(imagecodecs.jpeg2k_decode(stream))
    told = bytearray(stream)
    told[style] |= _ENDS_TOLD
    with warnings_heard() as heard:
        image = np.asarray(imagecodecs.jpeg2k_decode(bytes(told), verbose=2))
    ends = [found for text in heard if (found := re.search(r"PTERM \D*(\d+) (\w+)", text))]
    broken = sum(
        int(end[1]) >= (_LEFT_BYTES if end[2] == "remaining" else _LACKING_BYTES) for end in ends
    )
    # FFmpeg ends the blocks of all quality layers but the last one where it likes.
    if broken and (layers == 1 or broken < image.size / 4096 / 8):
        raise damaged(f"{broken} of its code blocks end at the wrong place")
    return image


def _style_of(stream: bytes) -> tuple[int | None, int]:
    """Where the style of code blocks stands in the main header, and the number of layers."""
    position = 2
    while position + 4 <= len(stream) and stream[position] == 0xFF:
        marker = stream[position + 1]
        if marker == 0x90:
            break
        (length,) = struct.unpack_from(">H", stream, position + 2)
        if marker == 0x52 and position + 13 < len(stream):
            return position + 12, int(struct.unpack_from(">H", stream, position + 6)[0])
        position += 2 + length
    return None, 1
