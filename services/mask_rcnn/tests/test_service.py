"""Mask R-CNN as a member of the zoo: the tests that every torch network has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from spinezoo_contract.cards import load_card
from spinezoo_contract.types import Film, PredictOptions
from spinezoo_mask_rcnn.network import MaskRcnn
from spinezoo_mask_rcnn.predictor import load_predictor
from spinezoo_mask_rcnn.train import MaskRcnnTask, main
from spinezoo_spine.dataset import PreparedFilm
from spinezoo_torchkit.testing import NetworkTests, block_film

ROOM = Path(__file__).parents[1]


class TestMaskRcnn(NetworkTests):
    room = ROOM
    make = MaskRcnn
    load_predictor = staticmethod(load_predictor)
    main = staticmethod(main)
    paper_parameters = 43_993_907  # 3,136 below three input channels

    def test_suppression_is_a_request_option(self, trained: Path) -> None:
        predictor = load_predictor(trained, device="cpu")
        film = Film(block_film(np.random.default_rng(5))[0])
        counts = [
            len(
                predictor.predict(
                    film,
                    PredictOptions(score_threshold=0.01, suppression_iou=iou, max_segments=900),
                ).segments
            )
            for iou in (0.1, 0.5, 1.0)
        ]
        assert counts == sorted(counts)
        assert counts[0] < counts[2]

    def test_score_threshold_is_a_request_option(self, trained: Path) -> None:
        predictor = load_predictor(trained, device="cpu")
        film = Film(block_film(np.random.default_rng(5))[0])
        for threshold in (0.02, 0.1, 0.4):
            answer = predictor.predict(film, PredictOptions(score_threshold=threshold))
            assert all(segment.score >= threshold for segment in answer.segments)


def test_truth_is_encoded_as_torchvision_wants_it() -> None:
    grey, regions = block_film(np.random.default_rng(0))
    film = PreparedFilm("block", grey, tuple((r.structure, r.polygon_xy) for r in regions))
    x, truth = MaskRcnnTask(load_card(ROOM / "card.yaml")).encode(film)
    assert x.shape == (2, 96, 80)
    assert truth["labels"].tolist() == [1, 1, 1, 2, 4]
    assert truth["masks"].shape == (5, 96, 80)
    expected = regions[0].polygon_xy
    assert truth["boxes"][0, :2].tolist() == expected.min(axis=0).tolist()
    assert truth["boxes"][0, 2:].tolist() == expected.max(axis=0).tolist()
