"""Mask R-CNN's heads in 8-bit integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from spinezoo_mask_rcnn.arrays import BOX_POOL_CELLS, MASK_POOL_CELLS
from spinezoo_mask_rcnn.export import region_examples
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
        assert len(inputs) == 2
        for regions in inputs:
            assert regions.shape[1:] == (cells[part], cells[part], 64)
            # Rows that only fill a graph's input up are no examples.
            assert len(regions) > 0
            assert regions.any(axis=(1, 2, 3)).all()
            wanted, found = before.run(regions), after.run(regions)
            for name in wanted:
                apart = np.sqrt(((found[name] - wanted[name]) ** 2).mean()) / wanted[name].std()
                assert 0.0 < apart < 0.05, (part, name)
