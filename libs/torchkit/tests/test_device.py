from __future__ import annotations

import pytest
import torch
from spinezoo_contract.errors import ConfigurationError
from spinezoo_torchkit.device import autocast, choose_device, precision_of, set_threads


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def two_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize("setting", ["auto", "cpu", " CPU ", ""])
def test_cpu_without_cuda(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPINEZOO_DEVICE", raising=False)
    assert choose_device(setting) == torch.device("cpu")


@pytest.mark.usefixtures("no_cuda")
def test_cuda_that_is_absent_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="SPINEZOO_DEVICE=cpu"):
        choose_device("cuda")


@pytest.mark.usefixtures("two_cuda")
def test_cuda_by_index(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("auto") == torch.device("cuda:0")
    assert choose_device("cuda") == torch.device("cuda:0")
    monkeypatch.setenv("SPINEZOO_DEVICE", "cuda:1")
    assert choose_device() == torch.device("cuda:1")
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigurationError, match="cuda:0"):
        choose_device("cuda:2")


@pytest.mark.parametrize("setting", ["gpu", "cuda:-1", "cuda:x", "mps"])
def test_unknown_device_is_an_error(setting: str) -> None:
    with pytest.raises(ConfigurationError, match="auto, cpu, cuda"):
        choose_device(setting)


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        assert set_threads(1) == 1
        monkeypatch.setenv("SPINEZOO_THREADS", "2")
        assert set_threads() == 2
        monkeypatch.setenv("SPINEZOO_THREADS", "0")
        assert set_threads() == 2
        monkeypatch.setenv("SPINEZOO_THREADS", "many")
        with pytest.raises(ConfigurationError, match="many"):
            set_threads()
        with pytest.raises(ConfigurationError, match="-1"):
            set_threads(-1)
    finally:
        torch.set_num_threads(before)


def test_precision() -> None:
    assert precision_of("bfloat16") is torch.bfloat16
    with pytest.raises(ConfigurationError, match="float32"):
        precision_of("float64")
    x = torch.ones(4, 4)
    with autocast(torch.device("cpu"), torch.bfloat16):
        assert (x @ x).dtype is torch.bfloat16
    with autocast(torch.device("cpu"), torch.float32):
        assert (x @ x).dtype is torch.float32
