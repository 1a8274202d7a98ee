"""The sacrum as a chain of fused bodies, the pelvis it is part of, and transitional vertebrae.

Where sizes come from. *Legaye 1998* and *Vialle 2005* (pelvic incidence 52 to 55 +- 10 degrees;
tilt rises with it by 0.37, slope by 0.63), *Cheng & Song 2003* (Neurosurg Focus 15(2):E3; heights
and depths of the segments, canal and crest), *Inoue 2002* (Spine 27:831; the back wall of S1 stands
at 90 to 105 degrees to its endplate), *O'Driscoll 1996* (Skeletal Radiol 25:225; disc S1/S2: none,
a remnant shorter than the endplates, one as long as they are, the same with a squared S1),
*Castellvi 1984* (Spine 9:493; transitional vertebrae: I broad transverse processes, II joints with
the sacrum, III fusion, IV one of each), *Konin & Walz 2010* (AJNR 31:1778; 4 to 30 % of people have
one). Rounded from memory, spreads widened on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spinezoo_phantom.vertebra import Vertebra, forward, pose, upward

SACRAL = ("S1", "S2", "S3", "S4", "S5")

_HEIGHT_MM = (29.0, 24.0, 20.0, 17.0, 15.0)
_DEPTH_RATIO = (1.0, 0.66, 0.51, 0.38, 0.30, 0.22)  # of S1's upper endplate, then the lower ones
_WIDTH_RATIO = (1.5, 1.2, 1.0, 0.8, 0.6)
_WEDGE_DEG = (7.0, -3.0, -15.0, -19.0, -13.0)  # front higher: positive; the apex lies at S3
_FRONT_SHARE = (0.8, 0.7, 0.6, 0.5, 0.5)  # how much of the taper lies in front
_TILT_AT_REST_DEG = 12.0

_SQUARED = 4
"""O'Driscoll's type of the disc S1/S2 where S1 is as square as a lumbar vertebra."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A vertebra between lumbar and sacral.

    Attributes:
        kind: "none", "sacralised" (the lowest lumbar one) or "lumbarised" (S1).
        grade: "", or Castellvi's "Ia" to "IIIb" and "IV".
        level: The vertebra, "" without.
        wings: For each side (away from the tube, towards it): 0 none, 1 a broad process, 2 a joint,
            3 fusion.
    """

    kind: str = "none"
    grade: str = ""
    level: str = ""
    wings: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Pelvis:
    """How sacrum and hips stand to each other (Legaye 1998).

    Attributes:
        incidence_rad: Between the perpendicular to S1's endplate and the line to the hips.
        tilt_rad: Between that line and the vertical.
        slope_rad: Of S1's endplate; incidence less tilt.
        hip_mm: (2,) world place of the middle between the femoral heads.
        half_span_mm: Half the distance of the femoral heads.
        crest_mm: How far the iliac crests stand above the middle of S1's endplate.
        axial_rad: Rotation.
        coronal_rad: Tilt to the side.
    """

    incidence_rad: float
    tilt_rad: float
    slope_rad: float
    hip_mm: np.ndarray
    half_span_mm: float
    crest_mm: float
    axial_rad: float = 0.0
    coronal_rad: float = 0.0

    @property
    def version_rad(self) -> float:
        """How far the pelvis is turned backward from rest."""
        return self.tilt_rad - np.deg2rad(_TILT_AT_REST_DEG)

    def turned_back(self, angle_rad: float) -> Pelvis:
        """The same pelvis turned backward around the hips: less slope, more tilt."""
        tilt = self.tilt_rad + angle_rad
        reach = float(np.linalg.norm(self.hip_mm))
        return replace(
            self,
            tilt_rad=tilt,
            slope_rad=self.slope_rad - angle_rad,
            hip_mm=reach * np.array([np.sin(tilt), np.cos(tilt)]),
        )

    def heads_mm(self) -> np.ndarray:
        """(2, 3) middles of the femoral heads, away from the tube and towards it."""
        places = []
        for side in (-1, 1):
            z = side * self.half_span_mm
            shift = z * np.array([np.tan(self.axial_rad), np.tan(self.coronal_rad)])
            places.append([*(self.hip_mm + shift), z])
        return np.array(places)


def draw_pelvis_angles(rng: np.random.Generator, size: float, transition: Transition) -> Pelvis:
    """Draws incidence, tilt and slope that fit each other; sacra from nearly level to upright."""
    incidence = float(np.clip(rng.normal(54, 13), 26, 95))
    tilt = 0.37 * incidence - 7 + rng.normal(0, 6.5)
    if rng.random() < 0.15:  # flat backs turn the pelvis backward
        tilt += rng.exponential(9)
    slope = float(np.clip(incidence - tilt, 3, 74))
    tilt_rad = float(np.deg2rad(incidence - slope))
    reach_mm = rng.normal(106, 7) * size
    crest_mm = float(np.clip(rng.normal(40, 12), 10, 72))
    crest_mm += {"sacralised": 9, "lumbarised": -9}.get(transition.kind, 0)
    return Pelvis(
        incidence_rad=float(np.deg2rad(incidence)),
        tilt_rad=tilt_rad,
        slope_rad=float(np.deg2rad(slope)),
        hip_mm=reach_mm * np.array([np.sin(tilt_rad), np.cos(tilt_rad)]),
        half_span_mm=float(rng.normal(88, 5) * size),
        crest_mm=float(crest_mm * size),
    )


def draw_transition(rng: np.random.Generator, share: float) -> tuple[int, Transition]:
    """How many lumbar vertebrae there are and whether one is transitional.

    Args:
        rng: Random stream.
        share: Of patients that are not of the usual kind.
    """
    if rng.random() >= share:
        return 5, Transition()
    kind = float(rng.random())
    if kind < 0.25:
        return 4, Transition()
    if kind < 0.5:
        return 6, Transition()
    grade = str(
        rng.choice(
            ["Ia", "Ib", "IIa", "IIb", "IIIa", "IIIb", "IV"],
            p=[0.12, 0.2, 0.2, 0.16, 0.1, 0.14, 0.08],
        )
    )
    strength = {"I": 1, "II": 2, "III": 3}.get(grade.rstrip("ab"), 0)
    wings = (2, 3) if grade == "IV" else (strength, strength if grade.endswith("b") else 0)
    if rng.random() < 0.5:
        wings = wings[::-1]
    if kind < 0.75:
        return 5, Transition("sacralised", grade, "L5", wings)
    return 5, Transition("lumbarised", grade, "S1", wings)


@dataclass(frozen=True, slots=True, kw_only=True)
class SacralTraits:
    """What a sacrum shares with the rest of the skeleton.

    Attributes:
        depth_mm: Of the lumbar endplates.
        size: Body size factor.
        density: Of cancellous bone.
        wall_mm: Cortex of the walls.
        plate_mm: Cortex of the endplates.
        exponent: Of the superellipse section.
        hollow_mm: Hollow of endplates.
        spur_habit: How prone to osteophytes.
        sclerosis: Of S1's upper endplate, 0 to 3.
    """

    depth_mm: float
    size: float
    density: float
    wall_mm: float
    plate_mm: float
    exponent: float
    hollow_mm: float
    spur_habit: float
    sclerosis: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Build:
    """What the bodies of one sacrum share.

    Attributes:
        disc: O'Driscoll's type of the disc S1/S2, 1 to 4.
        gap_mm: Of that disc at the rim.
        hollow_mm: Of each of its plates.
        plate_share: Of a full endplate, of its plates.
        curve: Factor on the wedges below S2.
        taper: Factor on the depths below S1.
        depth_mm: Of S1's endplate.
        table_rad: How far S1's back wall leans from square to its endplate.
        lumbar_like: Least depth of S1's lower endplate, of the lumbar ones; 0: tapered.
        density: Of cancellous bone.
        strength: Share of a full endplate.
        wall_share: Share of a full wall.
    """

    disc: int
    gap_mm: float
    hollow_mm: float
    plate_share: float
    curve: float
    taper: float
    depth_mm: float
    table_rad: float
    lumbar_like: float
    density: float
    strength: float
    wall_share: float

    @classmethod
    def draw(cls, rng: np.random.Generator, transition: Transition, traits: SacralTraits) -> _Build:
        """One patient's."""
        disc, gap_mm, hollow_mm, plate_share = _disc_below_s1(rng, transition)
        return cls(
            disc=disc,
            gap_mm=gap_mm,
            hollow_mm=hollow_mm,
            plate_share=plate_share,
            curve=rng.uniform(0.5, 1.6),
            taper=rng.uniform(0.85, 1.12),
            depth_mm=traits.depth_mm * rng.uniform(0.98, 1.1),  # S1's endplate is the broadest
            table_rad=np.deg2rad(rng.normal(4, 4.5)),
            lumbar_like=rng.uniform(0.86, 0.98) if disc == _SQUARED else 0.0,
            density=traits.density * rng.uniform(0.05, 0.4),
            strength=rng.uniform(0.35, 1.0),
            wall_share=rng.uniform(0.3, 1.0),
        )


@dataclass(frozen=True, slots=True)
class _Plate:
    """An endplate in the mid-plane.

    Attributes:
        back_mm: (2,) its back end.
        angle_rad: Of the way to its front end.
        depth_mm: From back to front.
    """

    back_mm: np.ndarray
    angle_rad: float
    depth_mm: float

    @property
    def middle_mm(self) -> np.ndarray:
        """(2,) its middle."""
        return self.back_mm + forward(self.angle_rad) * self.depth_mm / 2


def _disc_below_s1(
    rng: np.random.Generator, transition: Transition
) -> tuple[int, float, float, float]:
    """O'Driscoll's type 1 to 4, gap at the rim (mm), hollow of each plate (mm), plate's share."""
    if transition.kind == "lumbarised":
        kind = _SQUARED
    else:
        kind = 1 + int(rng.choice(4, p=[0.26, 0.44, 0.22, 0.08]))
    if kind == 1:
        return kind, rng.uniform(-0.8, 0.3), 0.0, rng.uniform(0.0, 0.35)
    if kind == 2:  # enclosed: a lens between rims that touch
        return kind, rng.uniform(-0.5, 0.8), rng.uniform(0.3, 2.4), rng.uniform(0.3, 1.0)
    return kind, rng.uniform(1.0, 6.5), rng.uniform(0.2, 1.2), rng.uniform(0.5, 1.1)


def _lower_plate(
    rng: np.random.Generator, place: int, upper: _Plate, build: _Build, traits: SacralTraits
) -> _Plate:
    """Draws the lower endplate of the body at `place` (0: S1) below its upper one."""
    height = _HEIGHT_MM[place] * traits.size * np.exp(rng.normal(0, 0.06))
    ratio = _DEPTH_RATIO[place + 1] * (1.0 if place == 0 else build.taper)
    ratio *= np.exp(rng.normal(0, 0.05))
    if place == 0:
        ratio = max(ratio * build.taper, build.lumbar_like)
    elif build.disc == _SQUARED:
        ratio = _DEPTH_RATIO[place + 1] * 1.08
    depth = min(upper.depth_mm * 0.97, traits.depth_mm * ratio)
    wedge_deg = _WEDGE_DEG[place] * (build.curve if place > 1 else 1.0) + rng.normal(0, 2.5)
    wedge = float(np.deg2rad(wedge_deg))
    middle = upper.angle_rad + wedge / 2
    down = upper.angle_rad + build.table_rad if place == 0 else middle
    back = upper.back_mm - upward(down) * height
    back = back + forward(middle) * (upper.depth_mm - depth) * (1 - _FRONT_SHARE[place])
    return _Plate(back, upper.angle_rad + wedge, depth)


def _body(
    rng: np.random.Generator,
    place: int,
    upper: _Plate,
    lower: _Plate,
    pelvis: Pelvis,
    build: _Build,
    traits: SacralTraits,
) -> Vertebra:
    """Draws the body at `place` (0: S1) between its endplates."""
    axis = upper.middle_mm - lower.middle_mm
    sagittal = float(np.arctan2(axis[0], -axis[1]))
    first = place == 0
    below = build.plate_share if first else rng.uniform(0.0, 0.3)
    above = 1.0 if first else build.plate_share if place == 1 else rng.uniform(0.0, 0.35)
    return Vertebra(
        level=SACRAL[place],
        centre_mm=np.array([*((upper.middle_mm + lower.middle_mm) / 2), 0.0]),
        frame=pose(sagittal, pelvis.coronal_rad, pelvis.axial_rad),
        height_mm=float(np.linalg.norm(axis)),
        lower_depth_mm=float(lower.depth_mm * np.cos(sagittal - lower.angle_rad)),
        upper_depth_mm=float(upper.depth_mm * np.cos(sagittal - upper.angle_rad)),
        width_mm=float(traits.depth_mm * _WIDTH_RATIO[place]),
        lower_slope=float(np.tan(sagittal - lower.angle_rad)),
        upper_slope=float(np.tan(sagittal - upper.angle_rad)),
        sagittal_rad=sagittal,
        coronal_rad=pelvis.coronal_rad,
        axial_rad=pelvis.axial_rad,
        concavity_mm=(
            build.hollow_mm if first else 0.0,
            traits.hollow_mm * 0.45 if first else build.hollow_mm if place == 1 else 0.0,
        ),
        hollow_place=0.0,
        node_mm=(0.0, 0.0, 0.0),
        waist=float(rng.uniform(0.04, 0.16)) if place < 2 else 0.04,
        rounding=0.02,
        exponent=traits.exponent,
        notch_mm=0.0,
        spurs_mm=np.array([0, 0, 1, 0]) * traits.spur_habit * rng.exponential(1.2)
        if first
        else np.zeros(4),
        wall_mm=traits.wall_mm * build.wall_share,
        plate_mm=traits.plate_mm * above * build.strength,
        density=float(build.density),
        sclerosis=(0.0, traits.sclerosis if first else 0.0),
        pedicle_mm=18.0 * traits.size,
        lower_plate_share=float(np.clip(below / max(above, 0.05), 0, 1.2)),
    )


def build_sacrum(
    rng: np.random.Generator, pelvis: Pelvis, transition: Transition, traits: SacralTraits
) -> tuple[list[Vertebra], int]:
    """Builds S1 to S5, the middle of S1's endplate at the origin.

    Args:
        rng: Random stream.
        pelvis: Slope, rotation and tilt.
        transition: Whether S1 is lumbarised.
        traits: What the sacrum shares with the other bones.

    Returns:
        The bodies from above, and O'Driscoll's type of the disc S1/S2, 1 to 4.
    """
    build = _Build.draw(rng, transition, traits)
    slope = pelvis.slope_rad
    upper = _Plate(-forward(slope) * build.depth_mm / 2, slope, build.depth_mm)
    bodies: list[Vertebra] = []
    for place in range(len(SACRAL)):
        lower = _lower_plate(rng, place, upper, build, traits)
        bodies.append(_body(rng, place, upper, lower, pelvis, build, traits))
        if place == 0:
            gap_mm = build.gap_mm
        elif place == 1:
            gap_mm = rng.uniform(-0.8, 1.6) if rng.random() < 0.35 else rng.uniform(-0.8, 0.2)
        else:
            gap_mm = rng.uniform(-0.8, 0.4)
        upper = replace(lower, back_mm=lower.back_mm - upward(lower.angle_rad) * gap_mm)
    return bodies, build.disc
