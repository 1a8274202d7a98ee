"""Hardware: pedicle screws, rods, cages, plates, disc prostheses, spacers; and bone cement.

Every implant is a list of pieces (outline on the film and path through metal, as cm of titanium).
Its truth is the union of its pieces. Dimensions are those of common systems as their makers state
them: screws 5 to 7.5 mm by 35 to 55 mm, rods 5.5 to 6.35 mm, cages 22 to 32 mm by 8 to 15 mm,
markers of tantalum 1 mm thick.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from spinezoo_phantom.anatomy import Disc, Spine, Vertebra
from spinezoo_phantom.projection import Camera, Window, fixed_point, ribbon, smooth_curve
from spinezoo_phantom.solids import along_ray, paste, project

_STEEL = 2.4  # attenuation of steel and cobalt-chrome relative to titanium near 60 keV (NIST)
_ROUND = ((1.0, 0.34), (0.8, 0.30), (0.5, 0.36))  # nested widths that make a bar's round profile


def _circle_outline(centre: np.ndarray, radius: float, points: int) -> np.ndarray:
    """(points, 2) a polygon around `centre`, in its unit."""
    around = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return centre + np.stack([np.cos(around), np.sin(around)], axis=1) * radius


def _box_outline(
    centre: np.ndarray, axis: np.ndarray, half_length: float, half_height: float, cut: float = 0.0
) -> np.ndarray:
    """(4, 2) a rectangle along `axis` whose front end is lowered by `cut` (0 to 1)."""
    across = np.array([axis[1], -axis[0]])
    front = half_height * (1 - cut)
    return np.array(
        [
            centre - axis * half_length - across * half_height,
            centre + axis * half_length - across * front,
            centre + axis * half_length + across * front,
            centre - axis * half_length + across * half_height,
        ]
    )


@dataclass(slots=True)
class Implant:
    """One implant on the film.

    Attributes:
        structure: "cage", "screw" or "rod" (rods and other instrumentation).
        level: Level name; discs as "L4/L5"; empty for rods.
        design: What it is, for the tags.
        pieces: Pairs of (N, 2) px outline and path, cm of titanium.
        outline: (N, 2) px outlines whose union is the truth; empty means those of the pieces.
    """

    structure: str
    level: str
    design: str
    pieces: list[tuple[np.ndarray, float]] = field(default_factory=list)
    outline: list[np.ndarray] = field(default_factory=list)

    def truth_polygons(self) -> list[np.ndarray]:
        """The outlines whose union is the truth."""
        return self.outline or [polygon for polygon, _ in self.pieces]

    def bar(self, course_px: np.ndarray, half_px: np.ndarray | float, path_cm: float) -> None:
        """Adds a round bar along a (N, 2) course."""
        for width, share in _ROUND:
            self.pieces.append((ribbon(course_px, np.asarray(half_px) * width), path_cm * share))


@dataclass(slots=True)
class Hardware:
    """All implants of a film.

    Attributes:
        kinds: Names such as "pedicle_screws", "cage"; empty without hardware.
        implants: The implants, in drawing order.
        cement: Pairs of outline and cm of bone cement; drawn, not annotated.
        cemented: Levels that hold cement.
        removed: Levels whose lamina and spinous process were taken away.
    """

    kinds: list[str] = field(default_factory=list)
    implants: list[Implant] = field(default_factory=list)
    cement: list[tuple[np.ndarray, float]] = field(default_factory=list)
    cemented: list[str] = field(default_factory=list)
    removed: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _ScrewKind:
    """What all screws of a construct share."""

    width_mm: float
    pitch_mm: float
    core: float
    metal: float
    tulip: bool
    hollow: bool
    taper: float
    head_mm: float
    towers: bool

    @classmethod
    def draw(cls, rng: np.random.Generator, *, tulip: bool) -> _ScrewKind:
        return cls(
            width_mm=rng.uniform(4.8, 7.5),
            pitch_mm=rng.uniform(2.0, 3.4),
            core=rng.uniform(0.62, 0.84),
            metal=1.0 if rng.random() < 0.85 else _STEEL,
            tulip=tulip,
            hollow=bool(rng.random() < 0.2),
            taper=rng.uniform(0.0, 0.35),
            head_mm=rng.uniform(4.6, 6.6),
            towers=bool(rng.random() < 0.08),
        )


def _screw(
    camera: Camera,
    head_mm: np.ndarray,
    tip_mm: np.ndarray,
    level: str,
    kind: _ScrewKind,
    rod_axis_px: np.ndarray | None,
    rng: np.random.Generator,
) -> Implant:
    """A threaded, tapering shaft with its head."""
    ends = project(camera, np.stack([head_mm, tip_mm]))
    head, tip = ends
    px = camera.px_per_mm
    length = float(np.linalg.norm(tip - head)) + 1e-6
    axis = (tip - head) / length
    across = np.array([-axis[1], axis[0]])
    radius = kind.width_mm / 2 * px
    path_cm = kind.width_mm / 10 * kind.metal * float(along_ray(np.stack([head_mm, tip_mm]))[0])
    teeth = max(3, int(length / px / kind.pitch_mm))
    along = np.linspace(0, 1, 2 * teeth + 1)
    depth = np.where(np.arange(len(along)) % 2 == 0, kind.core, 1.0)
    depth[: max(2, teeth // 4)] = 0.9  # the shank under the head is smooth
    narrow = 1 - kind.taper * along
    narrow *= np.where(along > 0.88, 1 - (along - 0.88) * rng.uniform(2.0, 5.0), 1.0)
    half = radius * depth * narrow
    course = head + along[:, None] * axis * length
    # Threads are a helix: the two sides are half a pitch apart.
    other = np.roll(half, 1)
    other[0] = half[0]
    shaft = np.vstack([course + half[:, None] * across, (course - other[:, None] * across)[::-1]])
    screw = Implant("screw", level, "pedicle screw" if kind.tulip else "screw")
    screw.pieces.append((shaft, path_cm * 0.34))
    for width, share in ((kind.core * 0.95, 0.32), (kind.core * 0.6, 0.34)):
        filled = share * (0.4 if kind.hollow and width < 0.5 else 1.0)
        screw.pieces.append((ribbon(course, radius * narrow * width), path_cm * filled))
    size = kind.head_mm * px
    if kind.tulip:
        # A tulip stands along the screw or, with a ball joint, square to the rod.
        head_axis = axis
        if rod_axis_px is not None:
            square = np.array([rod_axis_px[1], -rod_axis_px[0]])
            square = square if square @ axis > 0 else -square
            mixed = axis + square * rng.uniform(0, 1.5)
            head_axis = mixed / np.linalg.norm(mixed)
        middle = head - head_axis * size * 0.5
        body = _box_outline(
            middle, head_axis, size * rng.uniform(1.0, 1.35), size * rng.uniform(0.8, 1.05)
        )
        screw.pieces.append((smooth_curve(body, rounds=1), 0.9 * kind.metal))
        screw.pieces.append(
            (_box_outline(middle, head_axis, size * 0.6, size * 0.6), 0.35 * kind.metal)
        )
        if kind.towers:
            wide = size * 0.3
            lever = middle - head_axis * size * 1.7
            screw.pieces.append(
                (_box_outline(lever, head_axis, size * 0.9, wide), 0.6 * kind.metal)
            )
    else:
        screw.pieces.append(
            (_circle_outline(head, size * rng.uniform(0.85, 1.1), 24), 0.8 * kind.metal)
        )
        screw.pieces.append((_circle_outline(head, size * 0.5, 24), 0.3 * kind.metal))
    return screw


def _rod(
    camera: Camera, course_mm: np.ndarray, width_mm: float, metal: float, name: str
) -> Implant:
    rod = Implant("rod", "", name)
    path_cm = width_mm / 10 * metal * float(np.median(along_ray(course_mm)))
    rod.bar(project(camera, course_mm), width_mm / 2 * camera.px_per_mm, path_cm)
    return rod


def _pedicle_construct(
    spine: Spine, camera: Camera, levels: list[Vertebra], rng: np.random.Generator
) -> list[Implant]:
    """Screws through both pedicles of each level and a rod on either side."""
    implants: list[Implant] = []
    kind = _ScrewKind.draw(rng, tulip=bool(rng.random() < 0.85))
    rod_mm = rng.uniform(4.8, 6.4)
    rod_metal = 1.0 if rng.random() < 0.7 else _STEEL
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
            implants.append(_screw(camera, head, tip, body.level, kind, rod_axis, rng))
        low, high = points[:, 1].min(), points[:, 1].max()
        along = np.linspace(low - rng.uniform(4, 14), high + rng.uniform(4, 14), 30)
        inside = np.clip(along, low, high)
        course_x = np.polyval(curve, inside) + (along - inside) * slope - 3.0
        course = np.column_stack([course_x, along, np.polyval(lateral, inside)])
        implants.append(_rod(camera, course, rod_mm, rod_metal, "rod"))
        if rng.random() < 0.10 and len(used) > 1:  # cross-link, seen end-on
            middle = points[:2].mean(axis=0) * np.array([1, 1, 0])
            spot = _circle_outline(
                project(camera, middle), rng.uniform(3.0, 5.0) * camera.px_per_mm, 24
            )
            implants.append(Implant("rod", "", "cross-link", [(spot, rng.uniform(1.0, 2.5))]))
    return implants


def _side_construct(
    camera: Camera, levels: list[Vertebra], rng: np.random.Generator
) -> list[Implant]:
    """Screws from the side or front with plates or rods between them."""
    implants: list[Implant] = []
    anchors: list[np.ndarray] = []
    kind = _ScrewKind.draw(rng, tulip=False)
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
            implants.append(_screw(camera, head, tip, body.level, kind, None, rng))
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
            implants.append(_rod(camera, ends, rng.uniform(5, 6.4), 1.0, "side rod"))
    return implants


def _front_plate(
    camera: Camera, upper: Vertebra, lower: Vertebra, rng: np.random.Generator
) -> list[Implant]:
    """A plate on the front of two bodies, seen edge-on, with two screws into each."""
    implants: list[Implant] = []
    kind = _ScrewKind.draw(rng, tulip=False)
    kind.head_mm, kind.width_mm = 2.2, rng.uniform(4.0, 5.5)
    ends = []
    for body, sign in ((upper, -1.0), (lower, 1.0)):
        up = sign * body.height_mm * rng.uniform(0.1, 0.3)
        front = body.depth_mm / 2 + 2.0
        ends.append(body.point(front, up + sign * -4.0, 0.0))
        for side in (-8.0, 8.0):
            head = body.point(front, up, side)
            tip = body.point(front - rng.uniform(18, 26), up + rng.normal(0, 3), side * 0.6)
            implants.append(_screw(camera, head, tip, body.level, kind, None, rng))
    course = project(camera, np.linspace(ends[0], ends[1], 8))
    plate = Implant("rod", "", "plate")
    plate.pieces.append((ribbon(course, rng.uniform(1.0, 1.8) * camera.px_per_mm), 2.0))
    implants.append(plate)
    return implants


_CAGES = ("solid", "markers", "mesh", "window", "expandable", "bullet", "cylinder", "prosthesis")


def _cage(disc: Disc, camera: Camera, design: str, rng: np.random.Generator) -> Implant:
    """One interbody device; it may dig into the endplates above and below."""
    px = camera.px_per_mm
    height_mm = min(max(disc.height_mm + rng.uniform(-0.5, 2.5), rng.uniform(6.0, 10.5)), 15.0)
    half_height = height_mm / 2 * px
    half_length = rng.uniform(0.26, 0.44) * disc.depth_mm * px
    along_mm = rng.uniform(-0.14, 0.18) * disc.depth_mm
    middle = disc.middle_mm + disc.frame @ np.array([along_mm, 0.0, rng.uniform(-8, 8)])
    ends = project(camera, np.stack([middle, middle + disc.frame[:, 0]]))
    centre, axis = ends[0], ends[1] - ends[0]
    turn = rng.normal(0, 0.05)
    axis = axis / np.linalg.norm(axis)
    axis = np.array(
        [
            axis[0] * np.cos(turn) - axis[1] * np.sin(turn),
            axis[0] * np.sin(turn) + axis[1] * np.cos(turn),
        ]
    )
    # A lordotic cage is lower at the back.
    block = _box_outline(centre, -axis, half_length, half_height, rng.uniform(0, 0.3))
    cage = Implant("cage", disc.name, design, outline=[block])
    across = np.array([axis[1], -axis[0]])

    def bar(start: np.ndarray, end: np.ndarray, width_mm: float, cm: float) -> None:
        cage.pieces.append((ribbon(np.stack([start, end]), width_mm / 2 * px), cm))

    def edges(width_mm: float, cm: float) -> None:
        for corner in range(4):
            bar(block[corner], block[(corner + 1) % 4], width_mm, cm)

    if design == "solid":  # titanium with ridges that bite into the endplates
        cage.pieces.append((block, rng.uniform(0.5, 1.6)))
        if rng.random() < 0.5:
            teeth = np.linspace(-0.85, 0.85, int(rng.integers(5, 9)))
            for share in teeth:
                foot = centre + axis * half_length * share
                bar(foot - across * half_height * 0.8, foot + across * half_height * 0.8, 0.7, 0.3)
    elif design == "bullet":
        nose = smooth_curve(block, rounds=2)
        cage.outline = [nose]
        cage.pieces.append((nose, rng.uniform(0.4, 1.4)))
        inner = centre + (nose - centre) * np.array([0.6, 0.6])
        cage.pieces.append((inner, -0.5 * cage.pieces[0][1]))
    elif design == "markers":  # radiolucent polymer with tantalum pins
        cage.pieces.append((block, 0.02))
        for place in (-0.85, 0.8) if rng.random() < 0.5 else (-0.85, 0.0, 0.8):
            foot = centre + axis * half_length * place
            reach = across * half_height * rng.uniform(0.5, 0.9)
            bar(foot - reach, foot + reach, rng.uniform(0.9, 1.6), rng.uniform(0.5, 1.4))
    elif design == "mesh":
        cage.pieces.append((block, rng.uniform(0.08, 0.2)))
        edges(1.4, 0.5)
        for share in np.linspace(-1, 1, 5):
            foot = centre + axis * half_length * share * 0.9
            bar(foot - across * half_height * 0.9, foot + across * half_height * 0.9, 0.8, 0.35)
        bar(block[0], block[2], 0.8, 0.35)
        bar(block[1], block[3], 0.8, 0.35)
    elif design == "window":  # solid frame round a graft window
        cage.pieces.append((block, rng.uniform(0.5, 1.1)))
        inner = centre + (block - centre) * np.array([0.55, 0.55])
        cage.pieces.append((inner, -0.75 * cage.pieces[0][1]))
    elif design == "expandable":  # two plates and a post
        for sign in (-1, 1):
            edge = across * half_height * 0.82 * sign
            start, end = centre - axis * half_length + edge, centre + axis * half_length + edge
            bar(start, end, height_mm * 0.22, rng.uniform(0.8, 1.4))
        post = across * half_height * 0.7
        bar(centre - post, centre + post, disc.depth_mm * 0.2, rng.uniform(0.6, 1.2))
    elif design == "cylinder":  # threaded, seen along its side
        course = np.linspace(centre - axis * half_length, centre + axis * half_length, 12)
        half = half_height * np.where(np.arange(12) % 2 == 0, 0.9, 1.0)
        outline = ribbon(course, half)
        cage.outline = [outline]
        cage.pieces.append((outline, rng.uniform(0.4, 0.9)))
        cage.pieces.append((ribbon(course, half_height * 0.6), -0.25))
    else:  # disc prosthesis: two metal plates with keels, polymer between
        for sign in (-1, 1):
            edge = across * half_height * 0.7 * sign
            start, end = centre - axis * half_length + edge, centre + axis * half_length + edge
            bar(start, end, max(height_mm * 0.3, 2.0), rng.uniform(1.0, 2.0) * _STEEL)
            keel = across * half_height * 1.3 * sign
            bar(centre + edge, centre + keel, 6.0, 0.3)
        cage.pieces.append((block, 0.03))
    return cage


def _spacer(spine: Spine, camera: Camera, rng: np.random.Generator) -> Implant:
    """An interspinous spacer behind one lumbar disc."""
    disc = spine.discs[int(rng.integers(1, 4))]
    behind = rng.uniform(46, 58) * spine.size
    spot = disc.middle_mm - disc.frame[:, 0] * behind
    ends = project(camera, np.stack([spot, spot + disc.frame[:, 0], spot + disc.frame[:, 1]]))
    centre = ends[0]
    axis = (ends[1] - centre) / np.linalg.norm(ends[1] - centre)
    rise = (ends[2] - centre) / np.linalg.norm(ends[2] - centre)
    px = camera.px_per_mm
    half_length, half_height = rng.uniform(5, 9) * px, rng.uniform(5, 8) * px
    spacer = Implant(
        "rod", "", "spacer", [(_box_outline(centre, axis, half_length, half_height), 0.9)]
    )
    for sign in (-1, 1):  # wings that hold the spinous processes
        wing = _box_outline(
            centre + axis * half_length * 0.6 * sign, rise, half_height * 2.2, 1.5 * px
        )
        spacer.pieces.append((wing, 0.8))
    return spacer


def _cement(spine: Spine, camera: Camera, hardware: Hardware, rng: np.random.Generator) -> None:
    """Fills one or two bodies with cement, fractured ones first."""
    broken = [body for body in spine.vertebrae[:8] if body.fracture != "none"]
    if not (broken and rng.random() < 0.25) and rng.random() > 0.035:
        return
    chosen = broken[:2] if broken else [spine.vertebrae[int(rng.integers(0, 7))]]
    for body in chosen:
        hardware.cemented.append(body.level)
        for _ in range(int(rng.integers(1, 4))):
            spot = body.point(rng.normal(2, 5), rng.normal(0, 3), rng.normal(0, 8))
            around = _circle_outline(np.zeros(2), 1.0, 11)
            spread = rng.uniform(0.45, 1.25, (11, 1)) * rng.uniform(4, 9) * camera.px_per_mm
            outline = smooth_curve(project(camera, spot) + around * spread)
            hardware.cement.append((outline, rng.uniform(0.5, 1.6)))


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
    hardware = Hardware()
    _cement(spine, camera, hardware, rng)
    if not wanted:
        if rng.random() < 0.06:  # decompressed without fusion
            hardware.removed = {spine.vertebrae[int(rng.integers(0, 4))].level}
        return hardware
    chain = [spine.sacrum[0], *spine.vertebrae]  # S1, lowest lumbar, ...
    draw = rng.random()
    # Fusions start low and are mostly short; a tenth runs up into the thoracic spine.
    first = int(rng.choice([0, 1, 2, 3, 4], p=[0.30, 0.30, 0.20, 0.12, 0.08]))
    span = int(rng.choice([2, 3, 4, 5, 7, 9], p=[0.38, 0.27, 0.15, 0.09, 0.07, 0.04]))
    if draw < 0.70:
        levels = chain[first : first + span]
        hardware.implants += _pedicle_construct(spine, camera, levels, rng)
        hardware.kinds.append("pedicle_screws")
        if rng.random() < 0.5:
            hardware.removed = {body.level for body in levels if not body.is_sacral}
    elif draw < 0.82:
        first = max(first, 1)
        levels = chain[first : first + min(span, 4)]
        hardware.implants += _side_construct(camera, levels, rng)
        hardware.kinds.append("side_construct")
    elif draw < 0.88:
        hardware.implants += _front_plate(camera, chain[first + 1], chain[first], rng)
        hardware.kinds.append("front_plate")
        span = 2
    cage_share = 0.6 if hardware.kinds else 1.0
    spacer_only = not hardware.kinds and rng.random() < 0.2
    if not spacer_only and rng.random() < cage_share:
        count = int(rng.choice([1, 2, 3], p=[0.6, 0.28, 0.12]))
        design = str(rng.choice(_CAGES, p=[0.2, 0.24, 0.08, 0.12, 0.1, 0.14, 0.06, 0.06]))
        if design == "prosthesis" and hardware.kinds:
            design = "markers"
        for disc in spine.discs[first : first + max(1, span - 1)][:count]:
            hardware.implants.append(_cage(disc, camera, design, rng))
        hardware.kinds.append("prosthesis" if design == "prosthesis" else "cage")
    if spacer_only or rng.random() < 0.03:
        hardware.implants.append(_spacer(spine, camera, rng))
        hardware.kinds.append("spacer")
    return hardware


def _add(layer: np.ndarray, polygon_px: np.ndarray, value: float, fine: int) -> None:
    window = Window.around(polygon_px, 2).cut(*layer.shape)
    if window.is_empty:
        return
    drawn: Any = np.zeros((window.height * fine, window.width * fine), np.uint8)
    cv2.fillPoly(drawn, [fixed_point((polygon_px - window.origin) * fine)], 255, cv2.LINE_8, 4)
    if fine > 1:
        drawn = cv2.resize(drawn, (window.width, window.height), interpolation=cv2.INTER_AREA)
    paste(layer, drawn * np.float32(value / 255), window)


def draw_hardware(
    hardware: Hardware, shape: tuple[int, int], fine: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws path lengths.

    Args:
        hardware: The implants.
        shape: Rows and columns.
        fine: Sub-pixels per pixel and direction.

    Returns:
        (H, W) float32 cm of titanium and (H, W) float32 cm of cement.
    """
    metal: Any = np.zeros(shape, np.float32)
    cement: Any = np.zeros(shape, np.float32)
    for implant in hardware.implants:
        for polygon, path_cm in implant.pieces:
            _add(metal, polygon, path_cm, fine)
    for polygon, path_cm in hardware.cement:
        _add(cement, polygon, path_cm, fine)
    if hardware.cement:
        cement = cv2.GaussianBlur(cement, (0, 0), max(0.6, 0.004 * shape[0]))
    return np.maximum(metal, 0), cement
