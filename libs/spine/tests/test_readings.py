"""All readings of a column are weighed exactly: compared with counting every one of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from spinezoo_spine.column.reader.readings import (
    AGREED,
    BY_ABOVE,
    BY_BELOW,
    FROM_ABOVE,
    FROM_BELOW,
    LEVELS,
    LONGEST_STEP,
    LOWEST,
    LUMBAR_COUNTS,
    POSITIONS,
    Evidence,
    averaged,
    level_of,
    read_column,
)


def some_evidence(spots: int, seed: int, spread: float = 2.0) -> Evidence:
    rng = np.random.default_rng(seed)
    return Evidence(
        rng.normal(0, spread, (spots, FROM_BELOW)),
        rng.normal(0, spread, (spots, FROM_ABOVE)),
        rng.normal(0, spread, (spots, spots, LONGEST_STEP)),
        np.log([0.1, 0.7, 0.2]),
    )


def every_reading(evidence: Evidence):
    """(count, positions, weight) of every reading, one after the other."""
    spots = len(evidence.below)
    choices = [None, *POSITIONS.tolist()]
    for row, count in enumerate(LUMBAR_COUNTS):
        for positions in itertools.product(choices, repeat=spots):
            there = [(s, p) for s, p in enumerate(positions) if p is not None]
            steps = [b[1] - a[1] for a, b in itertools.pairwise(there)]
            if any(not 1 <= step <= LONGEST_STEP for step in steps):
                continue
            weight = evidence.counts[row]
            for spot, position in there:
                place = position - LOWEST
                weight += evidence.below[spot, BY_BELOW[place]]
                weight += evidence.above[spot, BY_ABOVE[row, place]]
            for (low, _), (high, _), step in zip(there, there[1:], steps, strict=False):
                weight += evidence.steps[low, high, step - 1]
            yield count, positions, weight


@pytest.mark.parametrize("seed", range(3))
def test_sums_over_readings_are_those_of_counting_each(seed):
    evidence = some_evidence(3, seed)
    found = read_column(evidence)
    every = list(every_reading(evidence))
    weights = np.exp([weight for _, _, weight in every])
    shares = weights / weights.sum()
    levels = np.zeros((3, len(LEVELS)))
    vertebra, counts, sacrum = np.zeros(3), dict.fromkeys(LUMBAR_COUNTS, 0.0), 0.0
    for (count, positions, _), share in zip(every, shares, strict=True):
        counts[count] += share
        sacrum += share * any(p in (-1, 0) for p in positions)
        for spot, position in enumerate(positions):
            if position is None:
                continue
            vertebra[spot] += share
            level = level_of(position, count)
            if level is not None:
                levels[spot, LEVELS.index(level)] += share
    np.testing.assert_allclose(found.levels, levels, atol=1e-9)
    np.testing.assert_allclose(found.vertebra, vertebra, atol=1e-9)
    assert found.counts == pytest.approx(counts)
    assert found.sacrum == pytest.approx(sacrum)
    best = max(
        (each for each in every if any(p is not None for p in each[1])), key=lambda each: each[2]
    )
    assert (found.lumbar_count, found.best) == best[:2]
    assert found.best_probability == pytest.approx(np.exp(best[2]) / weights.sum())


def test_evidence_against_every_vertebra_gives_a_reading_without_any():
    evidence = some_evidence(4, 0)
    said = read_column(
        Evidence(evidence.below - 50, evidence.above, evidence.steps, evidence.counts)
    )
    assert said.best == (None,) * 4
    assert said.vertebra.max() < 1e-6
    assert said.sacrum < 1e-6


def test_cooling_makes_readings_less_sure_and_keeps_the_best_one():
    evidence = some_evidence(6, 5)
    warm, cool = read_column(evidence), read_column(evidence.cooled(3.0))
    assert cool.best_probability < warm.best_probability


@pytest.mark.parametrize(
    ("position", "count", "level"),
    [
        *[(-2, 5, None), (-1, 5, "S2"), (0, 5, "S1"), (1, 5, "L5"), (5, 5, "L1"), (6, 5, "T12")],
        *[(9, 5, "T9"), (10, 5, None), (1, 4, "L4"), (5, 4, "T12"), (1, 6, "L6"), (7, 6, "T12")],
    ],
)
def test_positions_have_names_by_the_number_of_lumbar_vertebrae(position, count, level):
    assert level_of(position, count) == level


def test_four_and_six_lumbar_vertebrae_are_read_where_the_evidence_says_so():
    for row, count in enumerate(LUMBAR_COUNTS):
        spots = count + 2  # S1 to T12
        below = np.zeros((spots, FROM_BELOW))
        above = np.zeros((spots, FROM_ABOVE))
        steps = np.full((spots, spots, LONGEST_STEP), -9.0)
        for spot in range(spots):
            steps[spot, spot + 1 : spot + 2, 0] = 3.0
            below[spot] += 2.0
        below[0, 2] += 9.0  # S1
        above[-1, 4] += 9.0  # T12
        found = read_column(Evidence(below, above, steps, np.log([0.1, 0.8, 0.1])))
        assert found.lumbar_count == LUMBAR_COUNTS[row]
        assert found.best == tuple(range(spots))
        assert found.counts[count] > 0.9


@pytest.mark.parametrize("seed", range(5))
def test_the_best_reading_of_two_looks_is_the_likeliest_that_grows_from_below(seed):
    first, second = (read_column(some_evidence(3, 10 * seed + look, 1.0)) for look in (1, 2))
    both = averaged(first, [(second, [1, None, 2])])
    mean = (first.levels[0] + second.levels[1]) / 2
    whole = np.append(mean, 1 - mean.sum()) ** AGREED
    np.testing.assert_allclose(both.levels[0], mean**AGREED / whole.sum())
    np.testing.assert_allclose(both.levels[1], first.levels[1])
    assert (both.levels.sum(axis=1) <= both.vertebra + 1e-9).all()
    assert (both.vertebra <= 1 + 1e-9).all()
    assert both.counts == pytest.approx(
        {c: (first.counts[c] + second.counts[c]) / 2 for c in both.counts}
    )

    def likely(positions) -> float:
        product = 1.0
        for spot, position in enumerate(positions):
            level = None if position is None else level_of(position, both.lumbar_count)
            if position is None:
                product *= 1 - both.vertebra[spot]
            elif level is None:
                product *= both.vertebra[spot] - both.levels[spot].sum()
            else:
                product *= both.levels[spot, LEVELS.index(level)]
        return product

    def grows(positions) -> bool:
        there = [position for position in positions if position is not None]
        return all(low < high for low, high in itertools.pairwise(there))

    every = filter(grows, itertools.product([None, *POSITIONS.tolist()], repeat=3))
    assert likely(both.best) == pytest.approx(max(likely(each) for each in every))


def test_the_surer_of_two_looks_that_contradict_each_other_is_believed():
    def evidence(lowest: int, nats: float) -> Evidence:
        below = np.full((5, FROM_BELOW), 5.0)
        below[0, lowest + 2] += nats
        steps = np.full((5, 5, LONGEST_STEP), -9.0)
        for spot in range(4):
            steps[spot, spot + 1, 0] = 3.0
        return Evidence(below, np.zeros((5, FROM_ABOVE)), steps, np.log([0.05, 0.9, 0.05]))

    weak, strong = read_column(evidence(0, 4.0)), read_column(evidence(1, 9.0))
    assert weak.best == (0, 1, 2, 3, 4)
    assert averaged(weak, [(strong, range(5))]).best == (1, 2, 3, 4, 5)
    assert averaged(weak, [(strong, [None] * 5)]).best == weak.best
