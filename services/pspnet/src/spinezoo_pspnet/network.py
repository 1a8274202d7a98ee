"""PSPNet, dilated to output stride 8.

References:
- Zhao, Shi, Qi, Wang, Jia: Pyramid Scene Parsing Network. CVPR 2017.
  https://arxiv.org/abs/1612.01105. Section 3.2 and figure 3 are :class:`PyramidPooling`,
  section 3.3 and figure 4 the auxiliary head, section 5.1 the deep stem and the dropout.
- He et al.: Deep Residual Learning for Image Recognition. CVPR 2016. https://arxiv.org/abs/1512.03385.
- Yu, Koltun, Funkhouser: Dilated Residual Networks. CVPR 2017. https://arxiv.org/abs/1705.09914.

Shapes in comments: n films, h x w input, C channels of the last stage, K classes with background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from spinezoo_torchkit.backbones import ResNetFeatures
from spinezoo_torchkit.upsampling import enlarge, sub_cells_apart, with_sub_cells
from torch import nn

BINS = (1, 2, 3, 6)
"""Sides of the pooled grids."""

DROPOUT = 0.1
"""Share of channels that the heads drop in training."""


def _unit(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU; the grid keeps its size."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class PyramidPooling(nn.Module):
    """The map beside its averages over grids of 1, 4, 9 and 36 cells."""

    def __init__(self, channels: int, bins: Sequence[int] = BINS) -> None:
        super().__init__()
        self.bins = tuple(bins)
        reduced = channels // len(self.bins)
        self.levels = nn.ModuleList(_unit(channels, reduced, 1) for _ in self.bins)
        self.out_channels = channels + reduced * len(self.bins)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, C, h, w) to (n, 2 C, h, w)."""
        size = x.shape[-2:]
        parts = [x]
        for side, level in zip(self.bins, self.levels, strict=True):
            pooled = level(F.adaptive_avg_pool2d(x, side))  # (n, C / 4, side, side)
            parts.append(F.interpolate(pooled, size=size, mode="bilinear", align_corners=False))
        return torch.cat(parts, dim=1)


class PSPNet(nn.Module):
    """The network: dilated ResNet, pyramid pooling, classifier, auxiliary classifier on stage 3."""

    def __init__(
        self,
        *,
        in_channels: int = 2,
        num_classes: int = 6,
        backbone: str = "resnet50",
        stage_channels: Sequence[int] = (64, 128, 256, 512),
        stem_width: int = 64,
        head_channels: int = 512,
        sub_cells: int = 1,
    ) -> None:
        """Builds the network with random weights; the defaults are the paper's.

        Args:
            in_channels: Planes of the input.
            num_classes: Classes with background.
            backbone: ``resnet18``, ``resnet34``, ``resnet50`` or ``resnet101``.
            stage_channels: Widths of its four stages.
            stem_width: Width of the deep stem's first convolution.
            head_channels: Channels of the 3 x 3 convolution of the classifier; the auxiliary
                one has half as many.
            sub_cells: Sub-cells a side that the classifier answers for each cell of stride 8
                (:mod:`spinezoo_torchkit.upsampling`); the paper has 1.
        """
        super().__init__()
        self.num_classes, self.sub_cells = num_classes, sub_cells
        self.backbone = ResNetFeatures(
            backbone,
            in_channels=in_channels,
            channels=stage_channels,
            stem_width=stem_width,
            output_stride=8,
        )
        _, _, c4, c5 = self.backbone.channels
        self.pyramid = PyramidPooling(c5)
        self.classifier = nn.Sequential(
            _unit(self.pyramid.out_channels, head_channels, 3),
            nn.Dropout2d(DROPOUT),
            nn.Conv2d(head_channels, num_classes * sub_cells**2, 1),
        )
        self.auxiliary = nn.Sequential(
            _unit(c4, head_channels // 2, 3),
            nn.Dropout2d(DROPOUT),
            nn.Conv2d(head_channels // 2, num_classes, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Logits (n, K, h, w) of (n, in_channels, h, w); in training also the auxiliary ones."""
        size = x.shape[-2:]
        _, _, c4, c5 = self.backbone(x)  # (n, ., h / 8, w / 8) both
        logits = enlarge(self.classifier(self.pyramid(c5)), size, self.sub_cells)
        if not self.training:
            return logits
        return logits, enlarge(self.auxiliary(c4), size)

    def on_grid(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (n, K, f h / 8, f w / 8) with f sub-cells, which :meth:`forward` enlarges."""
        *_, c5 = self.backbone(x)
        return sub_cells_apart(self.classifier(self.pyramid(c5)), self.sub_cells)

    def begin_with(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights to begin training with, of this network or of the same one without sub-cells."""
        return with_sub_cells(tensors, "classifier.2", self.sub_cells, self.num_classes)
