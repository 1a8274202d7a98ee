"""DeepLabV3: a ResNet dilated to output stride 8 and atrous spatial pyramid pooling.

References:
- Chen, Papandreou, Schroff, Adam: Rethinking Atrous Convolution for Semantic Image Segmentation.
  2017. https://arxiv.org/abs/1706.05587. Section 3.3 and figure 5 are :class:`ASPP`.
- He et al.: Deep Residual Learning for Image Recognition. CVPR 2016. https://arxiv.org/abs/1512.03385.

The variant is torchvision's: at output stride 8 the rates 6, 12, 18 of the paper (stated for
stride 16) are doubled to 12, 24, 36, and layer names are torchvision's, so that its state dicts
load as they are; a test holds names, parameter count and outputs equal. Other implementations
have the same names and shapes but dilate differently and answer differently.

Shapes in comments: n films, h x w input, C channels of the last stage, A of a branch, K classes
with background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from spinezoo_torchkit.backbones import ResNetFeatures
from spinezoo_torchkit.upsampling import enlarge, sub_cells_apart, with_sub_cells
from torch import nn

PAPER_RATES = (12, 24, 36)
"""Dilations of the three 3 x 3 branches at output stride 8."""


def _unit(in_channels: int, out_channels: int, kernel: int = 1, rate: int = 1) -> list[nn.Module]:
    """Convolution, batch normalisation, ReLU; the grid keeps its size."""
    padding = rate * (kernel // 2)
    return [
        nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=rate, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]


class ImagePooling(nn.Sequential):
    """The branch that sees the whole film: its average, spread over the grid again."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, C, h / 8, w / 8) to (n, A, h / 8, w / 8)."""
        pooled = super().forward(x)  # (n, A, 1, 1)
        return pooled.expand(-1, -1, *x.shape[-2:])


class ASPP(nn.Module):
    """Branches of 1 x 1, of 3 x 3 at several rates, and of the whole film; then one projection."""

    def __init__(
        self, in_channels: int, channels: int, rates: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Sequential(*_unit(in_channels, channels)),
                *(nn.Sequential(*_unit(in_channels, channels, 3, rate)) for rate in rates),
                ImagePooling(nn.AdaptiveAvgPool2d(1), *_unit(in_channels, channels)),
            ]
        )
        self.project = nn.Sequential(
            *_unit(len(self.convs) * channels, channels), nn.Dropout(dropout)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, C, h / 8, w / 8) to (n, A, h / 8, w / 8)."""
        return self.project(torch.cat([branch(x) for branch in self.convs], dim=1))


class DeepLabV3(nn.Module):
    """The network, with an auxiliary classifier on stage 3 for training where asked for."""

    def __init__(
        self,
        *,
        in_channels: int = 2,
        num_classes: int = 6,
        backbone: str = "resnet50",
        stage_channels: Sequence[int] = (64, 128, 256, 512),
        stem_width: int | None = None,
        head_channels: int = 256,
        rates: Sequence[int] = PAPER_RATES,
        dropout: float = 0.5,
        auxiliary: bool = True,
        sub_cells: int = 1,
    ) -> None:
        """Builds the network with random weights; the defaults are torchvision's ResNet-50 one.

        Args:
            in_channels: Planes of the input.
            num_classes: Classes with background.
            backbone: ``resnet18``, ``resnet34``, ``resnet50`` or ``resnet101``.
            stage_channels: Widths of its four stages.
            stem_width: Width of a deep stem's first convolution; None: one 7 x 7 convolution.
            head_channels: Channels of every branch and of the classifier.
            rates: Dilations of the 3 x 3 branches. A rate near the side of the grid turns a
                3 x 3 kernel into a 1 x 1 one (section 3.3 of the paper).
            dropout: Share of values that the projection drops in training.
            auxiliary: Whether there is an auxiliary classifier.
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
        self.classifier = nn.Sequential(
            ASPP(c5, head_channels, rates, dropout),
            *_unit(head_channels, head_channels, 3),
            nn.Conv2d(head_channels, num_classes * sub_cells**2, 1),
        )
        self.aux_classifier: nn.Sequential | None = None
        if auxiliary:
            self.aux_classifier = nn.Sequential(
                *_unit(c4, c4 // 4, 3), nn.Dropout(0.1), nn.Conv2d(c4 // 4, num_classes, 1)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor | None]:
        """Logits (n, K, h, w) of (n, in_channels, h, w); in training also the auxiliary ones."""
        size = x.shape[-2:]
        _, _, c4, c5 = self.backbone(x)  # (n, ., h / 8, w / 8) both
        logits = enlarge(self.classifier(c5), size, self.sub_cells)
        if not self.training:
            return logits
        if self.aux_classifier is None:
            return logits, None
        return logits, enlarge(self.aux_classifier(c4), size)

    def on_grid(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (n, K, f h / 8, f w / 8) with f sub-cells, which :meth:`forward` enlarges."""
        *_, c5 = self.backbone(x)
        return sub_cells_apart(self.classifier(c5), self.sub_cells)

    def begin_with(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights to begin training with, of this network or of the same one without sub-cells."""
        return with_sub_cells(tensors, "classifier.4", self.sub_cells, self.num_classes)
