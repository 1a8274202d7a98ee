"""Devices between two bodies: cages of many designs, disc prostheses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spinezoo_phantom.anatomy import Disc
from spinezoo_phantom.implant_shapes import STEEL, Implant, box_outline
from spinezoo_phantom.projection import Camera, ribbon, smooth_curve
from spinezoo_phantom.solids import project


@dataclass(slots=True)
class _Blank:
    """A device whose place and size are drawn; its design adds the pieces.

    Attributes:
        device: What the pieces go to.
        centre: (2,) its middle, px.
        axis: (2,) unit vector along it.
        half_length: Along the axis, px.
        half_height: Across the axis, px.
        block: (4, 2) outline of the whole, px.
        height_mm: Of the device.
        depth_mm: Of the disc.
        px: Pixels a millimetre.
        rng: The hardware's stream.
    """

    device: Implant
    centre: np.ndarray
    axis: np.ndarray
    half_length: float
    half_height: float
    block: np.ndarray
    height_mm: float
    depth_mm: float
    px: float
    rng: np.random.Generator

    @property
    def across(self) -> np.ndarray:
        """(2,) unit vector square to the axis."""
        return np.array([self.axis[1], -self.axis[0]])

    def along(self, share: float) -> np.ndarray:
        """(2,) from the middle towards an end, as a share of the way, px."""
        return self.axis * self.half_length * share

    def up(self, share: float) -> np.ndarray:
        """(2,) from the middle towards an endplate, as a share of the way, px."""
        return self.across * self.half_height * share

    def shrunk(self, outline: np.ndarray, share: float) -> np.ndarray:
        """The outline with its distances from the middle shrunk."""
        return self.centre + (outline - self.centre) * np.array([share, share])

    def fill(self, outline: np.ndarray, cm: float) -> None:
        """Adds metal within an outline, cm of titanium; negative takes it away."""
        self.device.pieces.append((outline, cm))

    def bar(self, start: np.ndarray, end: np.ndarray, width_mm: float, cm: float) -> None:
        """Adds a straight bar."""
        self.fill(ribbon(np.stack([start, end]), width_mm / 2 * self.px), cm)

    def pin(self, middle: np.ndarray, reach: np.ndarray, width_mm: float, cm: float) -> None:
        """Adds a bar that goes as far to either side of its middle."""
        self.bar(middle - reach, middle + reach, width_mm, cm)

    def plate(self, edge: np.ndarray, width_mm: float, cm: float) -> None:
        """Adds a plate along the whole device, `edge` beside its axis."""
        start, end = self.centre - self.along(1) + edge, self.centre + self.along(1) + edge
        self.bar(start, end, width_mm, cm)

    def frame(self, width_mm: float, cm: float) -> None:
        """Adds bars along the four edges."""
        for corner in range(4):
            self.bar(self.block[corner], self.block[(corner + 1) % 4], width_mm, cm)


def _solid(blank: _Blank) -> None:
    """Titanium with ridges that bite into the endplates."""
    blank.fill(blank.block, blank.rng.uniform(0.5, 1.6))
    if blank.rng.random() < 0.5:
        for share in np.linspace(-0.85, 0.85, int(blank.rng.integers(5, 9))):
            blank.pin(blank.centre + blank.along(share), blank.up(0.8), 0.7, 0.3)


def _bullet(blank: _Blank) -> None:
    """Titanium with rounded ends and a window."""
    nose = smooth_curve(blank.block, rounds=2)
    blank.device.outline = [nose]
    metal_cm = blank.rng.uniform(0.4, 1.4)
    blank.fill(nose, metal_cm)
    blank.fill(blank.shrunk(nose, 0.6), -0.5 * metal_cm)


def _markers(blank: _Blank) -> None:
    """Radiolucent polymer with tantalum pins."""
    rng = blank.rng
    blank.fill(blank.block, rng.uniform(0.01, 0.05))
    places = ((-0.85, 0.8), (-0.85, 0.0, 0.8), (-0.9, -0.3, 0.85))[int(rng.integers(3))]
    dots = rng.random() < 0.35  # beads or short pins in the corners instead of posts
    for place in places:
        foot = blank.centre + blank.along(place)
        reach = blank.up(rng.uniform(0.5, 0.9))
        width_mm, cm = rng.uniform(0.9, 1.6), rng.uniform(0.5, 1.4)
        if dots:
            for sign in (-1, 1) if place != 0.0 else (0,):
                blank.pin(foot + reach * sign, blank.axis * 0.6 * blank.px, width_mm, cm)
        else:
            blank.pin(foot, reach, width_mm, cm)


def _porous(blank: _Blank) -> None:
    """Printed titanium: a frame filled by a sponge."""
    rng = blank.rng
    blank.fill(blank.block, rng.uniform(0.15, 0.4))
    blank.frame(rng.uniform(0.8, 1.3), rng.uniform(0.3, 0.6))
    for _ in range(int(rng.integers(12, 26))):
        spot = blank.centre + blank.along(rng.uniform(-0.8, 0.8))
        spot = spot + blank.up(rng.uniform(-0.3, 0.3))
        lean = np.clip(rng.normal(0, 1), -1, 1)
        reach = (blank.axis + blank.across * lean) * 0.9 * blank.px
        blank.pin(spot, reach, 0.6, rng.uniform(-0.15, 0.3))


def _mesh(blank: _Blank) -> None:
    """A box of wire with its diagonals."""
    blank.fill(blank.block, blank.rng.uniform(0.08, 0.2))
    blank.frame(1.4, 0.5)
    for share in np.linspace(-1, 1, 5):
        blank.pin(blank.centre + blank.along(share) * 0.9, blank.up(0.9), 0.8, 0.35)
    blank.bar(blank.block[0], blank.block[2], 0.8, 0.35)
    blank.bar(blank.block[1], blank.block[3], 0.8, 0.35)


def _window(blank: _Blank) -> None:
    """A solid frame round a graft window."""
    metal_cm = blank.rng.uniform(0.5, 1.1)
    blank.fill(blank.block, metal_cm)
    blank.fill(blank.shrunk(blank.block, 0.55), -0.75 * metal_cm)


def _expandable(blank: _Blank) -> None:
    """Two plates and a post."""
    for sign in (-1, 1):
        width_mm = blank.height_mm * 0.22
        blank.plate(blank.up(0.82) * sign, width_mm, blank.rng.uniform(0.8, 1.4))
    width_mm = blank.depth_mm * 0.2
    blank.pin(blank.centre, blank.up(0.7), width_mm, blank.rng.uniform(0.6, 1.2))


def _cylinder(blank: _Blank) -> None:
    """Threaded, seen along its side."""
    course = np.linspace(blank.centre - blank.along(1), blank.centre + blank.along(1), 12)
    thread = np.where(np.arange(12) % 2 == 0, 0.9, 1.0)
    outline = ribbon(course, blank.half_height * thread)
    blank.device.outline = [outline]
    blank.fill(outline, blank.rng.uniform(0.4, 0.9))
    blank.fill(ribbon(course, blank.half_height * 0.6), -0.25)


def _prosthesis(blank: _Blank) -> None:
    """A disc: two metal plates with keels, polymer between."""
    for sign in (-1, 1):
        edge = blank.up(0.7) * sign
        width_mm = max(blank.height_mm * 0.3, 2.0)
        blank.plate(edge, width_mm, blank.rng.uniform(1.0, 2.0) * STEEL)
        blank.bar(blank.centre + edge, blank.centre + blank.up(1.3) * sign, 6.0, 0.3)
    blank.fill(blank.block, 0.03)


_DESIGNS: dict[str, tuple[float, Callable[[_Blank], None]]] = {
    "solid": (0.17, _solid),
    "markers": (0.27, _markers),
    "mesh": (0.07, _mesh),
    "window": (0.11, _window),
    "expandable": (0.09, _expandable),
    "bullet": (0.11, _bullet),
    "cylinder": (0.05, _cylinder),
    "prosthesis": (0.05, _prosthesis),
    "porous": (0.08, _porous),
}

CAGES = {design: share for design, (share, _) in _DESIGNS.items()}
"""Designs and how often each is seen; half are of a polymer that only its pins show."""


def cage(disc: Disc, camera: Camera, design: str, rng: np.random.Generator) -> Implant:
    """One interbody device; it may dig into the endplates above and below.

    Args:
        disc: Where it lies.
        camera: The film's geometry.
        design: One of :data:`CAGES`.
        rng: The hardware's stream.
    """
    px = camera.px_per_mm
    height_mm = min(max(disc.height_mm + rng.uniform(-0.5, 2.5), rng.uniform(6.0, 10.5)), 15.0)
    half_height = height_mm / 2 * px
    half_length = rng.uniform(0.24, 0.46) * disc.depth_mm * px
    along_mm = rng.uniform(-0.16, 0.20) * disc.depth_mm
    middle = disc.middle_mm + disc.frame @ np.array([along_mm, 0.0, rng.uniform(-8, 8)])
    ends = project(camera, np.stack([middle, middle + disc.frame[:, 0]]))
    centre, axis = ends[0], ends[1] - ends[0]
    turn = rng.normal(0, 0.05 if rng.random() < 0.85 else 0.15)
    axis = axis / np.linalg.norm(axis)
    axis = np.array(
        [
            axis[0] * np.cos(turn) - axis[1] * np.sin(turn),
            axis[0] * np.sin(turn) + axis[1] * np.cos(turn),
        ]
    )
    # A lordotic cage is lower at the back.
    block = box_outline(centre, -axis, half_length, half_height, rng.uniform(0, 0.3))
    device = Implant("cage", disc.name, design, outline=[block])
    _, add_pieces = _DESIGNS[design]
    add_pieces(
        _Blank(
            device, centre, axis, half_length, half_height, block, height_mm, disc.depth_mm, px, rng
        )
    )
    return device
