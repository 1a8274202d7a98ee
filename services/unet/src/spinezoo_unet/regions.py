"""Where a film may show a structure, told before the network's last two steps.

At a quarter of the resolution the network knows already: a weighted sum of its channels there tells
the cells in which it will answer a structure. The weights are those of a logistic regression on the
network's own answers to phantoms, made when it is exported. No answer is drawn with them: they only
say which part of the film is computed to the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from spinezoo_spine.inference.engines import open_engine

from spinezoo_unet.windows import MARGIN, SCALE, box_of

LEAST_LOGITS = (-2.0, -3.0, -4.0, -6.0)
"""What counts as maybe a structure: the first of these logits that finds all on the films."""

ROUNDS = 12
"""Of Newton's method."""

RIDGE = 1e-2
"""Keeps weights finite where a sum tells all cells apart."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A place may show a structure where this sum is above 0.

    Attributes:
        weights: (c,) ``float32`` of the channels.
        bias: What is added.
    """

    weights: NDArray[np.float32]
    bias: float

    @classmethod
    def everywhere(cls, channels: int) -> Rule:
        """Every place may."""
        return cls(np.zeros(channels, dtype=np.float32), 1.0)


def found_rule(files: Mapping[str, Path], films: Sequence[NDArray[np.float32]]) -> Rule:
    """The rule of a network.

    Args:
        files: Its two graphs.
        films: Inputs, (1, c, h, w) each.

    Returns:
        One that leaves no structure of these films out; :meth:`Rule.everywhere` where there is none
        such.
    """
    engine = open_engine("openvino", "float32")
    network, finest = (engine.load(files[part]) for part in ("network", "finest"))
    seen, there = [], []
    for film in films:
        found = network.run(film)
        handed = [found[name].copy() for name in ("coarse", "skip1", "skip0")]
        logits = finest.run(*handed)["logits"][0]
        held = logits[1:].max(axis=0) >= logits[0]
        rows, columns = held.shape[0] // SCALE, held.shape[1] // SCALE
        there.append(held.reshape(rows, SCALE, columns, SCALE).any(axis=(1, 3)))
        seen.append(handed[0][0])
    channels = len(seen[0])
    each = np.concatenate([values.reshape(channels, -1) for values in seen], axis=1).T
    weights, bias = _regression(each, np.concatenate([held.ravel() for held in there]))
    for least in LEAST_LOGITS:
        rule = Rule(weights, bias - least)
        if all(_finds(rule, *pair) for pair in zip(seen, there, strict=True)):
            return rule
    return Rule.everywhere(channels)


def _finds(rule: Rule, seen: NDArray[np.float32], there: NDArray[np.bool_]) -> bool:
    """Whether all that is there lies in the box of the places that may, or a cell beside it."""
    box = box_of(np.tensordot(rule.weights, seen, 1) + rule.bias > 0.0)
    wanted = box_of(there)
    if wanted is None:
        return True
    if box is None:
        return False
    near = MARGIN - 1
    return all(
        low - near <= first and last <= high + near
        for (low, high), (first, last) in zip(box, wanted, strict=True)
    )


def _regression(
    values: NDArray[np.float32], there: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], float]:
    """Weights and bias of a logistic regression, by Newton's method."""
    scale = np.maximum(values.std(axis=0), 1e-6).astype(np.float64)
    given = np.concatenate([values / scale, np.ones((len(values), 1))], axis=1)
    found = np.zeros(given.shape[1])
    for _ in range(ROUNDS):
        likely = 1.0 / (1.0 + np.exp(-np.clip(given @ found, -30.0, 30.0)))
        slope = given.T @ (likely - there) + RIDGE * found
        curve = (given * (likely * (1.0 - likely))[:, np.newaxis]).T @ given
        found -= np.linalg.solve(curve + RIDGE * np.eye(len(found)), slope)
    return (found[:-1] / scale).astype(np.float32), float(found[-1])
