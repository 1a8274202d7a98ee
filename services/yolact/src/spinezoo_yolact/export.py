"""YOLACT's two graphs; what is around them does :mod:`spinezoo_yolact.arrays`.

``network`` sees the film. ``coefficients`` sees the cells around priors: few priors become objects,
and only those need mask coefficients, whose convolution takes a tenth of the whole network's time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from spinezoo_serving.cards import ModelCard
from spinezoo_torchkit.checkpoints import evenly
from spinezoo_torchkit.export import GraphPart, film_of
from torch import Tensor, nn

from spinezoo_yolact.arrays import PROBE_VALUES, SIDE
from spinezoo_yolact.network import Yolact

OUTPUTS = ("boxes", "class_logits", "features", "prototypes", "probe")


class _Network(nn.Module):
    """What detections need, of one film, and the values of the probe."""

    def __init__(self, network: Yolact) -> None:
        super().__init__()
        self.network = network

    def forward(self, film: Tensor) -> tuple[Tensor, ...]:
        head = self.network.prediction_layers[0]
        levels = self.network.levels(film)
        seen = [head.upfeature(level) for level in levels[self.network.head_start :]]
        parts = [head.boxes_and_classes(x) for x in seen]
        boxes = torch.cat([part[0] for part in parts], dim=1)
        logits = torch.cat([part[1] for part in parts], dim=1)
        features = torch.cat([x.flatten(2) for x in seen], dim=2)
        prototypes = self.network.prototypes(levels)
        semantic = self.network.semantic_seg_conv(levels[0])
        probed = (boxes, logits, prototypes, semantic)
        probe = torch.cat([evenly(part, PROBE_VALUES) for part in probed])
        return boxes[0], logits[0], features[0], prototypes[0], probe


class _Coefficients(nn.Module):
    """The convolution of the mask coefficients at single cells."""

    def __init__(self, network: Yolact) -> None:
        super().__init__()
        self.network = network

    def forward(self, around: Tensor) -> Tensor:
        head = self.network.prediction_layers[0]
        kernel = head.mask_layer.weight.flatten(1)  # (out, 9 c)
        found = torch.tanh(F.linear(around.flatten(1), kernel, head.mask_layer.bias))
        return found.reshape(found.shape[0], -1, head.prototype_count)


def yolact_parts(card: ModelCard, network: nn.Module) -> Sequence[GraphPart]:
    """The two graphs.

    ``network``: (1, 2, h, w) to (P, 4), (P, 1 + C), (c, cells), (ph, pw, K) and the probe.
    ``coefficients``: (rows, c, 9) to (rows, a, K) for a priors a cell.
    """
    assert isinstance(network, Yolact)
    channels = network.prediction_layers[0].mask_layer.in_channels
    return [
        GraphPart("network", _Network(network), (film_of(card),), ["film"], OUTPUTS),
        GraphPart(
            "coefficients",
            _Coefficients(network),
            (torch.zeros(2, channels, SIDE**2),),
            ["around"],
            ["coefficients"],
            rows=["around", "coefficients"],
        ),
    ]
