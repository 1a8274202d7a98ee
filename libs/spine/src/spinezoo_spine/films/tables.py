"""Modality and VOI transforms of DICOM as tables over every stored value (PS3.3 C.11.1, C.11.2).

A film has at most 65,536 stored values. Each goes once through the transforms in double precision,
wide enough for any width and sign that descriptors and data can have; the pixels then take their
level from the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from spinezoo_contract.errors import FilmError
from spinezoo_contract.types import FilmNoteCode

from spinezoo_spine.films.header import Bits, group_items, number_of, value_of, word_of
from spinezoo_spine.films.limits import MAX_CLIPPED_SHARE
from spinezoo_spine.films.notes import NoteBook

Values = NDArray[np.float64]


def rescale_of(dataset: Dataset, book: NoteBook) -> tuple[float, float] | None:
    """Slope and intercept, or None where they change nothing or make no sense."""
    for item in group_items(dataset, "PixelValueTransformationSequence"):
        if value_of(item, "RescaleSlope") is None and value_of(item, "RescaleIntercept") is None:
            continue
        slope = _absent_is(value_of(item, "RescaleSlope"), 1.0)
        intercept = _absent_is(value_of(item, "RescaleIntercept"), 0.0)
        if not slope or intercept is None or abs(slope) > 1e9 or abs(intercept) > 1e12:
            book.add(
                FilmNoteCode.RESCALE_IGNORED,
                "Rescale slope or intercept of the header make no sense; stored values were used.",
            )
            return None
        return None if (slope, intercept) == (1.0, 0.0) else (slope, intercept)
    return None


def _absent_is(value: object, default: float) -> float | None:
    empty = isinstance(value, (MultiValue, list)) and not value
    return default if value is None or value == "" or empty else number_of(value)


@dataclass(frozen=True, slots=True)
class Window:
    """A window of the header.

    Attributes:
        centre: In modality values.
        width: Likewise; great enough for its function.
        function: LINEAR, LINEAR_EXACT or SIGMOID.
    """

    centre: float
    width: float
    function: str

    def apply(self, values: Values) -> Values:
        """Values as 0 to 1, by PS3.3 C.11.2.1.2 and C.11.2.1.3."""
        if self.function == "SIGMOID":
            power = np.clip(-4.0 * (values - self.centre) / self.width, -700.0, 700.0)
            return np.asarray(1.0 / (1.0 + np.exp(power)))
        if self.function == "LINEAR_EXACT":
            return np.clip((values - self.centre) / self.width + 0.5, 0.0, 1.0)
        if self.width == 1.0:
            return (values > self.centre - 0.5).astype(np.float64)
        return np.clip((values - (self.centre - 0.5)) / (self.width - 1.0) + 0.5, 0.0, 1.0)

    def shown(self, values: Values) -> NDArray[np.bool_]:
        """Which values become neither black nor white."""
        levels = self.apply(values)
        return (levels > 0.005) & (levels < 0.995)


def window_of(dataset: Dataset, book: NoteBook) -> Window | None:
    """The first window, or None where there is none that makes sense."""
    for item in group_items(dataset, "FrameVOILUTSequence"):
        centres, widths = value_of(item, "WindowCenter"), value_of(item, "WindowWidth")
        if _empty(centres) and _empty(widths):
            continue
        centre, width = number_of(centres), number_of(widths)
        function = word_of(item, "VOILUTFunction") or "LINEAR"
        reason = ""
        if centre is None or width is None:
            reason = "has no centre or no width"
        elif function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
            reason = "is of an unknown function"
        elif width <= 0.0 or (function == "LINEAR" and width < 1.0):
            reason = f"has a width of {width:g}"
        elif abs(centre) > 1e9 or width > 1e9:
            reason = "is beyond any film"
        if reason or centre is None or width is None:
            book.add(
                FilmNoteCode.WINDOW_IGNORED,
                f"The window of the header {reason}; the whole range of the film was used.",
            )
            return None
        if isinstance(centres, (MultiValue, list)) and len(centres) > 1:
            book.add(
                FilmNoteCode.SEVERAL_WINDOWS,
                f"The header holds {len(centres)} windows; the first was used.",
            )
        return Window(centre, width, function)
    return None


def _empty(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, (MultiValue, list)) and not value)


@dataclass(frozen=True, slots=True)
class LookUpTable:
    """A look-up table: ``entries[0]`` for every value up to ``first``, and so on.

    Attributes:
        first: Candidates for the first value mapped: the descriptor's bits read either way.
        entries: The levels.
    """

    first: tuple[int, ...]
    entries: Values

    def starting_at(self, values: Values, counts: NDArray[np.int64], *, signed: bool) -> int:
        """The first value mapped: as the sign of the input says, unless only the other reaches.

        Args:
            values: Input values.
            counts: Pixels of each.
            signed: Whether the input has negative values.
        """
        if len(self.first) == 1:
            return self.first[0]
        unsigned_first, signed_first = self.first
        reached = [
            int(counts[(values >= first) & (values < first + len(self.entries))].sum())
            for first in self.first
        ]
        if reached[0] != reached[1]:
            return self.first[int(np.argmax(reached))]
        return signed_first if signed else unsigned_first

    def inside(self, values: Values, first: int) -> NDArray[np.bool_]:
        """Which values lie between the table's ends."""
        return (values > first) & (values < first + len(self.entries) - 1)

    def apply(self, values: Values, first: int) -> Values:
        """The levels of values; those beyond either end take the level of that end."""
        places = np.clip(np.rint(values) - first, 0, len(self.entries) - 1)
        return np.asarray(self.entries[places.astype(np.int64)])


def look_up_table(
    item: Dataset, what: str, descriptor_of: str = "LUTDescriptor", data_of: str = "LUTData"
) -> LookUpTable:
    """The table of one item of a LUT sequence, or one of a palette.

    Descriptor and data are taken by their bits, whatever their data type: the number of entries
    and the first value may be written signed or unsigned, the entries as 8 or 16 bits, one a word
    or packed two a word (PS3.3 C.11.1.1.1).

    Args:
        item: Holds descriptor and data.
        what: For messages: "VOI LUT".
        descriptor_of: Keyword of the descriptor.
        data_of: Keyword of the data.

    Raises:
        FilmError: There are fewer entries than the descriptor says, or none.
    """
    little = bool(item.original_encoding[1]) if item.original_encoding[1] is not None else True
    descriptor = value_of(item, descriptor_of)
    if isinstance(descriptor, bytes) and len(descriptor) == 6:
        descriptor = [int(each) for each in np.frombuffer(descriptor, "<u2" if little else ">u2")]
    if not isinstance(descriptor, (MultiValue, list, tuple)) or len(descriptor) != 3:
        raise FilmError(f"DICOM {what} has no descriptor of three numbers; export the film again")
    count, first, depth = (int(each) & 0xFFFF for each in descriptor)
    count = count or 65536
    raw, signed = _entries(item, data_of)
    words = raw.size // 2 if raw.dtype == np.uint8 else raw.size
    as_words = raw
    if raw.dtype == np.uint8:
        even = raw[: raw.size // 2 * 2]
        as_words = even.view("<u2" if little else ">u2").astype(np.uint16)
    turned = not little and data_of in item and item[data_of].VR == "OW"
    as_bytes = _unpacked(as_words) if turned or raw.dtype != np.uint8 else raw
    if words >= count:
        entries = as_words[:count].astype(np.float64)
        if signed:
            entries = _smoother(as_words[:count])
    elif (as_bytes.size >= count and depth <= 8) or as_bytes.size in (count, count + 1):
        entries = as_bytes[:count].astype(np.float64)
    else:
        raise FilmError(
            f"DICOM {what} has {words} of the {count} entries that its descriptor states; "
            "export the film again"
        )
    candidates = (first,) if first < 32768 else (first, first - 65536)
    return LookUpTable(candidates, entries)


def _entries(item: Dataset, data_of: str) -> tuple[NDArray[np.unsignedinteger], bool]:
    """Data as bytes (``uint8``) or words (``uint16``), and whether it is written as signed."""
    value = value_of(item, data_of)
    if isinstance(value, (bytes, bytearray)):
        return np.frombuffer(bytes(value), np.uint8), False
    if isinstance(value, (int, np.integer)):
        value = [value]
    if isinstance(value, (MultiValue, list, tuple, Sequence)) and not isinstance(value, str):
        words = np.asarray([int(each) & 0xFFFF for each in value], dtype=np.uint16)
        return words, item[data_of].VR == "SS"
    return np.empty(0, np.uint8), False


def _unpacked(words: NDArray[np.unsignedinteger]) -> NDArray[np.uint8]:
    """Two entries of 8 bits from each word, the low byte first."""
    return np.ascontiguousarray(words.astype("<u2")).view(np.uint8)


def _smoother(words: NDArray[np.unsignedinteger]) -> Values:
    """Words read as signed or as unsigned, whichever makes the table smoother."""
    readings = [words.astype(np.uint16).astype(np.float64), words.view(np.int16).astype(np.float64)]
    return min(readings, key=lambda reading: float(np.abs(np.diff(reading)).sum()))


@dataclass(frozen=True, slots=True)
class Levels:
    """What every stored value becomes, before inversion.

    Attributes:
        values: By code (stored value minus the lowest).
        plain: Whether they are the stored values themselves.
    """

    values: Values
    plain: bool


def _first_item(dataset: Dataset, keyword: str, macro: str) -> Dataset | None:
    for item in group_items(dataset, macro):
        tables = value_of(item, keyword)
        for found in tables if isinstance(tables, pydicom.Sequence) else ():
            if value_of(found, "LUTDescriptor") or value_of(found, "LUTData"):
                return found
    return None


def levels_of(
    dataset: Dataset, bits: Bits, counts: NDArray[np.int64] | None, book: NoteBook
) -> Levels | None:
    """Every stored value through modality and VOI transforms.

    Args:
        dataset: The header.
        bits: Of the stored values.
        counts: Pixels of each stored value, by code, without padding; None asks only whether
            there is a transform.
        book: Takes the notes.

    Returns:
        None where ``counts`` is None and a transform has to be made.

    Raises:
        FilmError: A table is damaged.
    """
    modality = _first_item(dataset, "ModalityLUTSequence", "PixelValueTransformationSequence")
    rescale = None if modality is not None else rescale_of(dataset, book)
    voi = _first_item(dataset, "VOILUTSequence", "FrameVOILUTSequence")
    window = window_of(dataset, book) if voi is None else None
    stored = np.arange(1 << bits.stored, dtype=np.float64) + bits.lowest
    if modality is None and rescale is None and voi is None and window is None:
        return Levels(stored, plain=True)
    if counts is None:
        return None
    values = stored
    if modality is not None:
        table = look_up_table(modality, "modality LUT")
        first = table.starting_at(values, counts, signed=bits.signed)
        levels = table.apply(values, first)
        if _hides(values, levels, table.inside(values, first), counts):
            _note_table(book, "modality LUT")
            modality = None
        else:
            values = levels
    elif rescale is not None:
        values = values * rescale[0] + rescale[1]
        if len(np.unique(values[counts > 0])) < len(np.unique(stored[counts > 0])):
            book.add(
                FilmNoteCode.RESCALE_IGNORED,
                "The rescale slope of the header is too small for its intercept; stored values "
                "were used.",
            )
            values, rescale = stored, None
    plain = modality is None and rescale is None
    if voi is not None:
        table = look_up_table(voi, "VOI LUT")
        used = values[counts > 0]
        first = table.starting_at(values, counts, signed=bool(used.min() < 0))
        levels = table.apply(values, first)
        if _hides(values, levels, table.inside(values, first), counts):
            _note_table(book, "VOI LUT")
            return Levels(values, plain)
        return Levels(levels, plain=False)
    if window is not None:
        levels = window.apply(values)
        if _hides(values, levels, window.shown(values), counts):
            book.add(
                FilmNoteCode.WINDOW_IGNORED,
                f"The window of the header makes more than {MAX_CLIPPED_SHARE:.0%} of the film "
                "black or white; the whole range of the film was used.",
            )
            return Levels(values, plain)
        return Levels(levels, plain=False)
    return Levels(values, plain)


def _note_table(book: NoteBook, name: str) -> None:
    book.add(
        FilmNoteCode.LOOK_UP_TABLE_IGNORED,
        f"The {name} of the header leaves nearly nothing of the film; it was not used.",
    )


def _hides(
    values: Values, levels: Values, inside: NDArray[np.bool_], counts: NDArray[np.int64]
) -> bool:
    """Whether a window or table leaves too little of a film.

    Collimated borders and saturated areas are not counted: they are at the ends anyway.
    """
    used = counts > 0
    low, high = values[used].min(), values[used].max()
    if low == high:
        return False
    if levels[used].min() == levels[used].max():
        return True
    between = used & (values > low) & (values < high)
    total = int(counts[between].sum())
    if not total:
        return False
    return int(counts[between & inside].sum()) < (1.0 - MAX_CLIPPED_SHARE) * total
