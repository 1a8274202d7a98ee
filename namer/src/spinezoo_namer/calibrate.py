"""From what the network says to probabilities that can be believed: all on phantoms.

The films are of another seed than those of the training. Temperature and threshold are fitted on
columns outlined from end to end, as networks outline them, on films as they come and on the same
made worse: on films of another kind than phantoms the network is surer than it should be, and
harder phantoms are the only other kind there is to fit on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from spinezoo_spine.column.reader.readings import LEVELS, Evidence, level_of, read_column
from spinezoo_spine.column.reader.thresholds import least_threshold
from torch import nn

from spinezoo_namer.examples import NONE, Example, FilmKind, example_of
from spinezoo_namer.export import named_input
from spinezoo_namer.store import StoredFilm

COUNT_SHARES = (0.05, 0.90, 0.05)
"""Shares of four, five and six lumbar vertebrae: those of the generator's films. They are served as
prior, and weigh films in calibration; training shows the rare ones more often."""

TURNED_FAVOUR = 2.0
"""Nats that are added to "turned by 90 degrees" when a training ends. The films to learn from show
turned films from the front as often as turned lateral ones; hospitals hardly ever send the former.
With 2, 95 of 100 turned lateral columns of development phantoms are told."""

MOST_WRONG = 0.01
"""Share of wrong names among vertebrae of patients with five lumbar ones that the threshold allows;
of wrong counts among films; of other films taken for upright lateral ones."""

LEAST_THRESHOLD = 0.5
"""A name that is less likely than not is never given."""

TEMPERATURES = np.exp(np.linspace(np.log(0.6), np.log(4.0), 24))


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What the network says of an example, and the truth.

    Attributes:
        evidence: Not cooled.
        views: (4,) probability of each kind of film.
        levels: (N,) true level of each spot; None: no single vertebra, or beyond the names.
        positions: (N,) true positions.
        outlined: (N,) whether a spot is outlined.
        lumbar_count: 4, 5 or 6.
        kind: What the film shows.
        named: Whether positions count.
    """

    evidence: Evidence
    views: NDArray[np.float64]
    levels: tuple[str | None, ...]
    positions: NDArray[np.int64]
    outlined: NDArray[np.bool_]
    lumbar_count: int
    kind: FilmKind
    named: bool


def judge(network: nn.Module, example: Example) -> Judged:
    """Asks the network about one example."""
    given = example.given
    tensors = [torch.from_numpy(array) for array in named_input(given).values()]
    with torch.no_grad():
        below, above, steps, counts, kind = (each.double().numpy() for each in network(*tensors))
    views = np.exp(kind - kind.max())
    levels = tuple(
        None if position == NONE else level_of(int(position), example.lumbar_count)
        for position in example.positions
    )
    return Judged(
        Evidence(below, above, steps, counts),
        views / views.sum(),
        levels,
        example.positions,
        given.outlined > 0,
        example.lumbar_count,
        example.kind,
        example.named,
    )


def judge_all(
    network: nn.Module,
    films: Sequence[StoredFilm],
    seed: int,
    *,
    hard: bool = False,
    whole: bool = False,
) -> list[Judged]:
    """All films with chance outlines; the same arguments give the same examples."""
    return [
        judge(
            network,
            example_of(film, np.random.default_rng((seed, place)), hard=hard, whole=whole),
        )
        for place, film in enumerate(films)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What is said of every outlined vertebra with a true name, or of every film.

    Attributes:
        confidence: (M,) probability of what is said; 0 where nothing is.
        right: (M,) whether it is right.
        loss: (M,) negative log probability of the truth.
        five: (M,) whether the patient has five lumbar vertebrae.
    """

    confidence: NDArray[np.float64]
    right: NDArray[np.bool_]
    loss: NDArray[np.float64]
    five: NDArray[np.bool_]

    @property
    def weights(self) -> NDArray[np.float64]:
        """(M,) sum 1: patients with five lumbar vertebrae weigh as often as they come."""
        weights = np.zeros(len(self.five))
        for share, rows in ((COUNT_SHARES[1], self.five), (1.0 - COUNT_SHARES[1], ~self.five)):
            if rows.any():
                weights[rows] = share / rows.sum()
        return weights / max(weights.sum(), 1e-9)


def names_of(judged: Iterable[Judged], temperature: float) -> Said:
    """Reads every column at a temperature."""
    confidence, right, loss, five = [], [], [], []
    for one in judged:
        if not one.named:
            continue
        readings = read_column(one.evidence.cooled(temperature))
        for spot, level in enumerate(one.levels):
            if level is None or not one.outlined[spot]:
                continue
            position = readings.best[spot]
            said = None if position is None else level_of(position, readings.lumbar_count)
            confidence.append(0.0 if said is None else readings.levels[spot, LEVELS.index(said)])
            right.append(said == level)
            loss.append(-np.log(max(readings.levels[spot, LEVELS.index(level)], 1e-6)))
            five.append(one.lumbar_count == 5)
    return Said(np.array(confidence), np.array(right), np.array(loss), np.array(five))


def counts_of(judged: Iterable[Judged], temperature: float) -> Said:
    """The likeliest number of lumbar vertebrae of every film."""
    films = [one for one in judged if one.named]
    counts = [read_column(one.evidence.cooled(temperature)).counts for one in films]
    best = [max(each, key=lambda count: each[count]) for each in counts]
    pairs = list(zip(films, counts, best, strict=True))
    return Said(
        np.array([each[count] for _, each, count in pairs]),
        np.array([count == one.lumbar_count for one, _, count in pairs]),
        np.array([-np.log(max(each[one.lumbar_count], 1e-6)) for one, each, _ in pairs]),
        np.array([one.lumbar_count == 5 for one in films]),
    )


def best_temperature(judged: Sequence[Judged]) -> float:
    """The temperature at which true names are likeliest."""
    named = [names_of(judged, each) for each in TEMPERATURES]
    losses = [float(names.loss @ names.weights) for names in named]
    return round(float(TEMPERATURES[int(np.argmin(losses))]), 3)


def name_threshold(names: Said) -> float:
    """The lowest that keeps wrong names under :data:`MOST_WRONG` on five lumbar vertebrae.

    Where ribs do not show how many there are, five are presumed, as people do; the answer says
    whether the count was read (:func:`count_threshold`).
    """
    return _least_threshold(names.confidence, ~names.right & names.five, names.five.sum())


def count_threshold(counts: Said) -> float:
    """The lowest threshold that keeps wrong counts under :data:`MOST_WRONG` of films."""
    return _least_threshold(counts.confidence, np.where(counts.right, 0.0, counts.weights), 1.0)


def view_threshold(judged: Sequence[Judged]) -> float:
    """The lowest probability of "upright lateral" that keeps other films under 1 % of these."""
    others = np.array([one.views[0] for one in judged if one.kind is not FilmKind.LATERAL])
    return _least_threshold(others, np.ones(len(others)), len(others))


def _least_threshold(confidence: NDArray[np.float64], wrong: NDArray[Any], total: float) -> float:
    found = least_threshold(confidence, wrong, MOST_WRONG * total, least=LEAST_THRESHOLD)
    return 0.99 if found is None else found


def calibration_error(names: Said, bins: int = 10) -> float:
    """Expected calibration error of names: bins of one width."""
    weights, error = names.weights, 0.0
    place = np.minimum((names.confidence * bins).astype(int), bins - 1)
    for each in range(bins):
        inside = place == each
        if inside.any():
            error += abs(((names.right - names.confidence) * weights)[inside].sum())
    return float(error)


def measured(judged: Sequence[Judged], calibration: dict[str, float]) -> dict[str, Any]:
    """Figures for the card."""
    names = names_of(judged, calibration["temperature"])
    counts = counts_of(judged, calibration["temperature"])
    given = names.confidence >= calibration["threshold"]
    others = [one for one in judged if one.kind is not FilmKind.LATERAL]
    lateral = [one for one in judged if one.kind is FilmKind.LATERAL]
    limit = calibration["view_threshold"]

    def share(hits: Sequence[bool] | NDArray[np.bool_]) -> float | None:
        return round(float(np.mean(hits)), 4) if len(hits) else None

    def count_shares(rows: NDArray[np.bool_]) -> dict[str, float | None]:
        told = counts.confidence >= calibration["count_threshold"]
        return {
            "read_right": share((told & counts.right)[rows]),
            "read_wrong": share((told & ~counts.right)[rows]),
        }

    def shares(rows: NDArray[np.bool_]) -> dict[str, Any]:
        return {
            "vertebrae": int(rows.sum()),
            "named_right": share((given & names.right)[rows]),
            "named_wrong": share((given & ~names.right)[rows]),
        }

    return {
        "vertebrae": len(given),
        "five_lumbar": shares(names.five) | {"count": count_shares(counts.five)},
        "four_or_six_lumbar": shares(~names.five) | {"count": count_shares(~counts.five)},
        "expected_calibration_error": round(calibration_error(names), 4),
        "lateral_films": len(lateral),
        "lateral_films_accepted": share([one.views[0] >= limit for one in lateral]),
        "other_films": len(others),
        "other_films_refused": share([one.views[0] < limit for one in others]),
        "other_films_said": share([int(one.views.argmax()) == one.kind for one in others]),
    }
