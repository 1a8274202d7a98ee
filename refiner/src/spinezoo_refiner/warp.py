"""Bodies of other shapes: corners, hollows and walls of a crop are drawn to other places by chance.

Phantoms' corners lie where their few shapes let expect. What a crop shows must be looked at
instead, so each of its landmarks is moved, and the film around it goes along smoothly. The field
says for each place of the finished crop where it came from: the crop is sampled once, and the
truth lands where it was sent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CHANCE = 0.8
"""Share of the bodies that are warped: the others stay phantoms."""

SPREADS = (0.02, 0.03, 0.03, 0.02, 0.015, 0.015, 0.02, 0.02)
"""Standard deviations of the moves, in shares of the depth: upper back, upper front, lower front
and lower back corner, middles of the upper and lower endplate, of the back and of the front wall.
Fronts of patients vary most."""

TAIL = (0.15, 2.5)
"""Chance that a landmark moves by more, and how many times more."""

LIPS = (0.12, 0.25)
"""Chance that the upper, the lower front corner is drawn outward and forward, as a lip is. Readers
mark the corner at its end."""

LIP_SIZE = (0.03, 0.12)
"""How far, in shares of the depth."""

WIDTHS = (0.16, 0.4)
"""How far around a landmark the film goes along: standard deviations, in sizes of the body."""

LIP_WIDTHS = (0.1, 0.25)
"""The same of a lip."""

MOST_STRAIN = 0.7
"""Moves that stretch or squeeze the film by more are made smaller: it must not fold."""


@dataclass(frozen=True, slots=True, eq=False)
class Warp:
    """A smooth field of moves, in sizes of the body: a sum of round Gaussians.

    Attributes:
        centres: (K, 2) where the Gaussians lie in the finished crop.
        widths: (K,) their standard deviations.
        weights: (K, 2) what each adds.
        lips: Numbers of the corners that are drawn out to lips.
    """

    centres: Array
    widths: Array
    weights: Array
    lips: tuple[int, ...] = ()

    @classmethod
    def between(
        cls, places: Array, moves: Array, widths: Array, lips: tuple[int, ...] = ()
    ) -> Warp:
        """The field that brings places by the moves to where they then are, exactly.

        Args:
            places: (K, 2) of landmarks before; no two are the same.
            moves: (K, 2) of each.
            widths: (K,) of the Gaussians around where they end.
            lips: Numbers of the corners that are drawn out to lips.
        """
        centres = places + moves
        kernel = _kernel(centres, centres, widths)
        weights = np.asarray(np.linalg.solve(kernel, -moves), dtype=np.float64)
        return cls(centres, widths, weights, lips)

    def origins(self, points: Array) -> Array:
        """(N, 2) where points of the finished crop came from."""
        return points + _kernel(points, self.centres, self.widths) @ self.weights

    def origins_of_grid(self, ticks: Array) -> Array:
        """(2, M, M) x and y of where a grid of the finished crop came from; rows are y."""
        off = (ticks[:, None] - self.centres.T[:, None]) / self.widths  # (2, M, K)
        columns, rows = np.exp(-0.5 * off**2)
        moves = (rows * self.weights.T[:, None]) @ columns.T
        moves[0] += ticks
        moves[1] += ticks[:, None]
        return np.asarray(moves)

    def carried(self, points: Array) -> Array:
        """(N, 2) where points go to: the opposite of :meth:`origins`."""
        found = points.copy()
        for _ in range(40):  # each step leaves at most the strain's share of what was off
            off = self.origins(found) - points
            found -= off
            if np.abs(off).max() < 1e-8:
                break
        return found

    def strain(self, ticks: Array) -> float:
        """Largest stretch or squeeze on a grid; the film does not fold below 1."""
        moved = self.origins_of_grid(ticks)
        step = ticks[1] - ticks[0]
        along = np.diff(moved, axis=2)[:, :-1] / step - np.array([1.0, 0.0])[:, None, None]
        down = np.diff(moved, axis=1)[:, :, :-1] / step - np.array([0.0, 1.0])[:, None, None]
        return math.sqrt(float(((along**2).sum(axis=0) + (down**2).sum(axis=0)).max()))


def _kernel(points: Array, centres: Array, widths: Array) -> Array:
    squares = ((points[:, None] - centres) ** 2).sum(axis=2)
    return np.asarray(np.exp(-0.5 * squares / widths**2))


def some_warp(
    corners: Array, middles: Array, rng: np.random.Generator, *, sacral: bool, half: float
) -> Warp:
    """A field by chance.

    Args:
        corners: (4, 2) upper back, upper front, lower front, lower back, in sizes of the body.
        middles: (2, 2) of the upper and lower endplate.
        rng: Where chance comes from.
        sacral: Whether it is S1, whose lower front corner has no lip.
        half: Half the side of the crop.
    """
    walls = np.stack([corners[0] + corners[3], corners[1] + corners[2]]) / 2.0
    places = np.concatenate([corners, middles, walls])
    front = (corners[1] - corners[0] + corners[2] - corners[3]) / 2.0
    depth = math.hypot(*front)
    further = np.where(rng.random(len(places)) < TAIL[0], TAIL[1], 1.0)
    moves = rng.standard_normal(places.shape) * (np.array(SPREADS) * further * depth)[:, None]
    widths = rng.uniform(*WIDTHS, len(places))
    lips: list[int] = []
    for corner, chance, outward in ((1, LIPS[0], -1.0), (2, LIPS[1], 1.0)):
        if rng.random() < chance and not (sacral and corner == 2):
            angle = math.atan2(front[1], front[0]) + outward * math.radians(rng.uniform(20.0, 90.0))
            size = rng.uniform(*LIP_SIZE) * depth
            moves[corner] += size * np.array([math.cos(angle), math.sin(angle)])
            widths[corner] = rng.uniform(*LIP_WIDTHS)
            lips.append(corner)
    ticks: Any = np.linspace(-half, half, 33)
    while True:
        warp = Warp.between(places, moves, widths, tuple(lips))
        strain = warp.strain(ticks)
        if strain < MOST_STRAIN:
            return warp
        moves = moves * (0.8 * MOST_STRAIN / strain)
