"""Draws the skeleton's path lengths: cortical and cancellous bone, in cm along the ray.

Arches follow *Zindrick 1987* (pedicles) and *Panjabi 1992*, *1993* (facets and processes of lumbar
vertebrae; Spine 18:1298); pelvis and ribs are drawn by eye after anatomical plates and real films.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from spinezoo_phantom.anatomy import Spine
from spinezoo_phantom.painter import Painter, smooth_course
from spinezoo_phantom.pelvis import draw_pelvis, draw_sacrum
from spinezoo_phantom.projection import Camera, Window
from spinezoo_phantom.solids import body_paths, paste, project
from spinezoo_phantom.vertebra import Vertebra


@dataclass(slots=True)
class BoneLayers:
    """Path lengths through bone, (H, W) float32, cm; cancellous bone weighted by its density.

    Each pair lies on the grid that its structures need: thin arches on a fine one, the broad bones
    far from the spine on a coarse one.

    Attributes:
        body_core: Cancellous bone of vertebral bodies.
        body_shell: Cortical bone of vertebral bodies.
        arch_core: Cancellous bone of arches and processes.
        arch_shell: Their cortical bone.
        far_core: Cancellous bone of pelvis, ribs and coccyx.
        far_shell: Their cortical bone.
        coverage: Level to (cm within the outer surface, window): the truth is read from these.
    """

    body_core: np.ndarray
    body_shell: np.ndarray
    arch_core: np.ndarray
    arch_shell: np.ndarray
    far_core: np.ndarray
    far_shell: np.ndarray
    coverage: dict[str, tuple[np.ndarray, Window]]


def _draw_body(layers: BoneLayers, body: Vertebra, camera: Camera) -> None:
    paths = body_paths(body, camera)
    if paths is None:
        return
    core = (paths.inside_cm - paths.shell_cm) * np.float32(body.density)
    if paths.sclerosis_cm is not None:
        core += paths.sclerosis_cm * np.float32(0.9)
    paste(layers.body_core, core, paths.window)
    paste(layers.body_shell, paths.shell_cm, paths.window)
    layers.coverage[body.level] = (paths.inside_cm, paths.window)


def _is_near(body: Vertebra, camera: Camera, margin_mm: float = 90.0) -> bool:
    """Whether anything that hangs on a body can be on the film."""
    row = project(camera, body.centre_mm)[1]
    margin = margin_mm * camera.px_per_mm
    return bool(-margin < row < camera.height_px + margin)


_SUPERIOR_FACET = ((-8, 9), (-10, 19), (-14, 25), (-19, 21), (-20, 8), (-17, 0), (-10, 2))
_PARS = ((-9, 13), (-19, 15), (-25, -4), (-28, -18), (-20, -20), (-15, -8))
_INFERIOR_FACET = ((-14, -3), (-24, -3), (-29, -16), (-26, -27), (-19, -28), (-15, -16))
_LAMINA = ((-16, 4), (-24, 2), (-31, -12), (-27, -18), (-18, -12))
_TRANSVERSE = ((-7, 6), (-14, 6), (-15, -2), (-8, -3))


def _draw_arch(
    painter: Painter, body: Vertebra, size: float, removed: bool, rng: np.random.Generator
) -> None:
    """Adds pedicles, articular processes of both sides, laminae, transverse and spinous processes.

    Args:
        painter: Where to draw.
        body: The vertebra.
        size: Body size factor.
        removed: Whether lamina and spinous process were taken away (decompression).
        rng: Random stream.
    """
    lumbar = body.level.startswith("L")
    scale = (1.0 if lumbar else 0.82) * size
    back = -body.depth_mm / 2
    high = body.height_mm / (26.0 * scale)

    def place(points: Sequence[tuple[float, float]], side_mm: float, jitter: float) -> np.ndarray:
        flat = np.array(points, dtype=float)
        flat = flat * scale + rng.normal(0, jitter, flat.shape)
        flat[:, 1] *= high
        return body.points(
            np.column_stack([back + flat[:, 0], flat[:, 1], np.full(len(flat), side_mm)])
        )

    cortex_mm = rng.uniform(0.2, 0.8)
    pedicle_cm = body.pedicle_mm / 10
    for side in (-1, 1):
        middle = side * (9.5 * scale + body.pedicle_mm / 2 + rng.normal(0, 0.7))
        pedicle = (
            (rng.uniform(4, 10), 10.5), (-6, 11.0), (-13, 11.5), (-15, 1.5), (-9, 0.0),
            (-4, -2.0), (rng.uniform(4, 9), -4.0),
        )  # fmt: skip
        painter.plate(place(pedicle, middle, 0.6), pedicle_cm, 6.0 * scale, cortex_mm, 1.5, 1)
        facet = side * (15.0 * scale + rng.normal(0, 1.2))
        painter.plate(place(_SUPERIOR_FACET, facet, 1.0), 0.9 * scale, 5.0, 0.7 * cortex_mm, 1.2)
        painter.plate(place(_PARS, facet * 0.92, 0.9), 1.2 * scale, 6.0, cortex_mm, 1.7)
        lower = side * (13.0 * scale + rng.normal(0, 1.2))
        if not (removed and rng.random() < 0.6):
            painter.plate(
                place(_INFERIOR_FACET, lower, 1.0), 0.9 * scale, 5.0, 0.7 * cortex_mm, 1.2
            )
        if not removed:
            painter.plate(place(_LAMINA, side * 8 * scale, 1.2), 1.0 * scale, 4.0, 0.4, 1.2)
        if rng.random() < 0.6:  # transverse process, seen end-on
            reach_cm = rng.uniform(1.0, 2.4) * scale
            stump = place(_TRANSVERSE, side * (22 * scale + 5 * reach_cm), 1.0)
            painter.plate(stump, reach_cm, 4.0, rng.uniform(0.1, 0.5), 0.6)
    if removed:
        return
    length = rng.uniform(20, 34) if lumbar else rng.uniform(16, 26)
    drop = rng.uniform(1, 6) if lumbar else rng.uniform(14, 26)  # thoracic ones point down
    process = (
        (-25, 1), (-33, 2 - 0.2 * drop), (-31 - length, -2 - drop), (-33 - length, -14 - drop),
        (-29 - length / 2, -19 - 0.7 * drop), (-25, -14),
    )  # fmt: skip
    thick_cm = rng.uniform(0.3, 0.7) * scale
    painter.plate(place(process, 0.0, 1.2), thick_cm, 2.5, rng.uniform(0.2, 0.7), 0.8, 1)


def _draw_wings(painter: Painter, spine: Spine, rng: np.random.Generator) -> None:
    """Adds the broad transverse processes of a sacralised lumbar vertebra (Castellvi 1984)."""
    if spine.transition.kind != "sacralised":
        return
    body, size = spine.vertebrae[0], spine.size
    half = body.height_mm / 2
    for side, strength in zip((-1, 1), spine.transition.wings, strict=True):
        if not strength:
            continue
        # I: 19 mm high and more; II reaches the sacrum's wing, III is one with it.
        foot = -half - (-4, 8, 14)[strength - 1] * size
        wing = np.array(
            [
                (-6, 0.5 * half), (-body.depth_mm / 2 - 6, 0.7 * half),
                (-body.depth_mm / 2 - 8, -0.5 * half), (-body.depth_mm / 3, foot),
                (4, foot), (8 * strength / 3, -0.3 * half),
            ]
        )  # fmt: skip
        wing = wing + rng.normal(0, 1.5, wing.shape)
        outline = body.points(np.column_stack([wing, np.full(6, side * 36.0 * size)]))
        painter.plate(outline, rng.uniform(1.6, 2.8) * size, 7.0, 0.4, rng.uniform(0.35, 0.7))


FAINTEST_RIB = 0.08
"""Least share of their usual depth along the ray that faint ribs have."""


def rib_strength(faint_share: float, rng: np.random.Generator) -> float:
    """How much of their usual depth along the ray a patient's ribs have.

    On patients' films the last ribs are often hardly seen before the diaphragm and the bowel.

    Args:
        faint_share: Share of patients whose ribs are faint.
        rng: Random stream.
    """
    faint = bool(rng.random() < faint_share)
    return float(np.exp(rng.uniform(np.log(FAINTEST_RIB), 0.0))) if faint else 1.0


def _draw_ribs(painter: Painter, spine: Spine, rng: np.random.Generator, strength: float) -> None:
    """Adds both ribs of every thoracic vertebra as hollow bars around the chest."""
    size = spine.size
    slope, chest = rng.uniform(0.6, 1.7), rng.uniform(105, 145)
    deep = spine.chest_mm / (140 * size)
    wall = rng.uniform(0.16, 0.34)
    bare = rng.random(2) < (0.5 if rng.random() < 0.1 else 0.02)
    for body in spine.vertebrae:
        if not body.level.startswith("T"):
            continue
        number = int(body.level[1:])
        for side in (-1, 1):
            # The twelfth rib is of every length, or missing; the eleventh ends in the flank.
            free = rng.uniform(0.2, 0.62, 2) if not bare[(side + 1) // 2] else np.zeros(2)
            shown = {12: free[0], 11: 0.2 + free[1] if free[1] else 0.6}.get(number, 1.0)
            if not shown:
                continue
            back = -body.depth_mm / 2
            course = np.array(
                [
                    (back + 1, -2, 16), (back - 18, 3, 38), (back - 29, 14, 70),
                    (back - 18, 40, 0.85 * chest), (10, 75, chest), (65, 108, chest),
                    (115, 128, 0.75 * chest), (140, 132, 0.4 * chest),
                ],
                dtype=float,
            )  # fmt: skip
            course[:, 0] = np.where(course[:, 0] > 0, course[:, 0] * deep, course[:, 0])
            course[:, 1] *= slope * rng.uniform(0.85, 1.15)
            course[1:, :2] += rng.normal(0, 2.5, (len(course) - 1, 2))
            course[:, 2] *= side
            base = body.point(0, body.height_mm * 0.3)
            bend = smooth_course(base + course * np.array([size, size, 1.0]))
            bend = bend[: max(6, int(len(bend) * shown))]
            if not _is_near(body, painter.camera, 220.0):
                continue
            taper = np.clip((1.02 - np.linspace(0, 1, len(bend))) * 14, 0.4, 1)
            height = rng.uniform(9, 13) * size * taper
            painter.tube(bend, height, strength * rng.uniform(6, 8), wall)


def draw_skeleton(
    spine: Spine,
    camera: Camera,
    near: Camera,
    far: Camera,
    removed: set[str],
    rng: np.random.Generator,
    rib_strength: float = 1.0,
) -> BoneLayers:
    """Projects all bones.

    Args:
        spine: The patient.
        camera: The film's geometry: the grid of the bodies.
        near: The same film on the grid of arches and sacrum.
        far: The same film on the grid of pelvis and ribs.
        removed: Levels whose lamina and spinous process were taken away.
        rng: Random stream for shapes that carry no truth.
        rib_strength: Of :func:`rib_strength`.

    Returns:
        Path length layers and the coverage of each body.
    """

    def empty(grid: Camera) -> np.ndarray:
        return np.zeros((grid.height_px, grid.width_px), np.float32)

    layers = BoneLayers(
        body_core=empty(camera),
        body_shell=empty(camera),
        arch_core=empty(near),
        arch_shell=empty(near),
        far_core=empty(far),
        far_shell=empty(far),
        coverage={},
    )
    density = (1.0, 0.8, 0.62, 0.45)[spine.osteoporosis]
    for body in [*spine.sacrum, *spine.vertebrae]:
        _draw_body(layers, body, camera)
    arch = Painter(near, layers.arch_core, layers.arch_shell, density)
    for body in spine.vertebrae:
        if _is_near(body, camera):
            _draw_arch(arch, body, spine.size, body.level in removed, rng)
    _draw_wings(arch, spine, rng)
    draw_sacrum(arch, spine, rng)
    distant = Painter(far, layers.far_core, layers.far_shell, density)
    draw_pelvis(distant, spine, rng)
    _draw_ribs(distant, spine, rng, rib_strength)
    # Arches are rounded bone with crumpled surfaces: their borders are soft.
    soft_px = max(0.35, rng.uniform(0.25, 0.8) * near.px_per_mm)
    layers.arch_shell = cv2.GaussianBlur(layers.arch_shell, (0, 0), soft_px)
    layers.arch_core = cv2.GaussianBlur(layers.arch_core, (0, 0), soft_px)
    return layers
