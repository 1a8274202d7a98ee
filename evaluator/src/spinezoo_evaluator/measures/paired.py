"""Who errs less on the same films: paired tests, for all films and by kind of film.

Of every film the mean error of those landmarks counts that both sides have measured. Films are
compared by the signed-rank test (*Wilcoxon 1945*), and all tests of a report are corrected together
(*Holm 1979*).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon
from spinezoo_contract.words import counted

from spinezoo_evaluator.measures.errors import Errors

LEAST_FILMS = 8
"""Fewer films are not tested."""

QUANTITIES = {"endplates": ("endplates, degrees", 1.0), "corners": ("corners, % of depth", 100.0)}
"""What is compared: its title, and what it is multiplied by."""

ALL_FILMS = "all films"


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Two sides on the same films.

    Attributes:
        quantity: What is compared.
        group: Kind of film.
        first: One side.
        second: The other.
        films: How many.
        medians: Of the films' mean errors, of both sides.
        better: Share of the films on which the first errs less.
        p_value: Of the signed-rank test.
        corrected: The same by Holm, over all tests of the report.
    """

    quantity: str
    group: str
    first: str
    second: str
    films: int
    medians: tuple[float, float]
    better: float
    p_value: float
    corrected: float = 1.0


def paired_tests(
    pairs: Sequence[tuple[str, Sequence[Errors], str, Sequence[Errors]]],
    groups: Mapping[str, Sequence[str]],
) -> list[PairedTest]:
    """Tests of every two sides in every group of films.

    Args:
        pairs: Name and models of one side, name and models of the other; of several models the
            mean error counts.
        groups: Films by kind.
    """
    found = []
    for first, ours, second, theirs in pairs:
        for quantity, (title, scale) in QUANTITIES.items():
            means = _film_means(quantity, ours, theirs)
            for group, films in {ALL_FILMS: list(means), **groups}.items():
                rows = np.array([means[film] for film in films if film in means]).reshape(-1, 2)
                rows = scale * rows
                if len(rows) < LEAST_FILMS or not (rows[:, 0] != rows[:, 1]).any():
                    continue
                medians = (float(np.median(rows[:, 0])), float(np.median(rows[:, 1])))
                better = float(np.mean(rows[:, 0] < rows[:, 1]))
                p_value = float(wilcoxon(rows[:, 0], rows[:, 1]).pvalue)
                test = PairedTest(title, group, first, second, len(rows), medians, better, p_value)
                found.append(test)
    return _corrected(found)


def _film_means(
    quantity: str, ours: Sequence[Errors], theirs: Sequence[Errors]
) -> dict[str, tuple[float, float]]:
    """Mean errors of both sides by film, of the landmarks that every model has measured."""
    sides = [[each.of_film(quantity) for each in side] for side in (ours, theirs)]
    every = [model for side in sides for model in side]
    means = {}
    for film in set.intersection(*(set(model) for model in every)) if every else set():
        shared = sorted(set.intersection(*(set(model[film]) for model in every)))
        if shared:
            both: list[NDArray[np.float64]] = [
                np.array([[model[film][key] for key in shared] for model in side]) for side in sides
            ]
            means[film] = (float(both[0].mean()), float(both[1].mean()))
    return dict(sorted(means.items()))


def _corrected(tests: Sequence[PairedTest]) -> list[PairedTest]:
    order = sorted(range(len(tests)), key=lambda place: tests[place].p_value)
    corrected = [1.0] * len(tests)
    least = 0.0
    for step, place in enumerate(order):
        least = max(least, min(1.0, tests[place].p_value * (len(tests) - step)))
        corrected[place] = least
    return [replace(test, corrected=p) for test, p in zip(tests, corrected, strict=True)]


def to_markdown(tests: Sequence[PairedTest]) -> str:
    """A line a test; empty where there are none."""
    if not tests:
        return ""
    lines = [
        "## Paired tests",
        "",
        "Mean error of a film, signed ranks (Wilcoxon), corrected (Holm) over "
        f"{counted(len(tests), 'test')}.",
        "",
        "| | films | n | first | second | median of both | first better on | p, corrected |",
        "|---|---|---:|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {test.quantity} | {test.group} | {test.films} | {test.first} | {test.second} "
        f"| {test.medians[0]:.2f}, {test.medians[1]:.2f} | {100 * test.better:.0f} % "
        f"| {test.corrected:.2g} |"
        for test in tests
    ]
    return "\n".join(lines) + "\n"
