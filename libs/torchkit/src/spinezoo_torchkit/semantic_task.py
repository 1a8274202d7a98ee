"""Training of the semantic networks: cross-entropy weighted at gaps, Dice, auxiliary head."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from spinezoo_serving.cards import ModelCard
from spinezoo_training.engine import Task
from spinezoo_training.prepared_set import PreparedFilm
from spinezoo_training.targets import CLASS_WEIGHTS, label_map_with_gaps
from torch import nn

from spinezoo_torchkit.inputs import two_channels
from spinezoo_torchkit.losses import semantic_loss

AUXILIARY_WEIGHT = 0.4
"""Weight of the auxiliary head's loss (Zhao et al. 2017, section 5.1)."""


class SemanticTask(Task):
    """For networks that answer, in training mode, ``(logits, auxiliary logits or None)``.

    Both are (n, 1 + structures, h, w) at the size of the input; in evaluation mode the network
    answers the first alone.
    """

    def __init__(self, card: ModelCard) -> None:
        """Takes the order of classes from a card."""
        self.class_of_number = np.zeros(256, dtype=np.uint8)
        for index, structure in enumerate(card.structures, start=1):
            self.class_of_number[int(structure)] = index
        self.number_of_class = torch.tensor([0, *(int(s) for s in card.structures)])
        self.class_weights = torch.tensor(
            [1.0, *(CLASS_WEIGHTS[int(s)] for s in card.structures)], dtype=torch.float32
        )

    def encode(self, film: PreparedFilm) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Grey levels (h, w), classes (h, w), both ``uint8``, and weights of pixels (h, w)."""
        labels, weights = label_map_with_gaps(film)
        return (
            torch.from_numpy(film.grey),
            torch.from_numpy(self.class_of_number[labels]),
            torch.from_numpy(weights.astype(np.float16)),  # 1 to 6, to a thousandth
        )

    def collate(self, samples: list[Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Grey levels, classes and weights of pixels, each (n, h, w)."""
        grey, labels, weights = zip(*samples, strict=True)
        return torch.stack(grey), torch.stack(labels), torch.stack(weights)

    def losses(self, network: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        """Main and auxiliary loss."""
        grey, labels, pixel_weights = batch
        inputs = two_channels(grey)
        labels, pixel_weights = labels.long(), pixel_weights.float()
        logits, auxiliary = network(inputs)
        weights = self.class_weights.to(inputs.device)
        terms = {"main": semantic_loss(logits, labels, weights, pixel_weights=pixel_weights)}
        if auxiliary is not None:
            terms["aux"] = AUXILIARY_WEIGHT * semantic_loss(
                auxiliary, labels, weights, dice_weight=0.0
            )
        return terms

    def label_maps(self, network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        """Structure numbers (n, h, w) of the likeliest class."""
        return self.number_of_class.to(inputs.device)[network(inputs).argmax(dim=1)]
