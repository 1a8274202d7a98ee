"""The study's four metrics, recognition of vertebrae, and tallies that add up exactly.

How to read a figure. Every metric has two values for a set of films, and every table names the
one it shows: the *film mean* (each film's own value first, then their mean: the study's Table 1)
and the *pooled* value (the counts of all films added first, then one value).

The study's four metrics look at the *merged mask*: every structure of the truth united against
every structure of the prediction, two classes, 0 background and 1 any structure. With n_ij pixels
of true class i predicted as j, t_i true and p_i predicted pixels of class i, C_G the classes that
occur in the truth and C_U those that occur in truth or prediction:

- pixel accuracy: sum of n_ii over sum of t_i, over C_G;
- mean accuracy: mean over C_G of n_ii / t_i;
- mean IoU: sum over C_U of IoU_i, divided by the size of **C_G**. A class that only the prediction
  has adds nothing to the sum and nothing to the divisor;
- frequency-weighted IoU: sum over C_U of t_i * IoU_i, divided by all pixels.

Swapping truth and prediction therefore changes the values. References: Long, Shelhamer, Darrell,
"Fully convolutional networks for semantic segmentation", 2015; for panoptic quality Kirillov
et al., "Panoptic segmentation", 2019.

Everything here is measured on run lengths where segments are given, and tallies hold integers and
exact sums only: films measured in any order, on any number of machines, give identical figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment
from spinezoo_contract.errors import AnnotationError, BadInputError, MaskError
from spinezoo_contract.types import VERTEBRAE, Segment, Structure

from spinezoo_spine.instances import to_instances, unite

MATCH_IOU = 0.5
"""Least IoU at which a predicted object is a true one's match; exactly this much matches."""


class Direction(IntEnum):
    """Which way a metric improves. The numbers are those of the wire."""

    HIGHER_IS_BETTER = 1
    LOWER_IS_BETTER = 2


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
    direction: Direction = Direction.HIGHER_IS_BETTER
    minimum: float = 0.0
    maximum: float = 1.0
    unit: str = "share"


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
    )
    yield MetricSpec(
        "mean_iou",
        "Mean IoU",
        "IoU of background and of the merged mask, summed, over the classes in the truth.",
        formula,
        formula,
        one,
    )
    yield MetricSpec(
        "mean_accuracy",
        "Mean accuracy",
        "Recall of background and of the merged mask, averaged over the classes in the truth.",
        formula,
        formula,
        one,
    )
    yield MetricSpec(
        "frequency_weighted_iou",
        "Frequency-weighted IoU",
        "IoU of background and of the merged mask, weighted by each one's pixels in the truth.",
        formula,
        formula,
        one,
    )
    yield MetricSpec(
        "vertebra_recognition_rate",
        "Vertebra recognition rate",
        "Share of true vertebrae (lumbar or sacral) that one predicted vertebra matches one to one "
        "at IoU >= 0.5; lumbar and sacral may be confused.",
        undefined,
        zero,
        undefined,
    )
    yield MetricSpec(
        "vertebra_precision",
        "Vertebra precision",
        "Share of predicted vertebrae that match a true one.",
        zero,
        undefined,
        undefined,
    )
    yield MetricSpec(
        "vertebra_f1",
        "Vertebra F1",
        "Matches over the mean of the numbers of true and of predicted vertebrae.",
        zero,
        zero,
        undefined,
    )
    yield MetricSpec(
        "vertebra_segmentation_quality",
        "Vertebra segmentation quality",
        "Mean IoU of the matched vertebrae; undefined where none matches.",
        undefined,
        undefined,
        undefined,
    )
    yield MetricSpec(
        "vertebra_recognition_quality",
        "Vertebra recognition quality",
        "The recognition factor of panoptic quality; equal to the vertebra F1.",
        zero,
        zero,
        undefined,
    )
    yield MetricSpec(
        "vertebra_panoptic_quality",
        "Vertebra panoptic quality",
        "Segmentation quality times recognition quality, 0 where nothing matches.",
        zero,
        zero,
        undefined,
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
        )


METRICS: Mapping[str, MetricSpec] = {spec.name: spec for spec in _specs()}
"""Every metric by name, in the order of reports."""

STUDY_METRICS = ("pixel_accuracy", "mean_iou", "mean_accuracy", "frequency_weighted_iou")
"""The four of the study's Table 1, in its order."""


# --- Confusion matrices and the study's four ---


def confusion_matrix(
    truth: NDArray[Any], prediction: NDArray[Any], class_count: int = 2
) -> NDArray[np.int64]:
    """Pixels by true class (row) and predicted class (column).

    Args:
        truth: (height, width) booleans or integers from 0 to ``class_count - 1``.
        prediction: The same size and encoding.
        class_count: Number of classes, background included; at least 2.

    Returns:
        (class_count, class_count) int64.

    Raises:
        MaskError: Sizes differ, not two-dimensional, empty, not integers, or a value outside the
            range, such as the 255 of a mask encoded 0/255.
    """
    if truth.shape != prediction.shape:
        raise MaskError(
            f"truth is {_size(truth)} and prediction {_size(prediction)} pixels; bring the "
            "prediction back to the film's size before measuring"
        )
    if truth.ndim != 2 or truth.size == 0:
        raise MaskError(f"a mask has shape {truth.shape}; give (height, width), both at least 1")
    if class_count < 2:
        raise MaskError(f"class_count is {class_count}; background and one class make 2")
    _check_values(truth, class_count, "truth")
    _check_values(prediction, class_count, "prediction")
    if class_count == 2:
        true_foreground, both, predicted_foreground = _binary_counts(truth, prediction)
        only_truth = true_foreground - both
        only_prediction = predicted_foreground - both
        neither = truth.size - both - only_truth - only_prediction
        return np.array([[neither, only_prediction], [only_truth, both]], dtype=np.int64)
    cells = class_count * class_count
    # The smallest type that holds a cell's number: less memory to walk through.
    number_type = np.uint8 if cells <= 256 else np.uint16 if cells <= 65536 else np.int64
    numbers = np.multiply(truth, number_type(class_count), dtype=number_type, casting="unsafe")
    np.add(numbers, prediction, out=numbers, casting="unsafe")
    counts = _count_numbers(numbers.ravel(), cells)
    return counts[:cells].reshape(class_count, class_count)


def _count_numbers(numbers: NDArray[Any], least_length: int) -> NDArray[np.int64]:
    """How often each number occurs; one-byte numbers are counted two at a time."""
    if numbers.dtype != np.uint8 or numbers.size < 2**16:
        return np.bincount(numbers, minlength=least_length).astype(np.int64, copy=False)
    even = numbers.size // 2 * 2
    pairs = np.bincount(numbers[:even].view(np.uint16), minlength=65536).reshape(256, 256)
    counts = pairs.sum(axis=0) + pairs.sum(axis=1)
    if even < numbers.size:
        counts[numbers[-1]] += 1
    return counts.astype(np.int64, copy=False)


def _size(mask: NDArray[Any]) -> str:
    return " x ".join(str(length) for length in mask.shape)


def _check_values(mask: NDArray[Any], class_count: int, name: str) -> None:
    """Raises MaskError unless every value is a class number."""
    if mask.dtype == np.bool_:
        return
    if not np.issubdtype(mask.dtype, np.integer):
        raise MaskError(f"{name} is of type {mask.dtype}; give booleans or integer class numbers")
    highest = int(mask.max())
    if highest >= class_count or (mask.dtype.kind == "i" and int(mask.min()) < 0):
        hint = "; the mask seems to be encoded 0/255, divide it by 255" if highest == 255 else ""
        wrong = highest if highest >= class_count else int(mask.min())
        raise MaskError(
            f"{name} holds the value {wrong}, but classes go from 0 to {class_count - 1}{hint}"
        )


def _binary_counts(truth: NDArray[Any], prediction: NDArray[Any]) -> tuple[int, int, int]:
    """Foreground pixels of the truth, of both, and of the prediction."""
    # Values are 0 and 1 here, so one-byte integers are booleans already.
    t, p = (
        mask if mask.dtype == np.bool_ else mask.view(np.bool_) if mask.itemsize == 1 else mask != 0
        for mask in (truth, prediction)
    )
    return int(np.count_nonzero(t)), int(np.count_nonzero(t & p)), int(np.count_nonzero(p))


@dataclass(frozen=True, slots=True)
class StudyMetrics:
    """The study's four, each a share from 0 to 1, higher is better."""

    pixel_accuracy: float
    mean_iou: float
    mean_accuracy: float
    frequency_weighted_iou: float


def study_metrics(confusion: NDArray[np.int64] | Sequence[Sequence[int]]) -> StudyMetrics:
    """The study's four from a confusion matrix of any number of classes.

    Args:
        confusion: (classes, classes) pixel counts, true class by row, at least one pixel.

    Raises:
        MaskError: Not square, or without a pixel.
    """
    rows = [[int(count) for count in row] for row in confusion]
    classes = len(rows)
    if any(len(row) != classes for row in rows):
        raise MaskError("a confusion matrix has to be square; count with confusion_matrix")
    true = [sum(row) for row in rows]
    predicted = [sum(row[i] for row in rows) for i in range(classes)]
    right = [rows[i][i] for i in range(classes)]
    pixels = sum(true)
    if pixels == 0:
        raise MaskError("a confusion matrix without pixels has no metrics; measure a film first")
    in_truth = [i for i in range(classes) if true[i]]
    in_either = [i for i in range(classes) if true[i] or predicted[i]]
    iou = {i: right[i] / (true[i] + predicted[i] - right[i]) for i in in_either}
    return StudyMetrics(
        pixel_accuracy=sum(right[i] for i in in_truth) / pixels,
        mean_iou=math.fsum(iou.values()) / len(in_truth),
        mean_accuracy=math.fsum(right[i] / true[i] for i in in_truth) / len(in_truth),
        frequency_weighted_iou=math.fsum(true[i] * iou[i] for i in in_either) / pixels,
    )


def merged_mean_iou(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> float:
    """The study's mean IoU of two (height, width) merged masks."""
    return float(study_metrics(confusion_matrix(truth, prediction)).mean_iou)


# --- Matching objects ---


@dataclass(frozen=True, slots=True)
class Matches:
    """Objects matched one to one.

    Attributes:
        matched_ious: IoU of each match, ascending.
        true_count: True objects.
        predicted_count: Predicted objects.
    """

    matched_ious: tuple[float, ...]
    true_count: int
    predicted_count: int


def match_objects(
    truth: Sequence[Segment], prediction: Sequence[Segment], *, least_iou: float = MATCH_IOU
) -> Matches:
    """Matches predicted objects to true ones, one to one, at IoU of at least ``least_iou``.

    Instances may overlap, so one object can reach the threshold with several others. Of all
    one-to-one assignments, one with the most matches is taken, and among those one with the
    greatest sum of IoU. Neither the order of the segments nor their scores play a part.

    Args:
        truth: Instances (see :func:`~spinezoo_spine.instances.to_instances`) of one film.
        prediction: Instances of the same film and size.
        least_iou: Least IoU of a match, above 0.
    """
    pairs = matched_pairs(truth, prediction, least_iou=least_iou)
    return Matches(tuple(sorted(iou for _, _, iou in pairs)), len(truth), len(prediction))


def matched_pairs(
    truth: Sequence[Segment], prediction: Sequence[Segment], *, least_iou: float = MATCH_IOU
) -> list[tuple[int, int, float]]:
    """The matches of :func:`match_objects` as (true index, predicted index, IoU)."""
    if not truth or not prediction:
        return []
    overlaps = coco_mask.iou(
        [_rle(segment) for segment in prediction],
        [_rle(segment) for segment in truth],
        [0] * len(truth),
    )
    candidate = overlaps >= least_iou
    # Worth of a match: more than all IoUs together could add, so that their number comes first.
    most = min(overlaps.shape) + 1
    rows, columns = linear_sum_assignment(np.where(candidate, most + overlaps, 0.0), maximize=True)
    chosen = candidate[rows, columns]
    return [
        (int(column), int(row), float(overlaps[row, column]))
        for row, column in zip(rows[chosen], columns[chosen], strict=True)
    ]


def _rle(segment: Segment) -> dict[str, Any]:
    return {"size": [segment.mask.height, segment.mask.width], "counts": segment.mask.counts}


# --- One film ---

_STRUCTURE_KEYS = tuple(structure.name.lower() for structure in Structure)


@dataclass(frozen=True, slots=True)
class PixelCounts:
    """Pixels of one class."""

    both: int
    truth: int
    prediction: int


@dataclass(frozen=True, slots=True)
class FilmMeasurement:
    """All that is counted on one film for one model.

    Attributes:
        merged: Pixel counts ``((background right, only prediction), (only truth, both))`` of the
            merged mask.
        pixels: Pixel counts by structure name.
        vertebrae: Vertebrae matched, lumbar and sacral together.
        objects: Objects matched by structure name, within the structure.
    """

    merged: tuple[tuple[int, int], tuple[int, int]]
    pixels: Mapping[str, PixelCounts]
    vertebrae: Matches
    objects: Mapping[str, Matches]

    def values(self) -> dict[str, float | None]:
        """Every metric of :data:`METRICS` on this film; None where undefined."""
        return _values(self.merged, self.pixels, _counts(self.vertebrae), _count_all(self.objects))

    def to_json(self) -> dict[str, Any]:
        """Plain values; floats are exact in JSON as Python writes them."""
        return {
            "merged": [list(row) for row in self.merged],
            "pixels": {k: [c.both, c.truth, c.prediction] for k, c in self.pixels.items()},
            "vertebrae": _matches_to_json(self.vertebrae),
            "objects": {k: _matches_to_json(m) for k, m in self.objects.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FilmMeasurement:
        """The opposite of :meth:`to_json`.

        Raises:
            BadInputError: Not such a value.
        """
        try:
            (neither, only_prediction), (only_truth, both) = data["merged"]
            return cls(
                merged=((int(neither), int(only_prediction)), (int(only_truth), int(both))),
                pixels={
                    key: PixelCounts(*(int(count) for count in data["pixels"][key]))
                    for key in _STRUCTURE_KEYS
                },
                vertebrae=_matches_from_json(data["vertebrae"]),
                objects={key: _matches_from_json(data["objects"][key]) for key in _STRUCTURE_KEYS},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadInputError(
                f"not a film's measurement ({type(error).__name__}: {error}); measure it again"
            ) from error


def _matches_to_json(matches: Matches) -> dict[str, Any]:
    return {
        "matched_ious": list(matches.matched_ious),
        "true_count": matches.true_count,
        "predicted_count": matches.predicted_count,
    }


def _matches_from_json(data: Mapping[str, Any]) -> Matches:
    ious = tuple(float(iou) for iou in data["matched_ious"])
    return Matches(ious, int(data["true_count"]), int(data["predicted_count"]))


def measure_film(
    truth: Sequence[Segment], prediction: Sequence[Segment], height: int, width: int
) -> FilmMeasurement:
    """Counts one film, on run lengths.

    Args:
        truth: Segments of the truth; regions are cut into components to count objects.
        prediction: Segments of one model.
        height: Rows of the film.
        width: Columns of the film.

    Raises:
        MaskError: A mask is not of the film's size.
        AnnotationError: A structure is not one of the known ones.
    """
    for name, segments in (("truth", truth), ("prediction", prediction)):
        for segment in segments:
            if (segment.mask.height, segment.mask.width) != (height, width):
                raise MaskError(
                    f"a mask of the {name} is {segment.mask.height} x {segment.mask.width} pixels, "
                    f"the film {height} x {width}; bring it back to the film's size before "
                    "measuring"
                )
            if not isinstance(segment.structure, Structure):
                raise AnnotationError(
                    f"the {name} holds the structure {segment.structure!r}; use one of "
                    + ", ".join(_STRUCTURE_KEYS)
                )
    merged = _overlap(truth, prediction, height, width)
    only_truth = merged.truth - merged.both
    only_prediction = merged.prediction - merged.both
    neither = height * width - merged.both - only_truth - only_prediction
    true_objects, predicted_objects = to_instances(truth), to_instances(prediction)
    return FilmMeasurement(
        merged=((neither, only_prediction), (only_truth, merged.both)),
        pixels={
            structure.name.lower(): _overlap(
                [segment for segment in truth if segment.structure == structure],
                [segment for segment in prediction if segment.structure == structure],
                height,
                width,
            )
            for structure in Structure
        },
        vertebrae=match_objects(
            [segment for segment in true_objects if segment.structure in VERTEBRAE],
            [segment for segment in predicted_objects if segment.structure in VERTEBRAE],
        ),
        objects={
            structure.name.lower(): match_objects(
                [segment for segment in true_objects if segment.structure == structure],
                [segment for segment in predicted_objects if segment.structure == structure],
            )
            for structure in Structure
        },
    )


def _overlap(
    truth: Sequence[Segment], prediction: Sequence[Segment], height: int, width: int
) -> PixelCounts:
    """Pixel counts of two united sets of segments."""
    pair = []
    for segments in (truth, prediction):
        united = unite([segment.mask for segment in segments], height, width)
        pair.append({"size": [height, width], "counts": united.counts})
    true_area, predicted_area = (int(area) for area in coco_mask.area(pair))
    both = int(coco_mask.area(coco_mask.merge(pair, intersect=True))) if truth and prediction else 0
    return PixelCounts(both, true_area, predicted_area)


# --- Sums that do not depend on their order ---


@dataclass(frozen=True, slots=True)
class _MatchCounts:
    matched: int
    true: int
    predicted: int
    iou_sum: Fraction


def _counts(matches: Matches) -> _MatchCounts:
    iou_sum = sum((Fraction(iou) for iou in matches.matched_ious), Fraction(0))
    return _MatchCounts(
        len(matches.matched_ious), matches.true_count, matches.predicted_count, iou_sum
    )


def _count_all(objects: Mapping[str, Matches]) -> dict[str, _MatchCounts]:
    return {key: _counts(matches) for key, matches in objects.items()}


def _ratio(part: int | Fraction, whole: int | Fraction) -> float | None:
    return float(Fraction(part) / whole) if whole else None


def _values(
    merged: Sequence[Sequence[int]],
    pixels: Mapping[str, PixelCounts],
    vertebrae: _MatchCounts,
    objects: Mapping[str, _MatchCounts],
) -> dict[str, float | None]:
    """Every metric, for one film or for pooled counts: the formulas are the same."""
    study = study_metrics(merged)
    mean_count = Fraction(vertebrae.true + vertebrae.predicted, 2)
    f1 = _ratio(vertebrae.matched, mean_count)
    values: dict[str, float | None] = {
        "pixel_accuracy": study.pixel_accuracy,
        "mean_iou": study.mean_iou,
        "mean_accuracy": study.mean_accuracy,
        "frequency_weighted_iou": study.frequency_weighted_iou,
        "vertebra_recognition_rate": _ratio(vertebrae.matched, vertebrae.true),
        "vertebra_precision": _ratio(vertebrae.matched, vertebrae.predicted),
        "vertebra_f1": f1,
        "vertebra_segmentation_quality": _ratio(vertebrae.iou_sum, vertebrae.matched),
        "vertebra_recognition_quality": f1,
        "vertebra_panoptic_quality": _ratio(vertebrae.iou_sum, mean_count),
    }
    for key in _STRUCTURE_KEYS:
        counts = pixels[key]
        union = counts.truth + counts.prediction - counts.both
        values[f"iou_{key}"] = _ratio(counts.both, union)
    for key in _STRUCTURE_KEYS:
        values[f"recognition_rate_{key}"] = _ratio(objects[key].matched, objects[key].true)
    return values


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


def _zero_pixels() -> dict[str, PixelCounts]:
    return {key: PixelCounts(0, 0, 0) for key in _STRUCTURE_KEYS}


def _zero_objects() -> dict[str, _MatchCounts]:
    return {key: _MatchCounts(0, 0, 0, Fraction(0)) for key in _STRUCTURE_KEYS}


def _zero_means() -> dict[str, _ExactMean]:
    return {name: _ExactMean() for name in METRICS}


@dataclass
class Tally:
    """What is kept of any number of films of one model: integers and exact sums, constant in size.

    ``a + b == b + a``, and films added in any order or grouping give equal tallies and therefore
    the same figures to the last bit.
    """

    film_count: int = 0
    _merged: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    _pixels: dict[str, PixelCounts] = field(default_factory=_zero_pixels)
    _vertebrae: _MatchCounts = field(default_factory=lambda: _MatchCounts(0, 0, 0, Fraction(0)))
    _objects: dict[str, _MatchCounts] = field(default_factory=_zero_objects)
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
        self.film_count += 1
        self._merged = _add_matrices(self._merged, film.merged)
        self._pixels = _add_pixels(self._pixels, film.pixels)
        self._vertebrae = _add_matches(self._vertebrae, _counts(film.vertebrae))
        self._objects = {
            key: _add_matches(self._objects[key], _counts(film.objects[key]))
            for key in _STRUCTURE_KEYS
        }
        for name, value in film.values().items():
            if value is not None:
                self._means[name].total += Fraction(value)
                self._means[name].count += 1

    def __add__(self, other: Tally) -> Tally:
        if not isinstance(other, Tally):
            return NotImplemented
        return Tally(
            film_count=self.film_count + other.film_count,
            _merged=_add_matrices(self._merged, other._merged),
            _pixels=_add_pixels(self._pixels, other._pixels),
            _vertebrae=_add_matches(self._vertebrae, other._vertebrae),
            _objects={
                key: _add_matches(self._objects[key], other._objects[key])
                for key in _STRUCTURE_KEYS
            },
            _means={
                name: _ExactMean(
                    self._means[name].total + other._means[name].total,
                    self._means[name].count + other._means[name].count,
                )
                for name in METRICS
            },
        )

    def metrics(self) -> dict[str, MetricValue]:
        """Every metric of :data:`METRICS`; without films every value is None."""
        if self.film_count:
            pooled = _values(self._merged, self._pixels, self._vertebrae, self._objects)
        else:
            pooled = dict.fromkeys(METRICS)
        return {
            name: MetricValue(spec, self._means[name].mean(), pooled[name], self._means[name].count)
            for name, spec in METRICS.items()
        }

    def film_mean(self, name: str, *, failed_films: int = 0) -> float | None:
        """The film mean of one metric when ``failed_films`` further films are worth 0 each.

        Args:
            name: A name of :data:`METRICS`.
            failed_films: Films that the model should have answered and did not; 0 or more.
        """
        return self._means[name].mean(extra_zeros=failed_films)

    def to_json(self) -> dict[str, Any]:
        """Plain values; exact sums as ``"numerator/denominator"``."""
        return {
            "film_count": self.film_count,
            "merged": [list(row) for row in self._merged],
            "pixels": {k: [c.both, c.truth, c.prediction] for k, c in self._pixels.items()},
            "vertebrae": _match_counts_to_json(self._vertebrae),
            "objects": {k: _match_counts_to_json(c) for k, c in self._objects.items()},
            "film_sums": {n: [str(m.total), m.count] for n, m in self._means.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tally:
        """The opposite of :meth:`to_json`.

        Raises:
            BadInputError: Not a tally of these metrics.
        """
        try:
            (neither, only_prediction), (only_truth, both) = data["merged"]
            return cls(
                film_count=int(data["film_count"]),
                _merged=((int(neither), int(only_prediction)), (int(only_truth), int(both))),
                _pixels={
                    key: PixelCounts(*(int(count) for count in data["pixels"][key]))
                    for key in _STRUCTURE_KEYS
                },
                _vertebrae=_match_counts_from_json(data["vertebrae"]),
                _objects={
                    key: _match_counts_from_json(data["objects"][key]) for key in _STRUCTURE_KEYS
                },
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


_Matrix = tuple[tuple[int, int], tuple[int, int]]


def _add_matrices(a: _Matrix, b: _Matrix) -> _Matrix:
    return (
        (a[0][0] + b[0][0], a[0][1] + b[0][1]),
        (a[1][0] + b[1][0], a[1][1] + b[1][1]),
    )


def _add_pixels(
    a: Mapping[str, PixelCounts], b: Mapping[str, PixelCounts]
) -> dict[str, PixelCounts]:
    return {
        key: PixelCounts(
            a[key].both + b[key].both,
            a[key].truth + b[key].truth,
            a[key].prediction + b[key].prediction,
        )
        for key in _STRUCTURE_KEYS
    }


def _add_matches(a: _MatchCounts, b: _MatchCounts) -> _MatchCounts:
    return _MatchCounts(
        a.matched + b.matched,
        a.true + b.true,
        a.predicted + b.predicted,
        a.iou_sum + b.iou_sum,
    )


def _match_counts_to_json(counts: _MatchCounts) -> list[Any]:
    return [counts.matched, counts.true, counts.predicted, str(counts.iou_sum)]


def _match_counts_from_json(data: Sequence[Any]) -> _MatchCounts:
    return _MatchCounts(int(data[0]), int(data[1]), int(data[2]), Fraction(data[3]))
