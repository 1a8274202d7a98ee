from __future__ import annotations

import pytest
import torch
from spinezoo_torchkit.backbones import LAYOUTS, ResNetFeatures
from torch import nn
from torchvision.models import resnet18, resnet50


@pytest.mark.parametrize(("name", "theirs"), [("resnet18", resnet18), ("resnet50", resnet50)])
def test_is_torchvisions_resnet(name: str, theirs) -> None:
    torch.manual_seed(0)
    ours = ResNetFeatures(name, in_channels=3, stem_width=None).eval()
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
    reference = theirs(weights=None).eval()
    found = reference.load_state_dict(ours.state_dict(), strict=False)
    assert found.unexpected_keys == []
    assert found.missing_keys == ["fc.weight", "fc.bias"]
    reference.fc = nn.Identity()
    x = torch.randn(1, 3, 65, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(x)[3].mean(dim=(2, 3)), reference(x))


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_maps_have_the_stated_channels_and_strides(name: str, stride: int) -> None:
    if name == "resnet101" and stride != 16:
        pytest.skip("one of them is enough for the deepest")
    network = ResNetFeatures(
        name, channels=(4, 6, 8, 10), stem_width=4, output_stride=stride
    ).eval()
    with torch.no_grad():
        maps = network(torch.zeros(1, 2, 64, 96))
    assert network.strides == tuple(min(s, stride) for s in (4, 8, 16, 32))
    for found, channels, s in zip(maps, network.channels, network.strides, strict=True):
        assert found.shape == (1, channels, 64 // s, 96 // s)


@pytest.mark.parametrize(
    "wrong",
    [{"name": "resnet19"}, {"output_stride": 4}, {"channels": (8, 16, 32)}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_wrong_arguments_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError):
        ResNetFeatures(**wrong)
