"""What neighbouring endplates tell about an endplate's direction.

Endplates follow each other within limits: a body is wedged, and a disc opens, by so much that is
usual at its level. Where the film shows an endplate well this adds nothing; where a shadow or metal
hides it, its neighbours tell more than a guess. All directions of a film are one Gaussian: those
seen, each with its spread, and the usual differences of neighbours, each with twice the spread that
phantoms have. From T9 to T12 patients' discs and bodies turn otherwise than phantoms': what is
usual there lies between both (:mod:`spinezoo_spine.measures.usual`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

WIDENED = 2.0
"""Spreads of usual differences count this often: spines of patients differ more than phantoms'."""


@dataclass(frozen=True, slots=True)
class Posture:
    """How far neighbouring endplates usually turn, in degrees, lordosis positive.

    Attributes:
        bodies: Mean and spread from a body's upper to its lower endplate, by level.
        discs: Mean and spread from a lower endplate to the upper one below, by the level above.
    """

    bodies: Mapping[str, tuple[float, float]]
    discs: Mapping[str, tuple[float, float]]


def pooled(
    directions: Array, spreads: Array, levels: Sequence[str], posture: Posture
) -> tuple[Array, Array]:
    """Directions of all endplates of a film, each helped by its neighbours.

    Args:
        directions: (J, 2) of the upper and lower endplates from above to below, radians, front
            down positive; NaN: not in view.
        spreads: (J, 2) their standard deviations.
        levels: Names of the J bodies.
        posture: What is usual.

    Returns:
        (J, 2) directions, and (2 J, 2 J) a root of their covariance: times independent numbers of
        spread 1 it gives errors as they go together. Rows of endplates out of view are 0.
    """
    count = 2 * len(levels)
    seen = np.isfinite(directions).reshape(-1)
    seen &= np.isfinite(spreads).reshape(-1)
    precision = np.zeros((count, count))
    wanted = np.zeros(count)
    for place, level in enumerate(levels):
        link = posture.bodies.get(level)
        if link is not None:
            _tie(precision, wanted, 2 * place, link)
        link = posture.discs.get(level)
        if link is not None and place + 1 < len(levels) and _follow(level, levels[place + 1]):
            _tie(precision, wanted, 2 * place + 1, link)
    weight = 1.0 / np.maximum(np.where(seen, spreads.reshape(-1), 1.0), 1e-4) ** 2
    # What is not in view weighs next to nothing, so that the sum can be inverted.
    weight = np.where(seen, weight, 1e-6)
    # Differences from what is seen: no angle has to be unwrapped.
    start = np.where(seen, directions.reshape(-1), 0.0)
    precision_all = precision + np.diag(weight)
    root = np.linalg.inv(np.linalg.cholesky(precision_all)).T
    moved = start + root @ (root.T @ (wanted - precision @ start))
    moved[~seen], root[~seen] = np.nan, 0.0
    return moved.reshape(directions.shape), root


def _tie(precision: Array, wanted: Array, first: int, link: tuple[float, float]) -> None:
    """Adds the usual difference of an endplate and the next one, in place."""
    mean, spread = np.deg2rad(link)
    weight = 1.0 / (WIDENED * spread) ** 2
    second = first + 1
    precision[first, first] += weight
    precision[second, second] += weight
    precision[first, second] -= weight
    precision[second, first] -= weight
    wanted[second] += weight * mean
    wanted[first] -= weight * mean


def _follow(above: str, below: str) -> bool:
    """Whether the usual disc of a level lies between these two."""
    if above[0] == below[0]:
        return int(below[1:]) == int(above[1:]) + 1
    return (above, below) in (("T12", "L1"), ("L5", "S1"))
