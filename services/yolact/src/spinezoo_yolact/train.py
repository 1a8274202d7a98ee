"""Training of YOLACT: ``python -m spinezoo_yolact.train --data FOLDER --minutes 20``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
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

from spinezoo_yolact.detection import detect
from spinezoo_yolact.export import yolact_parts
from spinezoo_yolact.network import Yolact
from spinezoo_yolact.outputs import Truth

CARD = Path(__file__).resolve().parents[2] / "card.yaml"
"""The card of the checkout that this file lies in; ``--card`` names another."""

MASK_REDUCTION = 2
"""True masks are halved on the way: no prototype of either preset is finer than that."""


class YolactTask(InstanceTask):
    """Boxes, classes and masks of every object, and the four losses of the paper."""

    def __init__(self, card: ModelCard) -> None:
        """Takes classes and thresholds from a card."""
        super().__init__(card, detect)

    def encode(self, film: PreparedFilm) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Grey levels (h, w), boxes (G, 4) from 0 to 1, classes (G,), masks (G, h / 2, w / 2)."""
        masks, boxes, numbers = instances_of(film)
        height, width = film.grey.shape
        classes = self.class_of_number[numbers]
        known = classes > 0
        return (
            torch.from_numpy(film.grey),
            torch.from_numpy(boxes[known] / np.array([width, height] * 2, dtype=np.float32)),
            torch.from_numpy(classes[known]),
            torch.from_numpy(reduced(masks[known], height, width)),
        )

    def collate(self, samples: list[Any]) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
        """Grey levels (n, h, w) and the truth of each film."""
        return torch.stack([sample[0] for sample in samples]), [sample[1:] for sample in samples]

    def losses(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        """The paper's four, weighted."""
        assert isinstance(network, Yolact)
        grey, truths = batch
        output = network(two_channels(grey))
        with torch.autocast(grey.device.type, enabled=False):
            return network.losses(output, [Truth(*truth) for truth in truths])


def reduced(masks: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """(n, h, w) masks of 0 and 1 at half the size, 1 where they cover half of a cell."""
    rows, columns = -(-height // MASK_REDUCTION), -(-width // MASK_REDUCTION)
    small = np.zeros((len(masks), rows, columns), dtype=np.uint8)
    for index, mask in enumerate(masks):
        share = cv2.resize(mask * np.uint8(200), (columns, rows), interpolation=cv2.INTER_AREA)
        small[index] = share >= 100
    return small


def main(argv: Sequence[str] | None = None) -> int:
    """Trains from the command line; see ``--help``."""
    return train_main(
        argv,
        name="yolact",
        card_path=CARD,
        framework=TorchFramework(Yolact, yolact_parts),
        make_task=YolactTask,
        defaults=TrainSettings(epochs=30, batch_size=4),
    )


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
