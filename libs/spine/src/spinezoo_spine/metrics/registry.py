"""Every metric there is: one record each. A new metric is a new record here, and nothing else.

How to read a figure. Every metric has two values for a set of films, and every table names the
one it shows: the *film mean* (each film's own value first, then their mean: the study's Table 1)
and the *pooled* value (the counts of all films added first, then one value). Both come from the
same function, of one film's counts or of all films' counts.

References: ``study.py`` for the study's four; for panoptic quality Kirillov et al., "Panoptic
segmentation", 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from spinezoo_contract.types import MetricDirection, Structure

from spinezoo_spine.metrics.counts import Counts


class WhenEmpty(Enum):
    """What a metric is worth where truth or prediction holds nothing."""

    FORMULA = "formula"
    """The definition covers the case; the value depends on the other side."""
    ZERO = "0"
    ONE = "1"
    UNDEFINED = "undefined"
    """No value: the film does not enter the metric's film mean, and is not counted in it."""


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """What a metric is.

    Attributes:
        name: As on the wire and in reports.
        title: For the heading of a table.
        definition: In one sentence.
        only_prediction: Value where the truth is empty and the prediction is not.
        only_truth: Value where the prediction is empty and the truth is not.
        both_empty: Value where neither holds anything.
        compute: Its value from counts; None where undefined.
        direction: Which way is better.
        minimum: Least possible value.
        maximum: Greatest possible value.
        unit: "share": 1 is all.

    "Empty" means: no pixel of the structures that the metric looks at.
    """

    name: str
    title: str
    definition: str
    only_prediction: WhenEmpty
    only_truth: WhenEmpty
    both_empty: WhenEmpty
    compute: Callable[[Counts], float | None]
    direction: MetricDirection = MetricDirection.HIGHER_IS_BETTER
    minimum: float = 0.0
    maximum: float = 1.0
    unit: str = "share"


def _ratio(part: int | Fraction, whole: int | Fraction) -> float | None:
    return float(Fraction(part) / whole) if whole else None


def _mean_count(counts: Counts) -> Fraction:
    """Mean of the numbers of true and of predicted vertebrae."""
    return Fraction(counts.vertebrae.true + counts.vertebrae.predicted, 2)


def _vertebra_f1(counts: Counts) -> float | None:
    return _ratio(counts.vertebrae.matched, _mean_count(counts))


def _structure_iou(key: str) -> Callable[[Counts], float | None]:
    def compute(counts: Counts) -> float | None:
        pixels = counts.pixels[key]
        return _ratio(pixels.both, pixels.truth + pixels.prediction - pixels.both)

    return compute


def _structure_recognition(key: str) -> Callable[[Counts], float | None]:
    return lambda counts: _ratio(counts.objects[key].matched, counts.objects[key].true)


def _specs() -> Iterator[MetricSpec]:
    formula, zero, one, undefined = (
        WhenEmpty.FORMULA,
        WhenEmpty.ZERO,
        WhenEmpty.ONE,
        WhenEmpty.UNDEFINED,
    )
    yield MetricSpec(
        "pixel_accuracy",
        "Pixel accuracy",
        "Share of the film's pixels whose class (background or any structure) is right.",
        formula,
        formula,
        one,
        lambda counts: counts.study.pixel_accuracy,
    )
    yield MetricSpec(
        "mean_iou",
        "Mean IoU",
        "IoU of background and of the merged mask, summed, over the classes in the truth.",
        formula,
        formula,
        one,
        lambda counts: counts.study.mean_iou,
    )
    yield MetricSpec(
        "mean_accuracy",
        "Mean accuracy",
        "Recall of background and of the merged mask, averaged over the classes in the truth.",
        formula,
        formula,
        one,
        lambda counts: counts.study.mean_accuracy,
    )
    yield MetricSpec(
        "frequency_weighted_iou",
        "Frequency-weighted IoU",
        "IoU of background and of the merged mask, weighted by each one's pixels in the truth.",
        formula,
        formula,
        one,
        lambda counts: counts.study.frequency_weighted_iou,
    )
    yield MetricSpec(
        "vertebra_recognition_rate",
        "Vertebra recognition rate",
        "Share of true vertebrae (lumbar or sacral) that one predicted vertebra matches one to one "
        "at IoU >= 0.5; lumbar and sacral may be confused.",
        undefined,
        zero,
        undefined,
        lambda counts: _ratio(counts.vertebrae.matched, counts.vertebrae.true),
    )
    yield MetricSpec(
        "vertebra_precision",
        "Vertebra precision",
        "Share of predicted vertebrae that match a true one.",
        zero,
        undefined,
        undefined,
        lambda counts: _ratio(counts.vertebrae.matched, counts.vertebrae.predicted),
    )
    yield MetricSpec(
        "vertebra_f1",
        "Vertebra F1",
        "Matches over the mean of the numbers of true and of predicted vertebrae.",
        zero,
        zero,
        undefined,
        _vertebra_f1,
    )
    yield MetricSpec(
        "vertebra_segmentation_quality",
        "Vertebra segmentation quality",
        "Mean IoU of the matched vertebrae; undefined where none matches.",
        undefined,
        undefined,
        undefined,
        lambda counts: _ratio(counts.vertebrae.iou_sum, counts.vertebrae.matched),
    )
    yield MetricSpec(
        "vertebra_recognition_quality",
        "Vertebra recognition quality",
        "The recognition factor of panoptic quality; equal to the vertebra F1.",
        zero,
        zero,
        undefined,
        _vertebra_f1,
    )
    yield MetricSpec(
        "vertebra_panoptic_quality",
        "Vertebra panoptic quality",
        "Segmentation quality times recognition quality, 0 where nothing matches.",
        zero,
        zero,
        undefined,
        lambda counts: _ratio(counts.vertebrae.iou_sum, _mean_count(counts)),
    )
    for structure in Structure:
        word = structure.name.lower().replace("_", " ")
        yield MetricSpec(
            f"iou_{structure.name.lower()}",
            f"IoU, {word}",
            f"IoU of all pixels of the structure {word}.",
            zero,
            zero,
            undefined,
            _structure_iou(structure.name.lower()),
        )
    for structure in Structure:
        word = structure.name.lower().replace("_", " ")
        yield MetricSpec(
            f"recognition_rate_{structure.name.lower()}",
            f"Recognition rate, {word}",
            f"Share of true objects of the structure {word} that a predicted object of the same "
            "structure matches one to one at IoU >= 0.5.",
            undefined,
            zero,
            undefined,
            _structure_recognition(structure.name.lower()),
        )


METRICS: dict[str, MetricSpec] = {spec.name: spec for spec in _specs()}
"""Every metric by name, in the order of reports."""

STUDY_METRICS = ("pixel_accuracy", "mean_iou", "mean_accuracy", "frequency_weighted_iou")
"""The four of the study's Table 1, in its order."""


def metric_values(counts: Counts) -> dict[str, float | None]:
    """Every metric of :data:`METRICS` from counts of at least one film; None where undefined."""
    return {name: spec.compute(counts) for name, spec in METRICS.items()}
