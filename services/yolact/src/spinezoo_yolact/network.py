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
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

VARIANCES = (0.1, 0.2)
"""Scale of encoded box centres and of encoded box sizes (SSD)."""

CROP_PADDING_PX = 1.0
"""Prototype pixels that are kept around a box when a mask is cropped to it."""

PUBLISHED_SIZE_PX = 550
"""Side of the published networks' input."""

PUBLISHED_MEAN_BGR = (103.94, 116.78, 123.68)
"""Mean of the published networks' input, in bytes."""

PUBLISHED_STD_BGR = (57.38, 57.12, 58.40)
"""Standard deviation of the published networks' input, in bytes."""


class YolactOutput(NamedTuple):
    """What the network says about a batch.

    Attributes:
        boxes: (N, P, 4) box offsets from the priors, see :func:`decode_boxes`.
        class_logits: (N, P, 1 + C); plane 0 is background.
        coefficients: (N, P, K), -1 to 1.
        prototypes: (N, prototype height, prototype width, K), not negative.
        semantic_logits: (N, C, height, width) of the finest pyramid level.
        priors: (P, 4) centres.
    """

    boxes: Tensor
    class_logits: Tensor
    coefficients: Tensor
    prototypes: Tensor
    semantic_logits: Tensor
    priors: Tensor


class Truth(NamedTuple):
    """The true objects of one film.

    Attributes:
        boxes: (G, 4) corners, 0 to 1.
        classes: (G,) int64, 1 to C.
        masks: (G, height, width) 0 or 1, on any grid that covers the input and is at least as fine
            as the prototypes'.
    """

    boxes: Tensor
    classes: Tensor
    masks: Tensor


class Detections(NamedTuple):
    """The found objects of one film, best score first.

    Attributes:
        boxes: (D, 4) corners, 0 to 1.
        labels: (D,) int64, 1 to C.
        scores: (D,), 0 to 1.
        masks: (D, prototype height, prototype width) probabilities, 0 outside the box.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    masks: Tensor


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


# --- Backbone -------------------------------------------------------------------------------------


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


# --- Pyramid, prototypes, head --------------------------------------------------------------------


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
        levels: list[Tensor] = []
        above: Tensor | None = None
        for lateral, predict, stage in zip(
            self.lat_layers, self.pred_layers, reversed(stages), strict=True
        ):
            x = lateral(stage)
            if above is not None:
                x = x + F.interpolate(
                    above, size=x.shape[-2:], mode="bilinear", align_corners=False
                )
            above = x
            levels.insert(0, F.relu(predict(x)))
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
        batch = x.shape[0]
        # (N, a * values, h, w) -> (N, h, w, a * values) -> (N, h * w * a, values): row-major.
        boxes = self.bbox_layer(x).permute(0, 2, 3, 1).reshape(batch, -1, 4)
        logits = self.conf_layer(x).permute(0, 2, 3, 1).reshape(batch, -1, self.class_planes)
        masks = self.mask_layer(x).permute(0, 2, 3, 1).reshape(batch, -1, self.prototype_count)
        return boxes, logits, torch.tanh(masks)


# --- The network ----------------------------------------------------------------------------------


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
        stages = self.backbone(x)
        levels = self.fpn([stages[stage] for stage in self.pyramid_stages])
        prototypes = F.relu(self.proto_net(levels[0])).permute(0, 2, 3, 1)  # (N, ph, pw, K)
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


def evenly(values: Tensor, count: int) -> Tensor:
    """(count,) values at evenly spaced places of a flattened tensor."""
    flat = values.reshape(-1)
    return flat[torch.linspace(0, flat.numel() - 1, count).round().long()]


# --- Boxes ----------------------------------------------------------------------------------------


def to_corners(centres: Tensor) -> Tensor:
    """(..., 4) centres to corners."""
    half = centres[..., 2:] / 2
    return torch.cat([centres[..., :2] - half, centres[..., :2] + half], dim=-1)


def encode_boxes(corners: Tensor, priors: Tensor) -> Tensor:
    """(..., P, 4) corners as offsets from (..., P, 4) priors."""
    centre = (corners[..., :2] + corners[..., 2:]) / 2
    size = corners[..., 2:] - corners[..., :2]
    offset = (centre - priors[..., :2]) / (VARIANCES[0] * priors[..., 2:])
    return torch.cat([offset, torch.log(size / priors[..., 2:]) / VARIANCES[1]], dim=-1)


def decode_boxes(offsets: Tensor, priors: Tensor) -> Tensor:
    """(..., P, 4) offsets from (P, 4) priors as corners."""
    centre = priors[:, :2] + offsets[..., :2] * VARIANCES[0] * priors[:, 2:]
    size = priors[:, 2:] * torch.exp(offsets[..., 2:] * VARIANCES[1])
    return to_corners(torch.cat([centre, size], dim=-1))


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """(..., n, 4) and (..., m, 4) corners to (..., n, m) intersection over union."""
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(dim=-1)
    area_a = (a[..., 2:] - a[..., :2]).clamp(min=0).prod(dim=-1)
    area_b = (b[..., 2:] - b[..., :2]).clamp(min=0).prod(dim=-1)
    return overlap / (area_a[..., :, None] + area_b[..., None, :] - overlap).clamp(min=1e-12)


# --- Losses ---------------------------------------------------------------------------------------

BOX_WEIGHT = 1.5
MASK_WEIGHT = 6.125
NEGATIVES_PER_POSITIVE = 3
POSITIVE_IOU = 0.5
NEGATIVE_IOU = 0.4
NEUTRAL = -1
"""Class target of a prior that is neither positive nor negative."""


def without_waiting(host: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host's memory on a device, where it arrives when the device gets to it."""
    if device.type == "cuda":
        host = host.pin_memory()
    return host.to(device, non_blocking=True)


def places(counts: Sequence[int], device: torch.device) -> Tensor:
    """(2, T) film and index within the film of every object, of N films with so many objects."""
    film = np.repeat(np.arange(len(counts)), counts)
    within = np.concatenate([np.arange(count) for count in counts])
    return without_waiting(torch.from_numpy(np.stack([film, within])), device)


def first_objects(counts: Sequence[int], device: torch.device) -> Tensor:
    """(N, 1) place of every film's first object among the T, of N films with so many objects."""
    return without_waiting(torch.from_numpy(np.cumsum([0, *counts[:-1]]))[:, None], device)


def match_batch(priors: Tensor, truths: Sequence[Truth]) -> tuple[Tensor, Tensor]:
    """Which object of its film each prior answers for.

    A prior is positive for the object it overlaps most if their IoU is at least
    :data:`POSITIVE_IOU`, negative below :data:`NEGATIVE_IOU`, neutral between. Besides, every
    object keeps its best prior, however small the overlap; where two want the same one, the larger
    overlap has it and the other takes its next best.

    Waits once for an accelerator.

    Args:
        priors: (P, 4) centres.
        truths: The objects of N films.

    Returns:
        (N, P) index of the object within its film, and (N, P) class target: 1 to C, 0 background,
        or :data:`NEUTRAL`.
    """
    device = priors.device
    prior_count = priors.shape[0]
    counts = [truth.boxes.shape[0] for truth in truths]
    most = max(1, *counts)  # G of the film with the most, at least 1
    film, within = places(counts, device)
    iou = pairwise_iou(torch.cat([truth.boxes for truth in truths]), to_corners(priors))  # (T, P)
    per_film = iou.new_full((len(truths), most, prior_count), -1.0)  # objects that are not there
    per_film[film, within] = iou
    best_iou, best_object = per_film.max(dim=1)  # (N, P)

    # Only an object's G best priors can matter to it: the others take at most G - 1 of them. One
    # number holds the IoU (the bits of a positive float are in its order) and the prior, so that
    # equal overlaps have an order too (the first prior wins) and one transfer brings both.
    backwards = torch.arange(prior_count - 1, -1, -1, device=device)
    keys = (iou.view(torch.int32).long() << 32) | backwards
    top = keys.topk(min(most, prior_count), dim=1).values.cpu().numpy()  # (T, candidates)
    kept = best_priors(top >> 32, prior_count - 1 - (top & 0xFFFFFFFF), counts)
    film, prior, index = without_waiting(torch.from_numpy(kept), device)
    best_object[film, prior] = index
    best_iou[film, prior] = 2.0  # above every threshold

    # One class more, for films without objects at the end of the batch.
    classes = F.pad(torch.cat([truth.classes for truth in truths]), (0, 1))
    target = classes[first_objects(counts, device) + best_object]
    target = torch.where(best_iou < POSITIVE_IOU, torch.full_like(target, NEUTRAL), target)
    target = torch.where(best_iou < NEGATIVE_IOU, torch.zeros_like(target), target)
    return best_object, target


def best_priors(
    overlaps: NDArray[np.int64], priors: NDArray[np.int64], counts: Sequence[int]
) -> NDArray[np.int64]:
    """The prior that every object keeps, the largest overlaps of a film first.

    Args:
        overlaps: (T, candidates) numbers in the order of the IoU, an object's best first.
        priors: (T, candidates) their priors.
        counts: Objects of each film.

    Returns:
        (3, at most T) film, prior, and index of the object within its film.
    """
    kept: list[tuple[int, int, int]] = []
    start = 0
    for film, count in enumerate(counts):
        rows = slice(start, start + count)
        start += count
        order = np.argsort(-overlaps[rows], axis=None, kind="stable")
        objects = (order // overlaps.shape[1]).tolist()
        taken: set[int] = set()
        served: set[int] = set()
        for index, prior in zip(objects, priors[rows].ravel()[order].tolist(), strict=True):
            if index in served or prior in taken:
                continue
            served.add(index)
            taken.add(prior)
            kept.append((film, prior, index))
            if len(served) == count:
                break
    return np.array(kept, dtype=np.int64).reshape(-1, 3).T.copy()


def class_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Summed softmax cross-entropy over positives and the hardest negatives, 3:1 for each film.

    Args:
        logits: (N, P, 1 + C).
        targets: (N, P) classes, 0 background, :data:`NEUTRAL` left out.
    """
    positive = targets > 0
    # Of all priors, because choosing some of them makes an accelerator wait.
    loss = logits.logsumexp(dim=-1) - logits.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    with torch.no_grad():
        # How far from background a prior is believed to be: the loss it has as a negative.
        hardness = loss.masked_fill(targets != 0, -1.0)
        rank = hardness.argsort(dim=1, descending=True).argsort(dim=1)
        wanted = (NEGATIVES_PER_POSITIVE * positive.sum(dim=1)).clamp(
            min=NEGATIVES_PER_POSITIVE, max=targets.shape[1] - 1
        )
        negative = (rank < wanted[:, None]) & (targets == 0)
    return loss.where(positive | negative, 0.0).sum()


def box_window(boxes: Tensor, height: int, width: int, padding_px: float) -> Tensor:
    """(n, height, width) bool: the cells of a grid that lie in (n, 4) corners plus padding."""
    x1 = (boxes[:, 0] * width - padding_px).clamp(min=0)[:, None, None]
    x2 = (boxes[:, 2] * width + padding_px).clamp(max=width)[:, None, None]
    y1 = (boxes[:, 1] * height - padding_px).clamp(min=0)[:, None, None]
    y2 = (boxes[:, 3] * height + padding_px).clamp(max=height)[:, None, None]
    columns = torch.arange(width, device=boxes.device)[None, None, :]
    rows = torch.arange(height, device=boxes.device)[None, :, None]
    return (columns >= x1) & (columns < x2) & (rows >= y1) & (rows < y2)


def positive_mask_losses(
    prototypes: Tensor, coefficients: Tensor, boxes: Tensor, masks: Tensor, objects: Tensor
) -> Tensor:
    """(N, M) mean cross-entropy inside the true box, of M positives of each of N films.

    Args:
        prototypes: (N, ph, pw, K).
        coefficients: (N, M, K).
        boxes: (T, 4) true corners.
        masks: (T, ph, pw) true masks, 0.0 or 1.0.
        objects: (N, M) which of the T objects each positive answers for.
    """
    height, width = prototypes.shape[1:3]
    logits = (coefficients @ prototypes.flatten(1, 2).mT).unflatten(-1, (height, width))
    # The cross-entropy of a logit x is log(1 + exp(-x)) where the mask is 1, log(1 + exp(x)) where
    # it is 0. This is most of the losses' work: what belongs to an object is computed only once.
    loss = F.softplus(logits * (1.0 - 2.0 * masks)[objects])
    loss = loss.where(box_window(boxes, height, width, CROP_PADDING_PX)[objects], 0.0)
    # A box thinner than a prototype pixel counts as one pixel, or its loss would explode.
    box_width = ((boxes[:, 2] - boxes[:, 0]) * width).clamp(min=1.0)
    box_height = ((boxes[:, 3] - boxes[:, 1]) * height).clamp(min=1.0)
    return loss.sum(dim=(2, 3)) / (box_width * box_height)[objects]


def masks_by_grid(truths: Sequence[Truth]) -> list[Tensor]:
    """The T masks of a batch in order, (n, h, w) float for each run of films on one grid."""
    masks = [truth.masks for truth in truths if truth.masks.shape[0] > 0]
    return [torch.cat(list(run)).float() for _, run in groupby(masks, lambda mask: mask.shape[1:])]


def on_grid(masks: Tensor, height: int, width: int) -> Tensor:
    """(G, h, w) masks on a (height, width) grid, 0.0 or 1.0: what covers most of a cell."""
    if tuple(masks.shape[-2:]) == (height, width) or masks.shape[0] == 0:
        return masks.float().reshape(-1, height, width)
    share = F.interpolate(
        masks.float()[None],
        size=(height, width),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )[0]
    return (share > 0.5).float()


def semantic_truth(truths: Sequence[Truth], class_count: int, height: int, width: int) -> Tensor:
    """(N, C, height, width) float: where any object of a class covers most of a cell."""
    device = truths[0].boxes.device
    covered = torch.zeros(len(truths) * class_count, height, width, device=device)
    small = [
        F.adaptive_avg_pool2d(masks[:, None], (height, width))[:, 0]
        for masks in masks_by_grid(truths)
    ]
    if small:
        film = places([truth.boxes.shape[0] for truth in truths], device)[0]
        plane = film * class_count + torch.cat([truth.classes for truth in truths]) - 1
        covered.index_add_(0, plane, (torch.cat(small) > 0.5).float())
    return covered.clamp(max=1.0).reshape(-1, class_count, height, width)


def yolact_losses(
    output: YolactOutput, truths: Sequence[Truth], mask_positives: int = 100
) -> dict[str, Tensor]:
    """Box, class, mask and semantic loss of a batch, each with its weight of the paper.

    Box, class and mask loss are divided by the number of positive priors of the batch, the
    semantic loss by the number of films.

    Waits twice for an accelerator: for the matching, and for the number of positives.

    Args:
        output: Of N films.
        truths: Their N truths.
        mask_positives: Most positive priors of a film that enter the mask loss; a larger set is
            thinned at random and the loss scaled up accordingly.
    """
    matched, targets = match_batch(output.priors, truths)
    counts = (targets > 0).sum(dim=1)  # (N,) positives
    host_counts: list[int] = counts.tolist()
    most = max(host_counts)
    divisor = max(sum(host_counts), 1)
    box_loss = mask_loss = output.boxes.sum() * 0.0
    if most > 0:
        # The positives of each film in random order, so that the first few are any few; then, in
        # films with fewer than others, priors that do not count.
        order = torch.rand(targets.shape, device=targets.device).masked_fill_(targets <= 0, -1.0)
        order, chosen = order.topk(most, dim=1)  # (N, M)
        counted = order >= 0.0
        first = first_objects([truth.boxes.shape[0] for truth in truths], targets.device)
        objects = (first + matched.gather(1, chosen)).where(counted, 0)  # (N, M) of T
        boxes = torch.cat([truth.boxes for truth in truths])  # (T, 4)
        box_losses = F.smooth_l1_loss(
            output.boxes.take_along_dim(chosen[..., None], dim=1),
            encode_boxes(boxes[objects], output.priors[chosen]),
            reduction="none",
        )
        box_loss = (box_losses * counted[..., None]).sum()

        prototype_grid = output.prototypes.shape[1:3]
        mask_losses = positive_mask_losses(
            output.prototypes,
            output.coefficients.take_along_dim(chosen[:, :mask_positives, None], dim=1),
            boxes,
            torch.cat([on_grid(masks, *prototype_grid) for masks in masks_by_grid(truths)]),
            objects[:, :mask_positives],
        )
        film_losses = (mask_losses * counted[:, :mask_positives]).sum(dim=1)
        mask_loss = (film_losses * (counts / counts.clamp(1, mask_positives))).sum()
    semantic_logits = output.semantic_logits
    class_count, height, width = semantic_logits.shape[1:]
    semantic_loss = F.binary_cross_entropy_with_logits(
        semantic_logits, semantic_truth(truths, class_count, height, width), reduction="sum"
    )
    return {
        "box": BOX_WEIGHT * box_loss / divisor,
        "class": class_loss(output.class_logits, targets) / divisor,
        "mask": MASK_WEIGHT * mask_loss / divisor,
        "semantic": semantic_loss / (height * width) / len(truths),
    }


# --- Detections -----------------------------------------------------------------------------------


def fast_nms(
    boxes: Tensor, scores: Tensor, *, suppression_iou: float, score_threshold: float, top: int = 200
) -> tuple[Tensor, Tensor, Tensor]:
    """Fast NMS of every class at once.

    A box is dropped if any better box of its class overlaps it by more than the threshold, even
    if that better box is itself dropped: that is what makes it one matrix operation, and what
    makes it drop slightly more than the sequential form.

    Args:
        boxes: (P, 4) corners.
        scores: (C, P) scores of the structures.
        suppression_iou: Drop above this IoU.
        score_threshold: Keep scores above this only.
        top: Most candidates of a class.

    Returns:
        (D,) index into P, (D,) class 1 to C, (D,) score; best score first.
    """
    top = min(top, scores.shape[1])
    if top == 0:
        none = torch.zeros(0, dtype=torch.int64, device=boxes.device)
        return none, none, scores.new_zeros(0)
    sorted_scores, order = scores.sort(dim=1, descending=True, stable=True)
    sorted_scores, order = sorted_scores[:, :top], order[:, :top]  # (C, top)
    candidates = boxes[order]  # (C, top, 4)
    iou = pairwise_iou(candidates, candidates).triu(diagonal=1)  # (C, top, top)
    # Candidates that are below the threshold come last, so they cannot drop one that is above it.
    keep = (iou.amax(dim=1) <= suppression_iou) & (sorted_scores > score_threshold)
    classes = torch.arange(1, scores.shape[0] + 1, device=boxes.device)[:, None].expand_as(order)
    kept_scores, ranking = sorted_scores[keep].sort(descending=True, stable=True)
    return order[keep][ranking], classes[keep][ranking], kept_scores


def assemble_masks(prototypes: Tensor, coefficients: Tensor, boxes: Tensor) -> Tensor:
    """(ph, pw, K) prototypes and (D, K) coefficients to (D, ph, pw) masks, cropped to the boxes."""
    height, width = prototypes.shape[:2]
    masks = torch.sigmoid(torch.einsum("hwk,dk->dhw", prototypes, coefficients))
    return masks * box_window(boxes, height, width, CROP_PADDING_PX)


def detections_of(
    output: YolactOutput,
    *,
    score_threshold: float = 0.05,
    suppression_iou: float = 0.5,
    max_detections: int = 100,
) -> list[Detections]:
    """The objects of each film of a batch.

    Args:
        output: Of N films.
        score_threshold: Keep scores above this.
        suppression_iou: IoU of boxes above which the lesser one is dropped.
        max_detections: Most objects of a film.
    """
    corners = decode_boxes(output.boxes, output.priors)  # (N, P, 4)
    probabilities = output.class_logits.softmax(dim=-1)[..., 1:]  # (N, P, C)
    detections = []
    for index in range(corners.shape[0]):
        plausible = (probabilities[index].amax(dim=-1) > score_threshold).nonzero()[:, 0]
        boxes = corners[index, plausible]
        kept, classes, scores = fast_nms(
            boxes,
            probabilities[index, plausible].T,
            suppression_iou=suppression_iou,
            score_threshold=score_threshold,
        )
        kept, classes, scores = (part[:max_detections] for part in (kept, classes, scores))
        masks = assemble_masks(
            output.prototypes[index], output.coefficients[index, plausible[kept]], boxes[kept]
        )
        detections.append(Detections(boxes[kept].clamp(0, 1), classes, scores, masks))
    return detections


def detect(
    network: Yolact,
    inputs: Tensor,
    *,
    score_threshold: float,
    suppression_iou: float,
    max_detections: int,
) -> list[Detections]:
    """The objects of each film of (N, channels, height, width); see :func:`detections_of`."""
    return detections_of(
        network(inputs),
        score_threshold=score_threshold,
        suppression_iou=suppression_iou,
        max_detections=max_detections,
    )
