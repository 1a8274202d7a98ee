from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from spinezoo_deeplabv3.network import DeepLabV3
from spinezoo_deeplabv3.predictor import load_predictor
from spinezoo_deeplabv3.train import main
from spinezoo_torchkit.testing import SemanticNetworkTests
from torchvision.models.segmentation import deeplabv3_resnet50


class TestDeepLabV3(SemanticNetworkTests):
    room = Path(__file__).resolve().parents[1]
    make = DeepLabV3
    load_predictor = staticmethod(load_predictor)
    main = staticmethod(main)
    paper_parameters = 41_993_228
    tiny: ClassVar = {"backbone": "resnet18", "stage_channels": (8, 8, 16, 16), "head_channels": 8}

    def test_size_with_colour_and_6_classes(self) -> None:
        network = DeepLabV3(in_channels=3, num_classes=6, auxiliary=False)
        assert sum(p.numel() for p in network.parameters()) == 39_635_014

    @pytest.mark.parametrize("auxiliary", [False, True])
    def test_is_torchvisions_network(self, auxiliary: bool) -> None:
        torch.manual_seed(0)
        theirs = deeplabv3_resnet50(
            weights=None, weights_backbone=None, num_classes=6, aux_loss=auxiliary
        ).eval()
        ours = DeepLabV3(in_channels=3, num_classes=6, auxiliary=auxiliary).eval()
        ours.load_state_dict(theirs.state_dict(), strict=True)
        x = torch.randn(1, 3, 97, 129)
        with torch.no_grad():
            expected = theirs(x)["out"]
            torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-5)

    def test_other_rates_have_the_same_names_and_other_answers(self) -> None:
        torch.manual_seed(0)
        first = DeepLabV3(**self.tiny, rates=(12, 24, 36)).eval()
        second = DeepLabV3(**self.tiny, rates=(6, 12, 18)).eval()
        second.load_state_dict(first.state_dict(), strict=True)
        x = torch.randn(1, 2, 256, 256)
        with torch.no_grad():
            assert (first(x) - second(x)).abs().max() > 1e-3

    def test_auxiliary_head_can_be_left_out(self) -> None:
        network = DeepLabV3(**self.tiny, auxiliary=False).train()
        assert network(torch.randn(2, 2, 40, 56))[1] is None
