"""Screws with what joins them: constructs from behind, from the side and from the front."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spinezoo_phantom.anatomy import Spine, Vertebra
from spinezoo_phantom.implant_shapes import STEEL, Implant, circle_outline
from spinezoo_phantom.projection import Camera, ribbon, smooth_curve
from spinezoo_phantom.screws import ScrewKind, rod, screw
from spinezoo_phantom.solids import project


@dataclass(slots=True)
class _Plan:
    """What a surgeon keeps to on both sides of a pedicle construct.

    Attributes:
        rod_mm: Diameter of the rods.
        metal: Attenuation of the rods relative to titanium.
        offset_mm: How far the heads lie behind the back wall.
        reach: How far tips reach in front of the body's middle, as a share of its depth.
        rise_mm: How far above the middle screws enter.
        climb_mm: How much higher tips lie than heads; cortical screws climb.
        spread_mm: Deviation of tips from that.
        bent: Whether rods follow the heads.
        skip: Share of levels left out.
    """

    rod_mm: float
    metal: float
    offset_mm: float
    reach: float
    rise_mm: float
    climb_mm: float
    spread_mm: float
    bent: bool
    skip: float

    @classmethod
    def draw(cls, rng: np.random.Generator, size: float) -> _Plan:
        """One surgeon's plan."""
        plan = cls(
            rod_mm=rng.uniform(4.5, 6.6),
            metal=1.0 if rng.random() < 0.7 else STEEL,
            offset_mm=rng.uniform(12, 24) * size,
            reach=rng.uniform(-0.08, 0.38),
            rise_mm=rng.uniform(2, 7),
            climb_mm=-rng.uniform(0, 3),
            spread_mm=2.5 if rng.random() < 0.75 else rng.uniform(3, 6),
            bent=bool(rng.random() < 0.75),
            skip=0.08 if rng.random() < 0.85 else 0.35,
        )
        if rng.random() < 0.08:  # cortical bone trajectory: from low and medial, upwards
            plan.rise_mm, plan.climb_mm = rng.uniform(-4, 1), rng.uniform(6, 14)
            plan.reach = rng.uniform(-0.25, 0.1)
        return plan


def pedicle_construct(
    spine: Spine, camera: Camera, levels: list[Vertebra], rng: np.random.Generator
) -> list[Implant]:
    """Screws through the pedicles of each level and a rod on either side, or on one.

    Args:
        spine: The patient.
        camera: The film's geometry.
        levels: The levels to join, from below; the first may be S1.
        rng: The hardware's stream.
    """
    implants: list[Implant] = []
    kind = ScrewKind.draw(rng, tulip=bool(rng.random() < 0.85))
    plan = _Plan.draw(rng, spine.size)
    sides = (-1, 1) if rng.random() < 0.90 else (int(rng.choice([-1, 1])),)
    pelvic = levels[0].level == "S1" and len(levels) > 2 and rng.random() < 0.25
    for side in sides:
        chosen = levels
        if len(sides) == 2 and len(levels) > 2 and rng.random() < 0.08:  # one side shorter
            chosen = levels[: int(rng.integers(2, len(levels)))]
        heads: list[np.ndarray] = []
        tips: list[np.ndarray] = []
        used: list[Vertebra] = []
        head_side, tip_side = side * rng.uniform(17, 23), side * rng.uniform(4, 12)
        if pelvic:
            head, tip = _iliac(spine, plan, side, rng)
            heads.append(head)
            tips.append(tip)
            used.append(spine.sacrum[1])
        for body in chosen:
            if len(chosen) > 2 and rng.random() < plan.skip:
                continue
            back = -body.depth_mm / 2
            rise = plan.rise_mm + rng.normal(0, 1.2)
            sacral = body.is_sacral
            behind = plan.offset_mm * (0.8 if sacral else 1.0)
            head = body.point(back - behind + rng.normal(0, 1.5), rise, head_side)
            slant = plan.climb_mm + rng.normal(0, plan.spread_mm) + (2.0 if sacral else 0.0)
            tip_along = body.depth_mm * (plan.reach + rng.normal(0, 0.05))
            heads.append(head)
            tips.append(body.point(tip_along, rise + slant, tip_side))
            used.append(body)
        if len(heads) < 2:
            continue
        implants += _side_of_construct(camera, np.array(heads), tips, used, kind, plan, rng)
    return implants


def _iliac(
    spine: Spine, plan: _Plan, side: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Head and tip of a screw that runs from behind S2 forward and down into the ilium."""
    body = spine.sacrum[1]
    head = body.point(-body.depth_mm / 2 - plan.offset_mm * 0.7, rng.uniform(-4, 4), side * 22.0)
    ahead, down = rng.uniform(45, 70), rng.uniform(20, 50)
    tip = head + np.array([ahead, -down, side * rng.uniform(20, 35)])
    return head, tip


def _side_of_construct(
    camera: Camera,
    points: np.ndarray,
    tips: list[np.ndarray],
    used: list[Vertebra],
    kind: ScrewKind,
    plan: _Plan,
    rng: np.random.Generator,
) -> list[Implant]:
    """The screws and the rod of one side; `points` are (N, 3) heads, from below."""
    implants: list[Implant] = []
    # A surgeon bends one smooth rod: heads sit on a low-order curve.
    order = min(3, len(points) - 1) if plan.bent else 1
    curve = np.polyfit(points[:, 1], points[:, 0], order)
    points[:, 0] = 0.3 * points[:, 0] + 0.7 * np.polyval(curve, points[:, 1])
    lateral = np.polyfit(points[:, 1], points[:, 2], min(2, len(points) - 1))
    slope = np.polyfit(points[:, 1], points[:, 0], 1)[0]
    rod_axis = np.array([slope, 1.0]) / np.hypot(slope, 1.0)
    for body, head, tip in zip(used, points, tips, strict=True):
        implants.append(screw(camera, head, tip, body.level, kind, rod_axis, rng))
    low, high = points[:, 1].min(), points[:, 1].max()
    over = rng.uniform(4, 14, 2)
    if rng.random() < 0.12:  # cut too long
        over[int(rng.integers(2))] = rng.uniform(14, 40)
    along = np.linspace(low - over[0], high + over[1], 40)
    inside = np.clip(along, low, high)
    course_x = np.polyval(curve, inside) + (along - inside) * slope - 3.0
    course = np.column_stack([course_x, along, np.polyval(lateral, inside)])
    draw = rng.random()
    if draw < 0.05 and len(used) > 1:  # broken between two levels
        cut = int(rng.integers(12, 28))
        shift = np.array([rng.normal(0, 2.0), -rng.uniform(2, 5), 0.0])
        above = rod(camera, course[:cut] + shift, plan.rod_mm, plan.metal, "broken rod")
        above.below = rod(camera, course[cut:], plan.rod_mm, plan.metal, "broken rod")
        implants += [above, above.below]
    else:
        implants.append(rod(camera, course, plan.rod_mm, plan.metal, "rod"))
    if draw > 0.92 and len(used) > 2:  # a second rod bridges some levels, behind the first
        start = int(rng.integers(0, 15))
        beside = course[start : start + int(rng.integers(14, 24))]
        beside = beside - np.array([rng.uniform(7, 11), 0.0, 0.0])
        implants.append(rod(camera, beside, plan.rod_mm, plan.metal, "satellite rod"))
    if rng.random() < 0.10:  # cross-link, seen end-on
        place = int(rng.integers(0, len(points) - 1))
        middle = points[place : place + 2].mean(axis=0) * np.array([1, 1, 0])
        radius_px = rng.uniform(3.0, 5.0) * camera.px_per_mm
        spot = circle_outline(project(camera, middle), radius_px, 24)
        implants.append(Implant("rod", "", "cross-link", [(spot, rng.uniform(1.0, 2.5))]))
    return implants


def side_construct(
    camera: Camera, levels: list[Vertebra], rng: np.random.Generator
) -> list[Implant]:
    """Screws from the side or front with plates or rods between them."""
    implants: list[Implant] = []
    anchors: list[np.ndarray] = []
    kind = ScrewKind.draw(rng, tulip=False)
    along_share = rng.uniform(-0.25, 0.5)
    is_plate = rng.random() < 0.5
    side = float(rng.choice([-1, 1])) * rng.uniform(16, 26)
    slant = rng.normal(0, 8)
    for body in levels:
        for row in (0, 1) if rng.random() < 0.35 else (0,):
            along = body.depth_mm * along_share + row * rng.uniform(5, 10)
            up = rng.normal(0, 2.5) + row * 2
            head = body.point(along, up, side)
            tip = body.point(
                along - rng.uniform(-4, 20) + rng.normal(0, 4),
                up + slant + rng.normal(0, 4),
                -side * 0.5,
            )
            implants.append(screw(camera, head, tip, body.level, kind, None, rng))
            if row == 0:
                anchors.append(head)
    if len(anchors) > 1:
        line = np.array(anchors)
        ends = np.vstack(
            [line[0] + (line[0] - line[1]) * 0.15, line, line[-1] + (line[-1] - line[-2]) * 0.15]
        )
        if is_plate:
            course = smooth_curve(project(camera, ends), rounds=2, closed=False)
            half_px = rng.uniform(4, 7) * camera.px_per_mm
            plate = Implant("rod", "", "plate", [(ribbon(course, half_px), rng.uniform(0.2, 0.45))])
            implants.append(plate)
        else:
            implants.append(rod(camera, ends, rng.uniform(5, 6.4), 1.0, "side rod"))
    return implants


def front_plate(
    camera: Camera, upper: Vertebra, lower: Vertebra, rng: np.random.Generator
) -> list[Implant]:
    """A plate on the front of two bodies, seen edge-on, with two screws into each."""
    implants: list[Implant] = []
    kind = ScrewKind.draw(rng, tulip=False)
    kind.head_mm, kind.width_mm = 2.2, rng.uniform(4.0, 5.5)
    ends = []
    for body, sign in ((upper, -1.0), (lower, 1.0)):
        up = sign * body.height_mm * rng.uniform(0.1, 0.3)
        front = body.depth_mm / 2 + 2.0
        ends.append(body.point(front, up + sign * -4.0, 0.0))
        for side in (-8.0, 8.0):
            head = body.point(front, up, side)
            tip = body.point(front - rng.uniform(18, 26), up + rng.normal(0, 3), side * 0.6)
            implants.append(screw(camera, head, tip, body.level, kind, None, rng))
    course = project(camera, np.linspace(ends[0], ends[1], 8))
    plate = Implant("rod", "", "plate")
    plate.pieces.append((ribbon(course, rng.uniform(1.0, 1.8) * camera.px_per_mm), 2.0))
    implants.append(plate)
    return implants
