"""Draws the skeleton's path lengths: cortical and cancellous bone, in cm along the ray.

Arches follow *Zindrick 1987* (pedicles) and *Panjabi 1992*, *1993* (facets and processes of lumbar
vertebrae; Spine 18:1298); pelvis and ribs are drawn by eye after anatomical plates and real films.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from spinezoo_phantom.anatomy import Spine, Vertebra
from spinezoo_phantom.projection import Camera, Window, smooth_curve
from spinezoo_phantom.solids import (
    along_ray,
    body_paths,
    paste,
    pillow_paths,
    project,
    tube_paths,
)


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


class _Painter:
    """Adds pillows and tubes to one pair of layers."""

    def __init__(self, camera: Camera, core: np.ndarray, shell: np.ndarray, density: float) -> None:
        self.camera, self.core, self.shell, self.density = camera, core, shell, density
        self.film = Window(0, 0, camera.width_px, camera.height_px)

    def pillow(
        self,
        outline_px: np.ndarray,
        thickness_cm: float,
        round_mm: float,
        shell_mm: float,
        density: float = 1.0,
    ) -> None:
        """Adds a flat bone; sizes in mm of the sagittal mid-plane."""
        if Window.around(outline_px, 2).cut(self.camera.height_px, self.camera.width_px).is_empty:
            return
        px = self.camera.px_per_mm
        drawn = pillow_paths(outline_px, thickness_cm, round_mm * px, shell_mm * px, shell_mm / 10)
        if drawn is not None:
            window, shell, core = drawn
            paste(self.shell, shell, window)
            paste(self.core, core * np.float32(self.density * density), window)

    def tube(
        self,
        course_mm: np.ndarray,
        height_mm: np.ndarray,
        depth_mm: float,
        shell_share: float,
        density: float = 1.0,
    ) -> None:
        """Adds a bar along a (N, 3) course, `height_mm` high on the film, `depth_mm` deep."""
        course_px = project(self.camera, course_mm)
        drawn = tube_paths(
            course_px,
            height_mm / 2 * self.camera.px_per_mm,
            np.full(len(course_mm), depth_mm / 20),
            along_ray(course_mm),
            shell_share,
            self.film,
        )
        if drawn is not None:
            window, shell, core = drawn
            paste(self.shell, shell, window)
            paste(self.core, core * np.float32(self.density * density), window)


def smooth_course(points_mm: np.ndarray, rounds: int = 3) -> np.ndarray:
    """Rounds an open (N, 3) course by corner cutting."""
    course = points_mm
    for _ in range(rounds):
        cut = np.empty((2 * (len(course) - 1), 3))
        cut[0::2] = 0.75 * course[:-1] + 0.25 * course[1:]
        cut[1::2] = 0.25 * course[:-1] + 0.75 * course[1:]
        course = np.vstack([course[:1], cut, course[-1:]])
    return course


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


_SUPERIOR_FACET = ((-9, 10), (-10, 20), (-14, 24), (-18, 20), (-19, 8), (-16, 1), (-11, 3))
_PARS = ((-10, 9), (-19, 9), (-23, -8), (-15, -10))
_INFERIOR_FACET = ((-15, -4), (-23, -4), (-27, -16), (-25, -25), (-19, -26), (-16, -16))
_LAMINA = ((-16, 4), (-24, 2), (-31, -12), (-27, -18), (-18, -12))
_TRANSVERSE = ((-7, 6), (-14, 6), (-15, -2), (-8, -3))


def _draw_arch(
    painter: _Painter, body: Vertebra, size: float, removed: bool, rng: np.random.Generator
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
    camera = painter.camera

    def place(
        points: Sequence[tuple[float, float]], side_mm: float, jitter: float, rounds: int = 2
    ) -> np.ndarray:
        flat = np.array(points, dtype=float)
        flat = flat * scale + rng.normal(0, jitter, flat.shape)
        flat[:, 1] *= high
        local = np.column_stack([back + flat[:, 0], flat[:, 1], np.full(len(flat), side_mm)])
        return smooth_curve(project(camera, body.points(local)), rounds=rounds)

    cortex_mm = rng.uniform(0.6, 1.4)
    pedicle_cm = body.pedicle_mm / 10
    for side in (-1, 1):
        middle = side * (9.5 * scale + body.pedicle_mm / 2 + rng.normal(0, 0.7))
        pedicle = (
            (rng.uniform(2, 6), 10.5), (-6, 11.0), (-13, 11.5), (-15, 1.5), (-9, 0.0),
            (-4, -2.0), (rng.uniform(2, 5), -4.0),
        )  # fmt: skip
        painter.pillow(place(pedicle, middle, 0.6, 1), pedicle_cm, 4.0 * scale, cortex_mm, 1.1)
        facet = side * (15.0 * scale + rng.normal(0, 1.2))
        painter.pillow(place(_SUPERIOR_FACET, facet, 1.0), 1.0 * scale, 3.0, cortex_mm, 1.5)
        painter.pillow(place(_PARS, facet * 0.92, 0.9), 0.8 * scale, 3.0, cortex_mm, 1.3)
        lower = side * (13.0 * scale + rng.normal(0, 1.2))
        if not (removed and rng.random() < 0.6):
            painter.pillow(place(_INFERIOR_FACET, lower, 1.0), 0.9 * scale, 3.0, cortex_mm, 1.5)
        if not removed:
            painter.pillow(place(_LAMINA, side * 8 * scale, 1.2), 0.9 * scale, 3.0, 0.9, 0.8)
        if rng.random() < 0.85:  # transverse process, seen end-on
            reach_cm = rng.uniform(1.0, 2.4) * scale
            stump = place(_TRANSVERSE, side * (22 * scale + 5 * reach_cm), 1.0)
            painter.pillow(stump, reach_cm, 3.0, 0.7, 0.9)
    if removed:
        return
    length = rng.uniform(20, 34) if lumbar else rng.uniform(16, 26)
    drop = rng.uniform(1, 6) if lumbar else rng.uniform(14, 26)  # thoracic ones point down
    process = (
        (-25, 1), (-33, 2 - 0.2 * drop), (-31 - length, -2 - drop), (-33 - length, -14 - drop),
        (-29 - length / 2, -19 - 0.7 * drop), (-25, -14),
    )  # fmt: skip
    thick_cm = rng.uniform(0.3, 0.7) * scale
    painter.pillow(place(process, 0.0, 1.2, 1), thick_cm, 2.5, rng.uniform(0.4, 1.1), 0.8)


def _draw_sacrum(painter: _Painter, spine: Spine, rng: np.random.Generator) -> None:
    """Adds sacral wings, the median crest and the coccyx."""
    camera, sacrum, size = painter.camera, spine.sacrum, spine.size

    def joined(places: list[tuple[int, float, float]], side_mm: float, jitter: float) -> np.ndarray:
        points = np.array([sacrum[index].point(along, up, side_mm) for index, along, up in places])
        points[:, :2] += rng.normal(0, jitter, (len(points), 2))
        return smooth_curve(project(camera, points))

    depth = [body.depth_mm / 2 for body in sacrum]
    half = [body.height_mm / 2 for body in sacrum]
    for side in (-1, 1):
        wing = [
            (0, depth[0] * 0.75, half[0] * 0.6), (0, -depth[0] - 4, half[0]),
            (2, -depth[2] - 8, 0.0), (3, -depth[3] - 4, -half[3]), (2, depth[2], -half[2]),
            (1, depth[1] * 1.1, 0.0),
        ]  # fmt: skip
        painter.pillow(joined(wing, side * 32 * size, 2.0), 3.2 * size, 10.0, 0.6, 0.45)
        # Ridges between the foramina look like bright strands.
        for index in (0, 1, 2):
            strand = np.array(
                [
                    sacrum[index].point(depth[index], -half[index], side * 12),
                    sacrum[index].point(-depth[index] - 6, -half[index] * 0.7, side * 20),
                ]
            )
            if rng.random() < 0.7:
                course = np.linspace(strand[0], strand[1], 6)
                painter.tube(course, np.full(6, rng.uniform(2.0, 4.5)), 9.0, 0.45)
    crest = [(index, -depth[index] - 9 * size, 0.0) for index in range(5)]
    crest += [(index, -depth[index] - (24 - 3 * index) * size, 0.0) for index in range(4, -1, -1)]
    thick_cm = rng.uniform(0.9, 1.6)
    painter.pillow(joined(crest, 0.0, 1.5), thick_cm, 3.0, rng.uniform(0.7, 1.5), 0.8)
    last = sacrum[-1]
    here, angle = last.point(0, -half[-1]), last.sagittal_rad + rng.normal(-0.1, 0.25)
    for length in (12.0, 9.0, 8.0, 6.0):
        angle -= rng.uniform(0.05, 0.45)
        step = np.array([-np.sin(angle), np.cos(angle), 0.0]) * length * size
        beside = np.array([np.cos(angle), np.sin(angle), 0.0]) * (2.5 + length * 0.2) * size
        ring = np.array(
            [here - beside, here + beside, here + step + beside * 0.8, here + step - beside * 0.8]
        )
        outline = smooth_curve(project(camera, ring), rounds=1)
        painter.pillow(outline, 1.2, 3.0, 0.8)
        here = here + step * 1.12


def _draw_pelvis(painter: _Painter, spine: Spine, rng: np.random.Generator) -> None:
    """Adds both iliac bones with their crests and lines, and the femoral heads."""
    camera, size = painter.camera, spine.size
    turn = spine.sacral_slope_rad - np.deg2rad(38)
    rotate = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    shift = np.array([np.tan(spine.pelvis_axial_rad), -np.tan(spine.pelvis_coronal_rad)])

    def in_pelvis(points: np.ndarray, side_mm: np.ndarray | float, moved: np.ndarray) -> np.ndarray:
        turned = (points * size + moved) @ rotate.T
        side = np.broadcast_to(np.asarray(side_mm, dtype=float), len(points))
        world = np.stack([turned[:, 0], -turned[:, 1]], axis=1) + side[:, None] * shift
        return np.column_stack([world, side])

    crest_mm = rng.uniform(8, 48)  # how far the iliac crest stands above S1
    blade_cm, rim_mm = rng.uniform(0.4, 0.9), rng.uniform(4, 9)
    for side in (-1, 1):
        moved = np.array([rng.normal(0, 4), rng.normal(0, 3)])
        ilium = np.array(
            [
                (-62, -38), (-50, -8), (-22, crest_mm * 0.75), (15, crest_mm), (50, crest_mm * 0.8),
                (78, crest_mm * 0.2), (86, -25), (70, -60), (66, -95), (40, -110), (15, -85),
                (0, -60), (-28, -66), (-52, -58),
            ],
            dtype=float,
        )  # fmt: skip
        ilium = ilium + rng.normal(0, 2.5, ilium.shape)
        outline = smooth_curve(project(camera, in_pelvis(ilium, side * 72, moved)), rounds=3)
        painter.pillow(outline, blade_cm, rim_mm * 0.5, rng.uniform(0.5, 1.1), 0.8)
        # The crest is a thick bar along the blade's upper border, flaring to the side.
        border = np.column_stack([ilium[:7], np.zeros(7)])
        border[:, 2] = side * np.array([45, 58, 85, 110, 118, 110, 95])
        course = smooth_course(
            np.column_stack([in_pelvis(border[:, :2], border[:, 2], moved)[:, :2], border[:, 2]])
        )
        heights = np.full(len(course), rng.uniform(6, 12) * size)
        painter.tube(course, heights, 10.0, rng.uniform(0.2, 0.4), 0.8)
        if rng.random() < 0.85:  # arcuate line and notch: thick cortex seen along its length
            line = np.array([(-6, -30), (5, -55), (30, -85), (55, -105)], dtype=float)
            line = line + rng.normal(0, 3, line.shape)
            course = smooth_course(in_pelvis(line, side * np.array([55, 58, 62, 68]), moved))
            painter.tube(course, np.full(len(course), rng.uniform(2.5, 6)), rng.uniform(8, 20), 0.6)
        around = np.linspace(0, 2 * np.pi, 36, endpoint=False)
        middle = np.array([55.0, -125.0]) + rng.normal(0, 4, 2)
        radius = rng.uniform(22, 26)
        head = middle + np.stack([np.cos(around), np.sin(around)], axis=1) * radius
        cup = middle + np.stack([np.cos(around), np.sin(around)], axis=1) * (radius + 7)
        placed = project(camera, in_pelvis(head, side * 90, moved))
        painter.pillow(placed, 4.8 * size, radius * size, 1.2, 1.1)
        socket = project(camera, in_pelvis(cup, side * 85, moved))
        painter.pillow(socket, 3.0 * size, (radius + 7) * size, 2.0, 0.7)


def _draw_ribs(painter: _Painter, spine: Spine, rng: np.random.Generator) -> None:
    """Adds both ribs of every thoracic vertebra as hollow bars around the chest."""
    size = spine.size
    slope, chest = rng.uniform(0.6, 1.7), rng.uniform(105, 145)
    deep = rng.uniform(0.8, 1.25)
    wall = rng.uniform(0.16, 0.3)
    for body in spine.vertebrae:
        if not body.level.startswith("T"):
            continue
        number = int(body.level[1:])
        for side in (-1, 1):
            shown = {12: rng.uniform(0.25, 0.6), 11: rng.uniform(0.4, 0.8)}.get(number, 1.0)
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
            taper = np.clip((1.02 - np.linspace(0, 1, len(bend))) * 14, 0.4, 1)
            height = rng.uniform(9, 13) * size * taper
            painter.tube(bend, height, rng.uniform(6, 8), wall)


def draw_skeleton(
    spine: Spine,
    camera: Camera,
    near: Camera,
    far: Camera,
    removed: set[str],
    rng: np.random.Generator,
) -> BoneLayers:
    """Projects all bones.

    Args:
        spine: The patient.
        camera: The film's geometry: the grid of the bodies.
        near: The same film on the grid of arches and sacrum.
        far: The same film on the grid of pelvis and ribs.
        removed: Levels whose lamina and spinous process were taken away.
        rng: Random stream for shapes that carry no truth.

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
    arch = _Painter(near, layers.arch_core, layers.arch_shell, density)
    for body in spine.vertebrae:
        _draw_arch(arch, body, spine.size, body.level in removed, rng)
    _draw_sacrum(arch, spine, rng)
    distant = _Painter(far, layers.far_core, layers.far_shell, density)
    _draw_pelvis(distant, spine, rng)
    _draw_ribs(distant, spine, rng)
    # Arches are rounded bone with crumpled surfaces: their borders are soft.
    soft_px = max(0.35, rng.uniform(0.25, 0.7) * near.px_per_mm)
    layers.arch_shell = cv2.GaussianBlur(layers.arch_shell, (0, 0), soft_px)
    layers.arch_core = cv2.GaussianBlur(layers.arch_core, (0, 0), soft_px)
    return layers
