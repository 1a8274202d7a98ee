"""Implants: pedicle screws, rods, cages, plates, interspinous spacers; and bone cement.

Every implant is a list of pieces (outline and path length through metal). Its truth is the union
of the pieces. Dimensions are those of common spinal systems: screws 5 to 7.5 mm by 40 to 50 mm,
rods 5.5 to 6.35 mm, cages 22 to 32 mm by 8 to 14 mm.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from spinezoo_spine.phantom.projection import Camera, add_exact_polygon, ribbon, smooth_curve
from spinezoo_spine.phantom.shapes import box_outline, circle_outline
from spinezoo_spine.phantom.version2.anatomy import Disc, Spine, Vertebra, forward, upward


@dataclass(slots=True)
class Implant:
    """One implant on the film.

    Attributes:
        structure: "cage", "screw" or "rod" (rods and other instrumentation).
        level: Level name; discs as "L4/L5"; empty for rods.
        pieces: Pairs of (N, 2) px outline and cm of metal along the ray.
        outline: (N, 2) px outlines whose union is the truth; empty means those of the pieces.
    """

    structure: str
    level: str
    pieces: list[tuple[np.ndarray, float]] = field(default_factory=list)
    outline: list[np.ndarray] = field(default_factory=list)

    def truth_polygons(self) -> list[np.ndarray]:
        """Returns the outlines whose union is the truth."""
        return self.outline or [polygon for polygon, _ in self.pieces]


@dataclass(slots=True)
class Hardware:
    """All implants of a film.

    Attributes:
        kind: "none", or names joined by "+".
        implants: The implants, in drawing order.
        cement: Pairs of outline and cm of bone cement; drawn, not annotated.
    """

    kind: str
    implants: list[Implant]
    cement: list[tuple[np.ndarray, float]]


def _screw(
    camera: Camera,
    head_mm: np.ndarray,
    tip_mm: np.ndarray,
    head_z: float,
    tip_z: float,
    level: str,
    width_mm: float,
    rng: np.random.Generator,
    tulip: bool,
) -> Implant:
    """A threaded, tapering shaft with its head."""
    head = camera.project(head_mm, head_z)
    tip = camera.project(tip_mm, tip_z)
    px = camera.px_per_mm
    length = float(np.linalg.norm(tip - head)) + 1e-6
    axis = (tip - head) / length
    across = np.array([-axis[1], axis[0]])
    radius = width_mm / 2 * px
    teeth = max(4, int(np.linalg.norm(tip_mm - head_mm) / rng.uniform(2.2, 3.2)))
    along = np.linspace(0, 1, 2 * teeth + 1)
    depth = np.where(np.arange(len(along)) % 2 == 0, rng.uniform(0.72, 0.86), 1.0)
    depth[: max(2, teeth // 4)] = 0.9  # the shank under the head is smooth
    half = radius * depth * np.where(along > 0.8, 1 - (along - 0.8) * rng.uniform(1.5, 3.5), 1.0)
    left = head + along[:, None] * axis * length + half[:, None] * across
    # Threads are a helix: the two sides are half a pitch apart.
    half_other = np.roll(half, 1)
    half_other[0] = half[0]
    right = head + along[:, None] * axis * length - half_other[:, None] * across
    shaft = np.vstack([left, right[::-1]])
    core = ribbon(head + along[:, None] * axis * length, half * 0.62)
    cannulated = rng.random() < 0.2
    cm = width_mm / 10
    implant = Implant(
        "screw", level, [(shaft, cm * 0.55), (core, cm * (0.15 if cannulated else 0.4))]
    )
    if tulip:
        size = rng.uniform(5.0, 6.6) * px
        middle = head - axis * size * 0.35
        body = box_outline(
            middle, axis, size * rng.uniform(0.9, 1.2), size * rng.uniform(0.85, 1.05)
        )
        implant.pieces.append((smooth_curve(body, rounds=1), rng.uniform(0.7, 1.2)))
    else:
        implant.pieces.append(
            (circle_outline(head, rng.uniform(4.2, 6.0) * px, 28), rng.uniform(0.7, 1.2))
        )
    return implant


def _pedicle_construct(
    spine: Spine, camera: Camera, levels: list[Vertebra], rng: np.random.Generator
) -> list[Implant]:
    """Screws through both pedicles of each level and a rod on either side."""
    implants: list[Implant] = []
    width_mm, rod_mm = rng.uniform(5.0, 7.5), rng.uniform(5.0, 6.35)
    offset_mm = rng.uniform(12, 22)
    tulip = rng.random() < 0.75
    reach = rng.uniform(0.0, 0.34)
    sides = (-1, 1) if rng.random() < 0.93 else (int(rng.choice([-1, 1])),)
    height_mm = rng.uniform(2, 8)
    for side in sides:
        heads, tips, used, tip_depths = [], [], [], []
        head_z, tip_z = side * rng.uniform(16, 22), side * rng.uniform(4, 11)
        for body in levels:
            if len(levels) > 2 and rng.random() < 0.07:
                continue  # a level left out
            upper_back = -body.depth_mm / 2
            rise = height_mm + rng.normal(0, 1.2)
            head = body.local(upper_back - offset_mm + rng.normal(0, 1.5), rise, head_z)
            slant = rng.normal(0, 2.5) - rng.uniform(0, 3)
            tip_along = body.depth_mm * (reach + rng.normal(0, 0.05))
            heads.append(head)
            tips.append(body.local(tip_along, rise + slant, tip_z))
            tip_depths.append(tip_z)
            used.append(body)
        if len(heads) < 2:
            continue
        points = np.array(heads)
        # A surgeon bends one smooth rod: heads sit on a low-order curve.
        order = min(3, len(points) - 1)
        curve = np.polyfit(points[:, 1], points[:, 0], order if rng.random() < 0.7 else 1)
        points[:, 0] = 0.3 * points[:, 0] + 0.7 * np.polyval(curve, points[:, 1])
        for body, head, tip in zip(used, points, tips, strict=True):
            implants.append(
                _screw(camera, head, tip, head_z, tip_z, body.level, width_mm, rng, tulip)
            )
        low, high = points[:, 1].min(), points[:, 1].max()
        along = np.linspace(low - rng.uniform(4, 14), high + rng.uniform(4, 12), 40)
        linear = np.polyfit(points[:, 1], points[:, 0], 1)
        inside = np.clip(along, low, high)
        course_x = np.polyval(curve, inside) + (along - inside) * linear[0]
        course = camera.project(np.stack([course_x, along], axis=1), head_z)
        half_px = rod_mm / 2 * camera.px_per_mm
        rod = Implant("rod", "")
        rod.pieces = [
            (ribbon(course, half_px), rod_mm / 10 * 0.55),
            (ribbon(course, half_px * 0.66), rod_mm / 10 * 0.42),
        ]
        implants.append(rod)
        if rng.random() < 0.10 and len(used) > 1:  # cross-link, seen end-on
            where = camera.project(points[:2].mean(axis=0), 0.0)
            spot = circle_outline(where, rng.uniform(3.5, 5.0) * camera.px_per_mm, 28)
            implants.append(Implant("rod", "", [(spot, rng.uniform(1.0, 2.5))]))
    return implants


def _side_construct(
    camera: Camera, levels: list[Vertebra], rng: np.random.Generator
) -> list[Implant]:
    """Screws from the side or front with plates or rods between them."""
    px = camera.px_per_mm
    implants: list[Implant] = []
    anchors: list[np.ndarray] = []
    along_share = rng.uniform(-0.15, 0.40)
    is_plate = rng.random() < 0.5
    for body in levels:
        for row in (0, 1) if rng.random() < 0.35 else (0,):
            where = body.local(
                body.depth_mm * along_share + row * rng.uniform(5, 10), rng.normal(0, 2.5) + row * 2
            )
            direction = rng.uniform(0, 2 * np.pi)
            length = rng.uniform(2, 26)
            tip = where + length * np.array([np.cos(direction), np.sin(direction)])
            implants.append(
                _screw(
                    camera, where, tip, 20.0, -10.0, body.level, rng.uniform(5.0, 7.0), rng, False
                )
            )
            if row == 0:
                anchors.append(camera.project(where, 20.0))
    if len(anchors) > 1:
        line = np.array(anchors)
        ends = np.vstack(
            [line[0] + (line[0] - line[1]) * 0.15, line, line[-1] + (line[-1] - line[-2]) * 0.15]
        )
        course = smooth_curve(ends, rounds=2, closed=False)
        half_px = (rng.uniform(4, 7) if is_plate else rng.uniform(2.6, 3.2)) * px
        thickness_cm = rng.uniform(0.2, 0.4) if is_plate else 0.55
        implants.append(Implant("rod", "", [(ribbon(course, half_px), thickness_cm)]))
    return implants


def _cage(disc: Disc, depth_mm: float, camera: Camera, rng: np.random.Generator) -> Implant:
    """One interbody cage; it may dig into the endplates above and below."""
    px = camera.px_per_mm
    height_mm = max(disc.height_mm + rng.uniform(-0.5, 2.5), rng.uniform(6.0, 10.0))
    half_height = min(height_mm, 15.0) / 2 * px
    half_length = rng.uniform(0.26, 0.42) * depth_mm * px
    axis = forward(disc.angle_rad + rng.normal(0, 0.05))
    middle = disc.middle_mm + axis * rng.uniform(-0.12, 0.16) * depth_mm
    centre = camera.project(middle, rng.uniform(-6, 6))
    # A lordotic cage is lower at the back.
    block = box_outline(centre, -axis, half_length, half_height, rng.uniform(0, 0.25))
    design = rng.choice(["solid", "markers", "mesh", "window", "expandable", "bullet"])
    cage = Implant("cage", disc.name, outline=[block])
    across = np.array([axis[1], -axis[0]])

    def bar(start: np.ndarray, end: np.ndarray, width_mm: float, cm: float) -> None:
        line = np.stack([start, end])
        cage.pieces.append((ribbon(line, width_mm / 2 * px), cm))

    if design == "solid":
        cage.pieces.append((block, rng.uniform(0.5, 1.6)))
    elif design == "bullet":
        nose = smooth_curve(block, rounds=2)
        cage.outline = [nose]
        cage.pieces.append((nose, rng.uniform(0.5, 1.4)))
    elif design == "markers":  # radiolucent polymer with tantalum pins
        cage.pieces.append((block, 0.02))
        for place in (-0.85, 0.8) if rng.random() < 0.5 else (-0.85, 0.0, 0.8):
            foot = centre + axis * half_length * place
            reach = across * half_height * 0.85
            bar(foot - reach, foot + reach, rng.uniform(1.0, 1.6), rng.uniform(0.5, 1.2))
    elif design == "mesh":
        cage.pieces.append((block, rng.uniform(0.08, 0.2)))
        for corner in range(4):
            bar(block[corner], block[(corner + 1) % 4], 1.4, 0.5)
        for share in np.linspace(-1, 1, 5):
            foot = centre + axis * half_length * share * 0.9
            bar(foot - across * half_height * 0.9, foot + across * half_height * 0.9, 0.8, 0.35)
        bar(block[0], block[2], 0.8, 0.35)
        bar(block[1], block[3], 0.8, 0.35)
    elif design == "window":  # solid frame round a graft window
        cage.pieces.append((block, rng.uniform(0.5, 1.1)))
        inner = centre + (block - centre) * np.array([0.55, 0.55])
        cage.pieces.append((inner, -0.75 * cage.pieces[0][1]))
    else:  # expandable: two plates and a post
        for sign in (-1, 1):
            edge = across * half_height * 0.82 * sign
            bar(
                centre - axis * half_length + edge,
                centre + axis * half_length + edge,
                height_mm * 0.22,
                rng.uniform(0.8, 1.4),
            )
        bar(
            centre - across * half_height * 0.7,
            centre + across * half_height * 0.7,
            depth_mm * 0.2,
            rng.uniform(0.6, 1.2),
        )
    return cage


def _spacer(spine: Spine, camera: Camera, rng: np.random.Generator) -> Implant:
    """An interspinous spacer behind one lumbar disc."""
    disc = spine.discs[int(rng.integers(1, 4))]
    axis = forward(disc.angle_rad)
    centre = camera.project(disc.middle_mm - axis * rng.uniform(46, 58) * spine.size)
    px = camera.px_per_mm
    half_length, half_height = rng.uniform(5, 9) * px, rng.uniform(5, 8) * px
    rise = upward(disc.angle_rad)
    spacer = Implant("rod", "", [(box_outline(centre, axis, half_length, half_height), 0.9)])
    for sign in (-1, 1):  # wings that hold the spinous processes
        wing = box_outline(
            centre + axis * half_length * 0.6 * sign, rise, half_height * 2.2, 1.5 * px
        )
        spacer.pieces.append((wing, 0.8))
    return spacer


def build_hardware(
    spine: Spine, camera: Camera, *, wanted: bool, rng: np.random.Generator
) -> Hardware:
    """Draws the implants of one film.

    Args:
        spine: The patient.
        camera: The film's geometry.
        wanted: Whether the film carries hardware.
        rng: The hardware's own random stream.

    Returns:
        The implants; none where `wanted` is false. Cement may occur either way.
    """
    chain = [spine.sacrum[0], *spine.vertebrae]  # S1, L5, L4, ...
    cement: list[tuple[np.ndarray, float]] = []
    if rng.random() < 0.06:  # vertebroplasty
        for body in rng.choice(
            np.array(spine.vertebrae[:6], dtype=object), int(rng.integers(1, 3))
        ):
            blob = circle_outline(
                camera.project(body.local(rng.normal(2, 3), rng.normal(0, 2))), 1.0, 12
            )
            middle = blob.mean(axis=0)
            spread = rng.uniform(5, 11, (12, 1)) * camera.px_per_mm
            cement.append((smooth_curve(middle + (blob - middle) * spread), rng.uniform(0.6, 2.0)))
    if not wanted:
        return Hardware("none", [], cement)
    implants: list[Implant] = []
    names: list[str] = []
    draw = rng.random()
    # Fusions start low and are mostly short; a tenth runs up into the thoracic spine.
    first = int(rng.choice([0, 1, 2, 3, 4], p=[0.30, 0.30, 0.22, 0.12, 0.06]))
    span = int(rng.choice([2, 3, 4, 5, 7], p=[0.40, 0.28, 0.16, 0.10, 0.06]))
    levels = chain[first : first + span]
    if draw < 0.76:
        implants += _pedicle_construct(spine, camera, levels, rng)
        names.append("pedicle_screws")
    elif draw < 0.86:
        first = max(first, 1)
        implants += _side_construct(camera, chain[first : first + span], rng)
        names.append("side_plate")
    cage_share = {True: 0.55, False: 1.0}[bool(names)]
    spacer_only = not names and rng.random() < 0.2
    if not spacer_only and rng.random() < cage_share:
        discs = spine.discs[first : first + max(1, span - 1)][: int(rng.integers(1, 4))]
        for disc in discs:
            cage = _cage(disc, 34.0 * spine.size, camera, rng)
            implants.append(cage)
        names.append("cage")
    if spacer_only or rng.random() < 0.03:
        implants.append(_spacer(spine, camera, rng))
        names.append("spacer")
    return Hardware("+".join(names), implants, cement)


def draw_hardware(hardware: Hardware, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draws path lengths.

    Returns:
        (H, W) float32 cm of metal and (H, W) float32 cm of cement.
    """
    metal, cement = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for implant in hardware.implants:
        for polygon, path_cm in implant.pieces:
            add_exact_polygon(metal, polygon, path_cm)
    for polygon, path_cm in hardware.cement:
        add_exact_polygon(cement, polygon, path_cm)
    return np.maximum(metal, 0), cement
