"""Which engine serves, and the proof that a graph is that of the weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError, WeightsError
from spinezoo_spine.inference import loading
from spinezoo_spine.inference.engines import can_int8, open_engine, openvino
from spinezoo_spine.inference.loading import (
    check_probe,
    chosen_engine,
    chosen_precision,
    picked,
    probe_film,
)


@pytest.mark.parametrize(
    ("setting", "of_card", "device", "gpus", "engine"),
    [
        ("auto", "", "auto", 0, "openvino"),
        ("auto", "", "cpu", 1, "openvino"),
        ("auto", "", "auto", 1, "numpy"),
        ("auto", "", "cuda:1", 0, "numpy"),
        ("auto", "onnxruntime", "auto", 1, "onnxruntime"),
        ("auto", "onnxruntime", "cuda", 1, "numpy"),
        ("numpy", "openvino", "cpu", 0, "numpy"),
        ("my.engine", "openvino", "cuda", 1, "my.engine"),
    ],
)
def test_engine(
    setting: str,
    of_card: str,
    device: str,
    gpus: int,
    engine: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "gpu_count", lambda: gpus)
    # numpy stands for a framework that is installed.
    assert chosen_engine(setting, of_card, device, "numpy") == engine


def test_a_gpu_without_the_framework_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "gpu_count", lambda: 1)
    assert chosen_engine("auto", "", "auto", "no_such_framework") == "openvino"


@pytest.mark.parametrize(
    ("setting", "of_card", "exported", "able", "precision"),
    [
        ("auto", "int8", True, True, "int8"),
        ("auto", "int8", True, False, "auto"),
        ("auto", "int8", False, True, "auto"),
        ("auto", "", True, True, "auto"),
        ("float32", "int8", True, True, "float32"),
        ("int8", "", False, False, "int8"),
    ],
)
def test_precision(
    setting: str,
    of_card: str,
    exported: bool,
    able: bool,
    precision: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "can_int8", lambda _: able)
    graphs = SimpleNamespace(int8={"network": "file"} if exported else {})
    assert chosen_precision(setting, card(precision=of_card, graphs=graphs), "any") == precision
    never: Any = card(precision=of_card, graphs=None)
    assert chosen_precision("auto", never, "any") == "auto"


def test_int8_wants_a_processor_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "cpuinfo"
    monkeypatch.setattr(openvino, "PROCESSOR", said)
    with pytest.raises(ConfigurationError, match="VNNI"):
        open_engine("openvino", "int8")  # there is no such file
    said.write_text("flags : fpu avx2 avx512_vnni_of_another_kind\n", encoding="utf-8")
    assert not can_int8("openvino")
    said.write_text("flags : fpu avx512_vnni avx2\n", encoding="utf-8")
    assert can_int8("openvino")
    assert open_engine("openvino", "int8").precision == "int8"
    assert not can_int8("onnxruntime")
    with pytest.raises(ConfigurationError, match="SPINEZOO_PRECISION"):
        open_engine("onnxruntime", "int8")


class Answers:
    """A predictor that answers its probe with some numbers."""

    def __init__(self, *values: float) -> None:
        self.values = np.array(values)

    def probe(self, seed: int, count: int) -> NDArray[np.float64]:
        return self.values


def card(**more: Any) -> Any:
    probe = SimpleNamespace(seed=3, values=(1.0, 2.0), tolerance=0.01)
    return SimpleNamespace(name="demo", weights=SimpleNamespace(probe=probe), **more)


def test_probe_is_compared_as_closely_as_the_precision_allows() -> None:
    exact = SimpleNamespace(name="openvino", precision="float32")
    half = SimpleNamespace(name="openvino", precision="bfloat16")
    check_probe(Answers(1.009, 2.0), card(), exact)
    check_probe(Answers(1.05, 2.0), card(), half)
    for answer, engine in ((1.05, exact), (1.2, half), (float("nan"), exact)):
        with pytest.raises(WeightsError, match="make export NETWORK=demo"):
            check_probe(Answers(answer, 2.0), card(), engine)
    with pytest.raises(WeightsError, match="2 values, 3 fit"):
        check_probe(Answers(1.0, 2.0, 3.0), card(), exact)


def test_the_probes_film_is_the_same_everywhere() -> None:
    size = SimpleNamespace(channels=2, height=5, width=4)
    film = probe_film(card(input=size), 7)
    assert film.shape == (1, 2, 5, 4)
    assert film.dtype == np.float32
    assert np.abs(film).max() <= 3.0
    assert (film == probe_film(card(input=size), 7)).all()
    assert picked(np.arange(11, dtype=np.float32), 3).tolist() == [0.0, 5.0, 10.0]
    assert picked(np.arange(2, dtype=np.float32), 3).tolist() == [0.0, 1.0]
