"""Readings of a column: which vertebra each spot is, counted from the sacrum; all weighed exactly.

A reading gives every spot of a chain either a position (S1 is 0, the vertebra above it 1, S2 -1)
or says that no single vertebra is there, and gives the column four, five or six lumbar vertebrae.
Positions grow from below; how far two neighbours are apart says by how much. The weight of a
reading is the sum of what the network says of each spot and of each step. Sums over all readings
are made by dynamic programming, so probabilities of names are exact for these weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import NAMED_LEVELS

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

LEVELS = NAMED_LEVELS[::-1]
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
_LEAST_LIKELY = 1e-6

AGREED = 1.5
"""Power of the mean of several looks: where they agree they say more than one of them. 2 has less
loss on phantoms, but more wrong names on such as were made worse."""


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
        best_probability: Of the best reading among all, at the first look.
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
    sacral = (POSITIONS >= -1) & (POSITIONS <= 0)
    # Three passes at once: all readings, those without S1 and S2, and the best one.
    each_of = np.stack([each, np.where(sacral, _NEVER, each), each])
    reach, before = _shifted((3, *shape), back=True)
    reach[:, :, 0] = each_of[:, :, 0] + start
    for spot in range(1, spots):
        arrive = before[:, :, :spot] + evidence.steps[:spot, spot, :, None]
        arrive = arrive.reshape(3, 3, spot * LONGEST_STEP, size)
        come = arrive.max(axis=2)
        come[2] = np.maximum(come[2], start)
        rest = np.log(np.exp(arrive[:2] - come[:2, :, None]).sum(axis=2))
        come[:2] = np.logaddexp(start, come[:2] + rest)
        reach[:, :, spot] = each_of[:, :, spot] + come
    forward, without, viterbi = reach
    backward = np.zeros(shape)
    leaving, after = _shifted(shape, back=False)
    for spot in range(spots - 1, -1, -1):
        if spot < spots - 1:
            leave = after[:, spot + 1 :] + evidence.steps[spot, spot + 1 :, :, None]
            leave = leave.reshape(3, -1, size)
            backward[:, spot] = np.logaddexp(0.0, _log_sum(leave, axis=1))
        leaving[:, spot] = backward[:, spot] + each[:, spot]
    # The reading without any vertebra has the weight 1, whatever the count.
    total = float(np.logaddexp(0.0, _log_sum(forward.reshape(-1), axis=0)))
    weight = np.exp(forward + backward - total)
    by_count = np.exp(_log_sum(forward.reshape(3, -1), axis=1) - total)
    empty = np.exp(evidence.counts - _log_sum(evidence.counts) - total)
    by_count = by_count + empty
    positions, count, top = _trace(viterbi, before[2], evidence.steps, start)
    none_sacral = float(np.logaddexp(0.0, _log_sum(without.reshape(-1), axis=0)))
    return Readings(
        best=positions,
        lumbar_count=LUMBAR_COUNTS[count],
        best_probability=float(np.exp(top - total)),
        counts=dict(zip(LUMBAR_COUNTS, by_count.tolist(), strict=True)),
        levels=np.einsum("nip,npl->il", weight, _LEVEL_TABLE),
        vertebra=weight.sum(axis=(0, 2)),
        sacrum=max(0.0, 1.0 - float(np.exp(none_sacral - total))),
    )


def averaged(first: Readings, others: Sequence[tuple[Readings, Sequence[int | None]]]) -> Readings:
    """Several looks at one film, weighed alike.

    The probabilities of levels are the mean to the power of :data:`AGREED`, those of the numbers of
    lumbar vertebrae the mean itself. The best reading is the likeliest one by these, of the
    likeliest number, with positions that grow from below.

    Args:
        first: Of the N spots that are to be read.
        others: Of other columns of the same film; with each, for each of the N spots, the row in it
            that is the same place. None: there is none, and that look says nothing of the spot.
    """
    levels, vertebra = first.levels.copy(), first.vertebra.copy()
    looks = np.ones(len(vertebra))
    for other, partners in others:
        for row, partner in enumerate(partners):
            if partner is not None:
                levels[row] += other.levels[partner]
                vertebra[row] += other.vertebra[partner]
                looks[row] += 1.0
    levels /= looks[:, None]
    vertebra /= looks
    levels, vertebra = _sharper(levels, vertebra, np.where(looks > 1.0, AGREED, 1.0))
    whole = [first, *(other for other, _ in others)]
    counts = {
        count: sum(each.counts[count] for each in whole) / len(whole) for count in LUMBAR_COUNTS
    }
    lumbar_count = max(counts, key=lambda count: counts[count])
    return replace(
        first,
        best=_growing(levels, vertebra, lumbar_count),
        lumbar_count=lumbar_count,
        counts=counts,
        levels=levels,
        vertebra=vertebra,
        sacrum=sum(each.sacrum for each in whole) / len(whole),
    )


def _sharper(
    levels: NDArray[np.float64], vertebra: NDArray[np.float64], power: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Levels and vertebra of (N,) spots to a power; what is no level counts as one more."""
    rest = np.clip(1.0 - levels.sum(axis=1), 0.0, 1.0)
    named = np.maximum(levels, 0.0) ** power[:, None]
    other = rest**power
    total = named.sum(axis=1) + other
    named, other = named / total[:, None], other / total
    beyond = np.clip(vertebra - levels.sum(axis=1), 0.0, None) / np.maximum(rest, _LEAST_LIKELY)
    return named, named.sum(axis=1) + other * np.minimum(beyond, 1.0)


def _growing(
    levels: NDArray[np.float64], vertebra: NDArray[np.float64], lumbar_count: int
) -> tuple[int | None, ...]:
    """The positions, growing from below, whose probabilities have the greatest product.

    Args:
        levels: (N, levels) probabilities.
        vertebra: (N,) probability of a vertebra.
        lumbar_count: The number of lumbar vertebrae that positions are named by.
    """
    table = _LEVEL_TABLE[LUMBAR_COUNTS.index(lumbar_count)]
    beyond = np.maximum(vertebra - levels.sum(axis=1), 0.0)
    named = table.any(axis=1)
    likely = np.where(named, levels @ table.T, beyond[:, None])
    each = np.log(np.maximum(likely, _LEAST_LIKELY))
    none = np.log(np.maximum(1.0 - vertebra, _LEAST_LIKELY))
    # Weight of the best choice so far by its highest position; the first one: none yet.
    reach = np.full(len(POSITIONS) + 1, _NEVER)
    reach[0] = 0.0
    came: list[NDArray[np.int64]] = []
    for spot in range(len(levels)):
        lower = np.maximum.accumulate(reach)[:-1]
        place = np.array([int(reach[: p + 1].argmax()) for p in range(len(POSITIONS))])
        taken = lower + each[spot]
        left = reach + none[spot]
        chosen = np.concatenate([[False], taken > left[1:]])
        came.append(np.where(chosen, np.concatenate([[0], place]), -1))
        reach = np.where(chosen, np.concatenate([[_NEVER], taken]), left)
    best = int(reach.argmax())
    found: list[int | None] = []
    for back in reversed(came):
        before = int(back[best])
        found.append(None if before < 0 else int(POSITIONS[best - 1]))
        best = best if before < 0 else before
    return tuple(reversed(found))


def _shifted(
    shape: tuple[int, ...], *, back: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights by position, to be filled, and a view of them one to four positions away.

    Args:
        shape: (..., P).
        back: Whether the view holds lower positions; else higher ones.

    Returns:
        Weights of ``shape``, and their view (..., 4, P); where there is no such position: never.
    """
    size = shape[-1]
    room = np.full((*shape[:-1], size + LONGEST_STEP), _NEVER)
    windows = np.lib.stride_tricks.sliding_window_view(room, size, axis=-1)
    if back:
        return room[..., LONGEST_STEP:], windows[..., LONGEST_STEP - 1 :: -1, :]
    return room[..., :size], windows[..., 1:, :]


def _log_sum(values: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Log of the sum of exponentials."""
    top = values.max(axis=axis, keepdims=True)
    return np.squeeze(top, axis) + np.log(np.exp(values - top).sum(axis=axis))


def _trace(
    viterbi: NDArray[np.float64],
    before: NDArray[np.float64],
    steps: NDArray[np.float64],
    start: NDArray[np.float64],
) -> tuple[tuple[int | None, ...], int, float]:
    """The best reading: positions, row of its count, weight. The empty one has the weight 0.

    Args:
        viterbi: (3, N, P) weight of the best reading that ends at a spot and position.
        before: (3, N, 4, P) the same, one to four positions below.
        steps: Of the evidence.
        start: (3, P) what a reading weighs that starts at a position.
    """
    count, spot, place = (int(n) for n in np.unravel_index(int(viterbi.argmax()), viterbi.shape))
    found: list[int | None] = [None] * viterbi.shape[1]
    top = float(viterbi[count, spot, place])
    if top <= 0.0:
        return tuple(found), LUMBAR_COUNTS.index(5), 0.0
    while True:
        found[spot] = int(POSITIONS[place])
        arrive = (before[count, :spot, :, place] + steps[:spot, spot]).reshape(-1)
        choice = int(arrive.argmax()) if spot else 0
        if not spot or arrive[choice] <= start[count, place]:
            return tuple(found), count, top
        spot, place = choice // LONGEST_STEP, place - (choice % LONGEST_STEP + 1)
