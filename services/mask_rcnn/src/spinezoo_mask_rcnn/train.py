"""Training of Mask R-CNN: ``python -m spinezoo_mask_rcnn.train --data FOLDER --minutes 20``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from spinezoo_contract.output import end_with_reader
from spinezoo_serving.cards import ModelCard
from spinezoo_torchkit.engine import TorchFramework
from spinezoo_torchkit.inputs import two_channels
from spinezoo_torchkit.instance_task import InstanceTask
from spinezoo_training.command import train_main
from spinezoo_training.prepared_set import PreparedFilm
from spinezoo_training.settings import TrainSettings
from spinezoo_training.targets import instances_of
from torch import Tensor, nn

from spinezoo_mask_rcnn.export import NOT_INT8, mask_rcnn_parts, region_examples
from spinezoo_mask_rcnn.network import MaskRcnn, detect

CARD = Path(__file__).resolve().parents[2] / "card.yaml"
"""The card of the checkout that this file lies in; ``--card`` names another."""


class MaskRcnnTask(InstanceTask):
    """Boxes, labels and masks of every object, and the five losses of torchvision's engine."""

    fixed_shapes = False  # as many masks as there are good proposals

    def __init__(self, card: ModelCard) -> None:
        """Takes classes and thresholds from a card."""
        super().__init__(card, detect)

    def encode(self, film: PreparedFilm) -> tuple[Tensor, dict[str, Tensor]]:
        """Grey levels (h, w); boxes (G, 4) in pixels, labels (G,), masks (G, h, w)."""
        masks, boxes, numbers = instances_of(film)
        labels = self.class_of_number[numbers]
        known = labels > 0
        return torch.from_numpy(film.grey), {
            "boxes": torch.from_numpy(boxes[known]),
            "labels": torch.from_numpy(labels[known]),
            "masks": torch.from_numpy(masks[known]),
        }

    def collate(self, samples: list[Any]) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """Grey levels (n, h, w) and the truth of each film."""
        return torch.stack([sample[0] for sample in samples]), [sample[1] for sample in samples]

    def losses(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Objectness and box of the proposals; class, box and mask of the regions."""
        grey, truths = batch
        losses: dict[str, Tensor] = network(list(two_channels(grey)), truths)
        return {
            "rpn_class": losses["loss_objectness"],
            "rpn_box": losses["loss_rpn_box_reg"],
            "class": losses["loss_classifier"],
            "box": losses["loss_box_reg"],
            "mask": losses["loss_mask"],
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Trains from the command line; see ``--help``."""
    return train_main(
        argv,
        name="mask_rcnn",
        card_path=CARD,
        framework=TorchFramework(MaskRcnn, mask_rcnn_parts),
        make_task=MaskRcnnTask,
        defaults=TrainSettings(epochs=30, batch_size=4),
        not_int8=NOT_INT8,
        int8_examples=region_examples,
    )


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
