"""ResNet backbones, narrow and wide, dilated or not.

References:
- He et al.: Deep Residual Learning for Image Recognition. CVPR 2016. https://arxiv.org/abs/1512.03385.
- Yu, Koltun, Funkhouser: Dilated Residual Networks. CVPR 2017. https://arxiv.org/abs/1705.09914.
- Goyal et al.: Accurate, Large Minibatch SGD. 2017. https://arxiv.org/abs/1706.02677 (section 5.1:
  residual branches start at zero).

torchvision's ResNet refuses to dilate basic blocks, which the narrow presets need, so the blocks
are written out here. Parameter names are torchvision's (``conv1``, ``bn1``, ``layer1.0.conv1``,
``layer2.0.downsample.0``, ...) and so is the place of stride and dilation: on the 3 x 3
convolution, the first block of a dilated stage with the rate of the stage before. A deep stem is
``conv1.{0,1,3,4,6}`` and ``bn1``. Weights start at random: nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

LAYOUTS: dict[str, tuple[bool, tuple[int, int, int, int]]] = {
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
}
"""Names that :class:`ResNetFeatures` takes: whether its blocks are bottlenecks, blocks a stage."""

BOTTLENECK_EXPANSION = 4
"""Output channels of a bottleneck over the width of its stage."""


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1, rate: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels, out_channels, 3, stride=stride, padding=rate, dilation=rate, bias=False
    )


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        first_rate: int,
        rate: int,
        downsample: nn.Module | None,
    ) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, width, stride, first_rate)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, 1, rate)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, h, w) to (n, width, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + shortcut)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions beside a shortcut."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        first_rate: int,
        rate: int,
        downsample: nn.Module | None,
    ) -> None:
        super().__init__()
        del rate  # its only 3 x 3 convolution is the first
        out_channels = BOTTLENECK_EXPANSION * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, stride, first_rate)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        nn.init.zeros_(self.bn3.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, h, w) to (n, 4 width, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + shortcut)


class ResNetFeatures(nn.Module):
    """A ResNet that answers with the maps of its stages.

    Attributes:
        channels: Channels of C2, C3, C4, C5.
        strides: Input pixels per cell of C2, C3, C4, C5.
    """

    def __init__(
        self,
        name: str = "resnet18",
        *,
        in_channels: int = 2,
        channels: Sequence[int] = (64, 128, 256, 512),
        stem_width: int | None = 32,
        output_stride: int = 32,
    ) -> None:
        """Builds the network.

        Args:
            name: One of :data:`LAYOUTS`.
            in_channels: Planes of the input.
            channels: Width of the four stages; a bottleneck answers four times as many channels.
            stem_width: Width w of a deep stem, three 3 x 3 convolutions of w, w, 2 w channels
                (the PSPNet paper's is 64). None: one 7 x 7 convolution of 64 channels.
            output_stride: 32, 16 or 8: later stages dilate instead of striding.

        Raises:
            ValueError: An argument is outside these.
        """
        super().__init__()
        if name not in LAYOUTS:
            raise ValueError(f"backbone {name!r} is unknown; use one of {', '.join(LAYOUTS)}")
        if output_stride not in (8, 16, 32):
            raise ValueError(f"output_stride {output_stride} is not one of 8, 16, 32")
        if len(channels) != 4:
            raise ValueError(f"{len(channels)} stage widths given, a ResNet has 4")
        bottleneck, depths = LAYOUTS[name]
        expansion = BOTTLENECK_EXPANSION if bottleneck else 1
        if stem_width is None:
            stem = 64
            self.conv1: nn.Module = nn.Conv2d(in_channels, stem, 7, 2, padding=3, bias=False)
        else:
            stem = 2 * stem_width
            self.conv1 = nn.Sequential(
                _conv3x3(in_channels, stem_width, stride=2),
                nn.BatchNorm2d(stem_width),
                nn.ReLU(inplace=True),
                _conv3x3(stem_width, stem_width),
                nn.BatchNorm2d(stem_width),
                nn.ReLU(inplace=True),
                _conv3x3(stem_width, stem),
            )
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        stages, strides = [], []
        inner, total_stride, rate = stem, 4, 1
        for number, (width, depth) in enumerate(zip(channels, depths, strict=True), start=1):
            stride, first_rate = (1 if number == 1 else 2), rate
            if total_stride * stride > output_stride:
                rate, stride = rate * stride, 1
            total_stride *= stride
            stages.append(_stage(bottleneck, inner, width, depth, stride, first_rate, rate))
            inner = expansion * width
            strides.append(total_stride)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.channels = tuple(expansion * width for width in channels)
        self.strides = tuple(strides)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """C2, C3, C4, C5 of (n, in_channels, h, w): each (n, channels[i], h / s, w / s)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # (n, stem, h / 4, w / 4)
        c2 = self.layer1(x)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        c5 = self.layer4(c4)
        return c2, c3, c4, c5


def _stage(
    bottleneck: bool,
    in_channels: int,
    width: int,
    depth: int,
    stride: int,
    first_rate: int,
    rate: int,
) -> nn.Sequential:
    """Blocks of one resolution; the first may stride and changes the number of channels."""
    make = Bottleneck if bottleneck else BasicBlock
    out_channels = width * (BOTTLENECK_EXPANSION if bottleneck else 1)
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
            nn.BatchNorm2d(out_channels),
        )
    blocks = [make(in_channels, width, stride, first_rate, rate, downsample)]
    blocks += [make(out_channels, width, 1, rate, rate, None) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)
