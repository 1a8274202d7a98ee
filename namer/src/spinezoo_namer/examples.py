"""From a stored film to what the reader is given and what it should say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_spine.column.chain import longest_chain
from spinezoo_spine.column.places import Place, Places, measure_sizes
from spinezoo_spine.column.reader.looking import (
    ReaderInput,
    Spot,
    blank_input,
    own_step,
    reader_input,
    spots_of,
)
from spinezoo_spine.column.reader.readings import HIGHEST, LONGEST_STEP, LOWEST

from spinezoo_namer.disguises import cut_short, disguised
from spinezoo_namer.outlines import TrueBody, outlines_of, true_bodies
from spinezoo_namer.store import Body, StoredFilm

MOST_SPOTS = 18
"""Spots of an example at most; longer chains are cut."""

TURNED_SHARE = 0.16
"""How often a lateral film is shown turned by 90 degrees or upside down, both alike."""


class FilmKind(IntEnum):
    """What a film shows."""

    LATERAL = 0
    UPSIDE_DOWN = 1
    TURNED = 2
    NO_COLUMN = 3


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One film as the reader sees it.

    Attributes:
        given: What the network is given.
        positions: (N,) position of each spot; :data:`NONE` where no single vertebra is.
        lumbar_count: 4, 5 or 6.
        kind: What the film shows; positions count on lateral ones only.
        named: Whether positions are to be learnt.
    """

    given: ReaderInput
    positions: NDArray[np.int64]
    lumbar_count: int
    kind: FilmKind
    named: bool


NONE = -99
"""Stands for "no single vertebra" among positions."""


def example_of(
    film: StoredFilm,
    rng: np.random.Generator,
    *,
    hard: bool = False,
    whole: bool = False,
    kind: FilmKind | None = None,
    disguise: bool = False,
    cut: bool = False,
    turned_share: float = TURNED_SHARE,
) -> Example:
    """One look at a film, with chance outlines.

    Args:
        film: The film.
        rng: Source of chance.
        hard: Whether the film is always made worse, as for calibration.
        whole: Whether columns are outlined from end to end; see ``outlines_of``.
        kind: Which way to show it; None: mostly upright.
        disguise: Whether the film is made unlike phantoms by chance, and outlined worse, as for
            learning; films from the front may be turned then as well.
        cut: Whether a lateral film is cut to end within S1 or above.
        turned_share: How often a lateral film is turned or upside down where ``kind`` is None.
    """
    if kind is None:
        chance = rng.random()
        kind = FilmKind.LATERAL if chance > turned_share else FilmKind.UPSIDE_DOWN
        kind = FilmKind.TURNED if chance < turned_share / 2 else kind
    shown = kind
    if film.view != "lateral":
        kind = FilmKind.NO_COLUMN
        shown = shown if disguise else FilmKind.LATERAL
    grey, bodies = film.grey, list(film.bodies)
    if disguise:
        grey, bodies = disguised(grey, bodies, rng)
    if cut and film.view == "lateral":
        grey, bodies = cut_short(grey, bodies, rng)
    if rng.random() < 0.5:
        grey, bodies = _turned(grey, bodies, "mirror")
    if shown is FilmKind.UPSIDE_DOWN:
        grey, bodies = _turned(grey, bodies, "half")
    elif shown is FilmKind.TURNED:
        grey, bodies = _turned(grey, bodies, "left" if rng.random() < 0.5 else "right")
    height, width = grey.shape
    grey = worsened(grey, rng, hard=hard)
    truth = true_bodies(bodies, film.lumbar_count, height, width)
    outlines = outlines_of(truth, height, width, rng, whole=whole, rough=disguise)
    places = Places([each.place for each in outlines])
    chain: list[Place] = []
    if places.nodes:
        measure_sizes(places)
        chain = longest_chain(places)[: MOST_SPOTS - 4]
    if not chain:
        return Example(blank_input(grey), np.full(1, NONE), film.lumbar_count, kind, False)
    size = places.size
    spots = spots_of(chain, size)
    known = {each.place.index: each.position for each in outlines}
    positions = _positions(spots, known, truth, size, film.lumbar_count, (height, width))
    step = own_step(chain)
    size *= float(np.exp(rng.normal(0, 0.06)))
    given = reader_input(grey, [_nudged(spot, size, rng) for spot in spots], size, step)
    if rng.random() < 0.15:  # outlines of which nobody said lumbar or sacral
        given.facts[:, 1] += given.facts[:, 2]
        given.facts[:, 2] = 0.0
    far = np.diff(positions[positions != NONE]).max(initial=1) > LONGEST_STEP
    named = kind is FilmKind.LATERAL and not far
    return Example(given, positions, film.lumbar_count, kind, named)


def _positions(
    spots: Sequence[Spot],
    known: dict[int, int | None],
    truth: Sequence[TrueBody],
    size: float,
    lumbar_count: int,
    shape: tuple[int, int],
) -> NDArray[np.int64]:
    """The true position of each spot; they grow from below."""
    found: list[int | None] = []
    outlined = [None if s.place is None else known[s.place.index] for s in spots]
    taken = {position for position in outlined if position is not None}
    for spot, position in zip(spots, outlined, strict=True):
        if spot.place is None:
            position = _position_at(spot, truth, size, lumbar_count, shape)
            if position in taken:
                position = None
        found.append(position)
    # A spot out of order is none: of outlined ones first what is right, then those beyond.
    answer = np.full(len(spots), NONE, np.int64)
    for index in np.argsort([spot.place is None for spot in spots], kind="stable").tolist():
        position = found[index]
        if position is None or not LOWEST <= position <= HIGHEST:
            continue
        below = answer[:index][answer[:index] != NONE]
        above = answer[index + 1 :][answer[index + 1 :] != NONE]
        if (below < position).all() and (above > position).all():
            answer[index] = position
    return answer


def _position_at(
    spot: Spot,
    truth: Sequence[TrueBody],
    size: float,
    lumbar_count: int,
    shape: tuple[int, int],
) -> int | None:
    """Which body lies at a spot that nobody outlined."""
    x, y = spot.centre_xy
    if not truth or not (0 <= x < shape[1] and 0 <= y < shape[0]):
        return None
    away = [math.dist(spot.centre_xy, body.shape.centre_xy) / size for body in truth]
    nearest = int(np.argmin(away))
    if away[nearest] < 0.55:
        return truth[nearest].position
    top = truth[-1]
    if nearest == len(truth) - 1 and top.position == lumbar_count + 4:  # above T9
        steps = round(away[nearest] / 1.15)
        upward = (x - top.shape.centre_xy[0]) * spot.up_xy[0]
        upward += (y - top.shape.centre_xy[1]) * spot.up_xy[1]
        if steps in (1, 2) and upward > 0.7 * size:
            return top.position + steps
    return None


def _nudged(spot: Spot, size: float, rng: np.random.Generator) -> Spot:
    """A spot seen from a little beside."""
    x, y = np.add(spot.centre_xy, rng.normal(0, 0.05, 2) * size).tolist()
    turn = float(rng.normal(0, 0.08))
    ux, uy = spot.up_xy
    cosine, sine = math.cos(turn), math.sin(turn)
    return replace(spot, centre_xy=(x, y), up_xy=(cosine * ux - sine * uy, sine * ux + cosine * uy))


def _turned(
    grey: NDArray[np.uint8], bodies: Sequence[Body], how: str
) -> tuple[NDArray[np.uint8], list[Body]]:
    """A film and its bodies mirrored, upside down, or turned by 90 degrees."""
    height, width = grey.shape

    def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = points[:, 0], points[:, 1]
        if how == "mirror":
            return np.column_stack([width - x, y])
        if how == "half":
            return np.column_stack([width - x, height - y])
        if how == "left":
            return np.column_stack([y, width - x])
        return np.column_stack([height - y, x])

    turned: Any = {
        "mirror": lambda: grey[:, ::-1],
        "half": lambda: grey[::-1, ::-1],
        "left": lambda: np.rot90(grey, 1),
        "right": lambda: np.rot90(grey, 3),
    }[how]()
    return np.ascontiguousarray(turned), [Body(b.level, move(b.outline)) for b in bodies]


def worsened(
    grey: NDArray[np.uint8], rng: np.random.Generator, *, hard: bool = False
) -> NDArray[np.uint8]:
    """A film through more haze, blur, noise, other contrast, and with parts hidden."""
    film: Any = grey.astype(np.float32) / 255.0
    often = 0.85 if hard else 0.5
    strength = 1.3 if hard else 1.0
    height, width = film.shape
    if rng.random() < often:  # haze and shade: smooth, large
        side = int(rng.integers(2, 7))
        shade: Any = cv2.resize(
            rng.random((side, side), dtype=np.float32), (width, height), None, 0, 0, cv2.INTER_CUBIC
        )
        share = float(rng.uniform(0.1, 0.5)) * strength
        film = (1.0 - share) * film + share * shade
    if rng.random() < often:
        film = np.clip(film, 0.0, 1.0) ** float(np.exp(rng.normal(0, 0.35 * strength)))
    if rng.random() < 0.35:  # gas and soft parts: blobs, darker or brighter
        for _ in range(int(rng.integers(1, 5))):
            _add_blob(film, rng)
    if rng.random() < 0.6 * often:
        film = cv2.GaussianBlur(film, (0, 0), float(rng.uniform(0.4, 1.4)) * strength)
    if rng.random() < often:
        sigma = float(rng.uniform(0.005, 0.06)) * strength
        film = film + rng.normal(0, 1, film.shape).astype(np.float32) * sigma
    if rng.random() < 0.15:  # local contrast, as stations make it
        mean = cv2.GaussianBlur(film, (0, 0), float(rng.uniform(6, 20)))
        film = film + float(rng.uniform(0.3, 1.5)) * (film - mean)
    if rng.random() < 0.15:  # hidden
        top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
        rows, columns = int(rng.integers(4, 40)), int(rng.integers(4, 40))
        film[top : top + rows, left : left + columns] = float(rng.choice([0.0, 1.0]))
    low, high = np.percentile(film[::4, ::4], [0.5, 99.5])
    film = (film - low) / max(high - low, 1e-3)
    return np.clip(film * 255.0, 0, 255).astype(np.uint8)


def _add_blob(film: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Adds one smooth ellipse."""
    height, width = film.shape
    radius = rng.uniform(4, 30, 2)
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    left, right = int(max(0, x - 3 * radius[0])), int(min(width, x + 3 * radius[0]))
    top, bottom = int(max(0, y - 3 * radius[1])), int(min(height, y + 3 * radius[1]))
    if right <= left or bottom <= top:
        return
    across = (np.arange(left, right, dtype=np.float32) - x) / radius[0]
    down = (np.arange(top, bottom, dtype=np.float32) - y) / radius[1]
    distance = across[None, :] ** 2 + down[:, None] ** 2
    edge = float(rng.uniform(1.0, 8.0))
    blob = 1.0 / (1.0 + np.exp(np.clip(edge * (distance - 1.0), -30, 30)))
    film[top:bottom, left:right] += float(rng.normal(0, 0.2)) * blob.astype(np.float32)
