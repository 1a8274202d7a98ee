"""Soft tissue, lung, bowel gas, folds and calcification, on a coarse grid.

Soft tissue is smooth, so it is drawn at about 320 rows and enlarged: that is what makes films fast.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from spinezoo_spine.phantom.projection import (
    Camera,
    add_line,
    add_polygon,
    smooth_curve,
    smooth_noise,
)
from spinezoo_spine.phantom.version2.anatomy import Spine, forward

_COARSE_ROWS = 320


@dataclass(slots=True)
class BodyLayers:
    """Attenuation of everything but bone and metal, as line integrals (no unit).

    Attributes:
        attenuation: (H, W) float32 sum at film resolution.
        coarse_thickness_cm: (h, w) soft tissue thickness on the coarse grid.
        texture: (H, W) float32 trabecular noise, mean 0, deviation about 1.
    """

    attenuation: np.ndarray
    coarse_thickness_cm: np.ndarray
    texture: np.ndarray


def _blur_profile(values: np.ndarray, sigma: float) -> np.ndarray:
    column = values.astype(np.float32)[:, None]
    return cv2.GaussianBlur(column, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)[:, 0]


def draw_body(spine: Spine, camera: Camera, clutter: float, rng: np.random.Generator) -> BodyLayers:
    """Draws the trunk around the spine.

    Args:
        spine: The patient.
        camera: The film's geometry.
        clutter: 0 to 1, factor on how often gas, folds and the like occur.
        rng: The body's own random stream.

    Returns:
        The layers.
    """
    height_px, width_px = camera.height_px, camera.width_px
    factor = max(1.0, height_px / _COARSE_ROWS)
    rows, columns = round(height_px / factor), max(8, round(width_px / factor))
    shape = (rows, columns)
    scale = camera.px_per_mm * rows / height_px  # coarse px per mm

    def coarse(points_mm: np.ndarray) -> np.ndarray:
        return camera.project(points_mm) * (rows / height_px)

    def chance(share: float) -> bool:
        return bool(rng.random() < share * clutter)

    y = (np.arange(rows, dtype=np.float32) + 0.5)[:, None]
    x = (np.arange(columns, dtype=np.float32) + 0.5)[None, :]
    chain_mm = np.array(
        [body.lower_mid_mm for body in spine.vertebrae[::-1]]
        + [np.zeros(2), spine.sacrum[1].lower_mid_mm, spine.sacrum[3].lower_mid_mm]
    )
    chain = coarse(chain_mm)
    order = np.argsort(chain[:, 1], kind="stable")
    spine_x = _blur_profile(np.interp(y[:, 0], chain[order, 1], chain[order, 0]), 25)
    below_s1_mm = (y[:, 0] - coarse(np.zeros(2))[1]) / scale

    # Skin outlines, from slim to obese.
    buttock = rng.uniform(10, 55) * np.exp(-(((below_s1_mm - 60) / 70.0) ** 2))
    back_wave = 6 * np.sin(below_s1_mm / rng.uniform(40, 90) + rng.uniform(0, 6))
    back = spine_x - scale * (rng.uniform(50, 80) + buttock + rng.normal(0, 3) + back_wave)
    hang = rng.uniform(0, 90) / (1 + np.exp(-(below_s1_mm + rng.uniform(-20, 40)) / 30.0))
    belly_wave = rng.uniform(-5, 25) * np.sin(
        below_s1_mm / rng.uniform(60, 120) + rng.uniform(0, 6)
    )
    belly_mm = hang + rng.uniform(75, 175) + belly_wave + rng.uniform(-0.25, 0.25) * below_s1_mm
    belly = spine_x + scale * np.maximum(belly_mm, 45)
    back, belly = _blur_profile(back, 8), _blur_profile(belly, 8)
    middle, half = (back + belly) / 2, (belly - back) / 2
    across = (x - middle[:, None]) / half[:, None]  # -1 at the back's skin, 1 at the belly's
    inside = (np.abs(across) < 0.93).astype(np.float32)
    hips = 1 + rng.uniform(0, 0.4) / (1 + np.exp(-below_s1_mm / 25.0))
    lateral_cm = rng.uniform(22, 40) * hips
    power = rng.uniform(2.0, 7.0)
    section = np.sqrt(np.clip(1 - np.abs(across) ** power, 0, 1))
    thickness = (lateral_cm[:, None] * section).astype(np.float32)
    water = 0.20  # effective attenuation of soft tissue per cm, about 60 keV (NIST XCOM)
    total = thickness * np.float32(water)

    # Both lungs above the diaphragm's domes.
    tops = [body for body in spine.vertebrae if body.level in ("T10", "T11", "T12", "L1")]
    dome = coarse(tops[int(rng.integers(0, len(tops)))].upper_mid_mm)
    lung_cm = rng.uniform(2, 13)
    lung_noise = smooth_noise(rng, shape, 4, 2)
    for _side in (-1, 1):
        top_y = dome[1] + rng.normal(0, 8) * scale
        top_x = dome[0] + scale * rng.uniform(10, 60)
        wide_back, wide_front = scale * rng.uniform(45, 90), scale * rng.uniform(50, 120)
        drop_back, drop_front = scale * rng.uniform(30, 80), scale * rng.uniform(5, 60)
        fall = np.where(
            x < top_x,
            drop_back * ((x - top_x) / wide_back) ** 2,
            drop_front * ((x - top_x) / wide_front) ** 2,
        )
        deepest = scale * rng.uniform(60, 120)  # the recesses end, they do not reach the pelvis
        fall = deepest * np.tanh(fall / deepest)
        blur = rng.uniform(0.5, 1.4)
        air = 1 / (1 + np.exp(np.clip((y - top_y - fall) / blur, -30, 30)))
        air = air * (np.abs(across) < rng.uniform(0.72, 0.9)) * (thickness > 3)
        air = cv2.GaussianBlur(air.astype(np.float32), (0, 0), 0.8)
        total -= air * np.float32(water * lung_cm * 0.5)
        total += air * lung_noise * np.float32(rng.uniform(0, 0.10))

    # Fatty streaks and muscle planes.
    total += (
        smooth_noise(rng, shape, rng.uniform(18, 60), 4)
        * np.float32(rng.uniform(0, 0.09))
        * (thickness > 2)
    )

    # Folds, breast, arm, overlying organs: shapes with soft borders.
    extra = np.zeros(shape, np.float32)

    def ellipse(centre: tuple[float, float], radii: tuple[float, float], cm: float) -> None:
        drawn = np.zeros(shape, np.uint8)
        box = (
            (float(centre[0]), float(centre[1])),
            (2 * radii[0], 2 * radii[1]),
            float(rng.uniform(0, 180)),
        )
        cv2.ellipse(drawn, box, 255, -1, cv2.LINE_AA)
        np.add(extra, drawn * np.float32(cm / 255), out=extra)

    if chance(0.45):  # breast
        for _ in range(int(rng.integers(1, 3))):
            ellipse(
                (
                    belly[min(10, rows - 1)] + scale * rng.uniform(-60, 25),
                    rng.uniform(-0.05, 0.22) * rows,
                ),
                (scale * rng.uniform(20, 55), scale * rng.uniform(30, 80)),
                rng.uniform(1, 5),
            )
    if chance(0.30):  # a raised arm in front
        shoulder = [belly[0] + scale * rng.uniform(-40, 40), -10.0]
        elbow = [
            belly[min(60, rows - 1)] + scale * rng.uniform(-20, 60),
            rows * rng.uniform(0.12, 0.4),
        ]
        arm = np.array([shoulder, elbow])
        add_line(extra, arm, rng.uniform(3, 7), scale * rng.uniform(40, 75))
        add_line(extra, arm, rng.uniform(1, 3), scale * rng.uniform(12, 20))
    for _ in range(int(rng.integers(0, 4) * clutter + 0.5)):
        row = int(np.clip(rng.uniform(0.1, 0.9) * rows, 0, rows - 1))
        ellipse(
            (spine_x[row] + scale * rng.uniform(-20, 80), rng.uniform(0.1, 0.9) * rows),
            (scale * rng.uniform(15, 45), scale * rng.uniform(30, 80)),
            rng.uniform(-1.2, 1.5),
        )
    extra = cv2.GaussianBlur(extra, (0, 0), rng.uniform(0.7, 3.0)).astype(np.float32)
    for _ in range(int(rng.integers(0, 4) * clutter + 0.5)):  # skin folds
        fold = rng.uniform(0.05, 0.95) * rows + rng.uniform(-0.25, 0.25) * (x - columns / 2)
        fold = fold + rng.uniform(-6, 6) * np.sin(x / rng.uniform(20, 60))
        crease = np.exp(-(((y - fold) / rng.uniform(1.0, 6.0)) ** 2))
        extra += (rng.uniform(-2.0, 1.6) * crease * inside).astype(np.float32)
    total += extra * np.float32(water * 0.6)

    # Bowel: gas bubbles, haustra, faeces.
    gas = np.zeros(shape, np.float32)
    gut_wall = np.zeros(shape, np.float32)
    for _ in range(int(rng.integers(0, 6) * clutter + 0.5)):
        row = int(np.clip(rng.uniform(0.1, 1.0) * rows, 0, rows - 1))
        centre = np.array([spine_x[row] + scale * rng.uniform(-20, 125), float(row)])
        strength = rng.uniform(0.3, 1.6)
        for _bubble in range(int(rng.integers(1, 14))):
            radius = rng.uniform(2, 13)
            around = np.linspace(0, 2 * np.pi, 9, endpoint=False)
            ring = np.stack([np.cos(around) * rng.uniform(0.7, 1.4), np.sin(around)], axis=1)
            ring = ring * radius * scale * (1 + rng.normal(0, 0.15, (9, 1)))
            ring = ring + centre + rng.normal(0, 1, 2) * scale * np.array([15, 20])
            bubble = smooth_curve(ring)
            add_polygon(gas, bubble, strength * radius / 10)
            if rng.random() < 0.4:
                add_polygon(gut_wall, bubble, 0.0, edge=1.0)
    gas = cv2.GaussianBlur(gas, (0, 0), rng.uniform(0.6, 1.6)).astype(np.float32)
    total -= np.minimum(gas, 3) * np.float32(water * rng.uniform(0.6, 2.8))
    total += cv2.GaussianBlur(gut_wall, (0, 0), 0.7) * np.float32(rng.uniform(0, 0.12))
    if chance(0.7):
        patches = np.clip(smooth_noise(rng, shape, 70, 2) - rng.uniform(0, 1), 0, 1)
        grains = np.maximum(smooth_noise(rng, shape, rng.uniform(8, 18) * scale, 4), -0.5)
        total -= grains * patches * ((across > -0.15) * inside) * np.float32(rng.uniform(0, 0.26))
    if chance(0.5):  # haustrated colon in front of the spine: rounded cells
        size = rng.uniform(5, 16) * scale
        seeds = np.full(shape, 255, np.uint8)
        count = int(rows * columns / size**2)
        seeds[rng.integers(0, rows, count), rng.integers(0, columns, count)] = 0
        cells = np.clip(cv2.distanceTransform(seeds, cv2.DIST_L2, 5) / size, 0, 1) - 0.55
        row = int(np.clip(rng.uniform(0.15, 1) * rows, 0, rows - 1))
        place_x = spine_x[row] + scale * rng.uniform(10, 115)
        far = ((x - place_x) / (scale * rng.uniform(15, 60))) ** 2
        far = far + ((y - row) / (scale * rng.uniform(15, 80))) ** 2
        sign = 1.0 if rng.random() < 0.7 else -1.0
        total += (cells * np.exp(-(far**2)) * sign * rng.uniform(0.05, 0.6) * inside).astype(
            np.float32
        )

    total = np.maximum(total, 0)
    full = cv2.resize(total, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    if factor > 1.5:  # soften the creases of linear enlargement
        full = cv2.GaussianBlur(full, (0, 0), 0.4 * factor)

    if chance(0.35):  # calcified aorta in front of the bodies
        upper = int(rng.integers(3, min(9, len(spine.vertebrae))))
        gap_mm = rng.uniform(6, 22)
        line_mm = np.array(
            [
                body.lower_mid_mm + forward(body.lower_angle_rad) * (body.depth_mm / 2 + gap_mm)
                for body in spine.vertebrae[:upper]
            ]
        )
        course = smooth_curve(camera.project(line_mm, 5.0), rounds=3, closed=False)
        for index in range(len(course) - 1):
            if rng.random() < 0.45:
                plaque = course[index : index + 2] + rng.normal(0, 0.8, 2) * camera.px_per_mm
                add_line(
                    full, plaque, rng.uniform(0.05, 0.35), rng.uniform(0.6, 1.8) * camera.px_per_mm
                )
    grain_px = 0.9 * camera.px_per_mm
    half_shape = (max(8, height_px // 2), max(8, width_px // 2))
    texture = smooth_noise(rng, half_shape, max(1.5, grain_px), 2)
    texture = cv2.resize(texture, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    return BodyLayers(full, thickness, texture)
