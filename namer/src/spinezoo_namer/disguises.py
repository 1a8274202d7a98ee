"""Films made unlike phantoms, to learn from: other tones and shapes, hidden sides, other ends.

Phantoms tell levels more plainly than real films do: by arches, ribs and pelvis that look the same
on every one. A reader that learns from films on which any of this may be missing, bent or of other
contrast has to weigh what is left. How often each happens is set wide on purpose; nothing here was
fitted to real films. Films to calibrate and measure on are not disguised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spinezoo_namer.store import BODY_PX, Body

LEAST_LEFT = 0.3
"""Share of a body's area that stays on a film that was bent; of less, the body is left out."""

LEAST_LEFT_OF_CUT = 0.1
"""The same of a film that was cut: networks outline what is left at the border, however little."""

CUT_AT = (0.4, 0.35, 0.15, 0.1)
"""How often a film that is cut ends within S1, the lowest lumbar vertebra, and those above."""

MOST_BAR = 0.16
"""Breadth of a bar around a film at most, of the film's side."""

LEAST_BODIES = 4
"""A film is not cut where fewer bodies would be left."""


def disguised(
    grey: NDArray[np.uint8], bodies: Sequence[Body], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[Body]]:
    """A film bent, with sides of its column hidden and in other tones, each by chance.

    Args:
        grey: (height, width) upright film.
        bodies: Its bodies.
        rng: Source of chance.
    """
    found = list(bodies)
    if rng.random() < 0.6:
        grey, found = bent(grey, found, rng)
    if found and rng.random() < 0.4:
        grey = sides_hidden(grey, found, rng)
    grey = retoned(grey, rng)
    if rng.random() < 0.4:
        grey, found = framed(grey, found, rng)
    return grey, found


def framed(
    grey: NDArray[np.uint8], bodies: Sequence[Body], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[Body]]:
    """A film within bars of one grey level, as shutters, plates and stations leave them.

    Args:
        grey: (height, width) film.
        bodies: Its bodies.
        rng: Source of chance.
    """
    height, width = grey.shape
    most = MOST_BAR * np.array([height, height, width, width])
    above, below, left, right = (int(b) for b in rng.random(4) ** 2 * most * (rng.random(4) < 0.6))
    level = int(rng.choice([0, 0, 10, 128, 245, 255]))
    film = np.full((height + above + below, width + left + right), level, np.uint8)
    film[above : above + height, left : left + width] = grey
    return film, [Body(b.level, b.outline + np.array([left, above])) for b in bodies]


def cut_short(
    grey: NDArray[np.uint8], bodies: Sequence[Body], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[Body]]:
    """A film that ends within S1, or within one of the lowest lumbar vertebrae or the disc below.

    Phantoms' films end below S1, nearly all. A reader that saw no other takes what the border cuts
    for the sacrum; one that saw lumbar vertebrae cut and never S1 would err the other way.

    Args:
        grey: (height, width) upright lateral film.
        bodies: Its bodies.
        rng: Source of chance.
    """
    # S1 first, then lumbar vertebrae from below.
    low = [body for body in bodies if body.level == "S1"]
    low += sorted((b for b in bodies if b.level[0] == "L"), key=lambda b: -int(b.level[1:]))
    place = int(rng.choice(len(CUT_AT), p=CUT_AT))
    share = float(rng.uniform(0.25, 1.25))
    if place >= len(low):
        return grey, list(bodies)
    upper, lower = low[place].outline[:, 1].min(), low[place].outline[:, 1].max()
    rows = min(len(grey), round(float(upper + share * (lower - upper))))
    left = _on_film(bodies, rows, grey.shape[1], LEAST_LEFT_OF_CUT)
    if len(left) < LEAST_BODIES:
        return grey, list(bodies)
    return np.ascontiguousarray(grey[:rows]), left


def _on_film(bodies: Sequence[Body], height: int, width: int, least_left: float) -> list[Body]:
    """What is on a film of bodies that may reach over its border."""
    found = []
    for body in bodies:
        inside = np.clip(body.outline, 0.0, [width, height])
        left = cv2.contourArea(inside.astype(np.float32))
        if left >= least_left * cv2.contourArea(body.outline.astype(np.float32)):
            found.append(Body(body.level, inside))
    return found


def bent(
    grey: NDArray[np.uint8], bodies: Sequence[Body], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[Body]]:
    """A film sheared, stretched and bent smoothly; outlines go along."""
    height, width = grey.shape
    apart = float(rng.uniform(2.0, 5.0)) * BODY_PX
    nodes = (max(3, round(height / apart) + 1), max(3, round(width / apart) + 1))
    away = rng.normal(0.0, float(rng.uniform(0.0, 0.08)) * apart, (*nodes, 2)).astype(np.float32)
    field: Any = cv2.resize(away, (width, height), interpolation=cv2.INTER_CUBIC)
    stretch = float(np.exp(rng.normal(0.0, 0.06)))
    shear_x, shear_y = rng.normal(0.0, 0.1), rng.normal(0.0, 0.07)
    matrix = np.array([[stretch, shear_x], [shear_y, 1.0 / stretch]])
    centre = np.array([width / 2.0, height / 2.0])
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    # Where each pixel comes from; map coordinates are centres of pixels.
    from_x = matrix[0, 0] * (x - centre[0]) + matrix[0, 1] * (y - centre[1]) + centre[0]
    from_y = matrix[1, 0] * (x - centre[0]) + matrix[1, 1] * (y - centre[1]) + centre[1]
    seen: Any = cv2.remap(
        grey,
        (from_x + field[..., 0] - 0.5).astype(np.float32),
        (from_y + field[..., 1] - 0.5).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    back = np.linalg.inv(matrix)
    found = []
    for body in bodies:
        points = body.outline
        for _ in range(6):  # the field is smooth: this closes in fast
            column = np.clip(points[:, 0], 0, width - 1).astype(int)
            row = np.clip(points[:, 1], 0, height - 1).astype(int)
            points = (body.outline - field[row, column] - centre) @ back.T + centre
        found.append(Body(body.level, points))
    return seen, _on_film(found, height, width, LEAST_LEFT)


def sides_hidden(
    grey: NDArray[np.uint8], bodies: Sequence[Body], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A film on which what lies before or behind the bodies is faded, blurred or another's.

    Bodies themselves stay as they are.
    """
    height, width = grey.shape
    centres = np.array([body.outline.mean(axis=0) for body in bodies])
    centres = centres[np.argsort(centres[:, 1])]
    size = float(
        np.median([np.sqrt(cv2.contourArea(b.outline.astype(np.float32))) for b in bodies])
    )
    rows = np.arange(height) + 0.5
    middle = np.interp(rows, centres[:, 1], centres[:, 0])
    beside = (np.arange(width)[None, :] + 0.5 - middle[:, None]) / size
    film = grey.astype(np.float32)
    sides = [-1.0, 1.0] if rng.random() < 0.35 else [float(rng.choice([-1.0, 1.0]))]
    for side in sides:
        begin, edge = float(rng.uniform(0.75, 1.7)), float(rng.uniform(4.0, 14.0))
        mask = 1.0 / (1.0 + np.exp(-np.clip(edge * (side * beside - begin), -30.0, 30.0)))
        at, half = float(rng.uniform(0, height)), float(rng.uniform(1.5, 8.0)) * size
        along = 1.0 / (1.0 + np.exp(np.clip((np.abs(rows - at) - half) / (0.3 * size), -30, 30)))
        mask = mask * along[:, None] * float(rng.uniform(0.5, 1.0))
        mask = mask.astype(np.float32)
        film = film + mask * (_instead(film, size, rng) - film)
    return np.clip(film, 0, 255).astype(np.uint8)


def _instead(
    film: NDArray[np.float32], size: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """What is shown where a side is hidden."""
    height, width = film.shape
    how = rng.random()
    if how < 0.4:  # the same, blurred
        small = max(2, round(float(rng.uniform(0.4, 1.6)) * size))
        shape = (max(2, width // small), max(2, height // small))
        coarse: Any = cv2.resize(film, shape, interpolation=cv2.INTER_AREA)
        blurred: NDArray[np.float32] = cv2.resize(
            coarse, (width, height), interpolation=cv2.INTER_CUBIC
        )
        return blurred
    if how < 0.7:  # that of other levels, or of the other side
        moved = np.roll(film, round(float(rng.uniform(1.0, 6.0)) * size), axis=0)
        return moved[:, ::-1] if rng.random() < 0.5 else moved
    nodes = rng.normal(0.0, 25.0, (int(rng.integers(2, 12)), int(rng.integers(2, 8))))
    shade: Any = cv2.resize(
        nodes.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    other: NDArray[np.float32] = shade + float(rng.uniform(20, 200))
    return other


def retoned(grey: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A film in other tones and of other texture; each way by chance."""
    film: Any = grey
    if rng.random() < 0.3:
        clip, tiles = float(rng.uniform(0.8, 4.0)), int(rng.integers(3, 10))
        film = cv2.createCLAHE(clip, (tiles, tiles)).apply(film)
    if rng.random() < 0.4:
        film = cv2.LUT(film, _curve(rng))
    if rng.random() < 0.3:
        film = _filtered(film, rng)
    if rng.random() < 0.06:  # lines of stitching
        film = film.copy()
        for _ in range(int(rng.integers(1, 4))):
            axis = int(rng.integers(0, 2))
            at = int(rng.integers(0, film.shape[axis]))
            film[(slice(None),) * axis + (slice(at, at + 1),)] = 255
    changed: NDArray[np.uint8] = film
    return changed


def _curve(rng: np.random.Generator) -> NDArray[np.uint8]:
    """(256,) another grey for each: rising mostly, sometimes with a fold."""
    nodes = int(rng.integers(4, 9))
    rise = np.concatenate([[0.0], np.cumsum(rng.gamma(1.5, 1.0, nodes - 1))])
    rise /= rise[-1]
    if rng.random() < 0.25:
        rise = rise + rng.normal(0.0, 0.12, nodes)
    curve = np.interp(np.arange(256), np.linspace(0, 255, nodes), rise)
    curve = (curve - curve.min()) / (curve.max() - curve.min())
    return np.round(255.0 * curve).astype(np.uint8)


def _filtered(grey: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A film mixed with itself behind a small filter of chance weights: another texture."""
    film = grey.astype(np.float32)
    side = int(rng.choice([3, 5, 7]))
    weights = rng.normal(0.0, 1.0, (side, side)).astype(np.float32)
    weights *= np.sign(weights.sum())  # else the two would cancel each other
    seen: Any = cv2.filter2D(film, -1, weights)
    seen = (seen - seen.mean()) / (seen.std() + 1e-3) * film.std() + film.mean()
    share = float(rng.uniform(0.15, 0.65))
    return np.clip(film + share * (seen - film), 0, 255).astype(np.uint8)
