"""What is counted, as integers and exact sums: the same for one film and for many added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from spinezoo_contract.types import Structure

from spinezoo_spine.metrics.matching import Matches
from spinezoo_spine.metrics.study import StudyMetrics, study_metrics

STRUCTURE_KEYS = tuple(structure.name.lower() for structure in Structure)
"""The structures' names in reports and files."""

Matrix = tuple[tuple[int, int], tuple[int, int]]
"""Pixels ``((background right, only prediction), (only truth, both))`` of the merged mask."""


@dataclass(frozen=True, slots=True)
class PixelCounts:
    """Pixels of one class."""

    both: int
    truth: int
    prediction: int

    def __add__(self, other: PixelCounts) -> PixelCounts:
        return PixelCounts(
            self.both + other.both, self.truth + other.truth, self.prediction + other.prediction
        )


@dataclass(frozen=True, slots=True)
class MatchCounts:
    """Matches of any number of films; the sum of the IoUs is exact."""

    matched: int
    true: int
    predicted: int
    iou_sum: Fraction

    @classmethod
    def of(cls, matches: Matches) -> MatchCounts:
        """The counts of one film."""
        iou_sum = sum((Fraction(iou) for iou in matches.matched_ious), Fraction(0))
        return cls(len(matches.matched_ious), matches.true_count, matches.predicted_count, iou_sum)

    def __add__(self, other: MatchCounts) -> MatchCounts:
        return MatchCounts(
            self.matched + other.matched,
            self.true + other.true,
            self.predicted + other.predicted,
            self.iou_sum + other.iou_sum,
        )

    def to_json(self) -> list[Any]:
        """Plain values; the exact sum as ``"numerator/denominator"``."""
        return [self.matched, self.true, self.predicted, str(self.iou_sum)]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> MatchCounts:
        """The opposite of :meth:`to_json`."""
        return cls(int(data[0]), int(data[1]), int(data[2]), Fraction(data[3]))


@dataclass(frozen=True)
class Counts:
    """All that metrics are computed from, of one film or of many added up.

    Attributes:
        merged: Pixels of the merged mask.
        pixels: Pixels by structure name.
        vertebrae: Vertebrae matched, lumbar and sacral together.
        objects: Objects matched by structure name, within the structure.
    """

    merged: Matrix
    pixels: Mapping[str, PixelCounts]
    vertebrae: MatchCounts
    objects: Mapping[str, MatchCounts]

    @classmethod
    def zero(cls) -> Counts:
        """Nothing counted."""
        none = MatchCounts(0, 0, 0, Fraction(0))
        return cls(
            ((0, 0), (0, 0)),
            dict.fromkeys(STRUCTURE_KEYS, PixelCounts(0, 0, 0)),
            none,
            dict.fromkeys(STRUCTURE_KEYS, none),
        )

    @cached_property
    def study(self) -> StudyMetrics:
        """The study's four of the merged mask.

        Raises:
            MaskError: Nothing has been counted.
        """
        return study_metrics(self.merged)

    def __add__(self, other: Counts) -> Counts:
        (a, b), (c, d) = self.merged
        (e, f), (g, h) = other.merged
        return Counts(
            ((a + e, b + f), (c + g, d + h)),
            {key: self.pixels[key] + other.pixels[key] for key in STRUCTURE_KEYS},
            self.vertebrae + other.vertebrae,
            {key: self.objects[key] + other.objects[key] for key in STRUCTURE_KEYS},
        )


def merged_from_json(rows: Sequence[Sequence[int]]) -> Matrix:
    """A merged mask's counts from plain values."""
    (neither, only_prediction), (only_truth, both) = rows
    return (int(neither), int(only_prediction)), (int(only_truth), int(both))


def pixels_to_json(pixels: Mapping[str, PixelCounts]) -> dict[str, list[int]]:
    """Plain values by structure name."""
    return {key: [count.both, count.truth, count.prediction] for key, count in pixels.items()}


def pixels_from_json(data: Mapping[str, Sequence[int]]) -> dict[str, PixelCounts]:
    """The opposite of :func:`pixels_to_json`."""
    return {key: PixelCounts(*(int(count) for count in data[key])) for key in STRUCTURE_KEYS}
