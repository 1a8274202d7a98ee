from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from spinezoo_contract.errors import CardError, InvalidOutputError
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.types import Film, PredictOptions, SegmentKind, Structure
from spinezoo_serving.cards import load_card
from spinezoo_spine.inference.objects import (
    Objects,
    box_suppression,
    one_an_object,
    surely_second,
)
from spinezoo_spine.inference.soft_masks import SoftMasks
from spinezoo_torchkit.engine import write_weights
from spinezoo_torchkit.instance import TorchInstancePredictor
from spinezoo_torchkit.loading import load_network
from spinezoo_torchkit.semantic import TorchSemanticPredictor
from spinezoo_training.records import write_records
from torch import nn

CARD = """
name: demo
version: 0.1.0
architecture: "one convolution"
family: FAMILY
reference: "https://example.org/"
license: Apache-2.0
preset: lite
preprocessing_id: letterbox-2ch-v1
structures: [lumbar_vertebra, screw]
defaults: {score_threshold: 0.4, suppression_iou: 0.5, max_segments: 10}
presets:
  lite:
    input: {height: 64, width: 48, channels: 2}
    network: {gain: 4.0, precision: PRECISION}
"""

CPU = torch.device("cpu")


class Bright(nn.Module):
    """Bright pixels are vertebra, very bright ones screw."""

    def __init__(self, *, in_channels: int, num_classes: int, gain: float) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, num_classes, 1)
        with torch.no_grad():
            self.convolution.weight.zero_()
            self.convolution.weight[1, 0] = gain
            self.convolution.weight[2, 0] = 2.0 * gain
            self.convolution.bias.copy_(torch.tensor([0.0, 0.0, -2.5 * gain]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolution(x)


@pytest.fixture
def make_card(tmp_path: Path):
    def make(family: str = "semantic", precision: str = "float32") -> Path:
        path = tmp_path / "card.yaml"
        path.write_text(CARD.replace("FAMILY", family).replace("PRECISION", precision))
        card = load_card(path)
        network = Bright(in_channels=2, num_classes=3, gain=4.0)
        weights = tmp_path / "weights" / "lite.safetensors"
        _, written = write_weights(card, network, Bright, weights)
        write_records(card, weights, written, training={"epochs": 1}, metrics={})
        return path

    return make


def film() -> Film:
    pixels = np.zeros((200, 120), np.uint16)
    pixels[50:100, 30:90] = 20000
    pixels[60:70, 40:80] = 60000
    return Film(pixels)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_semantic_predictor_finds_regions_at_the_films_size(make_card, precision: str) -> None:
    card, network, device = load_network(make_card(precision=precision), Bright, device="cpu")
    predictor = TorchSemanticPredictor(card, network, device)
    answer = predictor.predict(film(), PredictOptions(include_probability_maps=True))
    assert [s.structure for s in answer.segments] != []
    found = {s.structure: decode_mask(s.mask) for s in answer.segments}
    assert {s.kind for s in answer.segments} == {SegmentKind.REGION}
    assert found[Structure.SCREW].shape == (200, 120)
    assert found[Structure.SCREW][65, 60]
    assert found[Structure.LUMBAR_VERTEBRA][90, 60]
    assert not found[Structure.LUMBAR_VERTEBRA][150, 60]
    assert [m.structure for m in answer.probability_maps] == list(card.structures)
    assert answer.provenance.model_name == "demo"
    assert answer.provenance.preprocessing_id == "letterbox-2ch-v1"


def test_threshold_and_most_segments_are_options(make_card) -> None:
    card, network, device = load_network(make_card(), Bright, device="cpu")
    predictor = TorchSemanticPredictor(card, network, device)
    assert len(predictor.predict(film(), PredictOptions(max_segments=1)).segments) == 1
    strict = predictor.predict(film(), PredictOptions(score_threshold=1.0))
    assert len(strict.segments) < 2


def test_answers_that_are_not_finite_are_an_error(make_card) -> None:
    card, network, device = load_network(make_card(), Bright, device="cpu")
    nn.init.constant_(network.convolution.bias, float("nan"))
    with pytest.raises(InvalidOutputError, match="demo"):
        TorchSemanticPredictor(card, network, device).predict(film(), PredictOptions())


def test_card_for_another_preprocessing_is_refused(make_card) -> None:
    path = make_card()
    path.write_text(path.read_text().replace("letterbox-2ch-v1", "letterbox-3ch-v9"))
    card, network, device = load_network(path, Bright, device="cpu")
    with pytest.raises(CardError, match="letterbox-3ch-v9"):
        TorchSemanticPredictor(card, network, device)


def detections(**changes: Any):
    def detect(network: nn.Module, inputs: torch.Tensor, **options: Any):
        assert inputs.shape == (1, 2, 64, 48)
        assert torch.is_inference_mode_enabled()
        masks = torch.zeros(3, 32, 24)  # half the canvas' resolution
        masks[0, 4:10, 4:10] = 0.9
        masks[1, 6:12, 6:12] = 0.8
        masks[2, 0:2, 0:2] = 0.9
        values = {
            "masks": masks,
            "scores": torch.tensor([0.5, 0.95, 0.1]),
            "labels": torch.tensor([1, 2, 1]),
        }
        seen.update(options)
        values.update(changes)
        return [SimpleNamespace(**values)]

    seen: dict[str, Any] = {}
    detect.seen = seen
    return detect


def test_instance_predictor_keeps_overlaps_and_sorts(make_card) -> None:
    card, network, device = load_network(make_card("instance"), Bright, device="cpu")
    detect = detections()
    predictor = TorchInstancePredictor(card, network, device, detect)
    answer = predictor.predict(film(), PredictOptions(suppression_iou=0.3))
    assert [s.structure for s in answer.segments] == [Structure.SCREW, Structure.LUMBAR_VERTEBRA]
    assert [round(s.score, 2) for s in answer.segments] == [0.95, 0.5]
    assert {s.kind for s in answer.segments} == {SegmentKind.INSTANCE}
    first, second = (decode_mask(s.mask) for s in answer.segments)
    assert first.shape == (200, 120)
    assert (first & second).any()
    assert detect.seen == {
        "score_threshold": 0.4,
        "suppression_iou": box_suppression(0.3),
        "max_detections": 10,
    }
    assert answer.probability_maps == ()


def test_no_detection_is_an_answer(make_card) -> None:
    card, network, device = load_network(make_card("instance"), Bright, device="cpu")
    nothing = detections(
        masks=torch.zeros(0, 64, 48), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.long)
    )
    answer = TorchInstancePredictor(card, network, device, nothing).predict(
        film(), PredictOptions()
    )
    assert answer.segments == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": torch.tensor([0, 1, 1])},
        {"labels": torch.tensor([1, 3, 1])},
        {"scores": torch.tensor([0.5, float("nan"), 0.1])},
        {"scores": torch.tensor([0.5, 0.9])},
        {"masks": torch.full((3, 8, 8), float("nan"))},
    ],
    ids=["background", "unknown class", "score nan", "too few scores", "mask nan"],
)
def test_nonsense_is_an_error(make_card, wrong: dict[str, torch.Tensor]) -> None:
    card, network, device = load_network(make_card("instance"), Bright, device="cpu")
    predictor = TorchInstancePredictor(card, network, device, detections(**wrong))
    with pytest.raises(InvalidOutputError, match="demo"):
        predictor.predict(film(), PredictOptions())


def blocks(*rows: tuple[int, int]) -> SoftMasks:
    """Masks on 32 x 16 pixels of rows from the first to before the second."""
    masks = np.zeros((len(rows), 32, 16), dtype=np.float32)
    for mask, (top, bottom) in zip(masks, rows, strict=True):
        mask[top:bottom] = 0.9
    return SoftMasks.of(masks)


STRUCTURES = (Structure.SCREW, Structure.LUMBAR_VERTEBRA, Structure.SACRAL_VERTEBRA)


def test_a_vertebra_is_answered_once_whatever_its_class() -> None:
    found = Objects(
        # Two outlines of one body in two classes; a neighbour; a screw right on it, and another.
        blocks((0, 10), (1, 11), (9, 20), (0, 10), (3, 13)),
        np.array([0.6, 0.9, 0.5, 0.7, 0.65], dtype=np.float32),
        np.array([2, 3, 2, 1, 1]),
    )
    once = one_an_object(found, STRUCTURES, 0.5)
    assert once.labels.tolist() == [3, 2, 1, 1]
    assert once.scores.tolist() == pytest.approx([0.9, 0.5, 0.7, 0.65])
    assert (once.masks.planes()[0] == found.masks.planes()[1]).all()
    assert one_an_object(found, STRUCTURES, 1.0).labels.tolist() == found.labels.tolist()
    # 2 of 19 rows are shared with the neighbour, 7 of 13 by the screws: more than this allows.
    assert one_an_object(found, STRUCTURES, 0.05).labels.tolist() == [3, 1]


def test_screws_and_rods_may_lie_on_each_other_and_cages_may_not() -> None:
    rows = ((0, 10), (2, 12), (0, 11))  # IoU with the first: 8 of 12, and 10 of 11
    structures = (Structure.SCREW, Structure.ROD, Structure.CAGE)
    found = Objects(
        blocks(*rows * 3),
        np.array([0.9, 0.8, 0.7] * 3, dtype=np.float32),
        np.repeat([1, 2, 3], 3),
    )
    once = one_an_object(found, structures, 0.5)
    assert once.labels.tolist() == [1, 1, 2, 2, 3]
    assert once.scores.tolist() == pytest.approx([0.9, 0.8, 0.9, 0.8, 0.9])
    assert one_an_object(found, structures, 0.4).labels.tolist() == [1, 2, 3]
    assert box_suppression(0.0) == 0.0
    assert 0.4 < box_suppression(0.4) < box_suppression(0.5) < box_suppression(1.0) == 1.0


def test_what_boxes_tell_to_be_an_objects_second_outline() -> None:
    structures = (*STRUCTURES, Structure.CAGE)

    def second(rows: Sequence[tuple[int, int]], labels: Sequence[int], iou: float = 0.4) -> list:
        boxes = np.array([(0, top, 10, bottom) for top, bottom in rows], dtype=np.float32)
        boxes = boxes.reshape(-1, 4)
        numbers = np.array(labels, dtype=np.int64)
        return np.flatnonzero(surely_second(boxes, numbers, structures, iou)).tolist()

    body, same, beside, half = (0, 40), (2, 41), (38, 78), (12, 52)
    assert second([body, same, beside], [2, 3, 2]) == [1]
    assert second([body, same], [4, 4]) == [1]
    # Screws lie on each other; a vertebra and a cage are two.
    assert second([body, same], [1, 1]) == second([body, same], [2, 4]) == []
    # The second may itself be a second outline of the first: it takes none with it.
    assert second([body, half, (14, 54)], [2, 2, 2]) == []
    # Neither below what neighbours share, nor where the request wants all.
    assert second([body, beside], [2, 2], 0.0) == []
    assert second([body, same], [2, 2], 1.0) == []
    assert second([], []) == []


@pytest.mark.parametrize("count", [0, 1])
def test_few_objects_stay(count: int) -> None:
    found = Objects(
        blocks(*[(0, 5)] * count), np.ones(count, np.float32), np.full(count, 2, dtype=np.int64)
    )
    assert len(one_an_object(found, STRUCTURES, 0.0).labels) == count
