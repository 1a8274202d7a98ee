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

from dataclasses import dataclass, field

import numpy as np

THORACIC = ("T12", "T11", "T10", "T9", "T8", "T7", "T6")
SACRAL = ("S1", "S2", "S3", "S4", "S5")

# By place from the lowest lumbar vertebra upward; relative to the third one.
_DEPTH_RATIO = (1.03, 1.02, 1.0, 0.98, 0.95, 0.92, 0.90, 0.88, 0.86, 0.84, 0.82, 0.79, 0.76)
_HEIGHT_RATIO = (0.97, 0.99, 1.0, 1.0, 0.97, 0.94, 0.88, 0.84, 0.80, 0.77, 0.75, 0.73, 0.71)
_DISC_HEIGHT_MM = (9.5, 11.0, 10.5, 9.5, 8.3, 6.8, 5.6, 5.0, 4.6, 4.3, 4.0, 3.9, 3.8)
_DISC_WEDGE_DEG = (13.0, 10.0, 8.0, 5.0, 3.0, 0.0, -1.5, -3.0, -4.0, -4.0, -4.0, -4.0, -4.0)
_BODY_WEDGE_DEG = (7.0, 3.0, 0.5, -1.0, -2.0, -3.0, -3.0, -3.5, -3.5, -3.5, -3.5, -3.5, -3.5)
_PEDICLE_WIDTH_MM = (16.0, 12.5, 10.5, 9.0, 8.5, 7.5, 7.5, 7.0, 6.5, 6.0, 6.0, 5.5, 5.5)
_SACRAL_HEIGHT_RATIO = (1.02, 0.85, 0.75, 0.65, 0.55)
_SACRAL_DEPTH_RATIO = (1.0, 0.74, 0.60, 0.48, 0.38, 0.28)
_SACRAL_WIDTH_RATIO = (1.5, 1.2, 1.0, 0.8, 0.6)
_SACRAL_WEDGE_DEG = (4.0, -7.0, -15.0, -17.0, -14.0)


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

    def corners_mm(self) -> np.ndarray:
        """(4, 3) mid-sagittal corners: upper back, upper front, lower front, lower back."""
        upper, lower = self.upper_depth_mm / 2, self.lower_depth_mm / 2
        places = []
        for along, is_upper in ((-upper, True), (upper, True), (lower, False), (-lower, False)):
            places.append((along, float(self.plate_up_mm(along, upper=is_upper)), 0.0))
        return self.points(np.array(places))

    def endplate_mm(self, *, upper: bool, count: int = 9) -> np.ndarray:
        """(count, 3) endplate in the mid-sagittal plane, back to front, hollow included."""
        half = (self.upper_depth_mm if upper else self.lower_depth_mm) / 2
        share = np.linspace(-1, 1, count)
        bowl = hollow(share, np.zeros(count), self.hollow_place)
        depth = self.concavity_mm[1 if upper else 0]
        height = self.plate_up_mm(share * half, upper=upper) + (-1 if upper else 1) * depth * bowl
        return self.points(np.stack([share * half, height, np.zeros(count)], axis=1))


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


@dataclass(slots=True)
class Spine:
    """The whole chain, S1 upward and downward.

    Attributes:
        vertebrae: From the lowest lumbar one upward to T6.
        sacrum: From S1 downward.
        discs: From the lumbosacral one upward.
        lumbar_count: 4, 5 or 6.
        sacral_slope_rad: Slope of the upper S1 endplate.
        size: Body size factor; 1 is average.
        osteoporosis: 0 to 3.
        pelvis_axial_rad: Rotation of the pelvis.
        pelvis_coronal_rad: Tilt of the pelvis.
        cobb_deg: Coronal Cobb angle of the curve built in.
        cobb_levels: Upper and lower end vertebra of that angle.
    """

    vertebrae: list[Vertebra]
    sacrum: list[Vertebra]
    discs: list[Disc]
    lumbar_count: int
    sacral_slope_rad: float
    size: float
    osteoporosis: int
    pelvis_axial_rad: float
    pelvis_coronal_rad: float
    cobb_deg: float
    cobb_levels: tuple[str, str]
    fractured: list[str] = field(default_factory=list)

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


def build_spine(rng: np.random.Generator, *, transitional_share: float = 0.12) -> Spine:
    """Draws a patient's spine.

    Args:
        rng: The anatomy's own random stream.
        transitional_share: Share of patients with four or six lumbar vertebrae.

    Returns:
        The spine, S1's upper endplate at the origin.
    """
    lumbar_count = 5
    if rng.random() < transitional_share:
        lumbar_count = 4 if rng.random() < 0.5 else 6
    lumbar = [f"L{number}" for number in range(lumbar_count, 0, -1)]
    levels = (*lumbar, *THORACIC)
    places = len(levels)
    # Tables count from below; with six lumbar vertebrae the extra one looks like its neighbour.
    row = np.clip(np.arange(places) + (5 - lumbar_count), 0, len(_DEPTH_RATIO) - 1)

    sacral_slope = float(np.deg2rad(np.clip(rng.normal(39, 11.5), 8, 70)))
    size = float(np.exp(rng.normal(0, 0.065)))
    depth_mm = 34.0 * size * np.exp(rng.normal(0, 0.045))
    height_mm = 31.2 * size * np.exp(rng.normal(0, 0.06))
    disc_factor = np.exp(rng.normal(-0.06, 0.2))
    width_ratio = rng.uniform(1.24, 1.42)
    lean_back_deg = rng.normal(11, 6.5)
    disc_wedge = np.array(_DISC_WEDGE_DEG)[row] + rng.normal(0, 2.0, places)
    body_wedge = np.array(_BODY_WEDGE_DEG)[row] + rng.normal(0, 1.3, places)

    osteoporosis = int(rng.choice([0, 1, 2, 3], p=[0.52, 0.22, 0.16, 0.10]))
    plan = _plan_disease(rng, osteoporosis, places)
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
        concavity = np.array([hollow_mm * rng.uniform(0.7, 1.4), hollow_mm * rng.uniform(0.4, 1.2)])
        concavity *= 1 + 0.3 * osteoporosis
        loss = (0.0, rng.uniform(0.2, 0.25), rng.uniform(0.25, 0.4), rng.uniform(0.4, 0.6))[grade]
        if kind == "wedge":  # the front loses height, the back keeps it
            lost_mm = loss * body_height
            wedge -= np.arctan(lost_mm / body_depth)
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
                lower_depth_mm=float(body_depth * rng.uniform(0.99, 1.05)),
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

    pelvis_turn = float(turn[0] + rng.normal(0, 0.02))
    pelvis_tilt = float(tilt[0] * 0.5 + rng.normal(0, 0.02))
    sacrum: list[Vertebra] = []
    here, angle = np.zeros(2), sacral_slope
    curved = rng.uniform(0.7, 1.4)
    for place, level in enumerate(SACRAL):
        body_height = height_mm * _SACRAL_HEIGHT_RATIO[place]
        wedge = float(np.deg2rad(_SACRAL_WEDGE_DEG[place] * curved + rng.normal(0, 3)))
        sagittal = angle + wedge / 2
        lower_mid = here - upward(sagittal) * body_height
        lower_slope, upper_slope = local_slopes(wedge)
        first = place == 0
        sacrum.append(
            Vertebra(
                level=level,
                centre_mm=np.array([*((here + lower_mid) / 2), 0.0]),
                frame=pose(float(sagittal), pelvis_tilt, pelvis_turn),
                height_mm=float(body_height),
                lower_depth_mm=float(depth_mm * _SACRAL_DEPTH_RATIO[place + 1]),
                upper_depth_mm=float(depth_mm * _SACRAL_DEPTH_RATIO[place]),
                width_mm=float(depth_mm * _SACRAL_WIDTH_RATIO[place]),
                lower_slope=lower_slope,
                upper_slope=upper_slope,
                sagittal_rad=float(sagittal),
                coronal_rad=pelvis_tilt,
                axial_rad=pelvis_turn,
                concavity_mm=(0.0, hollow_mm * (0.4 if first else 0.1)),
                hollow_place=0.0,
                node_mm=(0.0, 0.0, 0.0),
                waist=waist * 0.5,
                rounding=rounding,
                exponent=exponent,
                notch_mm=0.0,
                spurs_mm=np.array([0, 0, 1, 0]) * spur_habit * rng.exponential(1.2),
                wall_mm=wall_mm,
                plate_mm=plate_mm * (1.0 if first else rng.uniform(0.2, 0.7)),
                density=float(density * 0.85),
                sclerosis=(0.0, float(discs[0].sclerosis) if first else 0.0),
                pedicle_mm=18.0 * size,
            )
        )
        here = lower_mid - upward(angle + wedge) * rng.uniform(0.3, 2.5)
        angle = angle + wedge
    ends = (levels[curve_high], levels[curve_low])
    cobb = float(np.degrees(abs(tilt[curve_high] - tilt[curve_low])))
    return Spine(
        vertebrae=vertebrae,
        sacrum=sacrum,
        discs=discs,
        lumbar_count=lumbar_count,
        sacral_slope_rad=sacral_slope,
        size=size,
        osteoporosis=osteoporosis,
        pelvis_axial_rad=pelvis_turn,
        pelvis_coronal_rad=pelvis_tilt,
        cobb_deg=cobb,
        cobb_levels=ends,
        fractured=[body.level for body in vertebrae if body.fracture != "none"],
    )
