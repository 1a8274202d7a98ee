"""How far the fused column's names are believed, fitted on what the zoo outlines on phantoms.

The reader's training fits temperature and threshold on chance outlines, worse than the zoo's on
purpose. Here both are replaced: answers that ``make benchmark`` kept of phantoms, of other seeds
than the tests', are named anew.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError
from spinezoo_contract.types import Segment
from spinezoo_serving.disk import replace_file
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.built_in import BuiltInCard
from spinezoo_spine.column.naming import named_vertebrae
from spinezoo_spine.column.reader.card import READER
from spinezoo_spine.column.reader.looking import ReaderInput
from spinezoo_spine.column.reader.network import ColumnReader, Said
from spinezoo_spine.column.reader.thresholds import least_threshold

from spinezoo_evaluator.benchmark.measuring import load_film
from spinezoo_evaluator.results.columns import ColumnCounts, count_column
from spinezoo_evaluator.results.records import FUSED, RunFolder, named, of_networks

MOST_WRONG = 0.005
"""Share of wrong names among the recognised vertebrae of patients with five lumbar ones."""

LEAST_THRESHOLD = 0.7
"""A name is never given from less on, whatever phantoms say: real films are of another kind. On
phantoms made worse, and in single networks' columns, names below it are wrong too often."""

TEMPERATURES = (0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2.0)

CURVE = (0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.99)
"""Thresholds of :func:`curve`."""

KEY = "fused_columns"
"""Of the figures in the reader's record."""

Names = Sequence[tuple[float, bool]]
"""Confidence of the likeliest name of each vertebra, and whether it is right."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was fitted, and what it does to the names that it was fitted on.

    Attributes:
        temperature: Evidence is divided by it.
        threshold: A name is given from this confidence on.
        vertebrae: Recognised ones of patients with five lumbar vertebrae.
        right: Share of them that are named right.
        wrong: Share of them that are named wrong.
    """

    temperature: float
    threshold: float
    vertebrae: int
    right: float
    wrong: float


@dataclass(frozen=True, slots=True, eq=False)
class KeptColumn:
    """One film of a run.

    Attributes:
        outlines: The fused vertebrae, without names.
        others: What single networks said, by name.
        true: The true ones, with levels.
        pixels: (height, width) film, bright means dense.
    """

    outlines: tuple[Segment, ...]
    others: tuple[tuple[Segment, ...], ...]
    true: tuple[Segment, ...]
    pixels: NDArray[Any]


class RememberingReader(ColumnReader):
    """Looks along each column of one film once, however often its evidence is weighed."""

    def __init__(self, card: BuiltInCard) -> None:
        """As :class:`ColumnReader`."""
        super().__init__(card)
        self._said: dict[bytes, Said] = {}

    def __call__(self, given: ReaderInput) -> Said:
        """As :class:`ColumnReader` says it."""
        column = given.views.tobytes() + given.facts.tobytes()
        if column not in self._said:
            self._said[column] = super().__call__(given)
        return self._said[column]

    def counts(self, column: KeptColumn, temperatures: Sequence[float]) -> list[ColumnCounts]:
        """What is counted of a film at each temperature."""
        self._said.clear()
        calibration = self.calibration
        found: list[ColumnCounts] = []
        sacrum = any(segment.level == "S1" for segment in column.true)
        for temperature in temperatures:
            self.calibration = dataclasses.replace(calibration, temperature=temperature)
            said = named_vertebrae(column.outlines, column.pixels, self, column.others)
            found.append(count_column(column.true, said, sacrum_in_view=sacrum))
        self.calibration = calibration
        return found


def loss_of(names: Names) -> float:
    """Mean negative log probability of what is true of the likeliest names."""
    likely = [confidence if right else 1.0 - confidence for confidence, right in names]
    return float(-np.log(np.clip(likely, 1e-3, 1.0)).mean())


def fit_names(by_temperature: dict[float, Names]) -> Fitted:
    """The temperature that suits names best, and the lowest threshold that keeps wrong ones rare.

    Args:
        by_temperature: The same vertebrae's names at each temperature.

    Raises:
        ConfigurationError: There are no names, or even sure ones are wrong too often.
    """
    if not any(by_temperature.values()):
        raise ConfigurationError("no film holds a vertebra to name; choose another run")
    temperature = min(by_temperature, key=lambda each: loss_of(by_temperature[each]))
    names = by_temperature[temperature]
    confidence, right = (np.array(each) for each in zip(*names, strict=True))
    threshold = least_threshold(confidence, ~right, MOST_WRONG * len(names), least=LEAST_THRESHOLD)
    if threshold is None:
        raise ConfigurationError(
            f"more than {100 * MOST_WRONG:g} % of names are wrong at any threshold; train the "
            "reader again"
        )
    given = right[confidence >= threshold]
    shares = (float((given == wanted).sum()) / len(names) for wanted in (True, False))
    return Fitted(temperature, threshold, len(names), *shares)


def curve(five: Names, others: Names) -> Iterator[str]:
    """What a higher threshold would spare and cost, as lines of a table.

    Args:
        five: Names of patients with five lumbar vertebrae.
        others: Names of those with four or six.
    """
    yield "| threshold | five lumbar vertebrae: right | wrong | four or six: right | wrong |"
    yield "|---:|---:|---:|---:|---:|"
    for threshold in CURVE:
        shares = [
            100.0
            * sum(right == wanted for c, right in names if c >= threshold)
            / max(1, len(names))
            for names in (five, others)
            for wanted in (True, False)
        ]
        yield f"| {threshold:g} | " + " | ".join(f"{share:.1f}" for share in shares) + " |"


def kept_columns(run: Path, data: Path) -> Iterator[KeptColumn]:
    """The fused column of each film whose answer was kept.

    Args:
        run: Folder of a report.
        data: Its films with their outlines.

    Raises:
        ConfigurationError: There is none, or that of a film is damaged.
    """
    films, folder = FilmSet.open(data), RunFolder(run)
    found = False
    for name in films.names:
        answer = folder.read_answer(name) if folder.keeps(name) else {}
        if named(FUSED) not in answer:
            continue
        kept = answer[named(FUSED)]
        found = True
        yield KeptColumn(
            tuple(dataclasses.replace(segment, level=None) for segment in kept),
            tuple(segments for _, segments in sorted(of_networks(answer).items())),
            load_film(films, name).vertebrae(),
            films.film(name).pixels,
        )
    if not found:
        raise ConfigurationError(
            f"{run.name} keeps no answer about these films; run make benchmark on them first"
        )


def write_fit(fitted: Fitted, films: int, folder: Path) -> None:
    """Writes what was fitted, and its figures, into the record of a reader."""
    path = folder / READER.record_file
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    record["calibration"] |= {
        "temperature": fitted.temperature,
        "threshold": fitted.threshold,
    }
    record["metrics"][KEY] = {
        "films": films,
        "five_lumbar": {
            "vertebrae": fitted.vertebrae,
            "named_right": round(fitted.right, 4),
            "named_wrong": round(fitted.wrong, 4),
        },
    }
    replace_file(path, json.dumps(record, indent=2) + "\n")
