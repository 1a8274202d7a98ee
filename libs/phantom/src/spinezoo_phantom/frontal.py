"""Soft tissue of a frontal film: flanks, psoas, lungs, gas.

Simpler than the lateral trunk: frontal films are made so that a wrong view can be told from a
right one.
"""

from __future__ import annotations

import cv2
import numpy as np

from spinezoo_phantom.anatomy import Spine
from spinezoo_phantom.projection import Camera, smooth_noise
from spinezoo_phantom.solids import project
from spinezoo_phantom.trunk import FAT_PER_CM, LEAN_PER_CM, TrunkLayers, add_ellipsoid


def draw_frontal_trunk(
    spine: Spine, camera: Camera, clutter: float, rng: np.random.Generator
) -> TrunkLayers:
    """Draws the trunk around the spine, seen from the front.

    Args:
        spine: The patient.
        camera: The film's geometry.
        clutter: 0 to 1, factor on how often gas and the like occur.
        rng: The trunk's own random stream.

    Returns:
        The layers.
    """
    height, width, px = camera.height_px, camera.width_px, camera.px_per_mm
    fatness = float(rng.beta(1.3, 2.0))
    origin = project(camera, np.zeros(3))
    y = (np.arange(height, dtype=np.float32) + 0.5)[:, None]
    x = (np.arange(width, dtype=np.float32) + 0.5)[None]
    t = (y - np.float32(origin[1])) / np.float32(px)  # mm below S1
    waist = rng.uniform(10, 35) * np.exp(-np.square((t + 90) / 70))
    half_mm = rng.uniform(140, 175) + 70 * fatness - waist + 12 / (1 + np.exp(-(t + 20) / 15))
    middle = origin[0] + rng.normal(0, 6) * px
    across = np.abs(x - np.float32(middle)) / (half_mm * np.float32(px))
    power = rng.uniform(2.0, 3.5)
    section = np.power(np.maximum(1 - np.power(across, power), 0), 1 / power)
    thick_cm = (rng.uniform(17, 23) + 14 * fatness) * section
    per_cm = LEAN_PER_CM - (LEAN_PER_CM - FAT_PER_CM) * rng.uniform(0.1, 0.5)
    soft = (thick_cm * np.float32(per_cm)).astype(np.float32)
    cloud = smooth_noise(rng, (height, width), rng.uniform(18, 60) * px, 3)
    soft += cloud * np.float32(rng.uniform(0, 0.06)) * (thick_cm > 3)
    kinds = []
    levels = spine.by_level()
    for side in (-1, 1):  # psoas: from L1 down and outward
        for name, aside in (("L2", 30), ("L3", 38), ("L4", 47), ("L5", 58)):
            if name in levels:
                spot = project(camera, levels[name].point(0, 0, side * aside * 0.8))
                radii = (px * aside * 0.45, px * 45)
                add_ellipsoid(soft, spot, radii, side * 0.18, 0.06 * rng.uniform(0.3, 1.0))
    dome = project(camera, levels["T11"].centre_mm)
    if dome[1] > -40 * px:
        last = int(np.clip(dome[1] + 60 * px, 1, height))
        part = x - np.float32(dome[0])
        for side in (-1, 1):
            centre, reach = side * rng.uniform(70, 85) * px, rng.uniform(50, 65) * px
            top = dome[1] + rng.normal(0, 10) * px
            inside = np.clip(1 - np.square((part - centre) / reach), 0, None)
            fall = np.float32(top) + (1 - np.sqrt(inside)) * np.float32(70 * px)
            air = np.clip((fall - y[:last]) / np.float32(2 * px), 0, 1)
            air *= np.minimum(inside * np.float32(rng.uniform(2, 6)), 1)  # thinner at its borders
            soft[:last] -= air * np.float32(LEAN_PER_CM * rng.uniform(3, 6.5)) * section[:last]
        kinds.append("lung")
    gas = np.zeros_like(soft)
    for _ in range(int(rng.integers(0, 10) * clutter + 0.5)):
        start = np.array([middle + px * rng.uniform(-115, 115), rng.uniform(0.1, 1.0) * height])
        mean_mm = rng.uniform(5, 14)
        course = rng.normal(0, 1, 2)
        for step in range(int(rng.integers(1, 10))):
            radius = float(np.clip(mean_mm * np.exp(rng.normal(0, 0.4)), 2, 26))
            spot = start + course * px * mean_mm * 1.2 * step
            radii = (radius * rng.uniform(0.8, 1.5) * px, radius * px)
            lobes = (rng.uniform(0, 0.12), float(rng.integers(2, 5)), rng.uniform(0, 6))
            turn = rng.uniform(0, np.pi)
            value = radius * rng.uniform(0.05, 0.2)
            add_ellipsoid(gas, spot, radii, turn, value, lobes=lobes, greatest=True)
            course += rng.normal(0, 0.35, 2)
    if gas.any():
        soft -= np.minimum(gas, 7) * np.float32(LEAN_PER_CM * rng.uniform(0.5, 1.1))
        kinds.append("gas")
    soft = cv2.GaussianBlur(np.maximum(soft, 0), (0, 0), max(0.3, 0.25 * px))
    rows = min(512, height)
    coarse = cv2.resize(thick_cm.astype(np.float32), (max(8, round(width * rows / height)), rows))
    return TrunkLayers(soft, np.zeros_like(soft), coarse, fatness, kinds)
