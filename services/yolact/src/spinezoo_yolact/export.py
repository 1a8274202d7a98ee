"""YOLACT's three graphs; what is around them does :mod:`spinezoo_yolact.arrays`.

``network`` sees the film. ``coefficients`` sees the cells around priors: few priors become objects,
and only those need mask coefficients, whose convolution takes a tenth of the whole network's time.
``prototypes`` sees the part of the finest level that objects lie in: it takes nearly half of the
network's time, and objects lie in less than half of most films.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from spinezoo_serving.cards import ModelCard
from spinezoo_torchkit.export import GraphPart, film_of
from torch import Tensor, nn

from spinezoo_yolact.arrays import SIDE
from spinezoo_yolact.network import Yolact

OUTPUTS = ("boxes", "class_logits", "features", "finest")


class _Network(nn.Module):
    """What detections need, of one film, and what prototypes are made from."""

    def __init__(self, network: Yolact) -> None:
        super().__init__()
        self.network = network

    def forward(self, film: Tensor) -> tuple[Tensor, ...]:
        head = self.network.prediction_layers[0]
        sums = self.network.sums(film)
        levels = self.network.fpn.predicted(sums[self.network.head_start :])
        seen = [head.upfeature(level) for level in levels]
        parts = [head.boxes_and_classes(x) for x in seen]
        boxes = torch.cat([part[0] for part in parts], dim=1)
        logits = torch.cat([part[1] for part in parts], dim=1)
        features = torch.cat([x.flatten(2) for x in seen], dim=2)
        return boxes[0], logits[0], features[0], sums[0]


class _Prototypes(nn.Module):
    """The prototypes of a part of the finest level, and training's semantic logits for the probe.

    The convolution that predicts that level is here where priors do not need the level.
    """

    def __init__(self, network: Yolact) -> None:
        super().__init__()
        self.network = network

    def forward(self, finest: Tensor) -> tuple[Tensor, Tensor]:
        level = F.relu(self.network.fpn.pred_layers[-1](finest))
        semantic = self.network.semantic_seg_conv(level)
        return self.network.prototypes([level])[0], semantic[0]


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
    """The three graphs.

    ``network``: (1, 2, h, w) to (P, 4), (P, 1 + C), (c, cells) and (1, c, h / 4, w / 4) or what
    stride the finest level has. ``coefficients``: (rows, c, 9) to (rows, a, K) for a priors a cell.
    ``prototypes``: any (1, c, rows, columns) of the finest level to (2 rows, 2 columns, K) and
    (C, rows, columns).
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
            free={"around": {0: "rows"}, "coefficients": {0: "rows"}},
        ),
        GraphPart(
            "prototypes",
            _Prototypes(network),
            (torch.zeros(1, channels, 16, 16),),
            ["finest"],
            ["prototypes", "semantic"],
            free={
                "finest": {2: "rows", 3: "columns"},
                "prototypes": {0: "twice_rows", 1: "twice_columns"},
                "semantic": {1: "rows", 2: "columns"},
            },
        ),
    ]
