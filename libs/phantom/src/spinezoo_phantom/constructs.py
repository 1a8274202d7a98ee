"""Screws with what joins them: constructs from behind, from the side and from the front."""

from __future__ import annotations

import numpy as np

from spinezoo_phantom.anatomy import Spine, Vertebra
from spinezoo_phantom.implant_shapes import STEEL, Implant, circle_outline
from spinezoo_phantom.projection import Camera, ribbon, smooth_curve
from spinezoo_phantom.screws import ScrewKind, rod, screw
from spinezoo_phantom.solids import project


def pedicle_construct(
    spine: Spine, camera: Camera, levels: list[Vertebra], rng: np.random.Generator
) -> list[Implant]:
    """Screws through both pedicles of each level and a rod on either side."""
    implants: list[Implant] = []
    kind = ScrewKind.draw(rng, tulip=bool(rng.random() < 0.85))
    rod_mm = rng.uniform(4.8, 6.4)
    rod_metal = 1.0 if rng.random() < 0.7 else STEEL
    offset_mm = rng.uniform(13, 23) * spine.size
    reach = rng.uniform(0.0, 0.36)
    sides = (-1, 1) if rng.random() < 0.93 else (int(rng.choice([-1, 1])),)
    rise_mm = rng.uniform(2, 7)
    bent = rng.random() < 0.75
    for side in sides:
        heads: list[np.ndarray] = []
        tips: list[np.ndarray] = []
        used: list[Vertebra] = []
        head_side, tip_side = side * rng.uniform(17, 23), side * rng.uniform(4, 12)
        for body in levels:
            if len(levels) > 2 and rng.random() < 0.08:
                continue  # a level left out
            back = -body.depth_mm / 2
            rise = rise_mm + rng.normal(0, 1.2)
            sacral = body.is_sacral
            head = body.point(
                back - offset_mm * (0.8 if sacral else 1.0) + rng.normal(0, 1.5), rise, head_side
            )
            slant = rng.normal(0, 2.5) - rng.uniform(0, 3) + (2.0 if sacral else 0.0)
            tip_along = body.depth_mm * (reach + rng.normal(0, 0.05))
            heads.append(head)
            tips.append(body.point(tip_along, rise + slant, tip_side))
            used.append(body)
        if len(heads) < 2:
            continue
        points = np.array(heads)
        # A surgeon bends one smooth rod: heads sit on a low-order curve.
        order = min(3, len(points) - 1) if bent else 1
        curve = np.polyfit(points[:, 1], points[:, 0], order)
        points[:, 0] = 0.3 * points[:, 0] + 0.7 * np.polyval(curve, points[:, 1])
        lateral = np.polyfit(points[:, 1], points[:, 2], min(2, len(points) - 1))
        slope = np.polyfit(points[:, 1], points[:, 0], 1)[0]
        rod_axis = np.array([slope, 1.0]) / np.hypot(slope, 1.0)
        for body, head, tip in zip(used, points, tips, strict=True):
            implants.append(screw(camera, head, tip, body.level, kind, rod_axis, rng))
        low, high = points[:, 1].min(), points[:, 1].max()
        along = np.linspace(low - rng.uniform(4, 14), high + rng.uniform(4, 14), 30)
        inside = np.clip(along, low, high)
        course_x = np.polyval(curve, inside) + (along - inside) * slope - 3.0
        course = np.column_stack([course_x, along, np.polyval(lateral, inside)])
        implants.append(rod(camera, course, rod_mm, rod_metal, "rod"))
        if rng.random() < 0.10 and len(used) > 1:  # cross-link, seen end-on
            middle = points[:2].mean(axis=0) * np.array([1, 1, 0])
            spot = circle_outline(
                project(camera, middle), rng.uniform(3.0, 5.0) * camera.px_per_mm, 24
            )
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
