"""The study's four metrics, from confusion matrices of pixels.

They look at the *merged mask*: every structure of the truth united against every structure of the
prediction, two classes, 0 background and 1 any structure. With n_ij pixels of true class i
predicted as j, t_i true and p_i predicted pixels of class i, C_G the classes that occur in the
truth and C_U those that occur in truth or prediction:

- pixel accuracy: sum of n_ii over sum of t_i, over C_G;
- mean accuracy: mean over C_G of n_ii / t_i;
- mean IoU: sum over C_U of IoU_i, divided by the size of **C_G**. A class that only the prediction
  has adds nothing to the sum and nothing to the divisor;
- frequency-weighted IoU: sum over C_U of t_i * IoU_i, divided by all pixels.

Swapping truth and prediction therefore changes the values. Reference: Long, Shelhamer, Darrell,
"Fully convolutional networks for semantic segmentation", 2015.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import MaskError


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
