"""Films made smaller by area: the same numbers as OpenCV's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from spinezoo_spine.inference.shrinking import ROWS_AT_ONCE, shrunk_by_area

SIZES = [
    (333, 200, 64, 38),
    (ROWS_AT_ONCE + 588, 900, 469, 384),
    (40, 3000, 5, 384),
    (129, 97, 129, 96),  # one axis keeps its size
    (128, 96, 64, 48),  # whole numbers
    (513, 385, 512, 384),
    (50, 70, 1, 1),
]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(("rows", "columns", "height", "width"), SIZES)
def test_a_film_shrinks_as_opencv_shrinks_it(
    dtype: type[np.generic], rows: int, columns: int, height: int, width: int
) -> None:
    values = np.random.default_rng(rows).uniform(0.0, 1.0, (rows, columns))
    most = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    film = (values * most).astype(dtype)
    expected = cv2.resize(film, (width, height), interpolation=cv2.INTER_AREA)
    found = shrunk_by_area(film, height, width)
    assert found.dtype == dtype
    assert found.shape == (height, width)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("level", [0, 1, 65535])
def test_a_film_of_one_level_keeps_it(level: int) -> None:
    film = np.full((777, 531), level, dtype=np.uint16)
    assert (shrunk_by_area(film, 299, 204) == level).all()


def test_a_part_of_a_film_shrinks_as_its_copy() -> None:
    film = np.random.default_rng(4).integers(0, 4096, (400, 300)).astype(np.uint16)
    part = film[3:350:2, 10:260]
    assert np.array_equal(shrunk_by_area(part, 60, 80), shrunk_by_area(part.copy(), 60, 80))
