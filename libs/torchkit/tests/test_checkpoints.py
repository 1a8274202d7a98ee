from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from spinezoo_contract.errors import WeightsError
from spinezoo_torchkit import checkpoints
from torch import nn


def network(rate: int = 1, channels: int = 4) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, channels, 3, padding=rate, dilation=rate),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, 3, 1),
    )


def test_weights_come_back_in_half_precision(tmp_path: Path) -> None:
    first = network()
    first[1].running_var.fill_(1e6)  # beyond float16: vectors stay float32
    record = checkpoints.save_weights(first, tmp_path / "w" / "a.safetensors")
    assert record.bytes == record.path.stat().st_size
    second = network()
    nn.init.zeros_(second[0].weight)
    checkpoints.load_weights(second, record.path, record.sha256)
    for name, tensor in first.state_dict().items():
        expected = tensor.half().float() if tensor.ndim >= 2 else tensor
        assert torch.equal(second.state_dict()[name], expected), name
    assert sorted(p.name for p in record.path.parent.iterdir()) == ["a.safetensors"]


def test_same_weights_same_file(tmp_path: Path) -> None:
    one = checkpoints.save_weights(network(), tmp_path / "a.safetensors")
    two = checkpoints.save_weights(network(), tmp_path / "b.safetensors")
    assert one.sha256 == two.sha256


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_values_that_half_precision_cannot_hold_are_refused(tmp_path: Path, value: float) -> None:
    broken = network()
    with torch.no_grad():
        broken[0].weight[0, 0, 0, 0] = value
    with pytest.raises(WeightsError, match=r"0\.weight"):
        checkpoints.save_weights(broken, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_wrong_digest_is_refused(tmp_path: Path) -> None:
    record = checkpoints.save_weights(network(), tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="SHA-256"):
        checkpoints.load_weights(network(), record.path, "0" * 64)
    with pytest.raises(WeightsError, match="restore"):
        checkpoints.load_weights(network(), tmp_path / "absent.safetensors", record.sha256)


def test_pickle_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(pickle.dumps({"0.weight": 1}))
    with pytest.raises(WeightsError, match="not a safetensors"):
        checkpoints.load_weights(network(), path, _sha(path))
    torch.save(network().state_dict(), path)
    with pytest.raises(WeightsError, match="not a safetensors"):
        checkpoints.load_weights(network(), path, _sha(path))


def test_names_and_shapes_of_another_network_are_named(tmp_path: Path) -> None:
    record = checkpoints.save_weights(network(), tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"shapes differ.*0\.weight|shapes differ.*0\.bias"):
        checkpoints.load_weights(network(channels=5), record.path, record.sha256)
    longer = nn.Sequential(*network(), nn.Linear(2, 2))
    with pytest.raises(WeightsError, match=r"missing \(4\.bias, 4\.weight\)"):
        checkpoints.load_weights(longer, record.path, record.sha256)
    with pytest.raises(WeightsError, match=r"unknown \(3\.bias, 3\.weight\)"):
        checkpoints.load_weights(network()[:3], record.path, record.sha256)


def test_probe_passes_itself_and_catches_a_dilation() -> None:
    probe = checkpoints.make_probe(network(), (1, 2, 24, 20), seed=3)
    assert len(probe.values) == checkpoints.PROBE_VALUES
    checkpoints.check_probe(network(), (1, 2, 24, 20), probe)
    other = network(rate=2)
    other.load_state_dict(network().state_dict(), strict=True)
    with pytest.raises(WeightsError, match="dilation"):
        checkpoints.check_probe(other, (1, 2, 24, 20), probe, "demo")


def test_probe_leaves_the_mode_and_the_statistics() -> None:
    trained = network().train()
    before = trained[1].running_mean.clone()
    checkpoints.make_probe(trained, (1, 2, 24, 20))
    assert trained.training
    assert torch.equal(trained[1].running_mean, before)


def test_probe_refuses_answers_that_are_not_finite() -> None:
    broken = network()
    nn.init.constant_(broken[3].bias, float("nan"))
    with pytest.raises(WeightsError, match="not finite"):
        checkpoints.make_probe(broken, (1, 2, 24, 20))
    probe = checkpoints.make_probe(network(), (1, 2, 24, 20))
    with pytest.raises(WeightsError):
        checkpoints.check_probe(broken, (1, 2, 24, 20), probe)


def test_probe_takes_the_smooth_part_of_a_detector() -> None:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = network()

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            raise AssertionError("the probe asks for probe_forward")

        def probe_forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
            return {"maps": [self.body(x), self.body(x) * 2]}

    probe = checkpoints.make_probe(Detector(), (1, 2, 8, 8))
    checkpoints.check_probe(Detector(), (1, 2, 8, 8), probe)


def test_probe_input_is_the_same_everywhere() -> None:
    numbers = checkpoints.probe_input((1, 2, 3, 3), 0).flatten()
    expected = torch.tensor([1.1176222, -1.3871249, -0.42657161])
    torch.testing.assert_close(numbers[:3], expected, rtol=0, atol=1e-6)


def test_state_comes_back(tmp_path: Path) -> None:
    tensors = {"a.b": torch.arange(4.0), "count": torch.tensor(3)}
    checkpoints.save_state(tmp_path / "s.safetensors", tensors, {"epoch": 2, "names": ["x"]})
    found, record = checkpoints.load_state(tmp_path / "s.safetensors")
    assert record == {"epoch": 2, "names": ["x"]}
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_damaged_state_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="remove it"):
        checkpoints.load_state(path)
    checkpoints.save_weights(network(), path)  # safetensors, but no state
    with pytest.raises(WeightsError, match="remove it"):
        checkpoints.load_state(path)


def _sha(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
