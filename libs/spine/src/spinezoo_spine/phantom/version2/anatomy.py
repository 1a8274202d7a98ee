"""The bony spine in millimetres: vertebral bodies, their chain, disease, posterior elements.

Sizes are typical adult values; short source names stand beside them:
*Zhou 2000* (lumbar vertebrae on CT: depth about 34 mm, height about 27 to 29 mm at L3, width 40 to
50 mm), *Legaye 1998* and *Vialle 2005* (sacral slope about 40 +- 9 degrees, lordosis 43 to 60 +- 10
degrees), *Frobin 1997* (disc heights rising to L4/L5), *Panjabi 1992* (thoracic bodies), *Genant
1993* (grades of wedge fracture), *Meyerding 1932* (grades of slip).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

LEVELS_UPWARD = ("L5", "L4", "L3", "L2", "L1", "T12", "T11", "T10", "T9", "T8", "T7")
SACRAL_LEVELS = ("S1", "S2", "S3", "S4", "S5")

# Relative to L3, from L5 upward (Zhou 2000, Panjabi 1992).
_DEPTH_RATIO = (1.03, 1.02, 1.0, 0.98, 0.95, 0.92, 0.90, 0.88, 0.86, 0.84, 0.82)
_HEIGHT_RATIO = (0.97, 0.99, 1.0, 1.0, 0.97, 0.92, 0.86, 0.82, 0.79, 0.77, 0.75)
# Disc below each level, mm (Frobin 1997), its wedge and the body's wedge, degrees.
_DISC_HEIGHT_MM = (9.0, 10.5, 10.0, 9.0, 8.0, 6.5, 5.5, 5.0, 4.6, 4.3, 4.0)
_DISC_WEDGE_DEG = (13.0, 10.0, 8.0, 5.0, 3.0, 0.0, -1.5, -3.0, -4.0, -4.0, -4.0)
_BODY_WEDGE_DEG = (7.0, 3.0, 0.5, -1.0, -2.0, -3.0, -3.0, -3.5, -3.5, -3.5, -3.5)

_ENDPLATE_POINTS = np.array(
    [-1.0, -0.95, -0.85, -0.65, -0.4, -0.15, 0.15, 0.4, 0.65, 0.85, 0.95, 1.0]
)
_WALL_POINTS = np.array([-0.86, -0.6, -0.3, 0.0, 0.3, 0.6, 0.86])
# One outline: lower endplate back to front, front wall up, upper endplate front to back, back wall.
_END, _WALL = len(_ENDPLATE_POINTS), len(_WALL_POINTS)
LOWER_ENDPLATE = slice(0, _END)
FRONT_WALL = slice(_END - 1, _END + _WALL + 1)
UPPER_ENDPLATE = slice(_END + _WALL, 2 * _END + _WALL)
BACK_WALL = slice(2 * _END + _WALL - 1, 2 * (_END + _WALL))
_OUTLINE_U = np.concatenate(
    [_ENDPLATE_POINTS, np.ones(_WALL), _ENDPLATE_POINTS[::-1], -np.ones(_WALL)]
)
_OUTLINE_V = np.concatenate([-np.ones(_END), _WALL_POINTS, np.ones(_END), _WALL_POINTS[::-1]])


def forward(angle_rad: float) -> np.ndarray:
    """(2,) unit vector along an endplate, towards the front."""
    return np.array([np.cos(angle_rad), np.sin(angle_rad)])


def upward(angle_rad: float) -> np.ndarray:
    """(2,) unit vector square to an endplate, towards the head."""
    return np.array([np.sin(angle_rad), -np.cos(angle_rad)])


@dataclass(slots=True)
class Vertebra:
    """One vertebral body, a stack of lateral slices around its mid-sagittal outline.

    Attributes:
        level: Name such as "L3".
        lower_mid_mm: (2,) middle of the lower endplate, world frame.
        upper_mid_mm: (2,) middle of the upper endplate.
        lower_angle_rad: Direction of the lower endplate; positive slopes down to the front.
        upper_angle_rad: Direction of the upper endplate.
        lower_depth_mm: Front-to-back length of the lower endplate.
        upper_depth_mm: The same of the upper endplate.
        height_mm: Height in the middle.
        width_mm: Lateral width.
        rotation_rad: Axial rotation: slices slide to the front with z.
        tilt_rad: Coronal tilt: slices slide to the head with z.
        concavity: Depth of the (lower, upper) endplate hollow as a share of half the height.
        waist: Hollow of the walls as a share of half the depth.
        rounding: How much corners are cut, share of half the size.
        squareness: Exponent of the superellipse section; 2 is an ellipse.
        spurs: (4,) osteophytes in mm: lower back, lower front, upper front, upper back.
        roughness: (N, 2) small random shifts of the outline, in units of half the size.
        density: Factor on the cancellous attenuation (osteoporosis below, sclerosis above 1).
        fractured: Whether the body is a wedge or crush fracture.
    """

    level: str
    lower_mid_mm: np.ndarray
    upper_mid_mm: np.ndarray
    lower_angle_rad: float
    upper_angle_rad: float
    lower_depth_mm: float
    upper_depth_mm: float
    height_mm: float
    width_mm: float
    rotation_rad: float
    tilt_rad: float
    concavity: tuple[float, float]
    waist: float
    rounding: float
    squareness: float
    spurs: np.ndarray
    roughness: np.ndarray
    density: float = 1.0
    fractured: bool = False

    @property
    def is_sacral(self) -> bool:
        """Whether the segment belongs to the sacrum."""
        return self.level.startswith("S")

    @property
    def angle_rad(self) -> float:
        """Mean direction of both endplates."""
        return (self.lower_angle_rad + self.upper_angle_rad) / 2

    @property
    def centre_mm(self) -> np.ndarray:
        """(2,) middle of the body."""
        return (self.lower_mid_mm + self.upper_mid_mm) / 2

    @property
    def depth_mm(self) -> float:
        """Mean front-to-back depth."""
        return (self.lower_depth_mm + self.upper_depth_mm) / 2

    def corners_mm(self) -> np.ndarray:
        """(4, 2) corners: upper back, upper front, lower front, lower back."""
        upper = forward(self.upper_angle_rad) * self.upper_depth_mm / 2
        lower = forward(self.lower_angle_rad) * self.lower_depth_mm / 2
        return np.array(
            [
                self.upper_mid_mm - upper,
                self.upper_mid_mm + upper,
                self.lower_mid_mm + lower,
                self.lower_mid_mm - lower,
            ]
        )

    def side_shift_mm(self, z_mm: np.ndarray | float) -> np.ndarray:
        """(..., 2) how far rotation and tilt move what lies at lateral position `z_mm`."""
        slide = forward(self.angle_rad) * np.tan(self.rotation_rad)
        slide = slide + upward(self.angle_rad) * np.tan(self.tilt_rad)
        return np.asarray(z_mm, dtype=float)[..., None] * slide

    def local(self, along_mm: float, up_mm: float, z_mm: float = 0.0) -> np.ndarray:
        """(2,) world point `along_mm` in front of and `up_mm` above the body's middle."""
        point = self.centre_mm + forward(self.angle_rad) * along_mm
        return point + upward(self.angle_rad) * up_mm + self.side_shift_mm(z_mm)

    def slices_mm(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Cuts the body into lateral slices.

        Args:
            count: Number of slices.

        Returns:
            (count,) lateral positions and (count, N, 2) world outlines of the slices.
        """
        share = ((np.arange(count) + 0.5) / count * 2 - 1)[:, None]  # -1 to 1 across the width
        # A vertebral body is a kidney: the front falls away to the sides, the back hardly does.
        front = np.sqrt(np.clip(1 - np.abs(share) ** self.squareness, 0, 1)) * 1.1 - 0.1
        back = 1 - 0.42 * np.abs(share) ** 3
        u, v = _OUTLINE_U[None, :], _OUTLINE_V[None, :]
        on_wall = np.abs(u) > 0.99
        on_plate = np.abs(v) > 0.99
        corner = on_wall & on_plate
        hollow_wall = np.where(u > 0, 1.2, 0.55) * self.waist * (1 - v**2) * on_wall
        reach = np.where(u > 0, u * front, u * back) * (1 - hollow_wall)
        hollow = np.clip(1 - (u / 0.93) ** 2, 0, 1) ** 0.6 * (1 - 0.75 * share**2)
        plate = np.where(v > 0, self.concavity[1], self.concavity[0]) * 2 * on_plate
        level = v * (1 - plate * hollow)
        cut = 1 - self.rounding * corner
        reach, level = reach * cut, level * cut
        # Spurs grow from the ring apophysis: outwards along the endplate and a little over it.
        grown = np.where(
            v < 0,
            np.where(u < 0, self.spurs[0], self.spurs[1]),
            np.where(u > 0, self.spurs[2], self.spurs[3]),
        )
        tip = np.clip((np.abs(u) - 0.8) / 0.2, 0, 1) * on_plate * (1 - share**2)
        reach = reach + np.sign(u) * tip * grown / (self.depth_mm / 2)
        level = level + np.sign(v) * tip * grown * 0.35 / (self.height_mm / 2)
        reach = reach + self.roughness[None, :, 0]
        level = level + self.roughness[None, :, 1]
        right, high = (reach + 1)[..., None] / 2, (level + 1)[..., None] / 2
        upper_back, upper_front, lower_front, lower_back = self.corners_mm()
        outline = (
            lower_back * (1 - right) * (1 - high)
            + lower_front * right * (1 - high)
            + upper_front * right * high
            + upper_back * (1 - right) * high
        )
        z_mm = share[:, 0] * self.width_mm / 2
        return z_mm, outline + self.side_shift_mm(z_mm)[:, None, :]


@dataclass(slots=True)
class Disc:
    """One disc, named upper/lower.

    Attributes:
        name: For example "L4/L5".
        height_mm: Height in the middle; negative where the endplates dig into each other.
        grade: "healthy", "narrowed" or "collapsed".
        slip_mm: How far the upper body lies in front of the lower one.
        middle_mm: (2,) world position.
        angle_rad: Direction of the disc plane.
    """

    name: str
    height_mm: float
    grade: str
    slip_mm: float
    middle_mm: np.ndarray
    angle_rad: float


@dataclass(slots=True)
class Spine:
    """The whole chain, S1 upward and downward.

    Attributes:
        vertebrae: From L5 upward to T7.
        sacrum: From S1 downward.
        discs: From L5/S1 upward.
        sacral_slope_rad: Slope of the upper S1 endplate.
        size: Body size factor; 1 is average.
        rotation_rad: Axial rotation at L5.
        tilt_rad: Coronal tilt at L5.
        shell_mm: Thickness of the cortical shell.
        diseased: Names of the narrowed and collapsed discs.
    """

    vertebrae: list[Vertebra]
    sacrum: list[Vertebra]
    discs: list[Disc]
    sacral_slope_rad: float
    size: float
    rotation_rad: float
    tilt_rad: float
    shell_mm: float
    diseased: list[str] = field(default_factory=list)

    def by_level(self) -> dict[str, Vertebra]:
        """Returns every segment under its level name."""
        return {body.level: body for body in [*self.vertebrae, *self.sacrum]}

    def lordosis_deg(self) -> float:
        """Angle between the upper endplates of L1 and S1."""
        first = self.by_level()["L1"].upper_angle_rad
        return float(np.degrees(self.sacral_slope_rad - first))


def _plan_disease(rng: np.random.Generator) -> dict[str, set[int]]:
    """Draws which discs and bodies (index from L5 upward) are ill; at least one always is."""
    plan: dict[str, set[int]] = {
        "narrowed": set(),
        "collapsed": set(),
        "slip": set(),
        "wedge": set(),
    }
    # The lowest discs wear first; degeneration clusters in some patients.
    burden = rng.uniform(0.1, 0.75)
    for index, weight in enumerate((1.0, 1.0, 0.75, 0.6, 0.45, 0.35, 0.3)):
        if rng.random() < burden * weight:
            plan["narrowed" if rng.random() < 0.55 else "collapsed"].add(index)
        if rng.random() < (0.14 if index < 3 else 0.05):
            plan["slip"].add(index)
        if rng.random() < (0.03 if index < 3 else 0.09):
            plan["wedge"].add(index)
    if not (plan["narrowed"] or plan["collapsed"]):
        plan["collapsed" if rng.random() < 0.6 else "narrowed"].add(int(rng.integers(0, 4)))
    return plan


def build_spine(rng: np.random.Generator) -> Spine:
    """Draws a patient's spine.

    Args:
        rng: The anatomy's own random stream.

    Returns:
        The spine in the world frame, S1's upper endplate at the origin.
    """
    sacral_slope = np.deg2rad(np.clip(rng.normal(38, 12), 8, 68))  # Legaye 1998, Vialle 2005
    size = float(np.exp(rng.normal(0, 0.06)))
    depth_mm = 34.0 * size
    height_mm = 27.5 * size * np.exp(rng.normal(0, 0.05))
    disc_factor = np.exp(rng.normal(0, 0.2))
    # Lordosis follows sacral slope (Legaye 1998): people stand upright, so L1 leans back little.
    lean_back_deg = rng.normal(11, 6.5)
    disc_wedge = np.array(_DISC_WEDGE_DEG) + rng.normal(0, 2.0, len(LEVELS_UPWARD))
    body_wedge = np.array(_BODY_WEDGE_DEG)
    # A third of the patients stand rotated or lean (scoliosis), the rest nearly square.
    rotation = rng.normal(0, 0.07) * (1 + 2.2 * (rng.random() < 0.35))
    tilt = rng.normal(0, 0.045) * (1 + 2.0 * (rng.random() < 0.35))
    rotation_step, tilt_step = rng.normal(0, 0.025), rng.normal(0, 0.025)
    hollow = rng.uniform(0.02, 0.10) * (1 + 0.6 * (rng.random() < 0.2))
    waist = rng.uniform(0.02, 0.11)
    rounding = rng.uniform(0.02, 0.09)
    squareness = rng.uniform(2.2, 5.0)
    spur_habit = rng.uniform(0.2, 1.0) if rng.random() < 0.5 else 0.0
    density = np.exp(rng.normal(0, 0.12))
    plan = _plan_disease(rng)
    # Worn discs lose their wedge; the others make up for it as far as they can.
    lost = np.array(
        [
            0.3 if index in plan["collapsed"] else 0.6 if index in plan["narrowed"] else 1.0
            for index in range(len(LEVELS_UPWARD))
        ]
    )
    disc_wedge *= lost
    fixed_deg = float(body_wedge[2:5].sum())
    follow = (np.degrees(sacral_slope) + lean_back_deg - fixed_deg) / max(
        float(disc_wedge[:5].sum() + body_wedge[:2].sum()), 12.0
    )
    follow = float(np.clip(follow, 0.1, 1.9))
    disc_wedge[:5] *= follow
    body_wedge[:2] *= follow
    points = len(_OUTLINE_U)

    def roughness() -> np.ndarray:
        return np.stack([rng.normal(0, 0.010, points), rng.normal(0, 0.009, points)], axis=1)

    vertebrae: list[Vertebra] = []
    discs: list[Disc] = []
    here, angle = np.zeros(2), float(sacral_slope)
    below = "S1"
    for index, level in enumerate(LEVELS_UPWARD):
        gap = _DISC_HEIGHT_MM[index] * size * disc_factor * np.exp(rng.normal(0, 0.12))
        grade = "healthy"
        wedge = np.deg2rad(disc_wedge[index])
        if index in plan["narrowed"]:
            gap, grade = gap * rng.uniform(0.2, 0.55), "narrowed"
        if index in plan["collapsed"]:
            # Endplates in contact, eroded into each other: outlines touch or overlap.
            gap, grade = rng.uniform(-1.6, 1.2) * size, "collapsed"
        body_height = height_mm * _HEIGHT_RATIO[index] * np.exp(rng.normal(0, 0.025))
        body_depth = depth_mm * _DEPTH_RATIO[index] * np.exp(rng.normal(0, 0.025))
        tapering = np.deg2rad(body_wedge[index] + rng.normal(0, 1.5))
        fractured = index in plan["wedge"]
        hollow_factor = 1.0
        if fractured:  # Genant 1993: 20 to 40 % loss of height, mostly in front
            tapering -= np.deg2rad(rng.uniform(5, 16))
            body_height *= rng.uniform(0.68, 0.93)
            hollow_factor = rng.uniform(1.0, 2.5)
        slip = rng.normal(0, 0.6)
        if index in plan["slip"]:  # Meyerding 1932: grade 1 to 2; backward slips are smaller
            slip = body_depth * rng.uniform(0.10, 0.42) * (1 if rng.random() < 0.75 else -0.4)
        start = here
        here = here + upward(angle - wedge / 2) * gap
        middle = (start + here) / 2
        disc_angle = angle - wedge / 2
        angle = angle - wedge
        here = here + forward(angle) * slip
        lower_mid, lower_angle, upper_angle = here, angle, angle - tapering
        here = here + upward((lower_angle + upper_angle) / 2) * body_height
        ill = grade != "healthy"
        spur_base = np.array([0.5, 1.0, 1.0, 0.5]) * (spur_habit + (0.5 if ill else 0.0))
        vertebrae.append(
            Vertebra(
                level=level,
                lower_mid_mm=lower_mid,
                upper_mid_mm=here,
                lower_angle_rad=lower_angle,
                upper_angle_rad=upper_angle,
                lower_depth_mm=body_depth * rng.uniform(0.99, 1.05),
                upper_depth_mm=body_depth,
                height_mm=body_height,
                width_mm=body_depth * rng.uniform(1.22, 1.42),
                rotation_rad=rotation + rotation_step * index + rng.normal(0, 0.015),
                tilt_rad=tilt + tilt_step * index + rng.normal(0, 0.012),
                concavity=(
                    hollow * hollow_factor * rng.uniform(0.7, 1.4),
                    hollow * hollow_factor * rng.uniform(0.5, 1.2),
                ),
                waist=waist,
                rounding=rounding,
                squareness=squareness,
                spurs=spur_base * rng.exponential(2.2, 4).clip(0, 7),
                roughness=roughness(),
                density=density * np.exp(rng.normal(0, 0.10)) * (1.15 if ill else 1.0),
                fractured=fractured,
            )
        )
        discs.append(Disc(f"{level}/{below}", float(gap), grade, float(slip), middle, disc_angle))
        below, angle = level, upper_angle

    sacrum: list[Vertebra] = []
    here, angle = np.zeros(2), float(sacral_slope)
    depth_ratio = (1.0, 0.74, 0.60, 0.48, 0.38, 0.28)
    sacral_wedge = (-2, -9, -14, -16, -14)  # the sacrum is curved: kyphotic
    for index, level in enumerate(SACRAL_LEVELS):
        body_height = height_mm * (1.02, 0.85, 0.75, 0.65, 0.55)[index]
        tapering = np.deg2rad(sacral_wedge[index] + rng.normal(0, 3))
        lower_mid = here - upward(angle - tapering / 2) * body_height
        sacrum.append(
            Vertebra(
                level=level,
                lower_mid_mm=lower_mid,
                upper_mid_mm=here,
                lower_angle_rad=angle - tapering,
                upper_angle_rad=angle,
                lower_depth_mm=depth_mm * depth_ratio[index + 1],
                upper_depth_mm=depth_mm * depth_ratio[index],
                height_mm=body_height,
                width_mm=depth_mm * (1.5, 1.2, 1.0, 0.8, 0.6)[index],
                rotation_rad=rotation + rng.normal(0, 0.02),
                tilt_rad=tilt + rng.normal(0, 0.02),
                concavity=(0.0, hollow * (0.4 if index == 0 else 0.0)),
                waist=waist * 0.5,
                rounding=rounding,
                squareness=squareness,
                spurs=np.array([0, 0, 1, 0]) * spur_habit * rng.exponential(1.5),
                roughness=roughness(),
                density=density * 0.8,
            )
        )
        here = lower_mid - upward(angle - tapering) * rng.uniform(0.3, 3.0)
        angle = angle - tapering
    diseased = [disc.name for disc in discs if disc.grade != "healthy"]
    return Spine(
        vertebrae,
        sacrum,
        discs,
        float(sacral_slope),
        size,
        float(rotation),
        float(tilt),
        float(rng.uniform(0.45, 0.95)),
        diseased,
    )
