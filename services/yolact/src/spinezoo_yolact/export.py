"""YOLACT's graph: everything up to the last steps, which :mod:`spinezoo_yolact.arrays` does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from spinezoo_serving.cards import ModelCard
from spinezoo_torchkit.checkpoints import evenly
from spinezoo_torchkit.export import GraphPart, film_of
from torch import Tensor, nn

from spinezoo_yolact.network import Yolact

OUTPUTS = ("boxes", "class_logits", "coefficients", "prototypes", "probe")


class _Network(nn.Module):
    """What detections need, of one film, and the values of the probe."""

    def __init__(self, network: Yolact) -> None:
        super().__init__()
        self.network = network

    def forward(self, film: Tensor) -> tuple[Tensor, ...]:
        output = self.network(film)
        probe = torch.cat([evenly(part, 64) for part in output[:-1]])
        return (
            output.boxes[0],
            output.class_logits[0],
            output.coefficients[0],
            output.prototypes[0],
            probe,
        )


def yolact_parts(card: ModelCard, network: nn.Module) -> Sequence[GraphPart]:
    """The one graph: (1, 2, h, w) to (P, 4), (P, 1 + C), (P, K), (ph, pw, K) and the probe."""
    assert isinstance(network, Yolact)
    return [GraphPart("network", _Network(network), (film_of(card),), ["film"], OUTPUTS)]
