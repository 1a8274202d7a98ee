"""Components of masks, as OpenCV's own statistics say them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from spinezoo_spine.components import MANY, components


@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("closed", [True, False])
def test_statistics_are_opencvs(density: float, closed: bool) -> None:
    rng = np.random.default_rng(int(100 * density))
    few = many = 0
    for _ in range(40):
        height, width = rng.integers(1, 60, 2)
        mask = (rng.random((height, width)) < density).astype(np.uint8)
        if closed:  # large components, with holes and with others in their holes
            mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)))
        count, labels, statistics = components(mask)
        told, same, wanted, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        assert count == told
        assert (labels == same).all()
        assert (statistics[1:] == wanted[1:]).all()
        few, many = few + (1 < count <= MANY), many + (count > MANY)
    assert few or density == 0.0
    assert many or closed or density in (0.0, 0.5, 0.9, 1.0)


def test_one_in_the_hole_of_another_is_its_own() -> None:
    mask = np.zeros((9, 9), np.uint8)
    mask[1:8, 1:8], mask[2:7, 2:7], mask[4, 4] = 1, 0, 1
    count, labels, statistics = components(mask)
    assert count == 3
    assert statistics[1:].tolist() == [[1, 1, 7, 7, 24], [4, 4, 1, 1, 1]]
    assert labels[4, 4] == 2
