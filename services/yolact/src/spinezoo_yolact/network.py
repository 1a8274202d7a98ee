"""YOLACT: instance masks as linear combinations of prototypes.

References:
    Bolya, Zhou, Xiao, Lee: YOLACT: Real-time Instance Segmentation. ICCV 2019 (arXiv 1904.02689).
    Lin et al.: Feature Pyramid Networks for Object Detection. CVPR 2017.
    Liu et al.: SSD: Single Shot MultiBox Detector. ECCV 2016 (priors, matching, hard negatives).
    He et al.: Deep Residual Learning for Image Recognition. CVPR 2016.

Modules carry the names of the published checkpoints, so that those can be loaded by key:
``backbone.{conv1,bn1,layers}``, ``fpn.{lat_layers,pred_layers,downsample_layers}``, ``proto_net``,
``prediction_layers.0.{upfeature,bbox_layer,conf_layer,mask_layer}``, ``semantic_seg_conv``.

Shapes are written as: N films, P priors, C structures (background not counted), K prototypes,
G true objects of one film, T of all films of a batch one after the other, D detections of one
film. Boxes run 0 to 1 over the input; "corners" are
(x1, y1, x2, y2), "centres" are (cx, cy, width, height).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from spinezoo_torchkit.checkpoints import evenly
from torch import Tensor, nn

from spinezoo_yolact.losses import yolact_losses
from spinezoo_yolact.outputs import Truth, YolactOutput

PUBLISHED_SIZE_PX = 550
"""Side of the published networks' input."""

PUBLISHED_MEAN_BGR = (103.94, 116.78, 123.68)
"""Mean of the published networks' input, in bytes."""

PUBLISHED_STD_BGR = (57.38, 57.12, 58.40)
"""Standard deviation of the published networks' input, in bytes."""


def published_input(grey: NDArray[np.uint8]) -> Tensor:
    """(1, 3, 550, 550) input of a network with published weights from a (height, width) film.

    Networks trained here take prepared films (:mod:`spinezoo_spine.inference.preprocess`) instead.
    """
    x = torch.from_numpy(grey.astype(np.float32))[None, None].expand(1, 3, -1, -1)
    size = (PUBLISHED_SIZE_PX, PUBLISHED_SIZE_PX)
    x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    mean = torch.tensor(PUBLISHED_MEAN_BGR)[:, None, None]
    std = torch.tensor(PUBLISHED_STD_BGR)[:, None, None]
    return ((x - mean) / std).flip(1)  # blue, green, red to red, green, blue


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (with the stride), 1 x 1: the block of ResNet-50 and deeper."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, h, w) to (N, 4 width, h / stride, w / stride)."""
        identity = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        return F.relu(self.bn3(self.conv3(y)) + identity, inplace=True)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions: the block of ResNet-18 and ResNet-34."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, h, w) to (N, width, h / stride, w / stride)."""
        identity = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + identity, inplace=True)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
    )


BLOCKS: dict[str, type[Bottleneck] | type[BasicBlock]] = {
    "bottleneck": Bottleneck,
    "basic": BasicBlock,
}
"""Residual blocks by the name a card gives them."""


class Backbone(nn.Module):
    """A ResNet whose four stages lie in ``layers``, as the published checkpoints have them."""

    def __init__(
        self, in_channels: int, block: str, blocks: Sequence[int], widths: Sequence[int]
    ) -> None:
        super().__init__()
        kind = BLOCKS[block]
        self.conv1 = nn.Conv2d(in_channels, widths[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layers = nn.ModuleList()
        self.channels: list[int] = []
        channels = widths[0]
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            stage_blocks: list[nn.Module] = []
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                stage_blocks.append(kind(channels, width, stride))
                channels = width * kind.expansion
            self.layers.append(nn.Sequential(*stage_blocks))
            self.channels.append(channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, channels, H, W) to C2 to C5, at strides 4, 8, 16 and 32."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)  # (N, w, H/2, W/2)
        x = F.max_pool2d(x, 3, stride=2, padding=1)  # (N, w, H/4, W/4)
        stages = []
        for layer in self.layers:
            x = layer(x)
            stages.append(x)
        return stages


class NormalisedConv2d(nn.Conv2d):
    """A 3 x 3 convolution that is followed by a normalisation.

    The published networks have no normalisation outside the backbone, and start from ImageNet
    weights. Training from nothing needs it there too (He, Girshick, Dollar: Rethinking ImageNet
    Pre-training, ICCV 2019). It is a part of the convolution, so that names do not shift.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        shared: The convolution sees several pyramid levels, whose statistics differ: normalise
            each map by itself, in groups of channels, instead of by the batch.
    """

    def __init__(self, in_channels: int, out_channels: int, *, shared: bool) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)
        self.norm: nn.Module = (
            nn.GroupNorm(max(1, out_channels // 8), out_channels)
            if shared
            else nn.BatchNorm2d(out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, h, w) to (N, out, h, w)."""
        y: Tensor = self.norm(super().forward(x))
        return y


def conv3x3(
    in_channels: int, out_channels: int, normalise: bool, *, shared: bool = False
) -> nn.Conv2d:
    """A 3 x 3 convolution of stride 1, normalised or not."""
    if normalise:
        return NormalisedConv2d(in_channels, out_channels, shared=shared)
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


class FeaturePyramid(nn.Module):
    """Top-down pyramid. The lateral and prediction convolutions are stored deepest first."""

    def __init__(
        self, in_channels: Sequence[int], channels: int, extra_levels: int, normalise: bool
    ) -> None:
        super().__init__()
        self.lat_layers = nn.ModuleList(
            nn.Conv2d(width, channels, 1) for width in reversed(in_channels)
        )
        self.pred_layers = nn.ModuleList(
            conv3x3(channels, channels, normalise) for _ in in_channels
        )
        self.downsample_layers = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in range(extra_levels)
        )

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Backbone stages, finest first, to pyramid levels of equal channels, finest first."""
        return self.predicted(self.sums(stages))

    def sums(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """What each level's prediction convolution sees: its stage and the level above."""
        sums: list[Tensor] = []
        for lateral, stage in zip(self.lat_layers, reversed(stages), strict=True):
            x = lateral(stage)
            if sums:
                x = x + F.interpolate(
                    sums[0], size=x.shape[-2:], mode="bilinear", align_corners=False
                )
            sums.insert(0, x)
        return sums

    def predicted(self, sums: Sequence[Tensor]) -> list[Tensor]:
        """Levels of :meth:`sums`, or of the deepest ones of them, and the extra ones below."""
        deepest_first = zip(self.pred_layers, reversed(sums), strict=False)
        levels = [F.relu(predict(x)) for predict, x in deepest_first][::-1]
        for downsample in self.downsample_layers:
            levels.append(downsample(levels[-1]))
        return levels


class Upsample2(nn.Module):
    """Bilinear resize to twice the size."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, h, w) to (N, c, 2h, 2w)."""
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def prototype_network(
    in_channels: int, channels: int, prototype_count: int, normalise: bool
) -> nn.Sequential:
    """The fully convolutional branch from the finest pyramid level to the prototypes."""
    return nn.Sequential(
        conv3x3(in_channels, channels, normalise),
        nn.ReLU(inplace=True),
        conv3x3(channels, channels, normalise),
        nn.ReLU(inplace=True),
        conv3x3(channels, channels, normalise),
        nn.ReLU(inplace=True),
        Upsample2(),
        nn.ReLU(inplace=True),  # changes nothing; it keeps the published numbering
        conv3x3(channels, channels, normalise),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, prototype_count, 1),
    )


class PredictionHead(nn.Module):
    """Boxes, classes and mask coefficients for every prior of a level; shared by all levels."""

    def __init__(
        self,
        channels: int,
        priors_per_cell: int,
        class_count: int,
        prototype_count: int,
        normalise: bool,
    ) -> None:
        super().__init__()
        self.class_planes = class_count + 1
        self.prototype_count = prototype_count
        self.upfeature = nn.Sequential(
            conv3x3(channels, channels, normalise, shared=True), nn.ReLU(inplace=True)
        )
        self.bbox_layer = nn.Conv2d(channels, priors_per_cell * 4, 3, padding=1)
        self.conf_layer = nn.Conv2d(channels, priors_per_cell * self.class_planes, 3, padding=1)
        self.mask_layer = nn.Conv2d(channels, priors_per_cell * prototype_count, 3, padding=1)

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, c, h, w) to (N, h w a, 4), (N, h w a, 1 + C), (N, h w a, K) for a priors a cell."""
        x = self.upfeature(level)
        masks = cell_by_cell(self.mask_layer(x), self.prototype_count)
        return *self.boxes_and_classes(x), torch.tanh(masks)

    def boxes_and_classes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, c, h, w) of :attr:`upfeature` to (N, h w a, 4) and (N, h w a, 1 + C)."""
        return (
            cell_by_cell(self.bbox_layer(x), 4),
            cell_by_cell(self.conf_layer(x), self.class_planes),
        )


def cell_by_cell(planes: Tensor, values: int) -> Tensor:
    """(N, a values, h, w) to (N, h w a, values), row by row."""
    return planes.permute(0, 2, 3, 1).reshape(planes.shape[0], -1, values)


class Yolact(nn.Module):
    """YOLACT. The defaults are the paper's with ResNet-50; 101 is ``blocks=(3, 4, 23, 3)``.

    Args:
        in_channels: Channels of the input.
        num_classes: Structures and background.
        block: ``"bottleneck"`` or ``"basic"``.
        blocks: Residual blocks of the four stages.
        widths: Channels of the four stages (times four at the output of bottlenecks).
        pyramid_stages: Which stages (0 is C2, at stride 4) feed the pyramid, finest first.
        pyramid_channels: Channels of every pyramid level.
        extra_levels: Levels below the deepest stage, each at half the resolution.
        head_start: The first pyramid level with priors. 1 leaves the finest level to the
            prototypes alone, which gives sharp masks of small objects without many tiny priors.
        prototype_channels: Channels inside the prototype branch.
        prototype_count: Prototypes.
        prior_scales_px: Sizes of the priors of each level with priors, in pixels of the input; as
            many for every level, because the levels share one head.
        prior_ratios: Width over height of the priors of a cell.
        square_priors: Takes height = width in spite of the ratio, as the published weights do.
        normalise: Normalisation after the 3 x 3 convolutions outside the backbone, which
            training from nothing needs; the published networks have none.
        mask_positives: Most positive priors of a film that enter the mask loss.

    Raises:
        ValueError: The prior scales do not fit the levels with priors.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        num_classes: int = 6,
        block: str = "bottleneck",
        blocks: Sequence[int] = (3, 4, 6, 3),
        widths: Sequence[int] = (64, 128, 256, 512),
        pyramid_stages: Sequence[int] = (1, 2, 3),
        pyramid_channels: int = 256,
        extra_levels: int = 2,
        head_start: int = 0,
        prototype_channels: int = 256,
        prototype_count: int = 32,
        prior_scales_px: Sequence[Sequence[float]] = ((24,), (48,), (96,), (192,), (384,)),
        prior_ratios: Sequence[float] = (1.0, 0.5, 2.0),
        square_priors: bool = True,
        normalise: bool = False,
        mask_positives: int = 100,
    ) -> None:
        super().__init__()
        levels = len(pyramid_stages) + extra_levels - head_start
        if len(prior_scales_px) != levels or len({len(scales) for scales in prior_scales_px}) != 1:
            message = (
                f"prior scales {prior_scales_px} for {levels} pyramid levels with priors; "
                "give each level a list of scales, all of the same length"
            )
            raise ValueError(message)
        priors_per_cell = len(prior_scales_px[0]) * len(prior_ratios)
        class_count = num_classes - 1
        self.pyramid_stages = tuple(pyramid_stages)
        self.head_start = head_start
        self.prior_scales_px = tuple(tuple(scales) for scales in prior_scales_px)
        self.prior_ratios = tuple(prior_ratios)
        self.square_priors = square_priors
        self.mask_positives = mask_positives
        self.backbone = Backbone(in_channels, block, blocks, widths)
        stage_channels = [self.backbone.channels[stage] for stage in self.pyramid_stages]
        self.fpn = FeaturePyramid(stage_channels, pyramid_channels, extra_levels, normalise)
        self.proto_net = prototype_network(
            pyramid_channels, prototype_channels, prototype_count, normalise
        )
        self.prediction_layers = nn.ModuleList(
            [
                PredictionHead(
                    pyramid_channels, priors_per_cell, class_count, prototype_count, normalise
                )
            ]
        )
        self.semantic_seg_conv = nn.Conv2d(pyramid_channels, class_count, 1)
        self._priors: dict[tuple[object, ...], Tensor] = {}
        self._initialise()

    def _initialise(self) -> None:
        for name, module in self.named_modules():
            if not isinstance(module, nn.Conv2d):
                continue
            if name.startswith("backbone"):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> YolactOutput:
        """(N, channels, H, W) to everything the losses and the detections need."""
        height, width = int(x.shape[-2]), int(x.shape[-1])
        levels = self.levels(x)
        prototypes = self.prototypes(levels)
        head = self.prediction_layers[0]
        parts = [head(level) for level in levels[self.head_start :]]
        sizes = [(int(level.shape[-2]), int(level.shape[-1])) for level in levels]
        return YolactOutput(
            boxes=torch.cat([part[0] for part in parts], dim=1).float(),
            class_logits=torch.cat([part[1] for part in parts], dim=1).float(),
            coefficients=torch.cat([part[2] for part in parts], dim=1).float(),
            prototypes=prototypes.float(),
            semantic_logits=self.semantic_seg_conv(levels[0]).float(),
            priors=self.priors(sizes[self.head_start :], height, width, x.device),
        )

    def levels(self, x: Tensor) -> list[Tensor]:
        """The pyramid of (N, channels, H, W), finest level first."""
        levels: list[Tensor] = self.fpn.predicted(self.sums(x))
        return levels

    def sums(self, x: Tensor) -> list[Tensor]:
        """What the levels are predicted from; see :meth:`FeaturePyramid.sums`."""
        stages = self.backbone(x)
        return self.fpn.sums([stages[stage] for stage in self.pyramid_stages])

    def prototypes(self, levels: Sequence[Tensor]) -> Tensor:
        """(N, ph, pw, K) of the pyramid."""
        return F.relu(self.proto_net(levels[0])).permute(0, 2, 3, 1)

    def priors(
        self, sizes: Sequence[tuple[int, int]], height: int, width: int, device: torch.device
    ) -> Tensor:
        """(P, 4) centres of the priors of levels of these (rows, columns)."""
        key = (tuple(sizes), height, width, device)
        if key not in self._priors:
            per_level = [
                level_priors(
                    rows, columns, scales, self.prior_ratios, height, width, self.square_priors
                )
                for (rows, columns), scales in zip(sizes, self.prior_scales_px, strict=True)
            ]
            self._priors[key] = torch.cat(per_level).to(device)
        return self._priors[key]

    def probe_forward(self, x: Tensor) -> list[Tensor]:
        """The same number of values from every output, for a probe of the network."""
        return [evenly(part, 64) for part in self(x)[:-1]]

    def losses(self, output: YolactOutput, truths: Sequence[Truth]) -> dict[str, Tensor]:
        """The four losses of the paper, weighted; their sum is what training minimises."""
        return yolact_losses(output, truths, self.mask_positives)


def level_priors(
    rows: int,
    columns: int,
    scales_px: Sequence[float],
    ratios: Sequence[float],
    height: int,
    width: int,
    square: bool,
) -> Tensor:
    """(rows * columns * scales * ratios, 4) centres of one level's priors, row-major.

    Args:
        rows: Rows of the level.
        columns: Columns of the level.
        scales_px: Square roots of the priors' areas, in pixels of the input.
        ratios: Width over height.
        height: Rows of the input.
        width: Columns of the input.
        square: Takes height = width = scale * sqrt(ratio).
    """
    cy = (torch.arange(rows, dtype=torch.float32) + 0.5) / rows
    cx = (torch.arange(columns, dtype=torch.float32) + 0.5) / columns
    sizes = []
    for scale in scales_px:
        for ratio in ratios:
            prior_width = scale * math.sqrt(ratio)
            prior_height = prior_width if square else scale / math.sqrt(ratio)
            sizes.append((prior_width / width, prior_height / height))
    size = torch.tensor(sizes, dtype=torch.float32)  # (a, 2)
    centre = torch.stack(torch.meshgrid(cy, cx, indexing="ij")[::-1], dim=-1)  # (rows, columns, 2)
    centre = centre[:, :, None, :].expand(rows, columns, len(sizes), 2)
    size = size[None, None].expand(rows, columns, len(sizes), 2)
    return torch.cat([centre, size], dim=-1).reshape(-1, 4)
