"""Cells of DICOM pixel data as stored values: unused bits, sign, padding, native byte order.

Cells are unsigned integers as they lie in the file. A *code* is a stored value minus the lowest
one that can be stored: unsigned too, and in the values' order.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from spinezoo_contract.errors import FilmError
from spinezoo_contract.types import FilmNoteCode

from spinezoo_spine.films.header import (
    OVERLAY_GROUPS,
    Bits,
    integer_of,
    number_of,
    value_of,
    word_of,
)
from spinezoo_spine.films.limits import MAX_CLIPPED_SHARE
from spinezoo_spine.films.notes import NoteBook
from spinezoo_spine.films.plausible import becomes_noise

_FEW = 1e-3
"""Share of pixels whose unused bits may be set without the header being called wrong."""

_MAX_ITEMS = 100_000
"""Most items that native pixel data of undefined length may be in."""

_ITEM, _DELIMITER = 0xFFFEE000, 0xFFFEE0DD

_CODECS = (
    (b"\xff\xd8\xff", "a JPEG stream"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 stream"),
    (b"\x00\x00\x00\x0cjP", "a JPEG 2000 file"),
)


def native_cells(dataset: Dataset, bits: Bits, samples: int) -> NDArray[np.unsignedinteger]:
    """Pixel data that is not compressed, as (rows, columns) or (rows, columns, samples).

    Raises:
        FilmError: It is cut off, too long, or compressed in truth.
    """
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    element = dataset["PixelData"]
    content = element.value or b""
    little = bool(dataset.original_encoding[1])
    subsampled = word_of(dataset, "PhotometricInterpretation") == "YBR_FULL_422"
    per_pixel = 2 if subsampled else samples
    needed = rows * columns * per_pixel * (bits.allocated // 8)
    if element.is_undefined_length or (len(content) > needed and _begins_with_item(content)):
        content = _joined_items(content, needed, little=little)
    for start, name in _CODECS:
        if content.startswith(start) and len(content) < needed:
            raise FilmError(
                f"DICOM header says that the pixels are not compressed, but they are {name}; "
                "export the film again"
            )
    found = len(content)
    if not found:
        raise FilmError("DICOM file is truncated: its pixel data is empty; send the whole file")
    if found < needed:
        raise FilmError(
            f"DICOM file is truncated: {found} of {needed} bytes of pixel data are there; "
            "send the whole file"
        )
    # What is less than a row and a column is filling; more may be a film of another size.
    if found >= needed + min(rows, columns) * per_pixel * (bits.allocated // 8):
        raise FilmError(
            f"DICOM file holds {found} bytes of pixel data, a film of {rows} x {columns} has "
            f"{needed}: its header is of another size, or of one frame of several; export it again"
        )
    if bits.allocated == 8:
        if not little and element.VR == "OW":  # bytes are packed in words, and words are turned
            words = content[: needed + needed % 2]
            content = np.frombuffer(words, dtype=">u2").astype("<u2").tobytes()
        flat: NDArray[np.unsignedinteger] = np.frombuffer(content, np.uint8, count=needed)
    else:
        flat = np.frombuffer(content, "<u2" if little else ">u2", count=needed // 2)
    if samples == 1:
        return flat.reshape(rows, columns)
    if subsampled:
        return _full_chroma(flat, rows, columns)
    if integer_of(dataset, "PlanarConfiguration", 0) == 1:
        return np.moveaxis(flat.reshape(samples, rows, columns), 0, -1)
    return flat.reshape(rows, columns, samples)


def _full_chroma(
    flat: NDArray[np.unsignedinteger], rows: int, columns: int
) -> NDArray[np.unsignedinteger]:
    """Y1 Y2 Cb Cr for two pixels each, as Y Cb Cr for one each (PS3.3 C.7.6.3.1.2)."""
    if columns % 2:
        raise FilmError("DICOM film is YBR_FULL_422 with an odd width; export it as one grey")
    pairs = flat.reshape(rows, columns // 2, 4)
    full = np.empty((rows, columns, 3), dtype=flat.dtype)
    full[:, 0::2, 0], full[:, 1::2, 0] = pairs[..., 0], pairs[..., 1]
    full[:, :, 1:] = np.repeat(pairs[..., 2:], 2, axis=1)
    return full


def _begins_with_item(content: bytes) -> bool:
    return content[:4] in (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")


def _joined_items(content: bytes, needed: int, *, little: bool) -> bytes:
    """The bytes within the items of a value of undefined length; one without items as it is.

    The first item may be a table of offsets, as of compressed pixels: it is left out where the
    others hold the film without it.
    """
    if not _begins_with_item(content):
        return content
    layout = "<HHI" if little else ">HHI"
    pieces, position = [], 0
    while position + 8 <= len(content):
        if len(pieces) > _MAX_ITEMS:
            raise FilmError("DICOM pixel data is in too many pieces; export it again")
        group, element, length = struct.unpack_from(layout, content, position)
        tag = (group << 16) | element
        if tag == _DELIMITER:
            break
        if tag != _ITEM:
            raise FilmError("DICOM pixel data of undefined length is damaged; export it again")
        pieces.append(content[position + 8 : position + 8 + length])
        position += 8 + length
    if len(pieces) > 1 and len(pieces[0]) in (0, 4) and sum(map(len, pieces[1:])) >= needed:
        pieces = pieces[1:]
    return b"".join(pieces)


def _declared_overlay_bits(dataset: Dataset) -> bool:
    """Whether the header says that overlays lie in unused bits of the pixels."""
    for group in OVERLAY_GROUPS:
        element = dataset.get((group, 0x0102))
        if element is not None and str(element.value or "0").strip() != "0":
            return True
    return False


def has_overlay(dataset: Dataset) -> bool:
    """Whether the file holds overlays."""
    return any((group, 0x0010) in dataset for group in OVERLAY_GROUPS)


def codes_of(
    cells: NDArray[np.unsignedinteger], bits: Bits, dataset: Dataset, book: NoteBook
) -> NDArray[np.unsignedinteger]:
    """Stored values of cells, minus the lowest one that can be stored.

    Unused bits are masked, as PS3.5 8.1.1 says, unless they show that the header is wrong.

    Args:
        cells: ``uint8`` or ``uint16``; compressed streams may have narrower cells than the header.
        bits: Where the values lie in them.
        dataset: The header.
        book: Takes the notes.

    Raises:
        FilmError: The values are wider than the header says.
    """
    if bits.stored > 8 * cells.dtype.itemsize:  # a compressed stream of less depth
        cells = cells.astype(np.uint16)
    if bits.shift:
        cells = _shifted(cells, bits)
    width = 8 * cells.dtype.itemsize
    kept = cells
    if width > bits.stored and int(cells.max()) >> bits.stored:
        kept = cells & cells.dtype.type((1 << bits.stored) - 1)
        _judge_unused_bits(cells, kept, bits, dataset, book)
    if not bits.signed:
        return kept
    # With the sign turned over, two's complement becomes an offset from the lowest value.
    return kept ^ kept.dtype.type(1 << (bits.stored - 1))


def _shifted(cells: NDArray[np.unsignedinteger], bits: Bits) -> NDArray[np.unsignedinteger]:
    """Cells whose values do not begin at bit 0, moved down."""
    top = int(cells.max())
    below = cells & cells.dtype.type((1 << bits.shift) - 1)
    if top and top < 1 << bits.stored and below.any():
        raise FilmError(
            f"DICOM header says that the {bits.stored} bits of a value end at bit {bits.high}, but "
            "its values begin at bit 0; export the film again"
        )
    return cells >> cells.dtype.type(bits.shift)


def _judge_unused_bits(
    cells: NDArray[np.unsignedinteger],
    kept: NDArray[np.unsignedinteger],
    bits: Bits,
    dataset: Dataset,
    book: NoteBook,
) -> None:
    """Tells overlays and rubbish above the values from values that are wider than stated.

    Where the film goes on smoothly in the unused bits, they belong to the values.
    """
    above = cells >> cells.dtype.type(bits.stored)
    full = (1 << (8 * cells.dtype.itemsize - bits.stored)) - 1
    if bits.signed:  # copies of the sign are as it should be
        sign = kept >> kept.dtype.type(bits.stored - 1)
        foreign = above != sign * kept.dtype.type(full)
    else:
        foreign = above != 0
    share = np.count_nonzero(foreign) / foreign.size
    if not share:
        return
    if share > _FEW and not _declared_overlay_bits(dataset):
        wide = cells.view(f"i{cells.dtype.itemsize}") if bits.signed else cells
        changes = above[:, 1:] != above[:, :-1]
        step = np.abs(np.diff(wide.astype(np.int32), axis=1)[changes])
        kept_step = np.abs(np.diff(kept.astype(np.int32), axis=1)[changes])
        goes_on = np.count_nonzero(step < kept_step) * 2 > step.size
        if step.size and (goes_on or becomes_noise(kept, wide)):
            raise FilmError(
                f"DICOM header says that values have {bits.stored} bits, but they have "
                f"{int(cells.max()).bit_length()}; export the film again with the right Bits Stored"
            )
    book.add(
        FilmNoteCode.BITS_MASKED,
        f"Bits above the {bits.stored} of a value are set in {share:.2%} of the pixels; they were "
        "masked, as the standard says.",
    )


def _padding_values(dataset: Dataset) -> tuple[int, int] | None:
    ends = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        value = value_of(dataset, keyword)
        if isinstance(value, bytes) and len(value) == 2:
            value = int.from_bytes(value, "little" if dataset.original_encoding[1] else "big")
        number = number_of(value)
        if number is not None and number.is_integer() and -32768 <= number <= 65535:
            ends.append(int(number))
        elif not ends:
            return None
    return ends[0], ends[-1]


def padding_of(
    cells: NDArray[np.unsignedinteger],
    codes: NDArray[np.unsignedinteger],
    bits: Bits,
    dataset: Dataset,
    book: NoteBook,
) -> NDArray[np.bool_] | None:
    """Pixels that the file marks as padding, or None where it marks none.

    A padding value of the other signedness is read by its bits. One that cannot be a stored value
    is looked for in the cells.
    """
    ends = _padding_values(dataset)
    if ends is None:
        return None
    modulus = 1 << bits.allocated
    places = []
    for end in ends:
        # As it is written, else the same bits in the other signedness.
        fitting = [
            value - bits.lowest
            for value in (end, end + modulus, end - modulus)
            if 0 <= value - bits.lowest < 1 << bits.stored
        ]
        places.append(fitting[0] if fitting else None)
    low, high = places
    if low is not None and high is not None:
        low, high = min(low, high), max(low, high)
        mask = codes == low if low == high else (codes >= low) & (codes <= high)
    elif cells.dtype.itemsize * 8 == bits.allocated:
        patterns = [end % modulus for end in ends]
        mask = (cells == patterns[0]) | (cells == patterns[1])
        if low is None and high is not None and ends[0] <= ends[1]:
            mask |= codes <= high
        elif high is None and low is not None and ends[1] <= ends[0]:
            mask |= codes <= low
    else:
        return None
    share = np.count_nonzero(mask) / mask.size
    if share > MAX_CLIPPED_SHARE:
        book.add(
            FilmNoteCode.PADDING_DOUBTFUL,
            f"By the header, {share:.1%} of the film are padding; it was not taken as such.",
        )
    return mask if 0.0 < share <= MAX_CLIPPED_SHARE else None
