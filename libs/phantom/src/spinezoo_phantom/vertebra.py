"""Vertebral bodies and discs as solids: their shape, pose and landmarks.

World frame (mm): x to the front, y to the feet, z towards the tube; the middle of the upper S1
endplate is the origin. Every vertebra has a frame of its own (front, up, side) and a place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def forward(angle_rad: float) -> np.ndarray:
    """(2,) sagittal unit vector along an endplate, towards the front."""
    return np.array([np.cos(angle_rad), np.sin(angle_rad)])


def upward(angle_rad: float) -> np.ndarray:
    """(2,) sagittal unit vector square to an endplate, towards the head."""
    return np.array([np.sin(angle_rad), -np.cos(angle_rad)])


def pose(sagittal_rad: float, coronal_rad: float, axial_rad: float) -> np.ndarray:
    """(3, 3) frame whose columns point to the front, to the head and to the tube's side."""
    front = np.array([np.cos(sagittal_rad), np.sin(sagittal_rad), 0.0])
    head = np.array([np.sin(sagittal_rad), -np.cos(sagittal_rad), 0.0])
    side = np.array([0.0, 0.0, 1.0])
    head, side = (
        np.cos(coronal_rad) * head + np.sin(coronal_rad) * side,
        np.cos(coronal_rad) * side - np.sin(coronal_rad) * head,
    )
    front, side = (
        np.cos(axial_rad) * front + np.sin(axial_rad) * side,
        np.cos(axial_rad) * side - np.sin(axial_rad) * front,
    )
    return np.stack([front, head, side], axis=1)


@dataclass(slots=True)
class Vertebra:
    """One vertebral body as a solid, and what hangs on it.

    Attributes:
        level: Name such as "L3".
        centre_mm: (3,) world place of the body's middle.
        frame: (3, 3) columns front, up, side.
        height_mm: Height in the middle.
        lower_depth_mm: Front-to-back length of the lower endplate.
        upper_depth_mm: The same of the upper endplate.
        width_mm: Lateral width.
        lower_slope: Rise of the lower endplate per mm to the front, in the body's frame.
        upper_slope: The same of the upper endplate.
        sagittal_rad: Direction of the body's mid-plane in the sagittal plane.
        coronal_rad: Tilt to the side.
        axial_rad: Rotation about its own long axis.
        concavity_mm: Depth of the (lower, upper) endplate hollow.
        hollow_place: Where the hollow is deepest along the depth, -1 back to 1 front.
        node_mm: Depth of a Schmorl node in the (lower, upper) endplate, its place -1 to 1 between.
        waist: Hollow of the walls as a share of half the depth.
        rounding: How much the rim is rounded, share of half the depth.
        exponent: Exponent of the superellipse section.
        notch_mm: Hollow of the back wall in its middle.
        spurs_mm: (4,) osteophytes: lower back, lower front, upper front, upper back.
        wall_mm: Cortical thickness of the walls.
        plate_mm: Cortical thickness of the endplates.
        density: Factor on the cancellous density.
        sclerosis: Extra density below the (lower, upper) endplate, 0 to 3.
        pedicle_mm: Width of a pedicle.
        fracture: "none", "wedge", "biconcave" or "crush".
        fracture_grade: 0 to 3 (Genant).
        lower_plate_share: Thickness of the lower endplate as a share of the upper one; small where
            a sacral body is fused with the next.
    """

    level: str
    centre_mm: np.ndarray
    frame: np.ndarray
    height_mm: float
    lower_depth_mm: float
    upper_depth_mm: float
    width_mm: float
    lower_slope: float
    upper_slope: float
    sagittal_rad: float
    coronal_rad: float
    axial_rad: float
    concavity_mm: tuple[float, float]
    hollow_place: float
    node_mm: tuple[float, float, float]
    waist: float
    rounding: float
    exponent: float
    notch_mm: float
    spurs_mm: np.ndarray
    wall_mm: float
    plate_mm: float
    density: float
    sclerosis: tuple[float, float]
    pedicle_mm: float
    fracture: str = "none"
    fracture_grade: int = 0
    lower_plate_share: float = 1.0

    @property
    def is_sacral(self) -> bool:
        """Whether the segment belongs to the sacrum."""
        return self.level.startswith("S")

    @property
    def depth_mm(self) -> float:
        """Mean front-to-back depth."""
        return (self.lower_depth_mm + self.upper_depth_mm) / 2

    def point(self, along_mm: float, up_mm: float, side_mm: float = 0.0) -> np.ndarray:
        """(3,) world point from the body's middle, in its own frame."""
        return self.centre_mm + self.frame @ np.array([along_mm, up_mm, side_mm])

    def points(self, local_mm: np.ndarray) -> np.ndarray:
        """(..., 3) world points of (..., 3) places in the body's frame."""
        return self.centre_mm + local_mm @ self.frame.T

    def plate_up_mm(self, along_mm: np.ndarray | float, *, upper: bool) -> np.ndarray:
        """Height of an endplate's rim plane above the middle at places along the depth."""
        along = np.asarray(along_mm, dtype=float)
        if upper:
            return self.height_mm / 2 + self.upper_slope * along
        return -self.height_mm / 2 + self.lower_slope * along

    def rims_mm(self) -> np.ndarray:
        """(4, 3) ends of the unrounded rims: upper back, upper front, lower front, lower back.

        They span the body; bone may end short of them, see :meth:`corners_mm`.
        """
        upper, lower = self.upper_depth_mm / 2, self.lower_depth_mm / 2
        places = []
        for along, is_upper in ((-upper, True), (upper, True), (lower, False), (-lower, False)):
            places.append((along, float(self.plate_up_mm(along, upper=is_upper)), 0.0))
        return self.points(np.array(places))

    def corners_mm(self) -> np.ndarray:
        """(4, 3) mid-sagittal corners: upper back, upper front, lower front, lower back.

        Where the endplate, its hollow included, ends in this plane: at the rounded rim in front, at
        the back wall, which is hollow here, behind. Osteophytes do not count.
        """
        upper, lower = (self.endplate_mm(upper=each, count=2) for each in (True, False))
        return np.stack([upper[0], upper[1], lower[1], lower[0]])

    def endplate_mm(self, *, upper: bool, count: int = 9) -> np.ndarray:
        """(count, 3) endplate in the mid-sagittal plane, corner to corner, hollow included.

        From back to front, evenly spaced.
        """
        ends = [-self.depth_mm / 2, self.depth_mm / 2]
        for _ in range(4):  # where a wall ends depends on the height at which it does
            heights = self._section_up_mm(np.array(ends), upper=upper)
            ends = [self._wall_mm(*place) for place in zip(ends, heights, strict=True)]
        along = np.linspace(ends[0], ends[1], count)
        height = self._section_up_mm(along, upper=upper)
        return self.points(np.stack([along, height, np.zeros(count)], axis=1))

    def sides_mm(self, *, upper: bool) -> np.ndarray:
        """(2, 3) ends of an endplate's rim at either side, half way between back and front."""
        up = float(self.plate_up_mm(0.0, upper=upper))
        return self.points(np.array([(0.0, up, side * self.width_mm / 2) for side in (-1, 1)]))

    def half_depth_mm(self, share: np.ndarray | float) -> np.ndarray:
        """Half the depth, unrounded, at heights of -1 (lower endplate) to 1 (upper endplate)."""
        taper = np.asarray(share) * ((self.upper_depth_mm - self.lower_depth_mm) / 4)
        return taper + (self.upper_depth_mm + self.lower_depth_mm) / 4

    def _section_up_mm(self, along_mm: np.ndarray, *, upper: bool) -> np.ndarray:
        """Height of an endplate in the mid-sagittal plane, hollow included."""
        rim = self.plate_up_mm(along_mm, upper=upper)
        reach = self.half_depth_mm(rim * 2 / self.height_mm) + BOWL_MARGIN_MM
        bowl = hollow(along_mm / reach, np.zeros_like(along_mm), self.hollow_place)
        return rim + (-1 if upper else 1) * self.concavity_mm[1 if upper else 0] * bowl

    def _wall_mm(self, along_mm: float, up_mm: float) -> float:
        """Place of the wall on this side in the mid-sagittal plane, osteophytes left out."""
        share = up_mm * 2 / self.height_mm
        flat = min(share * share, 1.0)
        pinch = self.waist * (1.0 if along_mm > 0 else 0.45) * (1 - flat)
        wall = float(self.half_depth_mm(share)) * (1 - pinch - self.rounding * flat**4)
        return wall if along_mm > 0 else self.notch_mm - wall


BOWL_MARGIN_MM = 0.5
"""An endplate's hollow is scaled to half the depth and this much more."""


def hollow(along: np.ndarray, side: np.ndarray, place: float) -> np.ndarray:
    """Relative depth of an endplate's hollow, 1 at its deepest, 0 from the rim outwards.

    Args:
        along: -1 (back) to 1 (front), share of half the depth.
        side: -1 to 1, share of half the width.
        place: Where along the depth it is deepest.
    """
    shifted = along - place * (1 - along * along)
    ring = np.clip(1 - (shifted * shifted + side * side) * (1 / 0.93**2), 0, 1)
    return np.sqrt(ring) * (0.35 + 0.65 * ring)


@dataclass(slots=True)
class Disc:
    """One intervertebral disc.

    Attributes:
        name: For example "L4/L5".
        height_mm: Height in the middle; negative where endplates dig into each other.
        narrowing: 0 to 3 (Lane).
        osteophytes: 0 to 3 (Lane).
        sclerosis: 0 to 3 (Lane).
        slip_mm: How far the upper body lies in front of the lower one.
        slip_grade: Meyerding's 0 to 4; negative for backward slips.
        vacuum: Whether gas lies in the disc.
        middle_mm: (3,) world place.
        frame: (3, 3) columns front, up, side.
        depth_mm: Depth of the endplates beside it.
    """

    name: str
    height_mm: float
    narrowing: int
    osteophytes: int
    sclerosis: int
    slip_mm: float
    slip_grade: int
    vacuum: bool
    middle_mm: np.ndarray
    frame: np.ndarray
    depth_mm: float

    @property
    def grade(self) -> str:
        """Generator 2's words: healthy, narrowed, collapsed."""
        return ("healthy", "healthy", "narrowed", "collapsed")[self.narrowing]
