"""A wavy film of 12 bits and helpers, for several test files of DICOM films."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID
from spinezoo_contract.types import Film, FilmNoteCode

Make = Callable[..., bytes]
ROWS, COLUMNS = 96, 128
Y, X = np.mgrid[:ROWS, :COLUMNS]
NOISE = np.random.default_rng(4).integers(0, 40, (ROWS, COLUMNS))
DEEP = (np.rint(1900 + 1400 * np.sin(Y / 21) * np.cos(X / 23)) + NOISE).astype(np.uint16)  # 12 bits
GREY = (DEEP >> 4).astype(np.uint8)


def codes(film: Film) -> set[FilmNoteCode]:
    """Codes of a film's notes."""
    return {note.code for note in film.notes}


def wrapped(
    make: Make,
    stored: np.ndarray,
    syntax: str,
    *streams: bytes,
    fragments: int = 1,
    bot: bool = True,
    **attributes: object,
) -> bytes:
    """A film whose pixel data is wrapped: one frame a stream, each in so many fragments."""

    def change(dataset: Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
        dataset.PixelData = encapsulate(list(streams), fragments_per_frame=fragments, has_bot=bot)
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True

    return make(stored, change=change, **attributes)
