"""What the training tasks of the instance networks share: classes, and answers for validation."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from spinezoo_contract.types import PredictOptions
from spinezoo_serving.cards import ModelCard
from spinezoo_spine.annotations.raster import PAINT_ORDER
from spinezoo_spine.inference.objects import Objects, box_suppression, one_an_object
from spinezoo_spine.inference.options import resolve_options
from spinezoo_training.engine import Answers, FoundObjects, Task
from spinezoo_training.prepared_set import PreparedFilm
from torch import nn

from spinezoo_torchkit.instance import Detect, objects_of


class InstanceTask(Task):
    """For networks that find objects one by one.

    Attributes:
        class_of_number: (256,) class of a structure's number, 0 where the card has none.
    """

    def __init__(self, card: ModelCard, detect: Detect) -> None:
        """Takes classes and thresholds from a card.

        Args:
            card: The card.
            detect: From inputs to detections, as :class:`TorchInstancePredictor` takes it.
        """
        self.card = card
        self.detect = detect
        self.class_of_number: NDArray[np.int64] = np.zeros(256, dtype=np.int64)
        for index, structure in enumerate(card.structures, start=1):
            self.class_of_number[int(structure)] = index

    @abstractmethod
    def encode(self, film: PreparedFilm) -> Any:
        """One film as the network wants it in training."""

    def label_maps(self, network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        """Structure numbers (n, h, w) of the painted detections at the card's thresholds."""
        return self.answers(network, inputs).label_maps

    def answers(self, network: nn.Module, inputs: torch.Tensor) -> Answers:
        """Painted detections and the detections themselves, at the card's thresholds."""
        settings = resolve_options(PredictOptions(), self.card)
        height, width = int(inputs.shape[-2]), int(inputs.shape[-1])
        label_maps = torch.zeros((len(inputs), height, width), dtype=torch.int64)
        objects = []
        for film, prepared in enumerate(inputs):
            (found,) = self.detect(
                network,
                prepared[None],
                score_threshold=settings.score_threshold,
                suppression_iou=box_suppression(settings.suppression_iou),
                max_detections=settings.max_segments,
            )
            once = one_an_object(objects_of(found), self.card.structures, settings.suppression_iou)
            objects.append(self._on_canvas(once, height, width))
            for structure in PAINT_ORDER:
                chosen = objects[-1].masks[objects[-1].numbers == int(structure)]
                label_maps[film][torch.from_numpy(chosen.any(axis=0))] = int(structure)
        return Answers(label_maps, objects)

    def _on_canvas(self, found: Objects, height: int, width: int) -> FoundObjects:
        masks = torch.from_numpy(found.masks.planes())
        if len(masks) and tuple(masks.shape[-2:]) != (height, width):
            masks = nn.functional.interpolate(
                masks[None], size=(height, width), mode="bilinear", align_corners=False
            )[0]
        numbers = np.array([0, *(int(structure) for structure in self.card.structures)])
        return FoundObjects(
            (masks > 0.5).reshape(-1, height, width).numpy(),
            numbers[found.labels],
        )
