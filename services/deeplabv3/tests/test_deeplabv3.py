from __future__ import annotations

from pathlib import Path

import pytest
import torch
from spinezoo_deeplabv3.network import DeepLabV3
from spinezoo_deeplabv3.predictor import load_predictor
from spinezoo_deeplabv3.train import main
from spinezoo_torchkit.testing import NetworkTests
from torchvision.models.segmentation import deeplabv3_resnet50


class TestDeepLabV3(NetworkTests):
    room = Path(__file__).resolve().parents[1]
    make = DeepLabV3
    load_predictor = staticmethod(load_predictor)
    main = staticmethod(main)
    paper_parameters = 41993228

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
        tiny = {"backbone": "resnet18", "stage_channels": (8, 8, 16, 16), "head_channels": 8}
        first = DeepLabV3(**tiny, rates=(12, 24, 36)).eval()
        second = DeepLabV3(**tiny, rates=(6, 12, 18)).eval()
        second.load_state_dict(first.state_dict(), strict=True)
        x = torch.randn(1, 2, 256, 256)
        with torch.no_grad():
            assert (first(x) - second(x)).abs().max() > 1e-3

    def test_training_answers_two_maps_and_evaluation_one(self) -> None:
        tiny = {"backbone": "resnet18", "stage_channels": (8, 8, 16, 16), "head_channels": 8}
        network = DeepLabV3(**tiny)
        x = torch.randn(2, 2, 40, 56)
        logits, auxiliary = network.train()(x)
        assert logits.shape == auxiliary.shape == (2, 6, 40, 56)
        assert DeepLabV3(**tiny, auxiliary=False).train()(x)[1] is None
        assert network.eval()(x).shape == (2, 6, 40, 56)
