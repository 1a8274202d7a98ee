"""Graphs for 8-bit integers: near the network, small, and read by every engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from spinezoo_contract.errors import WeightsError
from spinezoo_spine.inference.engines import ENGINES, open_engine
from spinezoo_training.graphs import OPSET, StoredTensor, write_graph
from spinezoo_training.quantised import (
    _Plan,
    best_range,
    film_inputs,
    kernel_scales,
    write_int8_graph,
)

SHAPE = (1, 2, 16, 12)
KERNELS = {
    "first": (6, 2, 3, 3),
    "second": (6, 6, 3, 3),
    "third": (5, 12, 1, 1),
    "last": (3, 5, 1, 1),
}


def model() -> onnx.ModelProto:
    """Two convolutions, one pooled and scaled up again beside the other, and two more on both."""
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", SHAPE), ("y", (1, 3, *SHAPE[2:])))
    )
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["c", "second"], ["d"], pads=[1] * 4),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node(
            "Resize", ["e", "", "twice"], ["f"], mode="nearest",
            coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        ),
        helper.make_node("Concat", ["b", "f"], ["g"], axis=1),
        helper.make_node("Conv", ["g", "third"], ["h"]),
        helper.make_node("Relu", ["h"], ["i"]),
        helper.make_node("Conv", ["i", "last", "bias"], ["y"]),
    ]  # fmt: skip
    tensors = [
        TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        for name, shape in (*KERNELS.items(), ("bias", (3,)))
    ]
    tensors.append(numpy_helper.from_array(np.float32([1, 1, 2, 2]), "twice"))
    graph = helper.make_graph(nodes, "small", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """The model with its kernels in a weights file, in half precision and Keras's order."""
    rng = np.random.default_rng(0)
    stored, content = {}, b""
    for name, shape in KERNELS.items():
        kernel = rng.normal(size=shape).astype(np.float16).transpose(2, 3, 1, 0)
        stored[name] = StoredTensor("float16", kernel.shape, len(content), (3, 2, 0, 1))
        content += np.ascontiguousarray(kernel).tobytes()
    stored["bias"] = StoredTensor("float32", (3,), len(content))
    weights = tmp_path / "lite.h5"
    weights.write_bytes(content + rng.normal(size=3).astype(np.float32).tobytes())
    path = tmp_path / "lite.network.onnx"
    write_graph(model(), stored, weights, path)
    return path


@pytest.fixture
def films() -> list[NDArray[np.float32]]:
    return list(np.random.default_rng(1).normal(size=(8, *SHAPE)).astype(np.float32))


def answers(engine: str, path: Path, films: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    run = open_engine(engine, "float32", 1).load(path).run
    return np.concatenate([run(film)["y"].copy() for film in films])


@pytest.mark.parametrize("engine", ENGINES)
def test_it_answers_nearly_as_the_graph_does(
    engine: str, graph: Path, films: list[NDArray[np.float32]]
) -> None:
    target = graph.with_name("lite.network.int8.onnx")
    write_int8_graph(graph, films, target)
    wanted, found = answers(engine, graph, films), answers(engine, target, films)
    apart = found - wanted
    assert 0.0 < np.sqrt((apart**2).mean()) < 0.06 * wanted.std()
    # Rounding moves no channel's mean where scales were found.
    assert np.abs(apart.mean(axis=(0, 2, 3))).max() < 0.002 * wanted.std()


def test_all_convolutions_but_the_last_are_rounded_and_no_weight_is_copied(
    graph: Path, films: list[NDArray[np.float32]]
) -> None:
    target = graph.with_name("lite.network.int8.onnx")
    write_int8_graph(graph, films, target)
    drawn = onnx.load(target, load_external_data=False).graph
    convolutions = [node for node in drawn.node if node.op_type == "Conv"]
    rounded = ["first@int8", "second@int8", "third@int8"]
    assert [node.input[1] for node in convolutions] == [*rounded, "last"]
    external = [t for t in drawn.initializer if t.data_location == TensorProto.EXTERNAL]
    assert sorted(t.name for t in external) == ["bias", *sorted(f"{name}@0" for name in KERNELS)]
    constants = {t.name: numpy_helper.to_array(t) for t in drawn.initializer if t not in external}
    assert max(value.size for value in constants.values()) <= 6
    # What is joined has one scale, so that joining computes nothing.
    assert constants["b@scale"] == constants["e@scale"]
    made = target.read_bytes()
    write_int8_graph(graph, films, target)
    assert target.read_bytes() == made


def test_ranges_leave_out_what_is_rare_and_keep_zero() -> None:
    rng = np.random.default_rng(2)
    positive = np.maximum(rng.normal(size=20_000), 0.0).astype(np.float32)
    found = best_range(positive)
    assert found.zero == 0
    assert found.scale * 255 == pytest.approx(positive.max(), rel=0.1)
    many = np.append(np.tile(positive, 100), np.float32(40.0))
    assert best_range(many).scale * 255 < 25.0
    both = best_range(rng.normal(size=20_000).astype(np.float32))
    assert 100 < both.zero < 155
    assert best_range(np.zeros(9, np.float32)).scale > 0.0


def test_every_channel_of_a_kernel_has_its_own_scale() -> None:
    kernel = np.random.default_rng(3).normal(size=(4, 3, 3, 3)).astype(np.float32)
    kernel[1] *= 100.0
    kernel[2] = 0.0
    scales = kernel_scales(kernel)
    assert scales[1] > 20.0 * scales[0] > 0.0
    assert (scales > 0.0).all()


def test_films_are_inputs_of_other_patients_each() -> None:
    films = film_inputs(128, 96)
    assert len(films) == 24
    assert {film.shape for film in films} == {(1, 2, 128, 96)}
    assert len({film.tobytes() for film in films}) == 24


def test_some_convolutions_can_stay_as_they_are(
    graph: Path, films: list[NDArray[np.float32]]
) -> None:
    target = graph.with_name("lite.network.int8.onnx")
    write_int8_graph(graph, films, target, ["s*d"])
    drawn = onnx.load(target, load_external_data=False).graph
    kernels = [node.input[1] for node in drawn.node if node.op_type == "Conv"]
    assert kernels == ["first@int8", "second", "third@int8", "last"]
    apart = answers("openvino", target, films) - answers("openvino", graph, films)
    assert np.sqrt((apart**2).mean()) > 0.0
    with pytest.raises(WeightsError, match=r"'sixth'; there are first, second, third"):
        write_int8_graph(graph, films, target, ["first", "sixth"])


def test_linear_layers_are_rounded_and_kernels_that_a_graph_turns_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    kernels = {"first": (18, 8), "second": (5, 8), "last": (2, 5)}
    stored, content = {}, b""
    for name, shape in kernels.items():
        stored[name] = StoredTensor("float32", shape, len(content))
        content += rng.normal(size=shape).astype(np.float32).tobytes()
    weights = tmp_path / "lite.bin"
    weights.write_bytes(content)
    nodes = [
        helper.make_node("Flatten", ["x"], ["cells"]),
        helper.make_node("Transpose", ["first"], ["turned"], perm=[1, 0]),
        helper.make_node("Gemm", ["cells", "turned"], ["a"], transB=1),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Gemm", ["b", "second"], ["c"], transB=1),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "last"], ["y"], transB=1),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ("rows", 3, 3, 2)), ("y", ("rows", 2)))
    )
    tensors = [
        TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        for name, shape in kernels.items()
    ]
    drawn = helper.make_graph(nodes, "heads", [x], [y], tensors)
    path, target = tmp_path / "lite.heads.onnx", tmp_path / "lite.heads.int8.onnx"
    opset = [helper.make_opsetid("", OPSET)]
    write_graph(helper.make_model(drawn, opset_imports=opset, ir_version=8), stored, weights, path)
    # Any number of rows, and not the same one each time.
    regions = [rng.normal(size=(rows, 3, 3, 2)).astype(np.float32) for rows in (400, 700, 550)]
    write_int8_graph(path, regions, target)
    rounded = onnx.load(target, load_external_data=False).graph
    layers = [node for node in rounded.node if node.op_type == "Gemm"]
    assert [node.input[1] for node in layers] == ["turned@int8", "second@int8", "last"]
    # A film's bytes are made where they come in, not behind what only turns them.
    assert [n.input[0] for n in rounded.node if n.op_type == "Flatten"] == ["x@int8"]
    assert not any("turned" in t.name and t.dims[:1] == [18] for t in rounded.initializer)
    for engine in ENGINES:
        wanted, found = answers(engine, path, regions), answers(engine, target, regions)
        assert 0.0 < np.sqrt(((found - wanted) ** 2).mean()) < 0.06 * wanted.std()


def test_uses_of_one_kernel_are_told_apart(films: list[NDArray[np.float32]]) -> None:
    rng = np.random.default_rng(4)
    drawn = model()
    drawn.graph.node[3].input[1] = "first"  # the second convolution, of six channels
    del drawn.graph.initializer[:]
    shapes = {**KERNELS, "first": (6, 6, 3, 3), "bias": (3,)}
    drawn.graph.initializer.extend(
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in shapes.items()
    )
    drawn.graph.initializer.append(numpy_helper.from_array(np.float32([1, 1, 2, 2]), "twice"))
    plan = _Plan(drawn, ["first@1"])
    assert [node.output[0] for node in plan.convolutions] == ["a", "h"]


def test_a_graph_that_goes_on_where_another_ends_is_rounded_with_it(
    graph: Path, films: list[NDArray[np.float32]]
) -> None:
    """Both parts together answer the bytes of the whole, and hand over bytes."""
    drawn = onnx.load(graph, load_external_data=False)
    first, rest = graph.with_name("lite.first.onnx"), graph.with_name("lite.rest.onnx")
    parts = {first: (["x"], ["b"]), rest: (["b"], ["y"])}
    shapes = {"x": SHAPE, "b": (1, 6, *SHAPE[2:]), "y": (1, 3, *SHAPE[2:])}
    maker = {name: node for node in drawn.graph.node for name in node.output}
    for path, (given, answered) in parts.items():
        needed, wanted = set(), list(answered)
        while wanted:
            name = wanted.pop()
            if name in maker and name not in given:
                needed.add(name)
                wanted += maker[name].input
        part = onnx.ModelProto()
        part.CopyFrom(drawn)
        nodes = [node for node in part.graph.node if node.output[0] in needed]
        used = {name for node in nodes for name in node.input}
        tensors = [tensor for tensor in part.graph.initializer if tensor.name in used]
        for field in ("node", "initializer", "input", "output"):
            del getattr(part.graph, field)[:]
        part.graph.node.extend(nodes)
        part.graph.initializer.extend(tensors)
        for names, ends in ((given, part.graph.input), (answered, part.graph.output)):
            ends.extend(
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name])
                for name in names
            )
        path.write_bytes(part.SerializeToString())

    targets = {path: path.with_name(f"{path.stem}.int8.onnx") for path in (first, rest)}
    write_int8_graph(first, films, targets[first], rests={rest: targets[rest]})
    whole = graph.with_name("lite.network.int8.onnx")
    write_int8_graph(graph, films, whole)
    engine = open_engine("onnxruntime", "float32", 1)
    begin, end = (engine.load(targets[path]) for path in (first, rest))
    wanted_answers = answers("onnxruntime", whole, films)
    for film, wanted_answer in zip(films, wanted_answers, strict=True):
        handed = begin.run(film)["b"]
        assert handed.dtype == np.uint8
        np.testing.assert_allclose(end.run(handed)["y"][0], wanted_answer, atol=1e-5)
