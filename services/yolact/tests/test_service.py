"""YOLACT as a member of the zoo: the tests that every torch network has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from spinezoo_serving.cards import load_card
from spinezoo_testing.predictors import prepared_block_film
from spinezoo_torchkit.testing import InstanceNetworkTests
from spinezoo_yolact.network import Yolact
from spinezoo_yolact.predictor import load_predictor
from spinezoo_yolact.train import YolactTask, main, reduced

ROOM = Path(__file__).parents[1]


class TestYolact(InstanceNetworkTests):
    room = ROOM
    make = Yolact
    load_predictor = staticmethod(load_predictor)
    main = staticmethod(main)
    paper_parameters = 49_616_035  # 3,136 below three input channels


def test_truth_is_encoded_as_the_losses_want_it() -> None:
    film, regions = prepared_block_film()
    x, boxes, classes, masks = YolactTask(load_card(ROOM / "card.yaml")).encode(film)
    assert (tuple(x.shape), x.dtype) == ((96, 80), torch.uint8)
    assert classes.tolist() == [1, 1, 1, 2, 4]
    assert masks.shape == (5, 48, 40)
    assert 0.0 <= float(boxes.min()) <= float(boxes.max()) <= 1.0
    expected = regions[0].polygon_xy
    assert boxes[0, :2].tolist() == pytest.approx((expected.min(axis=0) / (80, 96)).tolist())
    assert boxes[0, 2:].tolist() == pytest.approx((expected.max(axis=0) / (80, 96)).tolist())


def test_masks_are_halved_by_majority() -> None:
    mask = np.zeros((1, 4, 6), dtype=np.uint8)
    mask[0, :3, :3] = 1
    assert reduced(mask, 4, 6)[0].tolist() == [[1, 1, 0], [1, 0, 0]]
    assert reduced(np.zeros((0, 5, 7), np.uint8), 5, 7).shape == (0, 3, 4)
