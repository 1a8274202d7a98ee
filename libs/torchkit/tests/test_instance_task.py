"""Answers of instance networks in validation: painted, and counted one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from spinezoo_contract.types import Structure
from spinezoo_testing.predictors import prepared_block_film
from spinezoo_torchkit.instance_task import InstanceTask
from spinezoo_training.engine import FoundObjects
from spinezoo_training.prepared_set import PreparedFilm
from spinezoo_training.validation import vertebra_matches
from torch import nn


@dataclass
class Defaults:
    score_threshold: float = 0.4
    suppression_iou: float | None = None
    max_segments: int = 7


@dataclass
class Card:
    structures: tuple[Structure, ...] = (Structure.SCREW, Structure.LUMBAR_VERTEBRA)
    defaults: Defaults = field(default_factory=Defaults)


class Found(NamedTuple):
    masks: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor


class FixedTask(InstanceTask):
    """Finds one lumbar vertebra on the left half of the film and a screw on the upper half."""

    def __init__(self) -> None:
        super().__init__(Card(), self.found)  # type: ignore[arg-type]
        self.asked: list[dict[str, Any]] = []

    def found(self, network: nn.Module, inputs: torch.Tensor, **options: Any) -> Any:
        self.asked.append(options)
        masks = torch.zeros(2, 8, 8)
        masks[0, :4], masks[1, :, :4] = 1.0, 1.0
        return [Found(masks, torch.tensor([0.9, 0.8]), torch.tensor([1, 2]))]

    def encode(self, film: PreparedFilm) -> Any:
        return film

    def collate(self, samples: list[Any]) -> Any:
        return samples

    def losses(self, network: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        return {}


def test_hardware_is_painted_on_top() -> None:
    task = FixedTask()
    answers = task.answers(nn.Identity(), torch.zeros(2, 2, 32, 16))
    assert answers.label_maps.shape == (2, 32, 16)
    corners = answers.label_maps[1][[2, 2, 29, 29], [2, 13, 2, 13]].tolist()
    assert corners == [4, 4, 1, 0]
    assert torch.equal(
        task.label_maps(nn.Identity(), torch.zeros(2, 2, 32, 16)), answers.label_maps
    )


def test_objects_keep_their_overlap_and_the_cards_order_of_classes() -> None:
    answers = FixedTask().answers(nn.Identity(), torch.zeros(1, 2, 32, 16))
    assert answers.objects is not None
    (objects,) = answers.objects
    assert objects.numbers.tolist() == [4, 1]
    assert objects.masks.shape == (2, 32, 16)
    assert objects.masks.sum(axis=(1, 2)).tolist() == [256, 256]


def test_detections_are_asked_for_at_the_cards_thresholds() -> None:
    task = FixedTask()
    task.answers(nn.Identity(), torch.zeros(1, 2, 32, 16))
    expected = {"score_threshold": 0.4, "suppression_iou": 1.0, "max_detections": 7}
    assert task.asked == [expected]


@pytest.mark.parametrize(
    ("shift", "matched"), [(0, 4), (3, 4), (40, 0)], ids=["identical", "shifted", "missed"]
)
def test_vertebrae_are_matched_one_to_one(shift: int, matched: int) -> None:
    film, regions = prepared_block_film()
    masks = np.zeros((5, *film.grey.shape), dtype=bool)
    for mask, region in zip(masks, regions, strict=True):
        (left, top), (right, bottom) = region.polygon_xy.min(axis=0), region.polygon_xy.max(axis=0)
        mask[int(top) : int(bottom), max(int(left) + shift, 0) : int(right) + shift] = True
    # Lumbar taken for sacral still counts; the screw does not, nor does an object twice.
    numbers = np.array([2, 1, 1, 2, 4])
    found = FoundObjects(np.concatenate([masks, masks[:1]]), np.append(numbers, 1))
    result = vertebra_matches(film, found)
    assert len(result.matched_ious) == matched
    assert (result.true_count, result.predicted_count) == (4, 5)


def test_a_film_without_answers() -> None:
    film, _ = prepared_block_film()
    nothing = FoundObjects(np.zeros((0, *film.grey.shape), bool), np.zeros(0, np.int64))
    result = vertebra_matches(film, nothing)
    assert (len(result.matched_ious), result.true_count, result.predicted_count) == (0, 4, 0)
