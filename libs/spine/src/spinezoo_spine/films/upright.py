"""Films as viewers show them: turned as the file's orientation says."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import Film, FilmNoteCode

from spinezoo_spine.films.notes import NoteBook
from spinezoo_spine.films.plausible import check_order

_TURNS: dict[int, tuple[bool, int]] = {
    2: (True, 0),
    3: (False, 2),
    4: (True, 2),
    5: (True, 1),
    6: (False, 3),
    7: (True, 3),
    8: (False, 1),
}
"""EXIF orientation: whether mirrored left to right first, then quarter turns against the clock."""


def upright(pixels: NDArray[np.generic], orientation: int, book: NoteBook) -> NDArray[np.generic]:
    """Pixels as viewers show them; (rows, columns) or (rows, columns, channels)."""
    turn = _TURNS.get(orientation)
    if turn is None:
        return pixels
    mirrored, quarters = turn
    book.add(
        FilmNoteCode.ORIENTATION_APPLIED,
        f"The file says that it is to be turned or mirrored (orientation {orientation}), and it "
        "was; outlines are those of the film as viewers show it.",
    )
    if mirrored:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(np.rot90(pixels, quarters))


def upright_size(height: int, width: int, orientation: int) -> tuple[int, int]:
    """(height, width) after :func:`upright`."""
    return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def is_flat(pixels: NDArray[np.generic]) -> bool:
    """Whether all pixels have one level."""
    first = pixels[0, 0]
    if (pixels[::16, ::16] != first).any():  # tells of nearly every film at once
        return False
    return bool((pixels == first).all())


_SQUARE = 1.02
"""Most by which resolutions across and down may differ: programs round them."""


def note_shape(across: object, down: object, book: NoteBook) -> None:
    """Notes a film whose pixels are not square, by its resolution across and down."""
    densities = []
    for value in (across, down):
        number = value[0] / value[1] if isinstance(value, tuple) and value[1] else value
        densities.append(float(number) if isinstance(number, (int, float)) else 0.0)
    low, high = min(densities), max(densities)
    if low > 0.0 and _SQUARE * low < high < math.inf:
        book.add(
            FilmNoteCode.SPACING_IGNORED,
            f"By the file's resolution a pixel is {high / low:.3g} times as long as wide; the film "
            "was not stretched, and angles are those of its pixels as if they were square.",
        )


def finished(pixels: NDArray[np.generic], orientation: int, book: NoteBook) -> Film:
    """The film of grey pixels, turned, with its notes.

    Raises:
        FilmError: Its pixels are in another order than the file says.
    """
    check_order(pixels)
    if is_flat(pixels):
        book.add(
            FilmNoteCode.SINGLE_LEVEL,
            "The whole film has one grey level; nothing can be found on it.",
        )
    shown = np.ascontiguousarray(upright(pixels, orientation, book))
    return Film(shown, notes=book.notes())
