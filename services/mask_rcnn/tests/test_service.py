"""Mask R-CNN as a member of the zoo: the tests that every torch network has."""

from __future__ import annotations

from pathlib import Path

import torch
from spinezoo_mask_rcnn.network import MaskRcnn
from spinezoo_mask_rcnn.predictor import load_predictor
from spinezoo_mask_rcnn.train import MaskRcnnTask, main
from spinezoo_serving.cards import load_card
from spinezoo_testing.predictors import prepared_block_film
from spinezoo_torchkit.testing import InstanceNetworkTests

ROOM = Path(__file__).parents[1]


class TestMaskRcnn(InstanceNetworkTests):
    room = ROOM
    make = MaskRcnn
    load_predictor = staticmethod(load_predictor)
    main = staticmethod(main)
    paper_parameters = 43_993_907  # 3,136 below three input channels


def test_truth_is_encoded_as_torchvision_wants_it() -> None:
    film, regions = prepared_block_film()
    x, truth = MaskRcnnTask(load_card(ROOM / "card.yaml")).encode(film)
    assert (tuple(x.shape), x.dtype) == ((96, 80), torch.uint8)
    assert truth["labels"].tolist() == [1, 1, 1, 2, 4]
    assert truth["masks"].shape == (5, 96, 80)
    expected = regions[0].polygon_xy
    assert truth["boxes"][0, :2].tolist() == expected.min(axis=0).tolist()
    assert truth["boxes"][0, 2:].tolist() == expected.max(axis=0).tolist()
