"""Draws the bones' path lengths: cancellous inside and cortical shell, in cm along the ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from spinezoo_spine.phantom.projection import (
    Camera,
    Window,
    add_line,
    add_polygon,
    fill_count,
    fixed_point,
    paste_sum,
    ribbon,
    smooth_curve,
)
from spinezoo_spine.phantom.version2.anatomy import (
    BACK_WALL,
    FRONT_WALL,
    LOWER_ENDPLATE,
    UPPER_ENDPLATE,
    Spine,
    Vertebra,
    forward,
    upward,
)

_FIXED = 4


@dataclass(slots=True)
class BoneLayers:
    """Path lengths through bone.

    Attributes:
        body: (H, W) cm of cancellous bone in vertebral bodies.
        shell: (H, W) cm of cortical bone of the bodies.
        posterior: (H, W) cm of mixed bone of arches and processes.
        pelvis: (H, W) cm of mixed bone of ilium, sacral wings and femoral heads.
        ribs: (H, W) cm of mixed bone of the ribs.
        coverage: Level to (float32 cm of body, window): the truth is read from these.
    """

    body: np.ndarray
    shell: np.ndarray
    posterior: np.ndarray
    pelvis: np.ndarray
    ribs: np.ndarray
    coverage: dict[str, tuple[np.ndarray, Window]]


def _draw_body(
    layers: BoneLayers, body: Vertebra, camera: Camera, shell_mm: float, wall: float, plate: float
) -> None:
    """Adds one vertebral body, slice by slice."""
    slide_px = np.abs(body.side_shift_mm(body.width_mm)).max() * camera.px_per_mm
    count = int(np.clip(13 + slide_px / 4, 13, 25))
    z_mm, outlines_mm = body.slices_mm(count)
    outlines_px = camera.project(outlines_mm, np.broadcast_to(z_mm[:, None], outlines_mm.shape[:2]))
    window = Window.around(outlines_px)
    if window.cut(camera.height_px, camera.width_px).is_empty:
        return
    slice_cm = body.width_mm / count / 10
    inside = fill_count(list(outlines_px), window, stacked=True) * np.float32(slice_cm)
    shell = np.zeros_like(inside)
    drawn = np.zeros(inside.shape, np.uint8)
    shell_px = shell_mm * camera.px_per_mm
    line_cm = slice_cm / 255
    corners = fixed_point(outlines_px - window.origin)
    is_s1, sacral = body.level == "S1", body.is_sacral
    upper_share = plate if is_s1 or not sacral else wall / 2
    lower_share = plate if not sacral else wall / 2
    back = np.arange(BACK_WALL.start, BACK_WALL.stop + 1) % corners.shape[1]
    lower_back = back[len(back) // 2 + 1 :]
    # Between two slices a wall slides; drawing it as wide as it slides keeps stacks smooth.
    slide = np.abs(np.gradient(outlines_px, axis=0))
    wall_slide = {
        "front": slide[:, FRONT_WALL, 0].mean(axis=1),
        "back": slide[:, back, 0].mean(axis=1),
        "upper": slide[:, UPPER_ENDPLATE, 1].mean(axis=1),
        "lower": slide[:, LOWER_ENDPLATE, 1].mean(axis=1),
    }
    for index in range(count):
        share = abs(z_mm[index]) / (body.width_mm / 2)
        # Real bodies have no cortex where the pedicle leaves: the upper back wall is interrupted.
        has_pedicle = not sacral and 0.22 < share < 0.85
        strokes = (
            ("upper", corners[index, UPPER_ENDPLATE], upper_share),
            ("lower", corners[index, LOWER_ENDPLATE], lower_share),
            ("front", corners[index, FRONT_WALL], wall),
            ("back", corners[index, lower_back if has_pedicle else back], wall),
        )
        drawn[:] = 0
        for name, stroke, strength in strokes:
            width_px = max(shell_px, float(wall_slide[name][index]))
            thickness = max(1, round(width_px))
            grey = 255 * strength * min(1.0, shell_px / thickness)
            cv2.polylines(
                drawn, [stroke], False, max(1, round(grey)), thickness, cv2.LINE_AA, _FIXED
            )
        shell += drawn
    shell *= line_cm
    layers.coverage[body.level] = (inside, window)
    paste_sum(layers.body, inside * np.float32(body.density), window)
    paste_sum(layers.shell, shell, window)


def _draw_arch(
    layers: BoneLayers, body: Vertebra, camera: Camera, size: float, rng: np.random.Generator
) -> None:
    """Adds pedicles, articular processes of both sides, and the spinous process."""
    lumbar = body.level.startswith("L")
    scale = (1.0 if lumbar else 0.8) * size
    upper_back, _, _, lower_back = body.corners_mm()
    base = (upper_back + lower_back) / 2
    axis, rise = forward(body.angle_rad), upward(body.angle_rad)
    px = camera.px_per_mm

    def place(
        points: Sequence[tuple[float, float]], z_mm: float, jitter: float = 1.2
    ) -> np.ndarray:
        local = np.array(points, dtype=float) * scale + rng.normal(0, jitter, (len(points), 2))
        world = base + local[:, :1] * axis + local[:, 1:] * rise + body.side_shift_mm(z_mm)
        return camera.project(world, z_mm)

    facet_edge = rng.uniform(0.1, 0.5)
    pedicle_cm = rng.uniform(0.4, 1.0)
    for side in (-1, 1):
        z_mm = side * rng.uniform(12, 15) * size
        pedicle = place(
            [(rng.uniform(0, 4), 10.5), (-10, 11), (-11, -1), (rng.uniform(0, 4), -2)], z_mm, 0.8
        )
        add_polygon(layers.posterior, pedicle, pedicle_cm)
        for wall in (pedicle[:2], pedicle[2:4]):
            add_line(layers.shell, wall, rng.uniform(0.15, 0.7), 0.7 * px)
        facet_z = side * rng.uniform(14, 19) * size
        upper_facet = [(-8, 8), (-11, 21), (-16, 20), (-19, 4), (-15, -3), (-10, 0)]
        lower_facet = [(-11, 2), (-19, 2), (-26, -12), (-25, -22), (-18, -24), (-15, -12)]
        for facet, fill_cm in ((upper_facet, 0.9), (lower_facet, 0.8)):
            outline = smooth_curve(place(facet, facet_z))
            add_polygon(layers.posterior, outline, fill_cm, edge=facet_edge, edge_px=1.1 * px)
        if rng.random() < 0.7:  # transverse process, seen end-on
            stump = smooth_curve(place([(-6, 6), (-14, 5), (-13, -1), (-7, -1)], side * 28 * size))
            add_polygon(layers.posterior, stump, rng.uniform(0.4, 2.0), edge=0.6, edge_px=0.9 * px)
    length = rng.uniform(18, 34) if lumbar else rng.uniform(14, 24)
    drop = 4.0 if lumbar else 22.0  # thoracic spinous processes point down
    process = [
        (-18, 3),
        (-24 - length, -6 - drop),
        (-26 - length, -20 - drop),
        (-20 - length / 2, -20 - drop * 0.7),
        (-20, -14),
    ]
    outline = smooth_curve(place(process, 0.0, 2.0))
    add_polygon(layers.posterior, outline, 0.5, edge=0.5, edge_px=0.9 * px)


def _draw_pelvis(
    layers: BoneLayers, spine: Spine, camera: Camera, rng: np.random.Generator
) -> None:
    """Adds sacral wings and crest, both iliac bones and femoral heads."""
    px, size = camera.px_per_mm, spine.size
    axis, rise = forward(spine.sacral_slope_rad), upward(spine.sacral_slope_rad)
    shift_x, shift_y = np.tan(spine.rotation_rad), np.tan(spine.tilt_rad)

    def on_sacrum(points: Sequence[tuple[float, float]], z_mm: float) -> np.ndarray:
        local = np.array(points, dtype=float) * size + rng.normal(0, 3, (len(points), 2))
        world = local[:, :1] * axis + local[:, 1:] * rise + z_mm * (shift_x * axis + shift_y * rise)
        return camera.project(world, z_mm)

    turn = spine.sacral_slope_rad - np.deg2rad(38)
    rotate = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])

    def in_pelvis(points: np.ndarray, z_mm: float, moved: np.ndarray) -> np.ndarray:
        turned = (points * size + moved) @ rotate.T
        world = np.stack([turned[:, 0], -turned[:, 1]], axis=1)
        return camera.project(world + z_mm * np.array([shift_x, -shift_y]), z_mm)

    crest_mm = rng.uniform(8, 48)  # how far the iliac crest stands above S1
    for side in (-1, 1):
        wing = [(-18, -2), (12, -6), (14, -22), (2, -45), (-16, -50), (-28, -22)]
        add_polygon(
            layers.pelvis, smooth_curve(on_sacrum(wing, side * 30)), 0.9, edge=0.5, edge_px=1.0 * px
        )
        crest = [(-20, 4), (-30, 2), (-48, -40), (-50, -80), (-38, -84), (-30, -40)]
        add_polygon(
            layers.pelvis, smooth_curve(on_sacrum(crest, side * 8)), 0.7, edge=0.7, edge_px=1.0 * px
        )
        moved = np.array([rng.normal(0, 4), rng.normal(0, 3)])
        ilium = np.array(
            [
                (-62, -38),
                (-50, -8),
                (-22, crest_mm * 0.75),
                (15, crest_mm),
                (50, crest_mm * 0.8),
                (78, crest_mm * 0.2),
                (86, -25),
                (70, -60),
                (66, -95),
                (40, -110),
                (15, -85),
                (0, -60),
                (-28, -66),
                (-52, -58),
            ],
            dtype=float,
        )
        ilium = ilium + rng.normal(0, 2.5, ilium.shape)
        outline = smooth_curve(in_pelvis(ilium, side * 60, moved), rounds=3)
        add_polygon(
            layers.pelvis,
            outline,
            rng.uniform(0.25, 0.9),
            edge=rng.uniform(0.5, 1.8),
            edge_px=rng.uniform(0.8, 2.0) * px,
        )
        if rng.random() < 0.8:  # greater sciatic notch and arcuate line, thick cortex
            notch = np.array([(-6, -30), (5, -55), (30, -85), (55, -105)], dtype=float)
            notch = notch + rng.normal(0, 3, notch.shape)
            line = smooth_curve(in_pelvis(notch, side * 55, moved), rounds=3, closed=False)
            add_line(layers.pelvis, line, rng.uniform(0.4, 1.6), rng.uniform(1, 3) * px)
        around = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        head = np.array([55.0, -125.0]) + rng.normal(0, 4, 2)
        head = head + np.stack([np.cos(around), np.sin(around)], axis=1) * rng.uniform(22, 26)
        add_polygon(
            layers.pelvis, in_pelvis(head, side * 90, moved), 1.8, edge=0.8, edge_px=1.0 * px
        )


def _draw_ribs(layers: BoneLayers, spine: Spine, camera: Camera, rng: np.random.Generator) -> None:
    """Adds both ribs of every thoracic vertebra as tubes."""
    for body in spine.vertebrae:
        if not body.level.startswith("T"):
            continue
        root = body.corners_mm()[0] - forward(body.upper_angle_rad) * 4
        for side in (-1, 1):
            number = int(body.level[1:])
            shown = {12: rng.uniform(0.15, 0.6), 11: rng.uniform(0.4, 0.9)}.get(number, 1.0)
            course = np.array(
                [(0, 0), (-22, -6), (-38, -25), (-36, -60), (-10, -100), (35, -130), (85, -140)],
                dtype=float,
            )
            course[:, 1] *= rng.uniform(0.7, 1.25)
            course = course * spine.size + rng.normal(0, 3, course.shape)
            bend = smooth_curve(course, rounds=3, closed=False)
            bend = bend[: max(6, int(len(bend) * shown))]
            reach = np.linspace(0.1, 1, len(bend))
            z_mm = side * (15 + 100 * np.sin(reach * np.pi * 0.55))
            world = root + np.stack([bend[:, 0], -bend[:, 1]], axis=1)
            world = world + body.side_shift_mm(z_mm)
            course_px = camera.project(world, z_mm)
            width_px = rng.uniform(7, 10) * spine.size * camera.px_per_mm
            wall = rng.uniform(0.4, 0.8)
            taper = np.clip((1.02 - np.linspace(0, 1, len(course_px))) * 14, 0.3, 1)
            half_px = width_px / 2 * taper
            inner_px = np.maximum(half_px - 1.2 * camera.px_per_mm, 0.3)
            add_polygon(layers.ribs, ribbon(course_px, half_px), 1.0)
            add_polygon(layers.ribs, ribbon(course_px, inner_px), -wall)


def draw_skeleton(spine: Spine, camera: Camera, rng: np.random.Generator) -> BoneLayers:
    """Projects all bones.

    Args:
        spine: The patient.
        camera: The film's geometry.
        rng: Random stream for shapes that carry no truth.

    Returns:
        Path length layers and the coverage of each body.
    """
    shape = (camera.height_px, camera.width_px)
    layers = BoneLayers(
        body=np.zeros(shape, np.float32),
        shell=np.zeros(shape, np.float32),
        posterior=np.zeros(shape, np.float32),
        pelvis=np.zeros(shape, np.float32),
        ribs=np.zeros(shape, np.float32),
        coverage={},
    )
    wall, plate = rng.uniform(0.3, 1.0), rng.uniform(0.6, 1.0)
    for body in [*spine.sacrum, *spine.vertebrae]:
        _draw_body(layers, body, camera, spine.shell_mm, wall, plate)
    for body in spine.vertebrae:
        _draw_arch(layers, body, camera, spine.size, rng)
    # Arches are rounded bone, not plates: their borders are soft.
    soft_px = rng.uniform(0.2, 0.9) * camera.px_per_mm
    layers.posterior = cv2.GaussianBlur(layers.posterior, (0, 0), max(0.3, soft_px))
    _draw_pelvis(layers, spine, camera, rng)
    _draw_ribs(layers, spine, camera, rng)
    return layers
