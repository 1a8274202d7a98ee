"""From a film to a network's input: one way, used in training and in serving alike.

A network that is served other numbers than it was trained on fails silently, so both sides call
:func:`~spinezoo_spine.films.grey.unit_grey`, :func:`letterbox` and :func:`two_channels` and the
card names them by :data:`PREPROCESSING_ID`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import FilmError
from spinezoo_contract.limits import MIN_SIDE_PX

from spinezoo_spine.films.grey import unit_grey
from spinezoo_spine.inference.shrinking import shrunk_by_area

PREPROCESSING_ID = "letterbox-2ch-v1"
"""Percentile grey, letterbox, standardised and locally normalised channels."""

LOCAL_WINDOW_PX = 31
"""Side of the local normalisation window on the network's grid; odd. Prototype finding: without
the local channel recognition on low-contrast films falls by about .16."""

LOCAL_FLOOR = 0.02
"""Added to the local deviation (unit grey) so that flat regions do not amplify noise."""


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a film lies on a network's canvas.

    Attributes:
        film_height: Rows of the film, in pixels.
        film_width: Columns of the film, in pixels.
        canvas_height: Rows of the canvas.
        canvas_width: Columns of the canvas.
        scale: Canvas pixels per film pixel, the same in x and y up to rounding.
        top: Canvas row of the film's first row.
        left: Canvas column of the film's first column.
        height: Canvas rows that the film covers.
        width: Canvas columns that the film covers.
    """

    film_height: int
    film_width: int
    canvas_height: int
    canvas_width: int
    scale: float
    top: int
    left: int
    height: int
    width: int

    @classmethod
    def fit(
        cls, film_height: int, film_width: int, canvas_height: int, canvas_width: int
    ) -> Letterbox:
        """The largest centred fit that keeps the film's proportions."""
        scale = min(canvas_height / film_height, canvas_width / film_width)
        height = min(canvas_height, max(1, round(film_height * scale)))
        width = min(canvas_width, max(1, round(film_width * scale)))
        return cls(
            film_height=film_height,
            film_width=film_width,
            canvas_height=canvas_height,
            canvas_width=canvas_width,
            scale=scale,
            top=(canvas_height - height) // 2,
            left=(canvas_width - width) // 2,
            height=height,
            width=width,
        )

    def to_canvas(self, points_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 2) film coordinates (x, y; pixel edges) on the canvas."""
        factors = np.array([self.width / self.film_width, self.height / self.film_height])
        return points_xy * factors + np.array([self.left, self.top], dtype=np.float64)

    def to_film(self, points_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 2) canvas coordinates (x, y; pixel edges) on the film."""
        factors = np.array([self.film_width / self.width, self.film_height / self.height])
        return (points_xy - np.array([self.left, self.top], dtype=np.float64)) * factors


def shrunk(
    pixels: NDArray[np.generic], canvas_height: int, canvas_width: int
) -> NDArray[np.generic] | None:
    """A film as :func:`letterbox` shrinks it, in its own pixel type.

    Sent instead of the whole film to networks of one canvas, it spares each of them megabytes and
    the work of shrinking.

    Returns:
        (rows, columns) of :meth:`Letterbox.fit`; None where the film would not become smaller, or
        one of its sides smaller than a film may be.
    """
    fit = Letterbox.fit(pixels.shape[0], pixels.shape[1], canvas_height, canvas_width)
    if fit.scale >= 1.0 or min(fit.height, fit.width) < MIN_SIDE_PX:
        return None
    return _resized(pixels, fit)


def _resized(pixels: NDArray[np.generic], fit: Letterbox) -> NDArray[np.generic]:
    if fit.scale < 1:
        return shrunk_by_area(pixels, fit.height, fit.width)
    # OpenCV's types leave out that it takes any of our pixel types as they are.
    source: Any = pixels
    return np.asarray(cv2.resize(source, (fit.width, fit.height), interpolation=cv2.INTER_LINEAR))


def letterbox(
    pixels: NDArray[np.generic],
    canvas_height: int,
    canvas_width: int,
    *,
    shrunk_from: tuple[int, int] | None = None,
) -> tuple[NDArray[np.float32], Letterbox]:
    """The film as unit grey on a (canvas_height, canvas_width) ``float32`` canvas.

    Bars around the film are 0. The film is resized before it is scaled to unit grey: that is
    several times faster on a large film, and training does the same.

    Args:
        pixels: (height, width) film.
        canvas_height: Rows of the canvas.
        canvas_width: Columns of the canvas.
        shrunk_from: Rows and columns of the film where the pixels are what :func:`shrunk` makes of
            it; None: they are the film.

    Raises:
        FilmError: The pixels are of another size than :func:`shrunk` gives.
    """
    height, width = shrunk_from or pixels.shape
    fit = Letterbox.fit(height, width, canvas_height, canvas_width)
    if shrunk_from is None:
        pixels = _resized(pixels, fit)
    elif pixels.shape != (fit.height, fit.width) or fit.scale >= 1.0:
        raise FilmError(
            f"a film of {fit.film_height} x {fit.film_width} pixels was shrunk to "
            f"{pixels.shape[0]} x {pixels.shape[1]}, the network's canvas of {canvas_height} x "
            f"{canvas_width} takes {fit.height} x {fit.width}; send the whole film"
        )
    canvas = np.zeros((canvas_height, canvas_width), dtype=np.float32)
    canvas[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width] = unit_grey(pixels)
    return canvas, fit


def two_channels(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """(2, height, width) network input from a unit-grey canvas.

    Channel 0 is the canvas standardised by its own mean and deviation, channel 1 the canvas
    normalised by the mean and deviation of a :data:`LOCAL_WINDOW_PX` window (separable box
    filter, mirrored border). Both are clipped to -3..3.
    """
    planes = np.empty((2, *grey.shape), dtype=np.float32)
    overall, local = planes
    np.subtract(grey, grey.mean(), out=overall)
    overall /= grey.std() + np.float32(1e-3)
    window = (LOCAL_WINDOW_PX, LOCAL_WINDOW_PX)
    mean = cv2.blur(grey, window, borderType=cv2.BORDER_REFLECT_101)
    mean_square = cv2.blur(grey * grey, window, borderType=cv2.BORDER_REFLECT_101)
    deviation = np.sqrt(np.clip(mean_square - mean * mean, 0.0, None))
    np.subtract(grey, mean, out=local)
    local /= deviation + np.float32(LOCAL_FLOOR)
    return np.clip(planes, -3.0, 3.0, out=planes)
