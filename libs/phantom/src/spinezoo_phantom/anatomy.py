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

from dataclasses import dataclass, field, replace

import numpy as np

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

# By place from the lowest lumbar vertebra upward; relative to the third one.
_DEPTH_RATIO = (
    1.03, 1.02, 1.0, 0.98, 0.95, 0.92, 0.90, 0.88, 0.86, 0.84, 0.82, 0.79, 0.76, 0.72, 0.68, 0.63,
    0.58, 0.54,
    0.52, 0.50, 0.49, 0.48, 0.47, 0.46,
)  # fmt: skip
_HEIGHT_RATIO = (
    0.97, 0.99, 1.0, 1.0, 0.97, 0.94, 0.86, 0.81, 0.77, 0.74, 0.72, 0.70, 0.68, 0.66, 0.64, 0.62,
    0.60, 0.58,
    0.48, 0.45, 0.43, 0.43, 0.44, 0.60,
)  # fmt: skip
_DISC_HEIGHT_MM = (
    9.5, 11.0, 10.5, 9.5, 8.3, 6.8, 5.6, 5.0, 4.6, 4.3, 4.0, 3.9, 3.8, 3.7, 3.6, 3.5, 3.5, 3.7,
    4.8, 5.0, 5.0, 5.0, 4.8, 4.5,
)  # fmt: skip
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
_PEDICLE_WIDTH_MM = (
    16.0, 12.5, 10.5, 9.0, 8.5, 7.5, 7.5, 7.0, 6.5, 6.0, 6.0, 5.5, 5.5, 5.0, 5.0, 5.5, 6.0, 7.0,
    6.5, 6.0, 5.5, 5.5, 5.5, 5.5,
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


@dataclass(slots=True)
class _Plan:
    """Which places are how ill, by place from the lowest lumbar vertebra upward."""

    narrowing: np.ndarray
    slip_grade: np.ndarray
    fracture: list[str]
    fracture_grade: np.ndarray


def _plan_disease(rng: np.random.Generator, osteoporosis: int, places: int) -> _Plan:
    """Draws disease; at least one segment of the lower four always is ill, as in the cohort."""
    # The lowest discs wear first; degeneration clusters in some patients.
    weight = np.array((1.0, 1.0, 0.8, 0.65, 0.5, 0.4, 0.35) + (0.25,) * places)[:places]
    burden = rng.uniform(0.1, 0.8)
    narrowing = np.zeros(places, int)
    ill = rng.random(places) < burden * weight
    narrowing[ill] = rng.choice([1, 2, 3], int(ill.sum()), p=[0.35, 0.40, 0.25])
    if not (narrowing[:4] >= 2).any():
        narrowing[int(rng.integers(0, 4))] = int(rng.choice([2, 3]))
    slip_grade = np.zeros(places, int)
    for place in range(min(5, places)):
        if rng.random() < (0.13 if place < 3 else 0.05):
            slip_grade[place] = int(rng.choice([-1, 1, 2, 3], p=[0.28, 0.52, 0.16, 0.04]))
    fracture = ["none"] * places
    fracture_grade = np.zeros(places, int)
    for place in range(places):
        share = (0.02 if place < 3 else 0.055) * (1 + osteoporosis)
        if rng.random() < share:
            fracture[place] = str(rng.choice(["wedge", "biconcave", "crush"], p=[0.55, 0.3, 0.15]))
            fracture_grade[place] = int(rng.choice([1, 2, 3], p=[0.45, 0.38, 0.17]))
    return _Plan(narrowing, slip_grade, fracture, fracture_grade)


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


def build_spine(rng: np.random.Generator, *, transitional_share: float = 0.2) -> Spine:
    """Draws a patient's spine.

    Args:
        rng: The anatomy's own random stream.
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
    row = np.clip(np.arange(places) + (5 - lumbar_count), 0, len(_DEPTH_RATIO) - 1)

    size = float(np.exp(rng.normal(0, 0.065)))
    pelvis = draw_pelvis_angles(rng, size, transition)
    sacral_slope = pelvis.slope_rad
    depth_mm = 34.0 * size * np.exp(rng.normal(0, 0.045))
    height_mm = 31.2 * size * np.exp(rng.normal(0, 0.06))
    disc_factor = np.exp(rng.normal(-0.06, 0.2))
    width_ratio = rng.uniform(1.24, 1.42)
    lean_back_deg = rng.normal(11, 6.5)
    disc_wedge = np.array(_DISC_WEDGE_DEG)[row] + rng.normal(0, 2.0, places)
    body_wedge = np.array(_BODY_WEDGE_DEG)[row] + rng.normal(0, 1.3, places)

    osteoporosis = int(rng.choice([0, 1, 2, 3], p=[0.52, 0.22, 0.16, 0.10]))
    plan = _plan_disease(rng, osteoporosis, places)
    plan.fracture[-len(_CERVICAL) :] = ["none"] * len(_CERVICAL)
    plan.fracture_grade[-len(_CERVICAL) :] = 0
    tilt, turn, curve_low, curve_high = _coronal_plan(rng, places)

    # Worn discs lose their wedge; the others make up for it, because people stand upright:
    # lordosis follows sacral slope (Legaye 1998) and L1 leans back a little.
    disc_wedge *= np.array([1.0, 0.85, 0.6, 0.3])[plan.narrowing]
    low = slice(0, lumbar_count)
    fixed_deg = float(body_wedge[2:lumbar_count].sum())
    reach = float(disc_wedge[low].sum() + body_wedge[:2].sum())
    follow = (np.degrees(sacral_slope) + lean_back_deg - fixed_deg) / max(reach, 12.0)
    follow = float(np.clip(follow, 0.1, 1.9))
    disc_wedge[low] *= follow
    body_wedge[:2] *= follow

    # The chest's kyphosis carries the head over the hips, more or less (Vialle 2005).
    tall = height_mm * np.array(_HEIGHT_RATIO)[row] + size * np.array(_DISC_HEIGHT_MM)[row]
    target_mm = rng.normal(-8, 28) + (rng.exponential(45) if rng.random() < 0.2 else 0.0)
    wedges = np.deg2rad(disc_wedge + body_wedge)
    bend, backward = _balance(wedges, tall, sacral_slope, lumbar_count, target_mm)
    pelvis = pelvis.turned_back(backward)
    sacral_slope = pelvis.slope_rad
    disc_wedge[lumbar_count:] *= bend
    body_wedge[lumbar_count:] *= bend

    hollow_mm = rng.uniform(0.6, 3.0)
    hollow_place = rng.uniform(-0.35, 0.05)
    waist, rounding = rng.uniform(0.03, 0.12), rng.uniform(0.01, 0.06)
    exponent, notch = rng.uniform(2.2, 3.6), rng.uniform(0.0, 3.0)
    spur_habit = float(rng.choice([0.0, 0.5, 1.0, 1.8], p=[0.45, 0.25, 0.2, 0.1]))
    wall_mm = rng.uniform(0.15, 0.6) * (1 - 0.12 * osteoporosis)
    plate_mm = rng.uniform(0.2, 0.7) * (1 - 0.10 * osteoporosis)
    density = np.exp(rng.normal(0, 0.12)) * (1, 0.75, 0.55, 0.38)[osteoporosis]

    def local_slopes(wedge_rad: float) -> tuple[float, float]:
        # The lower endplate is level in front of the wedge's half, the upper one opens it.
        return float(-np.tan(wedge_rad / 2)), float(np.tan(wedge_rad / 2))

    vertebrae: list[Vertebra] = []
    discs: list[Disc] = []
    here, angle, lateral = np.zeros(2), sacral_slope, 0.0
    below, below_depth = "S1", depth_mm
    for place, level in enumerate(levels):
        at = int(row[place])
        narrowing = int(plan.narrowing[place])
        gap = _DISC_HEIGHT_MM[at] * size * disc_factor * np.exp(rng.normal(0, 0.12))
        if narrowing == 1:
            gap *= rng.uniform(0.6, 0.85)
        elif narrowing == 2:
            gap *= rng.uniform(0.25, 0.6)
        elif narrowing == 3:  # endplates in contact, eroded into each other
            gap = rng.uniform(-1.5, 1.6) * size
        body_height = height_mm * _HEIGHT_RATIO[at] * np.exp(rng.normal(0, 0.025))
        body_depth = depth_mm * _DEPTH_RATIO[at] * np.exp(rng.normal(0, 0.025))
        wedge = np.deg2rad(body_wedge[place])
        kind, grade = plan.fracture[place], int(plan.fracture_grade[place])
        lower_ratio = rng.uniform(0.99, 1.05)
        if place == 0 and transition.kind == "sacralised":
            # A rudimentary disc, a body that tapers as a sacral one does (Konin & Walz 2010).
            gap *= (1.0, 0.9, 0.55, 0.3)[max(transition.wings)] * rng.uniform(0.7, 1.0)
            lower_ratio *= 1 - 0.06 * max(transition.wings) * rng.uniform(0.2, 1.0)
        concavity = np.array([hollow_mm * rng.uniform(0.7, 1.4), hollow_mm * rng.uniform(0.4, 1.2)])
        concavity *= 1 + 0.3 * osteoporosis
        loss = (0.0, rng.uniform(0.2, 0.25), rng.uniform(0.25, 0.4), rng.uniform(0.4, 0.6))[grade]
        if kind == "wedge":  # the front loses height, the back keeps it
            lost_mm = loss * body_height
            wedge = min(wedge - np.arctan(lost_mm / body_depth), -0.05)
            body_height -= lost_mm / 2
        elif kind == "crush":
            body_height *= 1 - loss
        elif kind == "biconcave":
            concavity += loss * body_height * np.array([0.4, 0.6])
        concavity = np.minimum(concavity, 0.38 * body_height)
        slip_grade = int(plan.slip_grade[place])
        slip = rng.normal(0, 0.6)
        if slip_grade > 0:
            slip = body_depth * (slip_grade - 1 + rng.uniform(0.35, 0.95)) / 4
        elif slip_grade < 0:
            slip = -body_depth * rng.uniform(0.07, 0.2)

        start = here
        disc_turn = np.deg2rad(disc_wedge[place])
        here = here + upward(angle - disc_turn / 2) * gap
        middle, disc_angle = (start + here) / 2, angle - disc_turn / 2
        angle = angle - disc_turn
        here = here + forward(angle) * slip
        sagittal = angle - wedge / 2
        along_spine = upward(sagittal) * body_height
        centre, upper_mid = here + along_spine / 2, here + along_spine
        low_lateral, lateral = lateral, lateral + np.tan(tilt[place]) * (body_height + gap)
        frame = pose(sagittal, float(tilt[place]), float(turn[place]))
        lower_slope, upper_slope = local_slopes(float(wedge))

        osteophytes = int(
            np.clip(round(spur_habit * 0.8 + narrowing * 0.6 + rng.normal(0, 0.6)), 0, 3)
        )
        sclerosis = int(np.clip(narrowing - 1 + (rng.random() < 0.4), 0, 3)) if narrowing else 0
        spur_base = np.array([0.45, 1.0, 1.0, 0.45]) * (0.15 + 0.9 * osteophytes)
        nodes = (
            float(rng.uniform(1, 4) * (rng.random() < 0.07)),
            float(rng.uniform(1, 4) * (rng.random() < 0.07)),
            float(rng.uniform(-0.4, 0.4)),
        )
        vertebrae.append(
            Vertebra(
                level=level,
                centre_mm=np.array([*centre, (low_lateral + lateral) / 2]),
                frame=frame,
                height_mm=float(body_height),
                lower_depth_mm=float(body_depth * lower_ratio),
                upper_depth_mm=float(body_depth),
                width_mm=float(body_depth * width_ratio * rng.uniform(0.97, 1.03)),
                lower_slope=lower_slope,
                upper_slope=upper_slope,
                sagittal_rad=float(sagittal),
                coronal_rad=float(tilt[place]),
                axial_rad=float(turn[place]),
                concavity_mm=(float(concavity[0]), float(concavity[1])),
                hollow_place=hollow_place,
                node_mm=nodes,
                waist=waist,
                rounding=rounding,
                exponent=exponent,
                notch_mm=notch,
                spurs_mm=(spur_base * rng.exponential(1.3, 4)).clip(0, 8),
                wall_mm=wall_mm,
                plate_mm=plate_mm * (1.5 if kind != "none" else 1.0),
                density=float(density * np.exp(rng.normal(0, 0.08)) * (1.3 if grade else 1.0)),
                sclerosis=(0.0, 0.0),
                pedicle_mm=_PEDICLE_WIDTH_MM[at] * size,
                fracture=kind,
                fracture_grade=grade,
            )
        )
        if place:
            body_below = vertebrae[place - 1]
            body_below.sclerosis = (body_below.sclerosis[0], float(sclerosis))
        vertebrae[place].sclerosis = (float(sclerosis), 0.0)
        discs.append(
            Disc(
                name=f"{level}/{below}",
                height_mm=float(gap),
                narrowing=narrowing,
                osteophytes=osteophytes,
                sclerosis=sclerosis,
                slip_mm=float(slip),
                slip_grade=slip_grade,
                vacuum=bool(narrowing >= 2 and rng.random() < 0.2),
                middle_mm=np.array([*middle, low_lateral]),
                frame=pose(float(disc_angle), float(tilt[place]), float(turn[place])),
                depth_mm=float((body_depth + below_depth) / 2),
            )
        )
        here, angle = upper_mid, float(angle - wedge)
        below, below_depth = level, body_depth

    pelvis = replace(
        pelvis,
        axial_rad=float(turn[0] + rng.normal(0, 0.02)),
        coronal_rad=float(tilt[0] * 0.5 + rng.normal(0, 0.02)),
    )
    traits = SacralTraits(
        depth_mm=depth_mm,
        size=size,
        density=float(density),
        wall_mm=wall_mm,
        plate_mm=plate_mm,
        exponent=exponent,
        hollow_mm=hollow_mm,
        spur_habit=spur_habit,
        sclerosis=float(discs[0].sclerosis),
    )
    sacrum, sacral_disc = build_sacrum(rng, pelvis, transition, traits)
    ends = (levels[curve_high], levels[curve_low])
    cobb = float(np.degrees(abs(tilt[curve_high] - tilt[curve_low])))
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
        cobb_deg=cobb,
        cobb_levels=ends,
        fractured=[body.level for body in vertebrae if body.fracture != "none"],
    )
