"""Speed of the study's four metrics against a straightforward loop over the classes.

Both ways measure the same pairs of label maps in the same run, so their ratio does not depend on
the machine. The loop below is written from the definitions in ``spinezoo_spine.metrics.study``:
for each metric and each class it makes the two class masks and counts.

Run from the repository root::

    .venvs/core/bin/python benchmarks/metrics.py [--pairs 100] [--repeats 3] [--record]

Ends with 1 when a mark is missed (``spinezoo_tools.speed``).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import record
from numpy.typing import NDArray
from spinezoo_spine.metrics.study import confusion_matrix, study_metrics

LabelMap = NDArray[np.uint8]
Values = tuple[float, float, float, float]


def pixel_accuracy_by_loop(truth: LabelMap, prediction: LabelMap) -> float:
    """Right pixels over all pixels, class of the truth by class."""
    right = total = 0
    for class_number in np.unique(truth):
        true = truth == class_number
        right += np.sum(np.logical_and(true, prediction == class_number))
        total += np.sum(true)
    return float(right / total)


def mean_accuracy_by_loop(truth: LabelMap, prediction: LabelMap) -> float:
    """Mean recall of the classes of the truth."""
    recalls = []
    for class_number in np.unique(truth):
        true = truth == class_number
        right = np.sum(np.logical_and(true, prediction == class_number))
        recalls.append(right / np.sum(true))
    return float(np.mean(recalls))


def _iou(truth: LabelMap, prediction: LabelMap, class_number: int) -> float:
    true, predicted = truth == class_number, prediction == class_number
    return np.sum(np.logical_and(true, predicted)) / np.sum(np.logical_or(true, predicted))


def mean_iou_by_loop(truth: LabelMap, prediction: LabelMap) -> float:
    """IoU of the classes of either side, summed, over the number of classes of the truth."""
    classes = np.union1d(np.unique(truth), np.unique(prediction))
    total = sum(_iou(truth, prediction, class_number) for class_number in classes)
    return float(total / len(np.unique(truth)))


def frequency_weighted_iou_by_loop(truth: LabelMap, prediction: LabelMap) -> float:
    """IoU of each class weighted by its pixels in the truth."""
    classes = np.union1d(np.unique(truth), np.unique(prediction))
    total = sum(
        np.sum(truth == class_number) * _iou(truth, prediction, class_number)
        for class_number in classes
    )
    return float(total / truth.size)


def four_by_loop(truth: LabelMap, prediction: LabelMap, _: int) -> Values:
    """The four, each with a loop of its own."""
    return (
        pixel_accuracy_by_loop(truth, prediction),
        mean_iou_by_loop(truth, prediction),
        mean_accuracy_by_loop(truth, prediction),
        frequency_weighted_iou_by_loop(truth, prediction),
    )


def four_by_confusion(truth: LabelMap, prediction: LabelMap, class_count: int) -> Values:
    """The four as SpineZoo measures them."""
    four = study_metrics(confusion_matrix(truth, prediction, class_count))
    return (
        four.pixel_accuracy,
        four.mean_iou,
        four.mean_accuracy,
        four.frequency_weighted_iou,
    )


def make_pairs(count: int, size: int, class_count: int) -> list[tuple[LabelMap, LabelMap]]:
    """Label maps with ellipses like vertebrae, the prediction shifted and partly wrong."""
    rng = np.random.default_rng(0)
    rows, columns = np.ogrid[:size, :size]
    pairs = []
    for _ in range(count):
        sides = np.zeros((2, size, size), dtype=np.uint8)
        for i in range(7):
            centre_y, centre_x = (i + 0.7) / 8 * size, size * rng.uniform(0.4, 0.6)
            number = 1 + i % (class_count - 1)
            for side in sides:
                shift_y, shift_x = rng.normal(0, size / 200, 2)
                y, x = centre_y + shift_y, centre_x + shift_x
                inside = ((rows - y) / (size / 20)) ** 2 + ((columns - x) / (size / 10)) ** 2 <= 1
                side[inside] = number
        pairs.append((sides[0], sides[1]))
    return pairs


def seconds_and_values(
    four: Callable[[LabelMap, LabelMap, int], Values],
    pairs: list[tuple[LabelMap, LabelMap]],
    class_count: int,
) -> tuple[float, NDArray[np.float64]]:
    """Wall time for all pairs, and their values, (pairs, 4)."""
    start = time.perf_counter()
    values = [four(truth, prediction, class_count) for truth, prediction in pairs]
    return time.perf_counter() - start, np.array(values)


def measure(pair_count: int, size: int, class_count: int, repeats: int) -> dict[str, Any]:
    """One case: the better of ``repeats`` turns for each way, turn by turn."""
    pairs = make_pairs(pair_count, size, class_count)
    slow, fast = [], []
    for _ in range(repeats):
        loop_s, expected = seconds_and_values(four_by_loop, pairs, class_count)
        fast_s, values = seconds_and_values(four_by_confusion, pairs, class_count)
        slow.append(loop_s)
        fast.append(fast_s)
    return {
        "pairs": pair_count,
        "height": size,
        "width": size,
        "classes": class_count,
        "loop_s": round(min(slow), 4),
        "confusion_s": round(min(fast), 4),
        "ratio": round(min(slow) / min(fast), 1),
        "largest_difference": float(np.abs(expected - values).max()),
        "numpy": np.__version__,
    }


def main(argv: list[str] | None = None) -> int:
    """Measures binary masks and six classes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--size", type=int, default=1024, help="height and width in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    record.add_option(parser)
    arguments = parser.parse_args(argv)
    results = [
        measure(arguments.pairs, arguments.size, classes, arguments.repeats) for classes in (2, 6)
    ]
    return record.finish("metrics", results, arguments)


if __name__ == "__main__":
    sys.exit(main())
