"""Figures of many films: sums that do not depend on their order.

Tallies hold integers and exact sums only: films measured in any order, on any number of machines,
give identical figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from spinezoo_contract.errors import BadInputError

from spinezoo_spine.metrics.counts import (
    STRUCTURE_KEYS,
    Counts,
    MatchCounts,
    merged_from_json,
    pixels_from_json,
    pixels_to_json,
)
from spinezoo_spine.metrics.film import FilmMeasurement
from spinezoo_spine.metrics.registry import METRICS, MetricSpec, metric_values


@dataclass(frozen=True, slots=True)
class MetricValue:
    """One metric over a set of films.

    Attributes:
        spec: What it is.
        film_mean: Mean of the films' own values (the study's Table 1), or None: no film defines it.
        pooled: Value of the summed counts, or None where undefined.
        film_count: Films that define it.
    """

    spec: MetricSpec
    film_mean: float | None
    pooled: float | None
    film_count: int


@dataclass
class _ExactMean:
    """A sum of doubles without rounding: every double is a fraction with a power of 2 below."""

    total: Fraction = Fraction(0)
    count: int = 0

    def mean(self, *, extra_zeros: int = 0) -> float | None:
        """The mean, rounded once, with ``extra_zeros`` further values of 0."""
        return float(self.total / (self.count + extra_zeros)) if self.count + extra_zeros else None


def _zero_means() -> dict[str, _ExactMean]:
    return {name: _ExactMean() for name in METRICS}


@dataclass
class Tally:
    """What is kept of any number of films of one model: integers and exact sums, constant in size.

    ``a + b == b + a``, and films added in any order or grouping give equal tallies and therefore
    the same figures to the last bit.
    """

    film_count: int = 0
    _counts: Counts = field(default_factory=Counts.zero)
    _means: dict[str, _ExactMean] = field(default_factory=_zero_means)

    @classmethod
    def of(cls, films: Iterable[FilmMeasurement]) -> Tally:
        """The tally of some films."""
        tally = cls()
        for film in films:
            tally.add(film)
        return tally

    def add(self, film: FilmMeasurement) -> None:
        """Counts one film in."""
        counts = film.counts()
        self.film_count += 1
        self._counts = self._counts + counts
        for name, value in metric_values(counts).items():
            if value is not None:
                self._means[name].total += Fraction(value)
                self._means[name].count += 1

    def __add__(self, other: Tally) -> Tally:
        if not isinstance(other, Tally):
            return NotImplemented
        return Tally(
            film_count=self.film_count + other.film_count,
            _counts=self._counts + other._counts,
            _means={
                name: _ExactMean(
                    self._means[name].total + other._means[name].total,
                    self._means[name].count + other._means[name].count,
                )
                for name in METRICS
            },
        )

    def metrics(self) -> dict[str, MetricValue]:
        """Every metric of ``registry.METRICS``; without films every value is None."""
        pooled = metric_values(self._counts) if self.film_count else dict.fromkeys(METRICS)
        return {
            name: MetricValue(spec, self._means[name].mean(), pooled[name], self._means[name].count)
            for name, spec in METRICS.items()
        }

    def film_mean(self, name: str, *, failed_films: int = 0) -> float | None:
        """The film mean of one metric when ``failed_films`` further films are worth 0 each.

        Args:
            name: A name of ``registry.METRICS``.
            failed_films: Films that the model should have answered and did not; 0 or more.
        """
        return self._means[name].mean(extra_zeros=failed_films)

    def to_json(self) -> dict[str, Any]:
        """Plain values; exact sums as ``"numerator/denominator"``."""
        counts = self._counts
        return {
            "film_count": self.film_count,
            "merged": [list(row) for row in counts.merged],
            "pixels": pixels_to_json(counts.pixels),
            "vertebrae": counts.vertebrae.to_json(),
            "objects": {key: matches.to_json() for key, matches in counts.objects.items()},
            "film_sums": {n: [str(m.total), m.count] for n, m in self._means.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tally:
        """The opposite of :meth:`to_json`.

        Raises:
            BadInputError: Not a tally of these metrics.
        """
        try:
            return cls(
                film_count=int(data["film_count"]),
                _counts=Counts(
                    merged_from_json(data["merged"]),
                    pixels_from_json(data["pixels"]),
                    MatchCounts.from_json(data["vertebrae"]),
                    {key: MatchCounts.from_json(data["objects"][key]) for key in STRUCTURE_KEYS},
                ),
                _means={
                    name: _ExactMean(
                        Fraction(data["film_sums"][name][0]), int(data["film_sums"][name][1])
                    )
                    for name in METRICS
                },
            )
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise BadInputError(
                f"not a tally of these metrics ({type(error).__name__}: {error}); measure again"
            ) from error
