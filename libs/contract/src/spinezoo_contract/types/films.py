"""The film."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spinezoo_contract.errors import FilmError
from spinezoo_contract.limits import MAX_SPACING_MM, MIN_SPACING_MM, check_film_size
from spinezoo_contract.types.notes import FilmNote
from spinezoo_contract.words import are, counted

FilmKind = Literal["dicom", "encoded"]
"""The two forms of a film file that a reader has to decode."""


PIXEL_TYPES = ("uint8", "uint16", "float32")
"""Types of a film's pixels."""


SHRINKING_ID = "area-letterbox-1"
"""The way of shrinking films for networks that ``docs/swap.md`` describes; another name once any
pixel of what it gives changes."""


@dataclass(frozen=True, slots=True)
class Film:
    """One radiograph, decoded.

    Attributes:
        pixels: (height, width), ``uint8``, ``uint16`` or ``float32`` (finite), bright is dense.
        row_spacing_mm: Distance of two row centres at the detector plane, or None where unknown.
        column_spacing_mm: The same between columns.
        notes: What whoever reads an answer about this film should know.
        shrunk_from: Rows and columns of the whole film, in pixels, where ``pixels`` are it shrunk
            to a network's canvas; spacings are the whole film's. None: they are the whole film.
    """

    pixels: NDArray[np.generic]
    row_spacing_mm: float | None = None
    column_spacing_mm: float | None = None
    notes: tuple[FilmNote, ...] = ()
    shrunk_from: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Looks at every pixel of a ``float32`` film, once.

        Raises:
            FilmError: Shape, pixel type, value or spacing is wrong.
            TooLargeError: More than 20000 rows or columns.
        """
        pixels = self.pixels
        if pixels.ndim != 2:
            raise FilmError(
                f"film has the shape {pixels.shape}; send one grey plane, height x width"
            )
        check_film_size(self.height, self.width, None)
        if self.shrunk_from is not None:
            check_film_size(*self.shrunk_from, None)
        if pixels.dtype.name not in PIXEL_TYPES:
            raise FilmError(
                f"film has pixels of type {pixels.dtype}; convert to uint8, uint16 or float32"
            )
        if pixels.dtype.kind == "f":
            wrong = pixels.size - int(np.count_nonzero(np.isfinite(pixels)))
            if wrong:
                raise FilmError(
                    f"film has {counted(wrong, 'pixel')} that {are(wrong)} NaN or infinite; "
                    "replace before sending"
                )
        for what, spacing in (
            ("row_spacing_mm", self.row_spacing_mm),
            ("column_spacing_mm", self.column_spacing_mm),
        ):
            if spacing is not None and not MIN_SPACING_MM <= spacing <= MAX_SPACING_MM:
                raise FilmError(
                    f"{what} is {spacing}; send {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm, or "
                    "leave it out"
                )

    @property
    def height(self) -> int:
        """Rows, in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns, in pixels."""
        return int(self.pixels.shape[1])

    @property
    def whole_size(self) -> tuple[int, int]:
        """Rows and columns of the whole film, which answers are about, in pixels."""
        return self.shrunk_from or (self.height, self.width)
