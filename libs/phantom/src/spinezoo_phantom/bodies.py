"""One vertebral body after the other, from below: its size, its disease, and the disc below it.

Where sizes come from is said in :mod:`spinezoo_phantom.anatomy`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spinezoo_phantom.sacrum import Transition
from spinezoo_phantom.vertebra import Disc, Vertebra, pose

# By place from the lowest lumbar vertebra upward; relative to the third one.
DEPTH_RATIO = (
    1.03, 1.02, 1.0, 0.98, 0.95, 0.92, 0.90, 0.88, 0.86, 0.84, 0.82, 0.79, 0.76, 0.72, 0.68, 0.63,
    0.58, 0.54,
    0.52, 0.50, 0.49, 0.48, 0.47, 0.46,
)  # fmt: skip
HEIGHT_RATIO = (
    0.97, 0.99, 1.0, 1.0, 0.97, 0.94, 0.86, 0.81, 0.77, 0.74, 0.72, 0.70, 0.68, 0.66, 0.64, 0.62,
    0.60, 0.58,
    0.48, 0.45, 0.43, 0.43, 0.44, 0.60,
)  # fmt: skip
DISC_HEIGHT_MM = (
    9.5, 11.0, 10.5, 9.5, 8.3, 6.8, 5.6, 5.0, 4.6, 4.3, 4.0, 3.9, 3.8, 3.7, 3.6, 3.5, 3.5, 3.7,
    4.8, 5.0, 5.0, 5.0, 4.8, 4.5,
)  # fmt: skip
PEDICLE_WIDTH_MM = (
    16.0, 12.5, 10.5, 9.0, 8.5, 7.5, 7.5, 7.0, 6.5, 6.0, 6.0, 5.5, 5.5, 5.0, 5.0, 5.5, 6.0, 7.0,
    6.5, 6.0, 5.5, 5.5, 5.5, 5.5,
)  # fmt: skip


@dataclass(slots=True)
class Plan:
    """Which places are how ill, by place from the lowest lumbar vertebra upward."""

    narrowing: np.ndarray
    slip_grade: np.ndarray
    fracture: list[str]
    fracture_grade: np.ndarray


def plan_disease(rng: np.random.Generator, osteoporosis: int, places: int) -> Plan:
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
    return Plan(narrowing, slip_grade, fracture, fracture_grade)


@dataclass(frozen=True, slots=True)
class Habit:
    """What all bodies of a patient share.

    Attributes:
        size: Body size factor; 1 is average.
        osteoporosis: 0 to 3.
        depth_mm: Depth of the third lumbar body.
        height_mm: Height of the same.
        disc_factor: Factor on the heights of discs.
        width_ratio: Width of a body by its depth.
        hollow_mm: Depth of an endplate's hollow, before chance.
        hollow_place: As of :class:`Vertebra`.
        waist: As of :class:`Vertebra`.
        rounding: As of :class:`Vertebra`.
        exponent: As of :class:`Vertebra`.
        notch_mm: As of :class:`Vertebra`.
        spur_habit: How readily osteophytes grow; 0: only where discs are worn.
        wall_mm: Cortical thickness of the walls.
        plate_mm: Cortical thickness of the endplates.
        density: Factor on the cancellous density.
    """

    size: float
    osteoporosis: int
    depth_mm: float
    height_mm: float
    disc_factor: float
    width_ratio: float
    hollow_mm: float
    hollow_place: float
    waist: float
    rounding: float
    exponent: float
    notch_mm: float
    spur_habit: float
    wall_mm: float
    plate_mm: float
    density: float


@dataclass(frozen=True, slots=True)
class DrawnBody:
    """One body and the disc below it, not yet placed.

    Attributes:
        level: Name such as "L3".
        disc_mm: Height of the disc; below 0 where endplates are eroded into each other.
        height_mm: Height of the body in its middle.
        depth_mm: Depth of the upper endplate.
        lower_ratio: Depth of the lower endplate by that of the upper one.
        width_mm: Lateral width.
        wedge_rad: Angle between the endplates, open to the front.
        concavity_mm: (2,) depth of the lower and upper hollow.
        node_mm: Schmorl nodes, as of :class:`Vertebra`.
        spurs_mm: (4,) osteophytes, as of :class:`Vertebra`.
        density: Factor on the cancellous density.
        fracture: "none", "wedge", "biconcave" or "crush".
        fracture_grade: 0 to 3 (Genant).
        narrowing: Of the disc, 0 to 3 (Lane).
        osteophytes: At the disc, 0 to 3.
        sclerosis: At the disc, 0 to 3.
        slip_mm: How far the body stands before the one below.
        slip_grade: -1 to 3 (Meyerding).
        vacuum: Whether there is gas in the disc.
        pedicle_mm: Width of a pedicle.
    """

    level: str
    disc_mm: float
    height_mm: float
    depth_mm: float
    lower_ratio: float
    width_mm: float
    wedge_rad: float
    concavity_mm: np.ndarray
    node_mm: tuple[float, float, float]
    spurs_mm: np.ndarray
    density: float
    fracture: str
    fracture_grade: int
    narrowing: int
    osteophytes: int
    sclerosis: int
    slip_mm: float
    slip_grade: int
    vacuum: bool
    pedicle_mm: float

    def vertebra(
        self, habit: Habit, centre_mm: np.ndarray, sagittal_rad: float, tilt: float, turn: float
    ) -> Vertebra:
        """The body at its place.

        Args:
            habit: The patient's.
            centre_mm: (3,) world place of its middle.
            sagittal_rad: Direction of its mid-plane.
            tilt: To the side, in rad.
            turn: About its long axis, in rad.
        """
        # The lower endplate is level in front of the wedge's half, the upper one opens it.
        half_wedge = float(self.wedge_rad) / 2
        return Vertebra(
            level=self.level,
            centre_mm=centre_mm,
            frame=pose(sagittal_rad, tilt, turn),
            height_mm=float(self.height_mm),
            lower_depth_mm=float(self.depth_mm * self.lower_ratio),
            upper_depth_mm=float(self.depth_mm),
            width_mm=self.width_mm,
            lower_slope=float(-np.tan(half_wedge)),
            upper_slope=float(np.tan(half_wedge)),
            sagittal_rad=float(sagittal_rad),
            coronal_rad=tilt,
            axial_rad=turn,
            concavity_mm=(float(self.concavity_mm[0]), float(self.concavity_mm[1])),
            hollow_place=habit.hollow_place,
            node_mm=self.node_mm,
            waist=habit.waist,
            rounding=habit.rounding,
            exponent=habit.exponent,
            notch_mm=habit.notch_mm,
            spurs_mm=self.spurs_mm,
            wall_mm=habit.wall_mm,
            plate_mm=habit.plate_mm * (1.5 if self.fracture != "none" else 1.0),
            density=self.density,
            sclerosis=(float(self.sclerosis), 0.0),
            pedicle_mm=self.pedicle_mm,
            fracture=self.fracture,
            fracture_grade=self.fracture_grade,
        )

    def disc(
        self, below: str, below_depth_mm: float, middle_mm: np.ndarray, frame: np.ndarray
    ) -> Disc:
        """The disc below the body, at its place.

        Args:
            below: Level of the body below it.
            below_depth_mm: That one's depth.
            middle_mm: (3,) world place of the disc's middle.
            frame: (3, 3) columns front, up, side.
        """
        return Disc(
            name=f"{self.level}/{below}",
            height_mm=float(self.disc_mm),
            narrowing=self.narrowing,
            osteophytes=self.osteophytes,
            sclerosis=self.sclerosis,
            slip_mm=float(self.slip_mm),
            slip_grade=self.slip_grade,
            vacuum=self.vacuum,
            middle_mm=middle_mm,
            frame=frame,
            depth_mm=float((self.depth_mm + below_depth_mm) / 2),
        )


def draw_body(
    rng: np.random.Generator,
    habit: Habit,
    plan: Plan,
    place: int,
    level: str,
    row: int,
    wedge_deg: float,
    transition: Transition,
) -> DrawnBody:
    """Draws one body and the disc below it.

    Args:
        rng: The anatomy's own random stream.
        habit: The patient's.
        plan: Which places are how ill.
        place: From the lowest lumbar vertebra upward.
        level: Its name.
        row: Its row in the tables.
        wedge_deg: Angle between its endplates, before any fracture.
        transition: Of the patient.
    """
    narrowing = int(plan.narrowing[place])
    disc_mm = _disc_height_mm(rng, habit, narrowing, row)
    height_mm = habit.height_mm * HEIGHT_RATIO[row] * np.exp(rng.normal(0, 0.025))
    depth_mm = habit.depth_mm * DEPTH_RATIO[row] * np.exp(rng.normal(0, 0.025))
    lower_ratio = rng.uniform(0.99, 1.05)
    if place == 0 and transition.kind == "sacralised":
        # A rudimentary disc, a body that tapers as a sacral one does (Konin & Walz 2010).
        disc_mm *= (1.0, 0.9, 0.55, 0.3)[max(transition.wings)] * rng.uniform(0.7, 1.0)
        lower_ratio *= 1 - 0.06 * max(transition.wings) * rng.uniform(0.2, 1.0)
    hollow_mm = habit.hollow_mm
    concavity = np.array([hollow_mm * rng.uniform(0.7, 1.4), hollow_mm * rng.uniform(0.4, 1.2)])
    concavity *= 1 + 0.3 * habit.osteoporosis
    kind, grade = plan.fracture[place], int(plan.fracture_grade[place])
    wedge = np.deg2rad(wedge_deg)
    loss = (0.0, rng.uniform(0.2, 0.25), rng.uniform(0.25, 0.4), rng.uniform(0.4, 0.6))[grade]
    if kind == "wedge":  # the front loses height, the back keeps it
        lost_mm = loss * height_mm
        wedge = min(wedge - np.arctan(lost_mm / depth_mm), -0.05)
        height_mm -= lost_mm / 2
    elif kind == "crush":
        height_mm *= 1 - loss
    elif kind == "biconcave":
        concavity += loss * height_mm * np.array([0.4, 0.6])
    slip_grade = int(plan.slip_grade[place])
    slip_mm = _slip_mm(rng, slip_grade, depth_mm)
    osteophytes = int(
        np.clip(round(habit.spur_habit * 0.8 + narrowing * 0.6 + rng.normal(0, 0.6)), 0, 3)
    )
    sclerosis = int(np.clip(narrowing - 1 + (rng.random() < 0.4), 0, 3)) if narrowing else 0
    nodes = (
        float(rng.uniform(1, 4) * (rng.random() < 0.07)),
        float(rng.uniform(1, 4) * (rng.random() < 0.07)),
        float(rng.uniform(-0.4, 0.4)),
    )
    width_mm = float(depth_mm * habit.width_ratio * rng.uniform(0.97, 1.03))
    spur_base = np.array([0.45, 1.0, 1.0, 0.45]) * (0.15 + 0.9 * osteophytes)
    spurs_mm = (spur_base * rng.exponential(1.3, 4)).clip(0, 8)
    density = float(habit.density * np.exp(rng.normal(0, 0.08)) * (1.3 if grade else 1.0))
    return DrawnBody(
        level=level,
        disc_mm=disc_mm,
        height_mm=height_mm,
        depth_mm=depth_mm,
        lower_ratio=lower_ratio,
        width_mm=width_mm,
        wedge_rad=wedge,
        concavity_mm=np.minimum(concavity, 0.38 * height_mm),
        node_mm=nodes,
        spurs_mm=spurs_mm,
        density=density,
        fracture=kind,
        fracture_grade=grade,
        narrowing=narrowing,
        osteophytes=osteophytes,
        sclerosis=sclerosis,
        slip_mm=slip_mm,
        slip_grade=slip_grade,
        vacuum=bool(narrowing >= 2 and rng.random() < 0.2),
        pedicle_mm=PEDICLE_WIDTH_MM[row] * habit.size,
    )


def _disc_height_mm(rng: np.random.Generator, habit: Habit, narrowing: int, row: int) -> float:
    disc_mm = DISC_HEIGHT_MM[row] * habit.size * habit.disc_factor * np.exp(rng.normal(0, 0.12))
    if narrowing == 1:
        disc_mm *= rng.uniform(0.6, 0.85)
    elif narrowing == 2:
        disc_mm *= rng.uniform(0.25, 0.6)
    elif narrowing == 3:  # endplates in contact, eroded into each other
        disc_mm = rng.uniform(-1.5, 1.6) * habit.size
    return float(disc_mm)


def _slip_mm(rng: np.random.Generator, grade: int, depth_mm: float) -> float:
    slip_mm = rng.normal(0, 0.6)
    if grade > 0:
        slip_mm = depth_mm * (grade - 1 + rng.uniform(0.35, 0.95)) / 4
    elif grade < 0:
        slip_mm = -depth_mm * rng.uniform(0.07, 0.2)
    return float(slip_mm)
