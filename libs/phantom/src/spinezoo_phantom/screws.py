"""Screws and rods: one implant each, as pieces on the film."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spinezoo_phantom.implant_shapes import STEEL, Implant, box_outline, circle_outline
from spinezoo_phantom.projection import Camera, ribbon, smooth_curve
from spinezoo_phantom.solids import along_ray, project


@dataclass(slots=True)
class ScrewKind:
    """What all screws of a construct share.

    Attributes:
        width_mm: Outer diameter of the thread.
        pitch_mm: Distance of threads.
        core: Core as a share of the outer diameter.
        metal: Attenuation relative to titanium.
        tulip: Whether the head holds a rod; else it is round.
        hollow: Whether the shaft has a canal for a wire.
        taper: What the tip is thinner than the shank, as a share.
        head_mm: Half the size of the head.
        towers: Whether the levers of the insertion are still on.
        loose: Share of screws in a lucent gap.
        broken: Share of screws whose shaft has broken.
    """

    width_mm: float
    pitch_mm: float
    core: float
    metal: float
    tulip: bool
    hollow: bool
    taper: float
    head_mm: float
    towers: bool
    loose: float = 0.0
    broken: float = 0.0

    @classmethod
    def draw(cls, rng: np.random.Generator, *, tulip: bool) -> ScrewKind:
        """One maker's screws."""
        return cls(
            width_mm=rng.uniform(4.5, 8.5),
            pitch_mm=rng.uniform(2.0, 3.4),
            core=rng.uniform(0.62, 0.9),
            metal=1.0 if rng.random() < 0.85 else STEEL,
            tulip=tulip,
            hollow=bool(rng.random() < 0.2),
            taper=rng.uniform(0.0, 0.35),
            head_mm=rng.uniform(4.6, 6.6),
            towers=bool(rng.random() < 0.08),
            loose=0.35 if rng.random() < 0.15 else 0.02,
            broken=0.25 if rng.random() < 0.06 else 0.0,
        )


@dataclass(slots=True)
class _Shaft:
    """Where a screw lies on the film.

    Attributes:
        head: (2,) where it leaves the bone, px.
        axis: (2,) unit vector from there to the tip.
        length: From head to tip, px.
        radius: Of the thread, px.
        px: Pixels a millimetre.
    """

    head: np.ndarray
    axis: np.ndarray
    length: float
    radius: float
    px: float


def screw(
    camera: Camera,
    head_mm: np.ndarray,
    tip_mm: np.ndarray,
    level: str,
    kind: ScrewKind,
    rod_axis_px: np.ndarray | None,
    rng: np.random.Generator,
) -> Implant:
    """A threaded, tapering shaft with its head.

    Args:
        camera: The film's geometry.
        head_mm: (3,) where the shaft leaves the bone.
        tip_mm: (3,) its other end.
        level: Level name.
        kind: What the construct's screws share.
        rod_axis_px: (2,) direction of the rod on the film; None: none.
        rng: The hardware's stream.
    """
    ends_mm = np.stack([head_mm, tip_mm])
    head, tip = project(camera, ends_mm)
    length = float(np.linalg.norm(tip - head)) + 1e-6
    px = camera.px_per_mm
    shaft = _Shaft(head, (tip - head) / length, length, kind.width_mm / 2 * px, px)
    path_cm = kind.width_mm / 10 * kind.metal * float(along_ray(ends_mm)[0])
    device = Implant("screw", level, "pedicle screw" if kind.tulip else "screw")
    _add_shaft(device, shaft, kind, path_cm, rng)
    if kind.tulip:
        _add_tulip(device, shaft, kind, rod_axis_px, rng)
    else:
        size = kind.head_mm * px
        ball = circle_outline(head, size * rng.uniform(0.85, 1.1), 24)
        device.pieces.append((ball, 0.8 * kind.metal))
        device.pieces.append((circle_outline(head, size * 0.5, 24), 0.3 * kind.metal))
    return device


def _add_shaft(
    device: Implant, shaft: _Shaft, kind: ScrewKind, path_cm: float, rng: np.random.Generator
) -> None:
    """Adds the thread and its core, broken or loose where chance says so.

    Args:
        device: The screw, changed in place.
        shaft: Where it lies.
        kind: What the construct's screws share.
        path_cm: Through its middle, cm of titanium.
        rng: The hardware's stream.
    """
    axis, radius, px = shaft.axis, shaft.radius, shaft.px
    across = np.array([-axis[1], axis[0]])
    teeth = max(3, int(shaft.length / px / kind.pitch_mm))
    along = np.linspace(0, 1, 2 * teeth + 1)
    depth = np.where(np.arange(len(along)) % 2 == 0, kind.core, 1.0)
    depth[: max(2, teeth // 4)] = 0.9  # the shank under the head is smooth
    narrow = 1 - kind.taper * along
    narrow *= np.where(along > 0.88, 1 - (along - 0.88) * rng.uniform(2.0, 5.0), 1.0)
    course = shaft.head + along[:, None] * axis * shaft.length
    parts = [slice(0, len(along))]
    if rng.random() < kind.broken and len(along) > 10:
        # The tip stays behind and shifts: for a reader still one screw.
        cut = int(len(along) * rng.uniform(0.3, 0.75))
        course[cut:] += (across * rng.normal(0, 0.6) + axis * rng.uniform(0.6, 1.6)) * px
        parts = [slice(0, cut), slice(cut, len(along))]
        device.design = "broken screw"
        device.seam = [ribbon(course[cut - 2 : cut + 2], 0.7 * radius)]
    half = radius * depth * narrow
    # Threads are a helix: the two sides are half a pitch apart.
    other = np.roll(half, 1)
    other[0] = half[0]
    for part in parts:
        left = course[part] + half[part, None] * across
        right = course[part] - other[part, None] * across
        device.pieces.append((np.vstack([left, right[::-1]]), path_cm * 0.34))
        for width, share in ((kind.core * 0.95, 0.32), (kind.core * 0.6, 0.34)):
            filled = share * (0.4 if kind.hollow and width < 0.5 else 1.0)
            inner = ribbon(course[part], (radius * narrow * width)[part])
            device.pieces.append((inner, path_cm * filled))
    if rng.random() < kind.loose:  # bone has given way round the thread
        wide = radius + rng.uniform(1.0, 2.6) * px
        inside = along > rng.uniform(0.2, 0.5)
        if inside.sum() > 2:
            gap = ribbon(course[inside], wide * rng.uniform(0.8, 1.2))
            device.halo = [(gap, rng.uniform(0.3, 1.0))]


def _add_tulip(
    device: Implant,
    shaft: _Shaft,
    kind: ScrewKind,
    rod_axis_px: np.ndarray | None,
    rng: np.random.Generator,
) -> None:
    """Adds a head that holds a rod: along the screw or, with a ball joint, square to the rod."""
    size = kind.head_mm * shaft.px
    axis = shaft.axis
    if rod_axis_px is not None:
        square = np.array([rod_axis_px[1], -rod_axis_px[0]])
        square = square if square @ axis > 0 else -square
        mixed = axis + square * rng.uniform(0, 1.5)
        axis = mixed / np.linalg.norm(mixed)
    middle = shaft.head - axis * size * 0.5
    body = box_outline(middle, axis, size * rng.uniform(1.0, 1.35), size * rng.uniform(0.8, 1.05))
    device.pieces.append((smooth_curve(body, rounds=1), 0.9 * kind.metal))
    slot = box_outline(middle, axis, size * 0.6, size * 0.6)
    device.pieces.append((slot, 0.35 * kind.metal))
    if kind.towers:
        lever = box_outline(middle - axis * size * 1.7, axis, size * 0.9, size * 0.3)
        device.pieces.append((lever, 0.6 * kind.metal))


def rod(camera: Camera, course_mm: np.ndarray, width_mm: float, metal: float, name: str) -> Implant:
    """A round bar along a course.

    Args:
        camera: The film's geometry.
        course_mm: (N, 3) centre line.
        width_mm: Diameter.
        metal: Attenuation relative to titanium.
        name: What it is, for the tags.
    """
    device = Implant("rod", "", name, course_mm=course_mm)
    path_cm = width_mm / 10 * metal * float(np.median(along_ray(course_mm)))
    device.bar(project(camera, course_mm), width_mm / 2 * camera.px_per_mm, path_cm)
    return device
