"""The point-source camera and the drawing of path lengths into float layers.

World frame (mm): x points to the front of the patient, y to the feet, z towards the tube of a
lateral film; for a frontal film the camera turns the patient (`Camera.posed`). The origin is the
middle of the upper S1 endplate, in the sagittal mid-plane. Films are computed facing right;
mirroring and turning come last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

_SHIFT_BITS = 4  # OpenCV's fixed-point coordinates: 1/16 px
_TO_FRONTAL = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
_FINE = 4  # sub-pixels per pixel and direction where the truth depends on it


@dataclass(frozen=True, slots=True)
class Camera:
    """A point source, a flat detector and the film's place on it.

    Attributes:
        source_to_detector_mm: Distance of the focus from the detector.
        spine_to_detector_mm: Distance of the sagittal mid-plane from the detector.
        spacing_mm: Pixel size at the detector plane (square pixels).
        ray_mm: (2,) world point of the mid-plane that the perpendicular ray meets.
        ray_px: (2,) film position of that point, pixel-edge coordinates.
        height_px: Rows of the film.
        width_px: Columns of the film.
        view: "lateral", or "anteroposterior": the patient's front turned towards the tube, the
            patient's side that faced the tube to the film's left.
    """

    source_to_detector_mm: float
    spine_to_detector_mm: float
    spacing_mm: float
    ray_mm: np.ndarray
    ray_px: np.ndarray
    height_px: int
    width_px: int
    view: str = "lateral"

    @property
    def is_frontal(self) -> bool:
        """Whether the patient's front faces the tube."""
        return self.view == "anteroposterior"

    def posed(self, points_mm: np.ndarray) -> np.ndarray:
        """(..., 3) points or directions of a patient, who turns to the tube for a frontal view."""
        return points_mm @ _TO_FRONTAL.T if self.is_frontal else points_mm

    def magnification(self, z_mm: np.ndarray | float = 0.0) -> np.ndarray:
        """Returns the magnification of points `z_mm` nearer to the tube than the mid-plane."""
        to_source_mm = self.source_to_detector_mm - self.spine_to_detector_mm - np.asarray(z_mm)
        return self.source_to_detector_mm / to_source_mm

    @property
    def px_per_mm(self) -> float:
        """Film pixels per mm of the sagittal mid-plane."""
        return float(self.magnification()) / self.spacing_mm

    def project(self, points_mm: np.ndarray, z_mm: np.ndarray | float = 0.0) -> np.ndarray:
        """Projects points on the film.

        Args:
            points_mm: (..., 2) x and y in the world.
            z_mm: (...) or scalar, lateral position.

        Returns:
            (..., 2) float64 film positions, pixel-edge coordinates.
        """
        scale = np.asarray(self.magnification(z_mm) / self.spacing_mm)[..., None]
        return self.ray_px + (np.asarray(points_mm, dtype=np.float64) - self.ray_mm) * scale


def smooth_curve(points: np.ndarray, *, rounds: int = 2, closed: bool = True) -> np.ndarray:
    """Rounds corners by Chaikin's corner cutting.

    Args:
        points: (N, 2) corners.
        rounds: How often corners are cut; each round doubles the points.
        closed: Whether the last corner joins the first. Open curves keep their ends.

    Returns:
        (M, 2) points.
    """
    curve = np.asarray(points, dtype=np.float64)
    for _ in range(rounds):
        start = curve if closed else curve[:-1]
        end = np.roll(curve, -1, axis=0) if closed else curve[1:]
        cut = np.empty((2 * len(start), 2))
        cut[0::2] = 0.75 * start + 0.25 * end
        cut[1::2] = 0.25 * start + 0.75 * end
        curve = cut if closed else np.vstack([curve[:1], cut, curve[-1:]])
    return curve


def fixed_point(points_px: np.ndarray) -> np.ndarray:
    """Turns pixel-edge positions into OpenCV's fixed-point pixel-centre integers.

    Args:
        points_px: (N, 2) places on the film.
    """
    return np.round((points_px - 0.5) * (1 << _SHIFT_BITS)).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels that may reach over the film's border.

    Attributes:
        left: First column.
        top: First row.
        width: Columns.
        height: Rows.
    """

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def around(cls, points_px: np.ndarray, margin_px: int = 4) -> Window:
        """Returns the smallest window around points (..., 2) with a margin."""
        flat = points_px.reshape(-1, 2)
        low = np.floor(flat.min(axis=0)).astype(int) - margin_px
        high = np.ceil(flat.max(axis=0)).astype(int) + margin_px + 1
        return cls(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))

    def cut(self, height_px: int, width_px: int) -> Window:
        """Returns the part of the window that lies on the film (size 0 where none does)."""
        left, top = max(self.left, 0), max(self.top, 0)
        right = min(self.left + self.width, width_px)
        bottom = min(self.top + self.height, height_px)
        return Window(left, top, max(right - left, 0), max(bottom - top, 0))

    @property
    def is_empty(self) -> bool:
        """Whether the window holds too few pixels to draw in."""
        return self.width < 2 or self.height < 2

    @property
    def origin(self) -> np.ndarray:
        """(2,) left and top."""
        return np.array([self.left, self.top], dtype=np.float64)


def add_line(layer: np.ndarray, line_px: np.ndarray, value: float, width_px: float) -> None:
    """Adds an open line of a given width; thinner than a pixel means fainter.

    Args:
        layer: (height, width) the film's layer; changed in place.
        line_px: (N, 2) points on the film.
        value: What a pixel under the line gets.
        width_px: Of the line.
    """
    thickness = max(1, round(width_px))
    window = Window.around(line_px, 4 + thickness).cut(*layer.shape)
    if window.is_empty:
        return
    points = fixed_point(line_px - window.origin)
    drawn = np.zeros((window.height, window.width), np.uint8)
    cv2.polylines(drawn, [points], False, 255, thickness, cv2.LINE_AA, _SHIFT_BITS)
    view = layer[window.top : window.top + window.height, window.left : window.left + window.width]
    view += drawn * np.float32(value * min(1.0, width_px / thickness) / 255)


def coverage_of(polygons_px: Sequence[np.ndarray], window: Window) -> np.ndarray:
    """How much of each pixel the union of polygons covers, true to about 1/10 px.

    OpenCV's own anti-aliased fill is half a pixel too wide on every side, which would spoil the
    truth; so polygons are filled on a finer grid and averaged.

    Args:
        polygons_px: (N, 2) outlines.
        window: Where to draw; may reach over the film's border.

    Returns:
        (h, w) float32, 0 to 1.
    """
    drawn = np.zeros((window.height * _FINE, window.width * _FINE), np.uint8)
    for polygon in polygons_px:
        corners = fixed_point((polygon - window.origin) * _FINE)
        cv2.fillPoly(drawn, [corners], 1, cv2.LINE_8, _SHIFT_BITS)
    size = (window.width, window.height)
    return cv2.resize(drawn.astype(np.float32), size, interpolation=cv2.INTER_AREA)


def ribbon(line: np.ndarray, half_width: float | np.ndarray) -> np.ndarray:
    """Turns a centre line (N, 2) into the closed outline (2N, 2) of a band around it."""
    tangent = np.gradient(line, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    offset = normal * np.broadcast_to(np.asarray(half_width, dtype=float), len(line))[:, None]
    return np.vstack([line + offset, (line - offset)[::-1]])


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], size_px: float, octaves: int = 3
) -> np.ndarray:
    """Returns (H, W) float32 cloud noise whose largest blobs measure `size_px`."""
    height, width = shape
    total = np.zeros(shape, np.float32)
    amplitude = 1.0
    for _ in range(octaves):
        rows, columns = max(2, int(height / size_px) + 2), max(2, int(width / size_px) + 2)
        grain = rng.standard_normal((rows, columns), dtype=np.float32)
        total += amplitude * cv2.resize(grain, (width, height), interpolation=cv2.INTER_CUBIC)
        size_px = max(1.2, size_px / 2)
        amplitude *= 0.6
    return total
