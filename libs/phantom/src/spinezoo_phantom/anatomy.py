"""The patient's skeleton as posed solids: bodies, their chain, disease.

World frame (mm): x to the front, y to the feet, z towards the tube; the middle of the upper S1
endplate is the origin. Every vertebra has a frame of its own (front, up, side) and a place.

Where sizes come from. *Panjabi 1992* (Spine 17:299; lumbar bodies: endplate depth 34 to 35 mm,
width 41 to 50 mm, height 23 to 24 mm at the back wall) and *Zhou 2000* (Eur Spine J 9:242; the
same on CT, magnified less by cartilage, depth 34, height 27 to 29 mm), *Panjabi 1991* (Spine
16:888; thoracic bodies), *Zindrick 1987* (Spine 12:160; pedicles 9 mm wide at L1 to 18 mm at L5,
14 to 15 mm high), *Edwards 2001* (Spine 26:218; cortical shell 0.3 to 0.6 mm, thicker at
endplates), *Frobin 1997* (Clin Biomech 12 S1; disc heights rise to L4/L5), *Legaye 1998* (Eur
Spine J 7:99) and *Vialle 2005* (J Bone Joint Surg Am 87:260; sacral slope about 40 +- 9 degrees,
lordosis L1 to S1 43 to 61 +- 10). Grades are those of *Genant 1993* (J Bone Miner Res 8:1137;
fracture 1: 20 to 25 %, 2: to 40 %, 3: above 40 % of height), *Meyerding 1932* (slip, quarters of
the endplate) and *Lane 1993* (J Rheumatol 20:1911; narrowing, osteophytes, sclerosis, each 0 to
3). Table values are rounded from memory of these papers; spreads are widened on purpose, because
a network must see more than the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from spinezoo_phantom.bodies import (
    DEPTH_RATIO,
    DISC_HEIGHT_MM,
    HEIGHT_RATIO,
    DrawnBody,
    Habit,
    Plan,
    draw_body,
    plan_disease,
)
from spinezoo_phantom.sacrum import (
    Pelvis,
    SacralTraits,
    Transition,
    build_sacrum,
    draw_pelvis_angles,
    draw_transition,
)
from spinezoo_phantom.vertebra import Disc, Vertebra, forward, pose, upward

__all__ = ["Disc", "Spine", "Vertebra", "build_spine"]

THORACIC = tuple(f"T{number}" for number in range(12, 0, -1))
_CERVICAL = ("C7", "C6", "C5", "C4", "C3", "C2")

# By place from the lowest lumbar vertebra upward.
_DISC_WEDGE_DEG = (
    13.0, 10.0, 8.0, 5.0, 3.0, 0.0, -1.5, -3.0, -4.0, -4.0, -4.0, -4.0, -3.5, -2.0, -1.0, 0.0, 1.0,
    1.5,
    3.0, 3.0, 2.5, 2.5, 2.0, 2.0,
)  # fmt: skip
_BODY_WEDGE_DEG = (
    7.0, 3.0, 0.5, -1.0, -2.0, -3.0, -3.0, -3.5, -3.5, -3.5, -3.5, -3.5, -3.5, -3.0, -2.5, -2.0,
    -1.5, -1.0,
    0.0, 0.5, 0.5, 0.5, 0.5, 0.0,
)  # fmt: skip


@dataclass(slots=True)
class Spine:
    """The whole chain, S1 upward and downward.

    Attributes:
        vertebrae: From the lowest lumbar one upward to C2.
        sacrum: From S1 downward.
        discs: From the lumbosacral one upward.
        lumbar_count: 4, 5 or 6.
        size: Body size factor; 1 is average.
        osteoporosis: 0 to 3.
        pelvis: Incidence, tilt, hips.
        transition: The vertebra between lumbar and sacral, if there is one.
        sacral_disc: O'Driscoll's type of the disc S1/S2, 1 to 4.
        chest_mm: How far the ribs reach in front of the thoracic bodies.
        cobb_deg: Coronal Cobb angle of the curve built in.
        cobb_levels: Upper and lower end vertebra of that angle.
    """

    vertebrae: list[Vertebra]
    sacrum: list[Vertebra]
    discs: list[Disc]
    lumbar_count: int
    size: float
    osteoporosis: int
    pelvis: Pelvis
    transition: Transition
    sacral_disc: int
    chest_mm: float
    cobb_deg: float
    cobb_levels: tuple[str, str]
    fractured: list[str] = field(default_factory=list)

    @property
    def sacral_slope_rad(self) -> float:
        """Slope of the upper S1 endplate."""
        return self.pelvis.slope_rad

    def by_level(self) -> dict[str, Vertebra]:
        """Every segment under its level name."""
        return {body.level: body for body in [*self.vertebrae, *self.sacrum]}

    def plate_angle_deg(self, level: str, *, upper: bool) -> float:
        """Direction of an endplate in the sagittal plane, positive sloping down to the front."""
        body = self.by_level()[level]
        slope = body.upper_slope if upper else body.lower_slope
        return float(np.degrees(body.sagittal_rad - np.arctan(slope)))

    def lordosis_deg(self) -> float:
        """Angle between the upper endplates of L1 and S1 (Vialle 2005)."""
        return self.plate_angle_deg("S1", upper=True) - self.plate_angle_deg("L1", upper=True)

    def kyphosis_deg(self) -> float:
        """Angle between the upper endplate of T10 and the lower one of L2, kyphosis positive."""
        return self.plate_angle_deg("T10", upper=True) - self.plate_angle_deg("L2", upper=False)


def _coronal_plan(rng: np.random.Generator, places: int) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Tilt and axial rotation of each place (rad), and the ends of the curve.

    A curve tilts its lower end one way and its upper end the other; the apex rotates most.
    Patients stand or lie a little turned besides.
    """
    place = np.arange(places)
    curve_deg = rng.uniform(10, 45) if rng.random() < 0.28 else abs(rng.normal(0, 4))
    sign = 1.0 if rng.random() < 0.5 else -1.0
    first, length = int(rng.integers(0, 4)), int(rng.integers(4, 8))
    share = np.clip((place - first) / length, 0, 1)
    fade = np.where(place > first + length, np.exp(-(place - first - length) / 3.0), 1.0)
    fade = np.where(place < first, np.exp((place - first) / 2.0), fade)
    tilt = np.deg2rad(sign * curve_deg / 2) * np.cos(np.pi * share) * fade
    turn = np.deg2rad(sign * curve_deg * rng.uniform(0.1, 0.45)) * np.sin(np.pi * share)
    stance = 1 + 2.0 * (rng.random() < 0.35)
    tilt = tilt + rng.normal(0, 0.035) * stance + rng.normal(0, 0.010, places)
    turn = turn + rng.normal(0, 0.055) * stance + rng.normal(0, 0.014, places)
    return tilt, turn, first, min(first + length, places - 1)


def _balance(
    wedge_rad: np.ndarray, tall_mm: np.ndarray, slope_rad: float, first: int, target_mm: float
) -> tuple[float, float]:
    """What brings C7 close to `target_mm` in front of S1.

    Args:
        wedge_rad: (N,) wedges of disc and body by place from below.
        tall_mm: (N,) heights of disc and body.
        slope_rad: Of S1's endplate.
        first: Place of the lowest thoracic vertebra.
        target_mm: How far C7 should stand in front of S1.

    Returns:
        Factor on the thoracic wedges, and how far the pelvis turns backward (rad).
    """
    backward, factors = np.meshgrid(np.deg2rad(np.arange(-4, 29, 4)), np.linspace(0.2, 1.9, 18))
    backward, factors = backward.reshape(-1, 1), factors.reshape(-1, 1)
    bent = np.where(np.arange(len(wedge_rad)) >= first, factors, 1.0) * wedge_rad
    angles = slope_rad - backward - np.cumsum(bent, axis=1) + bent / 2
    at_c7 = len(wedge_rad) - len(_CERVICAL) + 1
    ahead = (np.sin(angles) * tall_mm)[:, :at_c7].sum(axis=1)
    # A turn of the pelvis costs effort, and so does a chest bent out of its shape.
    effort = 230 * np.abs(backward[:, 0]) + 12 * np.abs(np.log(factors[:, 0]))
    effort[slope_rad - backward[:, 0] < np.deg2rad(2)] = np.inf
    best = int(np.argmin(np.abs(ahead - target_mm) + effort))
    return float(factors[best, 0]), float(backward[best, 0])


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Sizes of a patient's third lumbar body, and of discs; as in :class:`Habit`."""

    size: float
    depth_mm: float
    height_mm: float
    disc_factor: float
    width_ratio: float

    @classmethod
    def draw(cls, rng: np.random.Generator, size: float) -> _Sizes:
        """Draws them for a patient of a body size factor."""
        depth_mm = 34.0 * size * np.exp(rng.normal(0, 0.045))
        height_mm = 31.2 * size * np.exp(rng.normal(0, 0.06))
        return cls(
            size, depth_mm, height_mm, np.exp(rng.normal(-0.06, 0.2)), rng.uniform(1.24, 1.42)
        )


def _draw_habit(rng: np.random.Generator, sizes: _Sizes, osteoporosis: int) -> Habit:
    """What the bodies of a patient share beside their size."""
    hollow_mm = rng.uniform(0.6, 3.0)
    hollow_place = rng.uniform(-0.35, 0.05)
    waist, rounding = rng.uniform(0.03, 0.12), rng.uniform(0.01, 0.06)
    exponent, notch_mm = rng.uniform(2.2, 3.6), rng.uniform(0.0, 3.0)
    spur_habit = float(rng.choice([0.0, 0.5, 1.0, 1.8], p=[0.45, 0.25, 0.2, 0.1]))
    wall_mm = rng.uniform(0.15, 0.6) * (1 - 0.12 * osteoporosis)
    plate_mm = rng.uniform(0.2, 0.7) * (1 - 0.10 * osteoporosis)
    density = np.exp(rng.normal(0, 0.12)) * (1, 0.75, 0.55, 0.38)[osteoporosis]
    return Habit(
        size=sizes.size,
        osteoporosis=osteoporosis,
        depth_mm=sizes.depth_mm,
        height_mm=sizes.height_mm,
        disc_factor=sizes.disc_factor,
        width_ratio=sizes.width_ratio,
        hollow_mm=hollow_mm,
        hollow_place=hollow_place,
        waist=waist,
        rounding=rounding,
        exponent=exponent,
        notch_mm=notch_mm,
        spur_habit=spur_habit,
        wall_mm=wall_mm,
        plate_mm=plate_mm,
        density=density,
    )


@dataclass(frozen=True, slots=True)
class _Wedges:
    """Angles in degrees, open to the front, by place from the lowest lumbar vertebra upward."""

    disc: np.ndarray
    body: np.ndarray

    def follow_slope(
        self, plan: Plan, lumbar_count: int, slope_rad: float, lean_back_deg: float
    ) -> None:
        """Makes the lumbar spine upright.

        Worn discs lose their wedge; the others make up for it, because people stand upright:
        lordosis follows sacral slope (Legaye 1998) and L1 leans back a little.
        """
        self.disc[:] *= np.array([1.0, 0.85, 0.6, 0.3])[plan.narrowing]
        low = slice(0, lumbar_count)
        fixed_deg = float(self.body[2:lumbar_count].sum())
        reach = float(self.disc[low].sum() + self.body[:2].sum())
        follow = (np.degrees(slope_rad) + lean_back_deg - fixed_deg) / max(reach, 12.0)
        follow = float(np.clip(follow, 0.1, 1.9))
        self.disc[low] *= follow
        self.body[:2] *= follow


def _stacked(
    drawn: Sequence[DrawnBody],
    habit: Habit,
    wedges: _Wedges,
    slope_rad: float,
    tilt: np.ndarray,
    turn: np.ndarray,
) -> tuple[list[Vertebra], list[Disc]]:
    """Bodies and discs at their places, each upon the one below, the first upon S1."""
    vertebrae: list[Vertebra] = []
    discs: list[Disc] = []
    here, angle, lateral = np.zeros(2), slope_rad, 0.0
    below, below_depth = "S1", habit.depth_mm
    for place, body in enumerate(drawn):
        aside, turned = float(tilt[place]), float(turn[place])
        start = here
        disc_turn = np.deg2rad(wedges.disc[place])
        here = here + upward(angle - disc_turn / 2) * body.disc_mm
        middle, disc_angle = (start + here) / 2, angle - disc_turn / 2
        angle = angle - disc_turn
        here = here + forward(angle) * body.slip_mm
        sagittal = angle - body.wedge_rad / 2
        along_spine = upward(sagittal) * body.height_mm
        centre, upper_mid = here + along_spine / 2, here + along_spine
        low_lateral = lateral
        lateral = lateral + np.tan(tilt[place]) * (body.height_mm + body.disc_mm)
        centre_mm = np.array([*centre, (low_lateral + lateral) / 2])
        vertebrae.append(body.vertebra(habit, centre_mm, sagittal, aside, turned))
        if place:
            body_below = vertebrae[place - 1]
            body_below.sclerosis = (body_below.sclerosis[0], float(body.sclerosis))
        frame = pose(float(disc_angle), aside, turned)
        middle_mm = np.array([*middle, low_lateral])
        discs.append(body.disc(below, below_depth, middle_mm, frame))
        here, angle = upper_mid, float(angle - body.wedge_rad)
        below, below_depth = body.level, body.depth_mm
    return vertebrae, discs


def build_spine(rng: np.random.Generator, *, transitional_share: float = 0.2) -> Spine:
    """Draws a patient's spine.

    Args:
        rng: The anatomy's own random stream; what is drawn after what is part of a generator's
            version.
        transitional_share: Share of patients with four or six lumbar vertebrae, or with one
            between lumbar and sacral.

    Returns:
        The spine, S1's upper endplate at the origin.
    """
    lumbar_count, transition = draw_transition(rng, transitional_share)
    lumbar = [f"L{number}" for number in range(lumbar_count, 0, -1)]
    levels = (*lumbar, *THORACIC, *_CERVICAL)
    places = len(levels)
    # Tables count from below; with six lumbar vertebrae the extra one looks like its neighbour.
    row = np.clip(np.arange(places) + (5 - lumbar_count), 0, len(DEPTH_RATIO) - 1)

    size = float(np.exp(rng.normal(0, 0.065)))
    pelvis = draw_pelvis_angles(rng, size, transition)
    sizes = _Sizes.draw(rng, size)
    lean_back_deg = rng.normal(11, 6.5)
    wedges = _Wedges(
        np.array(_DISC_WEDGE_DEG)[row] + rng.normal(0, 2.0, places),
        np.array(_BODY_WEDGE_DEG)[row] + rng.normal(0, 1.3, places),
    )
    osteoporosis = int(rng.choice([0, 1, 2, 3], p=[0.52, 0.22, 0.16, 0.10]))
    plan = plan_disease(rng, osteoporosis, places)
    plan.fracture[-len(_CERVICAL) :] = ["none"] * len(_CERVICAL)
    plan.fracture_grade[-len(_CERVICAL) :] = 0
    tilt, turn, curve_low, curve_high = _coronal_plan(rng, places)
    wedges.follow_slope(plan, lumbar_count, pelvis.slope_rad, lean_back_deg)

    # The chest's kyphosis carries the head over the hips, more or less (Vialle 2005).
    tall = sizes.height_mm * np.array(HEIGHT_RATIO)[row] + size * np.array(DISC_HEIGHT_MM)[row]
    target_mm = rng.normal(-8, 28) + (rng.exponential(45) if rng.random() < 0.2 else 0.0)
    bend, backward = _balance(
        np.deg2rad(wedges.disc + wedges.body), tall, pelvis.slope_rad, lumbar_count, target_mm
    )
    pelvis = pelvis.turned_back(backward)
    wedges.disc[lumbar_count:] *= bend
    wedges.body[lumbar_count:] *= bend

    habit = _draw_habit(rng, sizes, osteoporosis)
    drawn = [
        draw_body(rng, habit, plan, place, level, int(row[place]), wedges.body[place], transition)
        for place, level in enumerate(levels)
    ]
    vertebrae, discs = _stacked(drawn, habit, wedges, pelvis.slope_rad, tilt, turn)
    pelvis = replace(
        pelvis,
        axial_rad=float(turn[0] + rng.normal(0, 0.02)),
        coronal_rad=float(tilt[0] * 0.5 + rng.normal(0, 0.02)),
    )
    traits = SacralTraits(
        depth_mm=habit.depth_mm,
        size=size,
        density=float(habit.density),
        wall_mm=habit.wall_mm,
        plate_mm=habit.plate_mm,
        exponent=habit.exponent,
        hollow_mm=habit.hollow_mm,
        spur_habit=habit.spur_habit,
        sclerosis=float(discs[0].sclerosis),
    )
    sacrum, sacral_disc = build_sacrum(rng, pelvis, transition, traits)
    return Spine(
        vertebrae=vertebrae,
        sacrum=sacrum,
        discs=discs,
        lumbar_count=lumbar_count,
        size=size,
        osteoporosis=osteoporosis,
        pelvis=pelvis,
        transition=transition,
        sacral_disc=sacral_disc,
        chest_mm=float(rng.uniform(90, 150) * size),
        cobb_deg=float(np.degrees(abs(tilt[curve_high] - tilt[curve_low]))),
        cobb_levels=(levels[curve_high], levels[curve_low]),
        fractured=[body.level for body in vertebrae if body.fracture != "none"],
    )
