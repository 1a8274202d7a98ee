"""Stored values of a DICOM file as grey levels where bright is dense."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from spinezoo_contract.errors import FilmError
from spinezoo_contract.types import FilmNoteCode

from spinezoo_spine.films.header import (
    Bits,
    group_items,
    items_of,
    number_of,
    value_of,
    word_of,
)
from spinezoo_spine.films.notes import NoteBook
from spinezoo_spine.films.plausible import check_plausible
from spinezoo_spine.films.stored import codes_of, padding_of
from spinezoo_spine.films.tables import levels_of, look_up_table
from spinezoo_spine.films.upright import is_flat


def is_inverted(dataset: Dataset, book: NoteBook) -> bool:
    """Whether low values are shown bright.

    MONOCHROME1 says so (PS3.3 C.7.6.3.1.2), and so does a Presentation LUT Shape of INVERSE
    (C.11.6.1.2): both together, as DX films have them, mean one inversion.
    """
    first = word_of(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    shape = word_of(dataset, "PresentationLUTShape")
    inverted = first or shape == "INVERSE"
    if shape in ("IDENTITY", "INVERSE") and (shape == "INVERSE") != first:
        book.add(
            FilmNoteCode.POLARITY_DOUBTFUL,
            f"The header says MONOCHROME{1 if first else 2} and a presentation LUT shape of "
            f"{shape}, which contradict each other; low values were shown bright.",
        )
    return inverted


def note_presentation_table(dataset: Dataset, book: NoteBook) -> None:
    """Notes a presentation look-up table, which is not applied, above all one that inverts."""
    for item in items_of(dataset, "PresentationLUTSequence"):
        book.add(
            FilmNoteCode.LOOK_UP_TABLE_IGNORED,
            "The header holds a presentation look-up table, which is not applied.",
        )
        try:
            entries = look_up_table(item, "presentation LUT").entries
        except (FilmError, TypeError, ValueError):
            return
        if entries[0] > entries[-1]:
            book.add(
                FilmNoteCode.POLARITY_DOUBTFUL,
                "The header's presentation look-up table turns the film over and is not applied; "
                "bone may be dark.",
            )
        return


def note_polarity(dataset: Dataset, book: NoteBook, *, inverted: bool) -> None:
    """Notes a film on which dense things are dark by what the header says of the detector."""
    for item in group_items(dataset, "FramePixelDataPropertiesSequence"):
        if value_of(item, "PixelIntensityRelationshipSign") is None:
            continue
        if word_of(item, "PixelIntensityRelationship") == "DISP":
            return
        sign = number_of(value_of(item, "PixelIntensityRelationshipSign"))
        if sign == (-1 if inverted else 1):
            book.add(
                FilmNoteCode.POLARITY_DOUBTFUL,
                "By the header's pixel intensity relationship, bone is dark on this film as it is "
                "shown; it was not turned over.",
            )
        return


def display_levels(
    dataset: Dataset, cells: NDArray[np.unsignedinteger], bits: Bits, book: NoteBook
) -> NDArray[np.generic]:
    """Cells as display levels, bright is dense.

    Args:
        dataset: The header.
        cells: (rows, columns), ``uint8`` or ``uint16``, as they lie in the file.
        bits: Where the values lie in them.
        book: Takes the notes.

    Returns:
        ``uint8`` or ``uint16``: the stored values from their lowest up where the header asks for
        no transform, else spread over 0 to 65535.

    Raises:
        FilmError: Header and values contradict each other.
    """
    codes = codes_of(cells, bits, dataset, book)
    check_plausible(cells, codes, bits)
    padding = padding_of(cells, codes, bits, dataset, book)
    inverted = is_inverted(dataset, book)
    note_presentation_table(dataset, book)
    note_polarity(dataset, book, inverted=inverted)
    levels = levels_of(dataset, bits, None, book)
    counts = None
    if levels is None or padding is not None:
        counts = _counts_of(codes, padding, 1 << bits.stored)
        levels = levels_of(dataset, bits, counts, book)
    if levels is None:
        raise FilmError("DICOM display transform is missing; export the film again")
    order = -levels.values if inverted else levels.values
    if padding is not None and counts is not None:
        padding = _without_saturated(padding, codes, order, counts, book)
    if levels.plain:
        if inverted:
            codes = codes.dtype.type((1 << bits.stored) - 1) - codes
        shown = _of_fitting_type(codes, bits)
    else:
        assert counts is not None
        shown = _spread(order, counts)[codes]
    if padding is not None:
        shown = np.array(shown)
        shown[padding] = shown[~padding].min()
    _note_flat(shown, book)
    return shown


def merged_levels(
    dataset: Dataset, cells: NDArray[np.unsignedinteger], bits: Bits, book: NoteBook
) -> NDArray[np.generic]:
    """The merged channels of a grey film in colour as display levels: the stored values.

    Rescale, windows, tables and polarity are of MONOCHROME films only (PS3.3 C.11.2.1.2.1).
    Programs that save a shown film in colour have applied them, and often leave them in the header.

    Args:
        dataset: The header.
        cells: (rows, columns), ``uint8`` or ``uint16``.
        bits: Where the values lie in them.
        book: Takes the notes.

    Returns:
        ``uint8`` or ``uint16``: the stored values from their lowest up.

    Raises:
        FilmError: Header and values contradict each other.
    """
    codes = codes_of(cells, bits, dataset, book)
    check_plausible(cells, codes, bits)
    if levels_of(dataset, bits, None, NoteBook()) is None:
        book.add(
            FilmNoteCode.WINDOW_IGNORED,
            "The film is saved in colour, and its header holds a rescale, window or look-up table; "
            "colours are shown as they are, and it was not used.",
        )
    shown = _of_fitting_type(codes, bits)
    _note_flat(shown, book)
    return shown


def _of_fitting_type(codes: NDArray[np.unsignedinteger], bits: Bits) -> NDArray[np.generic]:
    if codes.dtype.byteorder == ">" or (bits.stored <= 8 and codes.dtype != np.uint8):
        return codes.astype(np.uint8 if bits.stored <= 8 else np.uint16)
    return codes


def _note_flat(shown: NDArray[np.generic], book: NoteBook) -> None:
    if is_flat(shown):
        book.add(
            FilmNoteCode.SINGLE_LEVEL,
            "The whole film has one grey level; nothing can be found on it.",
        )


def _counts_of(
    codes: NDArray[np.unsignedinteger], padding: NDArray[np.bool_] | None, length: int
) -> NDArray[np.int64]:
    """Pixels of each code, without padding; in strips, as counting widens what it counts."""
    counts = np.zeros(length, dtype=np.int64)
    for first in range(0, codes.shape[0], 256):
        strip = codes[first : first + 256]
        film = strip if padding is None else strip[~padding[first : first + 256]]
        counts += np.bincount(film.ravel(), minlength=length)
    return counts


def _spread(order: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.uint16]:
    """Levels spread linearly over 0 to 65535 between the ends that pixels use."""
    used = order[counts > 0]
    low, high = float(used.min()), float(used.max())
    if high <= low:
        return np.zeros(order.shape, dtype=np.uint16)
    share = np.clip((order - low) / (high - low), 0.0, 1.0)
    return np.rint(share * 65535.0).astype(np.uint16)


def _without_saturated(
    padding: NDArray[np.bool_],
    codes: NDArray[np.unsignedinteger],
    order: NDArray[np.float64],
    counts: NDArray[np.int64],
    book: NoteBook,
) -> NDArray[np.bool_] | None:
    """Padding, without what may be bone or metal.

    Where the padding value is shown as bright as the brightest of the film, saturated bone has it
    too. Then only areas that reach a corner of the film are padding, as collimation makes them.
    """
    brightest = float(order[counts > 0].max())
    if float(order[codes[padding]].max()) < brightest:
        return padding
    _, areas = cv2.connectedComponents(padding.astype(np.uint8), connectivity=4)
    corners = {int(areas[row, column]) for row in (0, -1) for column in (0, -1)} - {0}
    book.add(
        FilmNoteCode.PADDING_DOUBTFUL,
        "The padding value is also the brightest grey of the film; only areas that reach a corner "
        "were taken as padding.",
    )
    kept = np.isin(areas, sorted(corners)) if corners else None
    return None if kept is None or kept.all() else kept
