from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from spinezoo_pspnet.network import BINS, PSPNet, PyramidPooling
from spinezoo_pspnet.predictor import load_predictor
from spinezoo_pspnet.train import main
from spinezoo_torchkit.testing import SemanticNetworkTests
from torch import nn


class TestPSPNet(SemanticNetworkTests):
    room = Path(__file__).resolve().parents[1]
    make = PSPNet
    load_predictor = staticmethod(load_predictor)
    main = staticmethod(main)
    paper_parameters = 49_069_452
    tiny: ClassVar = {"backbone": "resnet18", "stage_channels": (8, 8, 16, 16), "stem_width": 4}

    def test_size_with_150_classes_and_colour_is_the_papers(self) -> None:
        # ResNet-50 with the deep stem, pyramid, 512-channel classifier and auxiliary head.
        network = PSPNet(in_channels=3, num_classes=150)
        assert sum(p.numel() for p in network.parameters()) == 49_180_908

    def test_backbone_is_dilated_to_output_stride_8(self) -> None:
        network = PSPNet(**self.tiny).eval()
        with torch.no_grad():
            maps = network.backbone(torch.zeros(1, 2, 64, 96))
        assert [tuple(m.shape[-2:]) for m in maps] == [(16, 24), (8, 12), (8, 12), (8, 12)]
        convolutions = [m for m in network.backbone.layer4.modules() if isinstance(m, nn.Conv2d)]
        assert [m.dilation[0] for m in convolutions if m.kernel_size == (3, 3)] == [2, 4, 4, 4]

    def test_pyramid_sees_the_whole_film(self) -> None:
        pyramid = PyramidPooling(8).eval()
        with torch.no_grad():
            for weight in pyramid.parameters():
                weight.abs_()  # whatever was drawn, no rectifier may hide the difference
        x = torch.zeros(1, 8, 12, 12)
        changed = x.clone()
        changed[..., 0, 0] = 100.0
        with torch.no_grad():
            difference = (pyramid(changed) - pyramid(x)).abs().sum(dim=1)
        assert pyramid.out_channels == 16
        assert BINS == (1, 2, 3, 6)
        assert difference[0, 11, 11] > 0.0

    def test_unknown_backbone_is_refused(self) -> None:
        with pytest.raises(ValueError, match="resnet50"):
            PSPNet(backbone="resnet51")
