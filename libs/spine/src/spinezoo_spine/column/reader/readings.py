"""Readings of a column: which vertebra each spot is, counted from the sacrum; all weighed exactly.

A reading gives every spot of a chain either a position (S1 is 0, the vertebra above it 1, S2 -1)
or says that no single vertebra is there, and gives the column four, five or six lumbar vertebrae.
Positions grow from below; how far two neighbours are apart says by how much. The weight of a
reading is the sum of what the network says of each spot and of each step. Sums over all readings
are made by dynamic programming, so probabilities of names are exact for these weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LUMBAR_COUNTS = (4, 5, 6)
"""Numbers of lumbar vertebrae that are read."""

LOWEST, HIGHEST = -4, 13
"""Positions that a spot can have."""

POSITIONS = np.arange(LOWEST, HIGHEST + 1)

LONGEST_STEP = 4
"""Positions from one spot to the next at most."""

FROM_BELOW = 8
"""Classes by position: below S2, S2, S1, then upwards; the last one holds all above."""

FROM_ABOVE = 9
"""Classes by distance from T12: the fourth lumbar one from above and all below it first, then
upwards; the last one holds all above T9."""

LEVELS = ("S2", "S1", "L6", "L5", "L4", "L3", "L2", "L1", "T12", "T11", "T10", "T9")
"""Names that a spot can get, from below."""

BY_BELOW = np.clip(POSITIONS + 2, 0, FROM_BELOW - 1)
"""(P,) class from below of each position."""

BY_ABOVE = np.stack(
    [np.clip(POSITIONS - (count + 1) + 4, 0, FROM_ABOVE - 1) for count in LUMBAR_COUNTS]
)
"""(3, P) class from above of each position, by number of lumbar vertebrae."""


def level_of(position: int, lumbar_count: int) -> str | None:
    """The name of a position, None beyond T9 and S2."""
    if position <= 0:
        return {0: "S1", -1: "S2"}.get(position)
    if position <= lumbar_count:
        return f"L{lumbar_count + 1 - position}"
    thoracic = 12 - (position - lumbar_count - 1)
    return f"T{thoracic}" if thoracic >= 9 else None


def _level_table() -> NDArray[np.float64]:
    """(3, P, levels) 1 where a position has a name."""
    table = np.zeros((len(LUMBAR_COUNTS), len(POSITIONS), len(LEVELS)))
    for row, count in enumerate(LUMBAR_COUNTS):
        for place, position in enumerate(POSITIONS.tolist()):
            level = level_of(position, count)
            if level is not None:
                table[row, place, LEVELS.index(level)] = 1.0
    return table


_LEVEL_TABLE = _level_table()
_NEVER = -1e30


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What the network says of N spots, in nats.

    Attributes:
        below: (N, 8) for each class from below, against "no vertebra".
        above: (N, 9) for each class from above.
        steps: (N, N, 4) for each number of positions from one spot to a later one.
        counts: (3,) for each number of lumbar vertebrae.
    """

    below: NDArray[np.float64]
    above: NDArray[np.float64]
    steps: NDArray[np.float64]
    counts: NDArray[np.float64]

    def cooled(self, temperature: float) -> Evidence:
        """The same evidence, believed less (above 1) or more."""
        return Evidence(
            self.below / temperature,
            self.above / temperature,
            self.steps / temperature,
            self.counts,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """All readings of one chain, weighed.

    Attributes:
        best: (N,) position of each spot in the best reading; None: no single vertebra.
        lumbar_count: Of the best reading.
        best_probability: Of the best reading among all.
        counts: Probability of each number of lumbar vertebrae.
        levels: (N, 12) probability of each of :data:`LEVELS`.
        vertebra: (N,) probability that one vertebra is there, named or beyond the names.
        sacrum: Probability that S1 or S2 is at a spot.
    """

    best: tuple[int | None, ...]
    lumbar_count: int
    best_probability: float
    counts: Mapping[int, float]
    levels: NDArray[np.float64]
    vertebra: NDArray[np.float64]
    sacrum: float


def read_column(evidence: Evidence) -> Readings:
    """Weighs all readings.

    Args:
        evidence: Of one chain from below, one spot or more.
    """
    spots, size = len(evidence.below), len(POSITIONS)
    each = evidence.below[:, BY_BELOW][None] + evidence.above[:, BY_ABOVE].transpose(1, 0, 2)
    shape = (len(LUMBAR_COUNTS), spots, size)
    start = np.broadcast_to(evidence.counts[:, None] - _log_sum(evidence.counts), (3, size))
    forward, viterbi = np.full(shape, _NEVER), np.full(shape, _NEVER)
    backward = np.zeros(shape)
    source = np.zeros((*shape, 2), np.int64)  # spot and step that a best reading comes from
    for spot in range(spots):
        come, best = start, start
        come_from = np.full((3, size, 2), -1, np.int64)
        if spot:
            arrive = _arriving(forward[:, :spot], evidence.steps[:spot, spot])
            come = np.logaddexp(start, _log_sum(arrive, axis=1))
            arrive = _arriving(viterbi[:, :spot], evidence.steps[:spot, spot])
            choice = arrive.argmax(axis=1)
            reached = np.take_along_axis(arrive, choice[:, None], axis=1)[:, 0]
            better = reached > start
            best = np.where(better, reached, start)
            come_from[better] = np.stack(
                [choice // LONGEST_STEP, choice % LONGEST_STEP + 1], axis=-1
            )[better]
        forward[:, spot] = each[:, spot] + come
        viterbi[:, spot] = each[:, spot] + best
        source[:, spot] = come_from
    for spot in range(spots - 2, -1, -1):
        leave = _leaving(
            backward[:, spot + 1 :] + each[:, spot + 1 :], evidence.steps[spot, spot + 1 :]
        )
        backward[:, spot] = np.logaddexp(0.0, _log_sum(leave, axis=1))
    # The reading without any vertebra has the weight 1, whatever the count.
    total = float(np.logaddexp(0.0, _log_sum(forward.reshape(-1), axis=0)))
    weight = np.exp(forward + backward - total)
    by_count = np.exp(_log_sum(forward.reshape(3, -1), axis=1) - total)
    empty = np.exp(evidence.counts - _log_sum(evidence.counts) - total)
    by_count = by_count + empty
    positions, count, top = _trace(viterbi, source)
    sacral = (POSITIONS >= -1) & (POSITIONS <= 0)
    return Readings(
        best=positions,
        lumbar_count=LUMBAR_COUNTS[count],
        best_probability=float(np.exp(top - total)),
        counts=dict(zip(LUMBAR_COUNTS, by_count.tolist(), strict=True)),
        levels=np.einsum("nip,npl->il", weight, _LEVEL_TABLE),
        vertebra=weight.sum(axis=(0, 2)),
        sacrum=float(_any_of(forward, each, evidence.steps, start, ~sacral, total)),
    )


def _any_of(
    forward: NDArray[np.float64],
    each: NDArray[np.float64],
    steps: NDArray[np.float64],
    start: NDArray[np.float64],
    others: NDArray[np.bool_],
    total: float,
) -> float:
    """Probability that a spot has a position that is not one of ``others``."""
    without = np.where(others, each, _NEVER)
    reach = np.full_like(forward, _NEVER)
    for spot in range(forward.shape[1]):
        come = start
        if spot:
            come = np.logaddexp(
                start, _log_sum(_arriving(reach[:, :spot], steps[:spot, spot]), axis=1)
            )
        reach[:, spot] = without[:, spot] + come
    none = np.logaddexp(0.0, _log_sum(reach.reshape(-1), axis=0))
    return max(0.0, 1.0 - float(np.exp(none - total)))


def _arriving(before: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, spots * 4, P): weight of reaching each position from each earlier spot by each step."""
    counts, spots, size = before.shape
    moved = np.full((counts, spots, LONGEST_STEP, size), _NEVER)
    for step in range(1, LONGEST_STEP + 1):
        moved[:, :, step - 1, step:] = before[:, :, :-step] + steps[None, :, step - 1, None]
    return moved.reshape(counts, spots * LONGEST_STEP, size)


def _leaving(after: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, spots * 4, P): weight of going on from each position to each later spot by each step."""
    counts, spots, size = after.shape
    moved = np.full((counts, spots, LONGEST_STEP, size), _NEVER)
    for step in range(1, LONGEST_STEP + 1):
        moved[:, :, step - 1, :-step] = after[:, :, step:] + steps[None, :, step - 1, None]
    return moved.reshape(counts, spots * LONGEST_STEP, size)


def _log_sum(values: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Log of the sum of exponentials."""
    top = values.max(axis=axis, keepdims=True)
    return np.squeeze(top, axis) + np.log(np.exp(values - top).sum(axis=axis))


def _trace(
    viterbi: NDArray[np.float64], source: NDArray[np.int64]
) -> tuple[tuple[int | None, ...], int, float]:
    """The best reading: positions, row of its count, weight. The empty one has the weight 0."""
    count, spot, place = np.unravel_index(int(viterbi.argmax()), viterbi.shape)
    found: list[int | None] = [None] * viterbi.shape[1]
    top = float(viterbi[count, spot, place])
    if top <= 0.0:
        return tuple(found), LUMBAR_COUNTS.index(5), 0.0
    at, where = int(spot), int(place)
    while True:
        found[at] = int(POSITIONS[where])
        before, step = source[count, at, where]
        if before < 0:
            return tuple(found), int(count), top
        at, where = int(before), where - int(step)
