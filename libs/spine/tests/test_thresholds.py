"""The threshold from which on something is said."""

from __future__ import annotations

import numpy as np
import pytest
from spinezoo_spine.column.reader.thresholds import least_threshold

CONFIDENCE = np.array([0.6, 0.7, 0.8, 0.9])


@pytest.mark.parametrize(
    ("wrong", "most_wrong", "expected"),
    [
        ((0.0, 0.0, 0.0, 0.0), 0.0, 0.5),  # nothing is wrong: everything may be said
        ((1.0, 0.0, 0.0, 0.0), 0.0, 0.61),  # the lowest beyond what is wrong
        ((0.0, 1.0, 0.0, 1.0), 1.0, 0.71),  # as much as is allowed may be wrong
        ((0.0, 0.5, 0.0, 0.5), 1.0, 0.5),  # by weight
        ((0.0, 0.0, 0.0, 1.0), 0.5, 0.91),
    ],
)
def test_the_lowest_threshold_that_keeps_what_is_wrong_rare(
    wrong: tuple[float, ...], most_wrong: float, expected: float
) -> None:
    assert least_threshold(CONFIDENCE, np.array(wrong), most_wrong, least=0.5) == expected


def test_there_is_none_where_even_the_surest_are_wrong_too_often() -> None:
    assert least_threshold(np.array([1.0]), np.array([1.0]), 0.5, least=0.5) is None
