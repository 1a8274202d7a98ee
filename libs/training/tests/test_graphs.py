"""Graphs whose tensors lie in the weights file, in every engine; a toy engine is one module."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from spinezoo_contract.errors import ConfigurationError, WeightsError
from spinezoo_spine.inference.engines import ENGINES, open_engine
from spinezoo_training.graphs import OPSET, StoredTensor, write_graph

SHAPE = (1, 2, 8, 6)


def model(shape: tuple[int, ...] = (3, 2, 3, 3)) -> onnx.ModelProto:
    """``x`` through one convolution to ``y``."""
    values = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3, 8, 6)),
    ]
    node = helper.make_node("Conv", ["x", "kernel", "bias"], ["y"], pads=[1, 1, 1, 1])
    tensors = [
        TensorProto(name="kernel", data_type=TensorProto.FLOAT, dims=shape),
        TensorProto(name="bias", data_type=TensorProto.FLOAT, dims=(3,)),
    ]
    graph = helper.make_graph([node], "one", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


@pytest.fixture
def weights(tmp_path: Path) -> tuple[Path, dict[str, StoredTensor], np.ndarray, np.ndarray]:
    """A file with a kernel of half precision, its axes in Keras's order, and a bias behind it."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 2, 3)).astype(np.float16)
    bias = rng.normal(size=3).astype(np.float32)
    path = tmp_path / "lite.h5"
    path.write_bytes(b"12345678" + kernel.tobytes() + bias.tobytes())
    stored = {
        "kernel": StoredTensor("float16", kernel.shape, 8, (3, 2, 0, 1)),
        "bias": StoredTensor("float32", bias.shape, 8 + kernel.nbytes),
    }
    return path, stored, kernel.astype(np.float32), bias


def convolved(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The convolution by hand; kernel (rows, columns, in, out)."""
    padded = np.pad(x[0], ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((3, *SHAPE[2:])) + bias[:, None, None]
    for row in range(3):
        for column in range(3):
            part = padded[:, row : row + SHAPE[2], column : column + SHAPE[3]]
            out += np.einsum("chw,co->ohw", part, kernel[row, column])
    return out


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_reads_the_weights_file(name: str, weights, tmp_path: Path) -> None:
    path, stored, kernel, bias = weights
    graph = tmp_path / "lite.network.onnx"
    write_graph(model(), stored, path, graph)
    assert graph.stat().st_size < 1000
    engine = open_engine(name, "float32", 1)
    assert (engine.name, engine.precision) == (name, "float32")
    x = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    found = engine.load(graph).run(x)["y"]
    assert found[0] == pytest.approx(convolved(x, kernel, bias), abs=1e-4)


def test_tensors_of_another_shape_are_refused(weights, tmp_path: Path) -> None:
    path, stored, *_ = weights
    with pytest.raises(WeightsError, match=r"kernel is \(3, 2, 3, 3\)"):
        write_graph(model((3, 2, 5, 5)), stored, path, tmp_path / "other.onnx")


@pytest.mark.parametrize("name", ENGINES)
def test_a_file_that_is_no_graph_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(WeightsError, match=r"broken\.onnx"):
        open_engine(name).load(path)


def test_unknown_engines_and_precisions_say_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="openvino, onnxruntime"):
        open_engine("opencv")
    with pytest.raises(ConfigurationError, match=r"no_such\.module"):
        open_engine("no_such.module")
    with pytest.raises(ConfigurationError, match="SPINEZOO_PRECISION"):
        open_engine("onnxruntime", "bfloat16")


TOY = '''
"""An engine that answers the mean of its input, wherever it is asked."""

class Graph:
    def __init__(self, path):
        self.path = path

    def run(self, x):
        return {"y": x.mean(axis=1)}


class Engine:
    name, precision = "toy.engine", "float32"

    def load(self, path):
        return Graph(path)


def open_engine(precision, threads):
    return Engine()
'''


def test_an_engine_is_one_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "engine.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    engine = open_engine("toy.engine")
    assert engine.load(Path("any")).run(np.ones(SHAPE, np.float32))["y"].shape == (1, 8, 6)
    for name in ("toy", "toy.engine"):
        sys.modules.pop(name, None)
