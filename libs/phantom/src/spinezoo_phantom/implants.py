"""Hardware: pedicle screws, rods, cages, plates, disc prostheses, spacers; and bone cement.

Every implant is a list of pieces (outline on the film and path through metal, as cm of titanium).
Its truth is the union of its pieces. Dimensions are those of common systems as their makers state
them: screws 5 to 7.5 mm by 35 to 55 mm, rods 5.5 to 6.35 mm, cages 22 to 32 mm by 8 to 15 mm,
markers of tantalum 1 mm thick.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from spinezoo_phantom.anatomy import Spine
from spinezoo_phantom.cages import CAGES, cage
from spinezoo_phantom.constructs import front_plate, pedicle_construct, side_construct
from spinezoo_phantom.implant_shapes import Hardware, Implant, box_outline, circle_outline
from spinezoo_phantom.projection import Camera, Window, fixed_point, smooth_curve
from spinezoo_phantom.solids import paste, project


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
        "rod", "", "spacer", [(box_outline(centre, axis, half_length, half_height), 0.9)]
    )
    for sign in (-1, 1):  # wings that hold the spinous processes
        wing = box_outline(
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
            around = circle_outline(np.zeros(2), 1.0, 11)
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
    first = int(rng.choice([0, 1, 2, 3, 4], p=[0.30, 0.28, 0.20, 0.13, 0.09]))
    span = int(rng.choice([2, 3, 4, 5, 7, 9], p=[0.36, 0.26, 0.15, 0.10, 0.08, 0.05]))
    if draw < 0.70:
        levels = chain[first : first + span]
        hardware.implants += pedicle_construct(spine, camera, levels, rng)
        hardware.kinds.append("pedicle_screws")
        if rng.random() < 0.5:
            hardware.removed = {body.level for body in levels if not body.is_sacral}
    elif draw < 0.82:
        first = max(first, 1)
        levels = chain[first : first + min(span, 4)]
        hardware.implants += side_construct(camera, levels, rng)
        hardware.kinds.append("side_construct")
    elif draw < 0.88:
        hardware.implants += front_plate(camera, chain[first + 1], chain[first], rng)
        hardware.kinds.append("front_plate")
        span = 2
    cage_share = 0.6 if hardware.kinds else 1.0
    spacer_only = not hardware.kinds and rng.random() < 0.2
    if not spacer_only and rng.random() < cage_share:
        count = int(rng.choice([1, 2, 3], p=[0.6, 0.28, 0.12]))
        design = str(rng.choice(list(CAGES), p=list(CAGES.values())))
        if design == "prosthesis" and hardware.kinds:
            design = "markers"
        for disc in spine.discs[first : first + max(1, span - 1)][:count]:
            hardware.implants.append(cage(disc, camera, design, rng))
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
        (H, W) float32 cm of titanium and (H, W) float32 cm of cement; below 0 where bone is gone
        around a loose implant.
    """
    metal: Any = np.zeros(shape, np.float32)
    cement: Any = np.zeros(shape, np.float32)
    for implant in hardware.implants:
        for polygon, path_cm in implant.pieces:
            _add(metal, polygon, path_cm, fine)
    for polygon, path_cm in hardware.cement:
        _add(cement, polygon, path_cm, fine)
    halos = [each for implant in hardware.implants for each in implant.halo]
    for polygon, gone_cm in halos:  # about 0.15 per cm of bone, cement's layer has 0.4 to 1.3
        _add(cement, polygon, -0.2 * gone_cm, fine)
    if hardware.cement or halos:
        cement = cv2.GaussianBlur(cement, (0, 0), max(0.6, 0.004 * shape[0]))
    return np.maximum(metal, 0), cement
