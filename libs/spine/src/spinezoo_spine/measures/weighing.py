"""How outlines and refiner are weighed, and how far off both together are: fitted on phantoms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinezoo_spine.measures.posture import Posture
from spinezoo_spine.measures.refiner.network import Refined

Array = NDArray[np.float64]

APART = 1.0
"""Share of the squared distance of outlines and refiner that their mean's variance grows by."""

LEAST_SPREAD = 3e-3
"""Outlines are never surer than this: members may agree by chance."""

FILE = Path(__file__).with_name("blend.json")
"""See :class:`Weighing`; ``python -m spinezoo_evaluator.measures fit`` writes it."""


@dataclass(frozen=True, slots=True, eq=False)
class Blend:
    """Of one kind of body, for each of the refiner's numbers.

    Attributes:
        outline: (NUMBERS,) standard deviation of the outlines' numbers alone.
        share: (NUMBERS,) weight of the refiner, 0 to 1; the rest is the outlines'.
        spread: (NUMBERS, 3) logarithm of the mean's standard deviation: a constant, and what the
            logarithms of the refiner's own spread and of the outlines' are multiplied by.
    """

    outline: Array
    share: Array
    spread: Array

    @classmethod
    def of(cls, read: Mapping[str, Any]) -> Blend:
        """From plain values."""
        return cls(*(np.array(read[name]) for name in ("outline", "share", "spread")))


@dataclass(frozen=True, slots=True, eq=False)
class Weighing:
    """Everything that the sources of an endplate are weighed by.

    Attributes:
        body: Of vertebrae above the sacrum.
        sacrum: Of S1.
        posture: What neighbouring endplates tell.
    """

    body: Blend
    sacrum: Blend
    posture: Posture

    @classmethod
    def of(cls, read: Mapping[str, Any]) -> Weighing:
        """From plain values."""
        usual = (
            {level: (float(mean), float(spread)) for level, (mean, spread) in said.items()}
            for said in (read["posture"]["bodies"], read["posture"]["discs"])
        )
        return cls(Blend.of(read["body"]), Blend.of(read["sacrum"]), Posture(*usual))


@cache
def shipped_weighing() -> Weighing:
    """As it was fitted."""
    return Weighing.of(json.loads(FILE.read_text(encoding="utf-8")))


def blended(
    numbers: Array,
    said: Refined,
    places: NDArray[np.int64],
    used: NDArray[np.bool_],
    sacral: NDArray[np.bool_],
    weighing: Weighing,
) -> tuple[Array, Array]:
    """The mean of outlines' and refiner's numbers, and its spread.

    Args:
        numbers: (S, J, NUMBERS) by the outlines; the first is the estimate.
        said: Of N bodies.
        places: (N,) which of the J they are.
        used: (J, 2) whether the upper and the lower endplate may be refined.
        sacral: (J,) which are of the sacrum.
        weighing: How both are weighed.

    Returns:
        (J, NUMBERS) mean and (J, NUMBERS) standard deviation. Where the refiner is not used the
        mean is the outlines', and what both differ by is part of its spread.
    """
    body, sacrum = weighing.body, weighing.sacrum
    own = numbers[1:].var(axis=0)
    variance = np.where(sacral[:, None], sacrum.outline, body.outline) ** 2 + own
    mean = numbers[0].copy()
    heard = np.repeat(used[places], 5, axis=1)
    apart = said.numbers - mean[places]
    which = sacral[places, None]
    share = np.where(which, sacrum.share, body.share)
    scale = np.where(which[..., None], sacrum.spread, body.spread)
    looks = spread_features(said.spreads, own[places])
    together = np.exp(2.0 * (scale * looks).sum(axis=-1)) + APART * apart**2
    mean[places] += np.where(heard, share * apart, 0.0)
    variance[places] = np.where(heard, together, variance[places] + np.nan_to_num(apart) ** 2)
    return mean, np.sqrt(variance)


def spread_features(refiner: Array, outlines: Array) -> Array:
    """(..., 3) what the spread of the mean is told by; see :attr:`Blend.spread`.

    Args:
        refiner: The refiner's own spreads.
        outlines: Variance of the outlines' numbers over the bootstrap.
    """
    told = np.log(np.maximum(refiner, 1e-6)), 0.5 * np.log(outlines + LEAST_SPREAD**2)
    return np.stack([np.ones_like(refiner), *told], axis=-1)
