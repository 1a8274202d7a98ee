"""Path lengths of solids along the rays of a point source.

Three kinds of solids make the skeleton:

- *bodies*: a superellipse section between two curved endplates, sampled along every ray. A surface
  is a linear ramp as wide as the ray's footprint, so sums over samples are exact path lengths for
  surfaces square to the ray and box-filtered ones for surfaces along it: no staircase, no
  supersampling.
- *pillows*: flat bones with rounded edges, given by their outline and thickness; the path length
  follows from the distance to the outline.
- *tubes*: round bars along a curve; the path length is the chord, longer where the bar runs along
  the ray.

All come as outer and inner solids: the shell between is cortical, the rest cancellous bone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from spinezoo_phantom.projection import Camera, Window, fixed_point
from spinezoo_phantom.vertebra import BOWL_MARGIN_MM, Vertebra

_GREATEST_OBLIQUITY = 4.0  # a bar seen end-on is not endless


def project(camera: Camera, points_mm: np.ndarray) -> np.ndarray:
    """(..., 2) film positions of (..., 3) world points."""
    points_mm = camera.posed(points_mm)
    return camera.project(points_mm[..., :2], points_mm[..., 2])


def paste(layer: np.ndarray, patch: np.ndarray, window: Window) -> None:
    """Adds a patch where its window lies on the film.

    Args:
        layer: (height, width) the film's layer; changed in place.
        patch: (h, w) of the window's size.
        window: Where; what lies beyond the film is left out.
    """
    seen = window.cut(*layer.shape)
    if seen.width < 1 or seen.height < 1:
        return
    row, column = seen.top - window.top, seen.left - window.left
    view = layer[seen.top : seen.top + seen.height, seen.left : seen.left + seen.width]
    view += patch[row : row + seen.height, column : column + seen.width]


@dataclass(slots=True)
class BodyPaths:
    """Path lengths through one vertebral body, cm.

    Attributes:
        window: Where the patches lie; may reach over the film's border.
        inside_cm: (h, w) float32 everything within the outer surface.
        shell_cm: (h, w) float32 cortical shell and endplates.
        sclerosis_cm: (h, w) float32 cancellous path weighted by extra density, or None.
    """

    window: Window
    inside_cm: np.ndarray
    shell_cm: np.ndarray
    sclerosis_cm: np.ndarray | None


def body_paths(body: Vertebra, camera: Camera) -> BodyPaths | None:
    """Integrates one vertebral body along the rays.

    Returns:
        The paths, or None where the body lies off the film.
    """
    if camera.is_frontal:
        body = replace(
            body, centre_mm=camera.posed(body.centre_mm), frame=camera.posed(body.frame.T).T
        )
    half_width = body.width_mm / 2
    half_depth = max(body.lower_depth_mm, body.upper_depth_mm) / 2 + float(body.spurs_mm.max())
    half_height = body.height_mm / 2 + 0.5 * half_depth * abs(body.upper_slope) + 2
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    box = body.points(signs * np.array([half_depth, half_height, half_width]))
    window = Window.around(camera.project(box[:, :2], box[:, 2]), 3)
    seen = window.cut(camera.height_px, camera.width_px)
    if seen.is_empty:
        return None
    # Rays: x(z) = ray + q (1 - z/D); in the body's frame linear in z.
    to_source_mm = camera.source_to_detector_mm - camera.spine_to_detector_mm
    pixel_mm = camera.spacing_mm * to_source_mm / camera.source_to_detector_mm
    q_x = (window.left + np.arange(window.width) + 0.5 - camera.ray_px[0]) * pixel_mm
    q_y = (window.top + np.arange(window.height) + 0.5 - camera.ray_px[1]) * pixel_mm
    reach = float(np.abs(box[:, 2] - body.centre_mm[2]).max())
    # Surfaces are ramps as wide as a sample: the fewer, the softer. Coarse pixels are soft anyway.
    samples = 11 if pixel_mm < 0.6 else 9
    step_mm = 2 * reach / samples
    shape = (window.height, window.width)
    inside_sum, core_sum = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    extra_sum = np.zeros(shape, np.float32) if any(body.sclerosis) else None
    # One sample's arrays fit into the processor's cache, all samples' together do not.
    for number in range(samples):
        offset = (number + 0.5) * step_mm - reach
        nearer = 1 - (body.centre_mm[2] + offset) / to_source_mm
        x = camera.ray_mm[0] + q_x * nearer - body.centre_mm[0]
        y = camera.ray_mm[1] + q_y * nearer - body.centre_mm[1]
        local = [
            (x * body.frame[0, axis] + offset * body.frame[2, axis]).astype(np.float32)[None]
            + (y * body.frame[1, axis]).astype(np.float32)[:, None]
            for axis in range(3)
        ]
        _add_sample(body, local, pixel_mm, step_mm, inside_sum, core_sum, extra_sum)
    obliquity = np.sqrt(1 + (q_x[None, :] ** 2 + q_y[:, None] ** 2) / to_source_mm**2)
    unit_cm = obliquity.astype(np.float32) * np.float32(step_mm / 10)
    shell_cm = np.maximum(inside_sum - core_sum, 0) * unit_cm
    extra_cm = None if extra_sum is None else extra_sum * unit_cm
    return BodyPaths(window, inside_sum * unit_cm, shell_cm, extra_cm)


@dataclass(slots=True)
class _Walls:
    """The side walls of a body where one sample on every ray lies; (h, w) float32 each.

    Attributes:
        inside_mm: How far the sample lies within the wall.
        per_mm: 1 by the width of the wall's ramp.
        front: Whether the sample lies in the front half, bool.
        share: Its height, -1 at the lower rim to 1 at the upper.
        beside: How far it lies to the side, as a share of the half width there.
        half_depth_mm: Of the body at its height, waist, rim and spurs aside.
    """

    inside_mm: np.ndarray
    per_mm: np.ndarray
    front: np.ndarray
    share: np.ndarray
    beside: np.ndarray
    half_depth_mm: np.ndarray


def _walls(body: Vertebra, local: list[np.ndarray], pixel_mm: float, step_mm: float) -> _Walls:
    """Side walls: a superellipse whose halves taper, have a waist, a rounded rim and spurs.

    Args:
        body: The body.
        local: Places of the samples in its frame: along, up, side; (h, w) float32 each, mm.
        pixel_mm: Footprint of a ray.
        step_mm: Distance of samples along the ray.
    """
    along, up, side = local
    number = np.float32
    front = along > 0
    ahead_mm = np.abs(along)
    share = up * number(2 / body.height_mm)
    flat = np.minimum(share * share, 1)
    lip = flat * flat
    lip *= lip  # eighth power: only near the rim
    spurs = body.spurs_mm.astype(np.float32)
    spur = np.where(
        share > 0, np.where(front, spurs[2], spurs[3]), np.where(front, spurs[1], spurs[0])
    )
    pinch = np.where(front, number(body.waist), number(body.waist * 0.45))
    taper = share * number((body.upper_depth_mm - body.lower_depth_mm) / 4)
    taper += number((body.upper_depth_mm + body.lower_depth_mm) / 4)
    depth = taper * (1 - pinch * (1 - flat) - number(body.rounding) * lip) + spur * lip
    width = number(body.width_mm / 2) * (1 - number(body.waist * 0.7) * (1 - flat))
    beside = np.abs(side) / width
    if body.notch_mm:  # a vertebral body is a kidney: its back wall is hollow in the middle
        notch = number(body.notch_mm) * np.maximum(1 - 3 * (beside * beside), 0)
        ahead_mm += np.where(front, number(0), notch)
    ahead = np.maximum(ahead_mm / depth, number(1e-3))
    aside = np.maximum(beside, number(1e-3))
    power = np.where(front, number(body.exponent), number(body.exponent + 1.2))
    power_ahead = cv2.exp(power * cv2.log(ahead))
    power_side = cv2.exp(power * cv2.log(aside))
    steep_ahead = power_ahead / (ahead * depth)
    steep_side = power_side / (aside * width)
    steep = cv2.sqrt(steep_ahead * steep_ahead + steep_side * steep_side) + number(1e-6)
    inside_mm = (1 - power_ahead - power_side) / (power * steep)
    # How far the wall's distance changes from one sample to the next, and within one pixel.
    slide_ahead = number(abs(body.frame[2, 0]) * step_mm + pixel_mm)
    slide_side = number(abs(body.frame[2, 2]) * step_mm)
    ramp_mm = (slide_ahead * steep_ahead + slide_side * steep_side) / steep
    per_mm = 1 / np.maximum(ramp_mm, number(0.3 * pixel_mm))
    return _Walls(inside_mm, per_mm, front, share, beside, taper)


def _below_and_above(
    body: Vertebra, along: np.ndarray, up: np.ndarray, walls: _Walls
) -> tuple[np.ndarray, np.ndarray]:
    """How far samples lie above the lower and below the upper endplate, (h, w) float32 each, mm."""
    number = np.float32
    beside_square = walls.beside * walls.beside
    bowl_along = along / (walls.half_depth_mm + number(BOWL_MARGIN_MM))
    shifted = bowl_along - number(body.hollow_place) * (1 - bowl_along * bowl_along)
    ring = np.maximum(1 - (shifted * shifted + beside_square) * number(1 / 0.93**2), 0)
    bowl = cv2.sqrt(ring) * (number(0.35) + number(0.65) * ring)
    lower_depth, upper_depth = body.concavity_mm
    to_upper = along * number(body.upper_slope) - up - bowl * number(upper_depth)
    to_upper += number(body.height_mm / 2)
    to_lower = up - along * number(body.lower_slope) - bowl * number(lower_depth)
    to_lower += number(body.height_mm / 2)
    if body.node_mm[0] or body.node_mm[1]:  # Schmorl nodes
        spot = np.square(bowl_along - number(body.node_mm[2])) + beside_square
        spot = cv2.exp(spot * number(-1 / 0.09))
        to_lower -= spot * number(body.node_mm[0])
        to_upper -= spot * number(body.node_mm[1])
    return to_lower, to_upper


def _add_sample(
    body: Vertebra,
    local: list[np.ndarray],
    pixel_mm: float,
    step_mm: float,
    inside_sum: np.ndarray,
    core_sum: np.ndarray,
    extra_sum: np.ndarray | None,
) -> None:
    """Adds what one sample on every ray finds of a body.

    Args:
        body: The body.
        local: Places of the samples in its frame: along, up, side; (h, w) float32 each, mm.
        pixel_mm: Footprint of a ray.
        step_mm: Distance of samples along the ray.
        inside_sum: (h, w), what lies within the outer surface, changed in place.
        core_sum: (h, w), what lies within the cortex, changed in place.
        extra_sum: (h, w), core weighted by sclerosis, changed in place; None without.
    """
    along, up, _ = local
    number = np.float32
    walls = _walls(body, local, pixel_mm, step_mm)
    to_lower, to_upper = _below_and_above(body, along, up, walls)
    bent = 0.5 * max(body.concavity_mm) / max(body.width_mm / 2, 1)
    per_plate = number(1 / (pixel_mm + step_mm * (abs(body.frame[2, 1]) + bent)))
    half = number(0.5)
    inside = np.clip(walls.inside_mm * walls.per_mm + half, 0, 1)
    inside *= np.clip(to_upper * per_plate + half, 0, 1)
    inside *= np.clip(to_lower * per_plate + half, 0, 1)
    inside_sum += inside
    if body.is_sacral:
        wall_mm: np.ndarray | np.float32 = number(body.wall_mm)
    else:  # no cortex where the pedicle leaves: the upper back wall is interrupted there
        pedicle = (
            (~walls.front) & (walls.share > -0.3) & (walls.beside > 0.3) & (walls.beside < 0.9)
        )
        wall_mm = np.where(pedicle, number(0), number(body.wall_mm))
    plate_mm = number(body.plate_mm)
    core = np.clip((walls.inside_mm - wall_mm) * walls.per_mm + half, 0, 1)
    core *= np.clip((to_upper - plate_mm) * per_plate + half, 0, 1)
    lower_mm = plate_mm * number(body.lower_plate_share)
    core *= np.clip((to_lower - lower_mm) * per_plate + half, 0, 1)
    core_sum += core
    if extra_sum is not None:
        lower_extra, upper_extra = body.sclerosis
        fade = number(-1 / 3.5)
        extra = number(upper_extra) * cv2.exp(np.maximum(to_upper, 0) * fade)
        extra += number(lower_extra) * cv2.exp(np.maximum(to_lower, 0) * fade)
        extra_sum += core * extra


def pillow_paths(
    outline_px: np.ndarray, thickness_cm: float, round_px: float, shell_px: float, shell_cm: float
) -> tuple[Window, np.ndarray, np.ndarray] | None:
    """Path lengths through a flat bone with rounded edges.

    Args:
        outline_px: (N, 2) outline on the film.
        thickness_cm: Path length in its middle.
        round_px: Width of the rounded edge on the film.
        shell_px: Thickness of the cortex on the film.
        shell_cm: The same along the ray.

    Returns:
        Window, (h, w) cortical and (h, w) cancellous path in cm; None for an empty outline.
    """
    window = Window.around(outline_px, 2)
    if window.width < 3 or window.height < 3:
        return None
    mask = np.zeros((window.height, window.width), np.uint8)
    cv2.fillPoly(mask, [fixed_point(outline_px - window.origin)], 1, cv2.LINE_8, 4)
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
    # fillPoly takes every touched pixel, half a pixel too many.
    distance = np.maximum(distance - np.float32(0.5), 0)
    round_px = max(round_px, 0.75)

    def cushion(depth: np.ndarray, thickness: float, width: float) -> np.ndarray:
        bare = 1 - np.minimum(depth * np.float32(1 / width), 1)
        return np.sqrt(1 - bare * bare) * np.float32(thickness)

    outer = cushion(distance, thickness_cm, round_px)
    core_cm = max(thickness_cm - 2 * shell_cm, 0.0)
    inner = cushion(
        np.maximum(distance - np.float32(shell_px), 0), core_cm, max(round_px - shell_px, 0.75)
    )
    inner = np.minimum(inner, outer)
    return window, outer - inner, inner


def tube_paths(
    course_px: np.ndarray,
    radius_px: np.ndarray,
    radius_cm: np.ndarray,
    obliquity: np.ndarray,
    shell_share: float,
    limit: Window,
) -> tuple[Window, np.ndarray, np.ndarray] | None:
    """Path lengths through a round bar along a curve.

    Args:
        course_px: (N, 2) centre line on the film.
        radius_px: (N,) half height on the film.
        radius_cm: (N,) half thickness along the ray where the bar runs across it.
        obliquity: (N,) factor on the path where the bar runs along the ray.
        shell_share: Cortex as a share of the radius.
        limit: Window of the film; what lies outside is not drawn.

    Returns:
        Window, (h, w) cortical and (h, w) cancellous path in cm; None where nothing is visible.
    """
    window = Window.around(course_px, int(np.ceil(radius_px.max())) + 2)
    left, top = max(window.left, limit.left), max(window.top, limit.top)
    right = min(window.left + window.width, limit.left + limit.width)
    bottom = min(window.top + window.height, limit.top + limit.height)
    if right - left < 3 or bottom - top < 3:
        return None
    window = Window(left, top, right - left, bottom - top)
    # Number the pixels of the centre line by its nearest point, then ask every pixel for them.
    seeds = np.full((window.height, window.width), 255, np.uint8)
    local = course_px - window.origin
    length = np.linalg.norm(np.diff(local, axis=0), axis=1)
    at = np.concatenate([[0.0], np.cumsum(length)])
    fine = np.arange(0, at[-1], 0.7)
    xs = np.floor(np.interp(fine, at, local[:, 0])).astype(int)
    ys = np.floor(np.interp(fine, at, local[:, 1])).astype(int)
    shown = (xs >= 0) & (ys >= 0) & (xs < window.width) & (ys < window.height)
    if not shown.any():
        return None
    seeds[ys[shown], xs[shown]] = 0
    distance, labels = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    count = int(labels.max()) + 1
    table = np.zeros((count, 3), np.float32)
    names = labels[ys[shown], xs[shown]]
    table[names, 0] = np.interp(fine[shown], at, radius_px)
    table[names, 1] = np.interp(fine[shown], at, radius_cm)
    table[names, 2] = np.interp(fine[shown], at, obliquity)
    near = distance < radius_px.max()
    found = table[labels[near]]
    relative = distance[near] / np.maximum(found[:, 0], 0.5)
    factor = 2 * found[:, 1] * np.minimum(found[:, 2], _GREATEST_OBLIQUITY)
    outer = np.sqrt(np.clip(1 - relative * relative, 0, None)) * factor
    core = 1 - shell_share
    inner = np.sqrt(np.clip(core * core - relative * relative, 0, None)) * factor
    cortical = np.zeros(distance.shape, np.float32)
    cancellous = np.zeros(distance.shape, np.float32)
    cortical[near], cancellous[near] = outer - inner, inner
    return window, cortical, cancellous


def along_ray(course_mm: np.ndarray) -> np.ndarray:
    """(N,) how much longer the path through a bar along a (N, 3) course is than across it."""
    step = np.gradient(course_mm, axis=0)
    across = np.linalg.norm(step[:, :2], axis=1)
    whole = np.linalg.norm(step, axis=1) + 1e-9
    return np.minimum(whole / np.maximum(across, 1e-3), _GREATEST_OBLIQUITY)
