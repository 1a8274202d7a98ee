"""What implants are made of: pieces with an outline on the film and a path through metal."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from spinezoo_phantom.projection import ribbon

STEEL = 2.4
"""Attenuation of steel and cobalt-chrome relative to titanium near 60 keV (NIST)."""

ROUND = ((1.0, 0.34), (0.8, 0.30), (0.5, 0.36))
"""Nested widths, and shares of the path, that make a bar's round profile."""


def circle_outline(centre: np.ndarray, radius: float, points: int) -> np.ndarray:
    """(points, 2) a polygon around `centre`, in its unit."""
    around = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return centre + np.stack([np.cos(around), np.sin(around)], axis=1) * radius


def box_outline(
    centre: np.ndarray, axis: np.ndarray, half_length: float, half_height: float, cut: float = 0.0
) -> np.ndarray:
    """(4, 2) a rectangle along `axis` whose front end is lowered by `cut` (0 to 1)."""
    across = np.array([axis[1], -axis[0]])
    front = half_height * (1 - cut)
    return np.array(
        [
            centre - axis * half_length - across * half_height,
            centre + axis * half_length - across * front,
            centre + axis * half_length + across * front,
            centre - axis * half_length + across * half_height,
        ]
    )


@dataclass(slots=True)
class Implant:
    """One implant on the film.

    Attributes:
        structure: "cage", "screw" or "rod" (rods and other instrumentation).
        level: Level name; discs as "L4/L5"; empty for rods.
        design: What it is, for the tags.
        pieces: Pairs of (N, 2) px outline and path, cm of titanium.
        outline: (N, 2) px outlines whose union is the truth; empty means those of the pieces.
        seam: (N, 2) px outlines that join broken pieces in the truth; not drawn.
        halo: Pairs of (N, 2) px outline and cm of bone that is gone around a loose implant.
        course_mm: (N, 3) centre line of a rod, from above.
        below: Of a broken rod's upper part: the lower one.
    """

    structure: str
    level: str
    design: str
    pieces: list[tuple[np.ndarray, float]] = field(default_factory=list)
    outline: list[np.ndarray] = field(default_factory=list)
    seam: list[np.ndarray] = field(default_factory=list)
    halo: list[tuple[np.ndarray, float]] = field(default_factory=list)
    course_mm: np.ndarray | None = None
    below: Implant | None = None

    def truth_polygons(self) -> list[np.ndarray]:
        """The outlines whose union is the truth."""
        return self.outline or [*(polygon for polygon, _ in self.pieces), *self.seam]

    def bar(self, course_px: np.ndarray, half_px: np.ndarray | float, path_cm: float) -> None:
        """Adds a round bar along a (N, 2) course."""
        for width, share in ROUND:
            self.pieces.append((ribbon(course_px, np.asarray(half_px) * width), path_cm * share))


@dataclass(slots=True)
class Hardware:
    """All implants of a film.

    Attributes:
        kinds: Names such as "pedicle_screws", "cage"; empty without hardware.
        implants: The implants, in drawing order.
        cement: Pairs of outline and cm of bone cement; drawn, not annotated.
        cemented: Levels that hold cement.
        removed: Levels whose lamina and spinous process were taken away.
    """

    kinds: list[str] = field(default_factory=list)
    implants: list[Implant] = field(default_factory=list)
    cement: list[tuple[np.ndarray, float]] = field(default_factory=list)
    cemented: list[str] = field(default_factory=list)
    removed: set[str] = field(default_factory=set)
