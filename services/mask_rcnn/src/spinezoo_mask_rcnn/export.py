"""Mask R-CNN's three graphs; what is between them stands in :mod:`spinezoo_mask_rcnn.arrays`.

``pyramid`` sees the film: features and, for every anchor, objectness and offsets. ``boxes`` and
``masks`` see regions that were pooled from the features, any number of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from spinezoo_serving.cards import ModelCard
from spinezoo_torchkit.export import GraphPart, film_of
from torch import Tensor, nn

from spinezoo_mask_rcnn.arrays import BOX_POOL_CELLS, MASK_POOL_CELLS, PROBE_VALUES
from spinezoo_mask_rcnn.network import PYRAMID_LEVELS, MaskRcnn, evenly

NOT_INT8 = (
    "backbone.fpn.inner_blocks.[123].*",
    "backbone.fpn.layer_blocks.[123].*",
    "rpn.head.conv.*@[123]",
)
"""What an int8 graph keeps in floating point: all that comes after the backbone from P3 on.

It takes 1 of the graph's 20 ms, and objectness is off by 0.12 instead of 0.17."""


class _Pyramid(nn.Module):
    """Everything that is computed once a film."""

    def __init__(self, network: MaskRcnn) -> None:
        super().__init__()
        self.network = network

    def forward(self, film: Tensor) -> tuple[Tensor, ...]:
        levels = self.network.backbone(film)
        objectness, offsets = self.network.rpn.head(list(levels.values()))
        # (1, c, h, w) of all levels to (cells, c), finest level first, row by row.
        channels = self.network.backbone.out_channels
        features = [
            levels[name].permute(0, 2, 3, 1).reshape(-1, channels) for name in PYRAMID_LEVELS
        ]
        # (1, a, h, w) to (h w a,); (1, 4 a, h, w) to (h w a, 4): torchvision's order of anchors.
        scores = [level[0].permute(1, 2, 0).reshape(-1) for level in objectness]
        moves = [level[0].permute(1, 2, 0).reshape(-1, 4) for level in offsets]
        probe = torch.cat([evenly(part, PROBE_VALUES) for part in (*objectness, *offsets)])
        return torch.cat(features), torch.cat(scores), torch.cat(moves), probe


class _Boxes(nn.Module):
    """The box head."""

    def __init__(self, network: MaskRcnn) -> None:
        super().__init__()
        self.network = network

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        heads = self.network.roi_heads
        x = heads.box_head(regions.permute(0, 3, 1, 2))
        logits, offsets = heads.box_predictor(x)
        return logits, offsets


class _Masks(nn.Module):
    """The mask head."""

    def __init__(self, network: MaskRcnn) -> None:
        super().__init__()
        self.network = network

    def forward(self, regions: Tensor) -> Tensor:
        heads = self.network.roi_heads
        masks: Tensor = heads.mask_predictor(heads.mask_head(regions.permute(0, 3, 1, 2)))
        return masks


def mask_rcnn_parts(card: ModelCard, network: nn.Module) -> Sequence[GraphPart]:
    """The three graphs; regions are (rows, cells, cells, c)."""
    assert isinstance(network, MaskRcnn)
    channels = network.backbone.out_channels
    film = ["features", "objectness", "offsets", "probe"]
    return [
        GraphPart("pyramid", _Pyramid(network), (film_of(card),), ["film"], film),
        GraphPart(
            "boxes",
            _Boxes(network),
            (torch.zeros(2, BOX_POOL_CELLS, BOX_POOL_CELLS, channels),),
            ["regions"],
            ["class_logits", "box_offsets"],
            rows=["regions", "class_logits", "box_offsets"],
        ),
        GraphPart(
            "masks",
            _Masks(network),
            (torch.zeros(2, MASK_POOL_CELLS, MASK_POOL_CELLS, channels),),
            ["regions"],
            ["mask_logits"],
            rows=["regions", "mask_logits"],
        ),
    ]
