"""Mask R-CNN's three graphs; what is between them stands in :mod:`spinezoo_mask_rcnn.arrays`.

``pyramid`` sees the film: features and, for every cell, the logits and offsets of its anchors.
``boxes`` and ``masks`` see regions that were pooled from the features, ``boxes`` any number of
them, ``masks`` a few at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from spinezoo_contract.types import PredictOptions
from spinezoo_serving.cards import ModelCard, verify_graphs
from spinezoo_spine.inference.engines import Graph, open_engine
from spinezoo_spine.inference.options import resolve_options
from spinezoo_torchkit.export import GraphPart, film_of
from spinezoo_training.quantised import film_inputs
from torch import Tensor, nn

from spinezoo_mask_rcnn.arrays import BOX_POOL_CELLS, MASK_POOL_CELLS, MASK_REGIONS
from spinezoo_mask_rcnn.network import PYRAMID_LEVELS, MaskRcnn
from spinezoo_mask_rcnn.predictor import MaskRcnnPredictor

NOT_INT8 = (
    "backbone.body.layer*.downsample.*",
    "backbone.fpn.inner_blocks.*",
    "backbone.fpn.layer_blocks.[123].*",
    "rpn.head.conv.*@*",
)
"""What an int8 graph keeps in floating point: the pyramid from P3 on with the convolutions of its
proposals, and the 1 x 1 convolutions on the sums of residual blocks. All that takes little time.

A proposal that rounding moves over a threshold is another object; ``docs/performance.md`` has what
this spares and costs."""


class _Pyramid(nn.Module):
    """Everything that is computed once a film."""

    def __init__(self, network: MaskRcnn) -> None:
        super().__init__()
        self.network = network

    def forward(self, film: Tensor) -> tuple[Tensor, Tensor]:
        levels = self.network.backbone(film)
        head = self.network.rpn.head
        logits, moves = head.cls_logits, head.bbox_pred
        weight, bias = (
            torch.cat([logits.weight, moves.weight]),
            torch.cat([logits.bias, moves.bias]),
        )
        # (1, ., h, w) of all levels to (cells, .), finest level first, row by row.
        channels = self.network.backbone.out_channels
        features = [
            levels[name].permute(0, 2, 3, 1).reshape(-1, channels) for name in PYRAMID_LEVELS
        ]
        proposals = [
            F.conv2d(head.conv(level), weight, bias).permute(0, 2, 3, 1).reshape(-1, len(weight))
            for level in levels.values()
        ]
        return torch.cat(features), torch.cat(proposals)


class _Boxes(nn.Module):
    """The box head; its first layer takes the cells as they lie, channels last."""

    def __init__(self, network: MaskRcnn) -> None:
        super().__init__()
        self.network = network

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        heads = self.network.roi_heads
        first, second = heads.box_head.fc6, heads.box_head.fc7
        cells = (-1, self.network.backbone.out_channels, BOX_POOL_CELLS, BOX_POOL_CELLS)
        weight = first.weight.reshape(cells).permute(0, 2, 3, 1).flatten(1)
        x = F.relu(F.linear(regions.flatten(1), weight, first.bias))
        x = F.relu(second(x))
        logits, offsets = heads.box_predictor(x)
        return logits, offsets


class _Masks(nn.Module):
    """The mask head.

    Its transposed convolution answers four pixels a cell that do not overlap: as a convolution of
    1 x 1 with four times the channels it takes half the time. They are answered as they lie, cell
    by cell, and put in place where only one class of each region is left.

    It takes a fixed number of regions: with any number, an engine computes the changes of axes that
    otherwise only name what lies there.
    """

    def __init__(self, network: MaskRcnn) -> None:
        super().__init__()
        self.network = network

    def forward(self, regions: Tensor) -> Tensor:
        heads = self.network.roi_heads
        up, last = heads.mask_predictor.conv5_mask, heads.mask_predictor.mask_fcn_logits
        x = heads.mask_head(regions.permute(0, 3, 1, 2))
        rows, columns = up.kernel_size
        # (in, out, 2, 2) to (4 out, in, 1, 1), pixel by pixel.
        kernel = up.weight.permute(2, 3, 1, 0).reshape(-1, up.in_channels, 1, 1)
        x = F.relu(F.conv2d(x, kernel, up.bias.repeat(rows * columns)))
        pixels = x.permute(0, 2, 3, 1).reshape(-1, up.out_channels)
        found = F.linear(pixels, last.weight.flatten(1), last.bias)
        return found.reshape(-1, MASK_POOL_CELLS, MASK_POOL_CELLS, rows, columns, len(last.weight))


def mask_rcnn_parts(card: ModelCard, network: nn.Module) -> Sequence[GraphPart]:
    """The three graphs; regions are (rows, cells, cells, c)."""
    assert isinstance(network, MaskRcnn)
    channels = network.backbone.out_channels
    film = ["features", "proposals"]
    return [
        GraphPart("pyramid", _Pyramid(network), (film_of(card),), ["film"], film),
        GraphPart(
            "boxes",
            _Boxes(network),
            (torch.zeros(2, BOX_POOL_CELLS, BOX_POOL_CELLS, channels),),
            ["regions"],
            ["class_logits", "box_offsets"],
            free=_rows("regions", "class_logits", "box_offsets"),
        ),
        GraphPart(
            "masks",
            _Masks(network),
            (torch.zeros(MASK_REGIONS, MASK_POOL_CELLS, MASK_POOL_CELLS, channels),),
            ["regions"],
            ["mask_logits"],
        ),
    ]


def _rows(*names: str) -> dict[str, dict[int, str]]:
    """Inputs and outputs whose first axis may have any length."""
    return {name: {0: "rows"} for name in names}


class _Recorded:
    """A graph that keeps what it is asked with."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.asked: list[NDArray[np.float32]] = []

    def run(self, *inputs: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        (regions,) = inputs
        filled = regions.any(axis=(1, 2, 3))  # others only fill up the number of rows
        self.asked.append(regions[filled])
        return self.graph.run(regions)


def region_examples(card: ModelCard) -> dict[str, list[NDArray[np.float32]]]:
    """What the heads are asked with for the phantoms that scales of int8 graphs are found with."""
    engine = open_engine("openvino", "float32")
    graphs: dict[str, Graph] = {
        part: engine.load(path) for part, path in verify_graphs(card).items()
    }
    heads = {part: _Recorded(graphs[part]) for part in ("boxes", "masks")}
    predictor = MaskRcnnPredictor(card, engine, graphs | heads)
    settings = resolve_options(PredictOptions(), card)
    for film in film_inputs(card.input.height, card.input.width):
        predictor.infer(film[0], settings)
    masked = np.concatenate(heads["masks"].asked)
    whole = len(masked) // MASK_REGIONS * MASK_REGIONS
    groups = masked[:whole].reshape(-1, MASK_REGIONS, *masked.shape[1:])
    return {"boxes": heads["boxes"].asked, "masks": list(groups)}
