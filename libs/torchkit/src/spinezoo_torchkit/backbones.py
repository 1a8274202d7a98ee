"""ResNet backbones, narrow and wide, dilated or not.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016, https://arxiv.org/abs/1512.03385.
Dilation after Yu et al., Dilated Residual Networks, CVPR 2017, https://arxiv.org/abs/1705.09914.

Built on timm's ``ResNet`` because it dilates basic blocks too, which torchvision's does not.
Parameter names are those of torchvision (``conv1``, ``bn1``, ``layer1.0.conv1``, ...); a deep stem
is ``conv1.{0,1,3,4,6}``. Weights start at random: nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence

import timm
import torch
from torch import nn

DEPTHS = ("resnet18", "resnet34", "resnet50", "resnet101")
"""Names that :func:`resnet` takes. The first two have basic blocks, the others bottlenecks."""


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
            name: One of :data:`DEPTHS`.
            in_channels: Planes of the input.
            channels: Width of the four stages; a bottleneck answers four times as many channels.
            stem_width: Width w of a deep stem, three 3 x 3 convolutions of w, w, 2 w channels
                (the PSPNet paper's is 64). None: one 7 x 7 convolution of 64 channels.
            output_stride: 32, 16 or 8: later stages dilate instead of striding.

        Raises:
            ValueError: An argument is outside these.
        """
        super().__init__()
        if name not in DEPTHS:
            raise ValueError(f"backbone {name!r} is unknown; use one of {', '.join(DEPTHS)}")
        if output_stride not in (8, 16, 32):
            raise ValueError(f"output_stride {output_stride} is not one of 8, 16, 32")
        if len(channels) != 4:
            raise ValueError(f"{len(channels)} stage widths given, a ResNet has 4")
        stem = {} if stem_width is None else {"stem_type": "deep", "stem_width": stem_width}
        net = timm.create_model(
            name,
            pretrained=False,
            num_classes=0,
            in_chans=in_channels,
            output_stride=output_stride,
            channels=tuple(channels),
            **stem,
        )
        self.conv1, self.bn1 = net.conv1, net.bn1
        self.layer1, self.layer2 = net.layer1, net.layer2
        self.layer3, self.layer4 = net.layer3, net.layer4
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        expansion = 1 if name in ("resnet18", "resnet34") else 4
        self.channels = tuple(expansion * width for width in channels)
        self.strides = tuple(min(stride, output_stride) for stride in (4, 8, 16, 32))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """C2, C3, C4, C5 of (n, in_channels, h, w): each (n, channels[i], h / s, w / s)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # (n, stem, h / 4, w / 4)
        c2 = self.layer1(x)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        c5 = self.layer4(c4)
        return c2, c3, c4, c5
