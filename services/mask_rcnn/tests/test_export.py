"""Mask R-CNN's heads in 8-bit integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from spinezoo_mask_rcnn.arrays import (
    BOX_POOL_CELLS,
    MASK_POOL_CELLS,
    MASK_REGIONS,
    level_sizes,
    masks_of,
)
from spinezoo_mask_rcnn.export import region_examples
from spinezoo_mask_rcnn.predictor import MaskRcnnPredictor
from spinezoo_serving.cards import load_card, verify_graphs
from spinezoo_spine.inference.engines import open_engine
from spinezoo_training import quantised

ROOM = Path(__file__).parents[1]


def test_rounded_heads_answer_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised, "FILM_COUNT", 2)
    card = load_card(ROOM / "card.yaml", "lite")
    examples = region_examples(card)
    cells = {"boxes": BOX_POOL_CELLS, "masks": MASK_POOL_CELLS}
    assert examples.keys() == cells.keys()
    engine = open_engine("onnxruntime", "float32", 1)
    plain, rounded = (verify_graphs(card, int8=int8) for int8 in (False, True))
    for part, inputs in examples.items():
        before, after = engine.load(plain[part]), engine.load(rounded[part])
        assert len(inputs) == 2 or part == "masks"
        for regions in inputs:
            assert regions.shape[1:] == (cells[part], cells[part], 64)
            # Rows that only fill a graph's input up are no examples.
            assert len(regions) > 0
            assert regions.any(axis=(1, 2, 3)).all()
            wanted, found = before.run(regions), after.run(regions)
            for name in wanted:
                apart = np.sqrt(((found[name] - wanted[name]) ** 2).mean()) / wanted[name].std()
                assert 0.0 < apart < 0.05, (part, name)


def test_pixels_of_a_mask_are_put_in_place() -> None:
    planes = np.random.default_rng(0).normal(size=(5, 3, 28, 28)).astype(np.float32)
    # Pixel (2 i + y, 2 j + x) of a class is cell (i, j)'s pixel (y, x).
    cells = planes.reshape(5, 3, 14, 2, 14, 2).transpose(0, 2, 4, 3, 5, 1)
    assert np.array_equal(masks_of(cells), planes)
    labels = np.array([2, 0, 1, 1, 2])
    assert np.array_equal(masks_of(cells, labels), planes[np.arange(5), labels])
    assert masks_of(cells[:0], labels[:0]).shape == (0, 28, 28)


@pytest.mark.parametrize("count", [0, 3, MASK_REGIONS, 9])
def test_regions_that_fill_up_a_group_change_nothing(count: int) -> None:
    card = load_card(ROOM / "card.yaml", "lite")
    engine = open_engine("onnxruntime", "float32", 1)
    graphs = {part: engine.load(path) for part, path in verify_graphs(card).items()}
    predictor = MaskRcnnPredictor(card, engine, graphs)
    chance = np.random.default_rng(count)
    rows = sum(rows * columns for rows, columns in level_sizes(*predictor.size, 4))
    features = chance.normal(size=(rows, 64)).astype(np.float32)
    corners = chance.uniform(0, 300, (count, 2))
    boxes = np.concatenate([corners, corners + chance.uniform(5, 80, (count, 2))], axis=1)
    found = predictor._masks(features, boxes.astype(np.float32))
    assert found.shape == (count, MASK_POOL_CELLS, MASK_POOL_CELLS, 2, 2, 6)
    for box, own in zip(boxes.astype(np.float32), found, strict=True):
        alone = predictor._masks(features, box[np.newaxis])[0]
        assert np.allclose(own, alone, atol=1e-4)
