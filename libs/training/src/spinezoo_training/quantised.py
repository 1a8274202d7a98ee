"""A graph whose convolutions are computed in 8-bit integers, made from films without training.

Every convolution, and every linear layer, gets its kernel and its input through a pair of
``QuantizeLinear`` and ``DequantizeLinear``: one scale an output channel for kernels, one scale a
tensor for inputs. By convolutions both are meant here. The kernels themselves stay in the weights
file (:mod:`spinezoo_training.graphs`), so an int8 graph is as small as another, and engines round
the kernels when they load it.

Scales are those of least square error on the films. How far rounding moves the mean of a channel is
taken off its bias (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction", 2019; here with films).
"""

from __future__ import annotations

import copy
import fnmatch
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from spinezoo_contract.errors import WeightsError
from spinezoo_serving.cards import ModelCard, verify_graphs
from spinezoo_spine.inference.engines import open_engine

from spinezoo_training.graphs import stored_in, write_model
from spinezoo_training.phantom_films import training_films
from spinezoo_training.targets import network_input

INT8 = "@int8"
"""Ends the name of a tensor that went through 8 bits."""

FILM_SEED = 990017
"""Phantoms that scales are found with: no training, validation or test set has this seed."""

FILM_COUNT = 24
"""Of them, each another patient."""

LEVELS = 255
"""Steps of an unsigned byte."""

BINS = 2048
"""Of a histogram of a tensor's values."""

STRIDE = 7
"""Every so manieth value of a tensor is counted: neighbours are alike."""

SHARES = np.linspace(0.30, 1.0, 71)
"""Shares of the greatest range that are tried as range."""

Answer = Callable[[NDArray[np.float32]], Mapping[str, NDArray[np.float32]]]
"""Answers of a graph to one film, in float32, by the outputs' names."""

Opened = Callable[[onnx.ModelProto], Answer]
"""Makes a graph ready to answer."""

Examples = Callable[[ModelCard], Mapping[str, Sequence[NDArray[np.float32]]]]
"""Inputs that parts of a card's network are asked with, by the part's name."""


def write_int8_graphs(
    card: ModelCard, kept: Sequence[str] = (), examples: Examples | None = None
) -> dict[str, Path]:
    """Writes those graphs of a card that take a film again, for 8-bit integers, beside the others.

    A part whose inputs are outputs of such a graph, by their names, is the rest of it: it is
    rounded with it, as one network, and takes bytes where its input is rounded. Other parts stay
    in floating point but where there are examples of what they are asked with.

    Args:
        card: The card.
        kept: Convolutions that stay in floating point too, see :func:`quantised`.
        examples: Makes inputs of parts that take neither a film nor what another part answers.

    Returns:
        The files by the name of the part.

    Raises:
        WeightsError: The card's network was not exported, or has no such convolution.
    """
    shape = [1, card.input.channels, card.input.height, card.input.width]
    films = film_inputs(card.input.height, card.input.width)
    paths = verify_graphs(card)
    drawn = {part: onnx.load(path, load_external_data=False).graph for part, path in paths.items()}
    targets = {path: path.with_name(f"{path.stem}.int8.onnx") for path in paths.values()}
    written: dict[str, Path] = {}
    for part, path in paths.items():
        size = drawn[part].input[0].type.tensor_type.shape.dim
        if [each.dim_value for each in size] != shape:
            continue
        answers = {each.name for each in drawn[part].output}
        rest = [
            other
            for other, graph in drawn.items()
            if other != part and answers.issuperset(each.name for each in graph.input)
        ]
        rests = {paths[other]: targets[paths[other]] for other in rest}
        write_int8_graph(path, films, targets[path], kept, rests)
        written |= {each: targets[paths[each]] for each in (part, *rest)}
    for part, inputs in (examples(card) if examples else {}).items():
        write_int8_graph(paths[part], inputs, targets[paths[part]])
        written[part] = targets[paths[part]]
    return written


def film_inputs(height: int, width: int) -> list[NDArray[np.float32]]:
    """(1, 2, height, width) inputs of phantom films of all kinds."""
    looks = (training_films(FILM_SEED, index, height, width, 1) for index in range(FILM_COUNT))
    return [
        np.ascontiguousarray(network_input(film)[np.newaxis]) for films in looks for film in films
    ]


def write_int8_graph(
    path: Path,
    films: Sequence[NDArray[np.float32]],
    target: Path,
    kept: Sequence[str] = (),
    rests: Mapping[Path, Path] | None = None,
) -> None:
    """Writes one exported graph for 8-bit integers; its tensors stay where they are.

    Args:
        path: The exported graph.
        films: Inputs to find scales and shifts with.
        target: The file to write.
        kept: Convolutions that stay in floating point, see :func:`quantised`.
        rests: Graphs that go on where this one ends, and the files to write.

    Raises:
        WeightsError: It has no such convolution.
    """
    rests = rests or {}
    with TemporaryDirectory() as folder:
        engine = open_engine("openvino", "float32")

        def opened(model: onnx.ModelProto) -> Answer:
            place = Path(folder) / "graph.onnx"
            onnx.save(model, place)
            return engine.load(place).run

        parts = [folded(each) for each in (path, *rests)]
        model = quantised(_joined(parts, paths=(path, *rests)), films, opened, kept)
    for own, part, place in zip((path, *rests), parts, (target, *rests.values()), strict=True):
        _write_part(_apart(model, part), own, place)


def _joined(parts: Sequence[onnx.ModelProto], paths: Sequence[Path]) -> onnx.ModelProto:
    """One graph of a network's first part and of those that go on where it ends."""
    model = copy.deepcopy(parts[0])
    graph = model.graph
    known = {tensor.name for tensor in graph.initializer}
    for part, path in zip(parts[1:], paths[1:], strict=True):
        stored = stored_in(onnx.load(path, load_external_data=False))
        ends = {each.name for each in (*part.graph.input, *part.graph.output)}
        shared = {*ends, *stored, ""}
        for node in part.graph.node:
            node.name = node.name and f"{path.stem}{node.name}"
            for names in (node.input, node.output):
                names[:] = [n if n in shared else f"{path.stem}{n}" for n in names]
        for tensor in part.graph.initializer:
            tensor.name = tensor.name if tensor.name in stored else f"{path.stem}{tensor.name}"
        graph.node.extend(part.graph.node)
        graph.output.extend(part.graph.output)
        graph.initializer.extend(t for t in part.graph.initializer if t.name not in known)
        known.update(tensor.name for tensor in part.graph.initializer)
    return model


def _apart(model: onnx.ModelProto, part: onnx.ModelProto) -> onnx.ModelProto:
    """What of a rounded graph of :func:`_joined` makes a part's outputs from its inputs.

    What two parts hand over is a tensor of bytes of the same name, where it is rounded.
    """
    maker = {name: node for node in model.graph.node for name in node.output}
    given = {each.name for each in part.graph.input}
    handed = {
        each.name
        for each in (*part.graph.input, *part.graph.output)
        if f"{each.name}@byte" in maker
    } - {each.name for each in model.graph.input}
    renamed = {name: f"{name}@float" for name in handed} | {f"{name}@byte": name for name in handed}
    wanted = [f"{e.name}@byte" if e.name in handed else e.name for e in part.graph.output]
    begins = {f"{name}@byte" if name in handed else name for name in given}
    needed: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in maker and name not in needed and name not in begins:
            needed.update(maker[name].output)
            wanted += maker[name].input
    found = onnx.ModelProto()
    found.CopyFrom(model)
    graph = found.graph
    nodes = [node for node in graph.node if not needed.isdisjoint(node.output)]
    del graph.node[:], graph.input[:], graph.output[:]
    for node in nodes:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    graph.node.extend(nodes)
    graph.input.extend(part.graph.input)
    graph.output.extend(part.graph.output)
    for each in (*graph.input, *graph.output):
        if each.name in handed:
            each.type.tensor_type.elem_type = TensorProto.UINT8
    return found


def _write_part(model: onnx.ModelProto, path: Path, target: Path) -> None:
    """Writes a rounded graph, its kernels where those of the exported one at ``path`` are."""
    used = {name for node in model.graph.node for name in node.input}
    stored = stored_in(onnx.load(path, load_external_data=False))
    tensors = [t for t in model.graph.initializer if t.name not in stored and t.name in used]
    nodes = list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    for name, (tensor, unpacking) in stored.items():
        if name in used:
            tensors.append(tensor)
            model.graph.node.extend(unpacking)
    model.graph.initializer.extend(tensors)
    model.graph.node.extend(nodes)
    write_model(model, target)


def folded(path: Path) -> onnx.ModelProto:
    """A graph of ``write_graph`` with its tensors in it, as float32."""
    stored = stored_in(onnx.load(path, load_external_data=False))
    model = onnx.load(path)
    graph = model.graph
    unpacking = {made for _, nodes in stored.values() for node in nodes for made in node.output}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for name, (tensor, nodes) in stored.items():
        value = numpy_helper.to_array(tensors.pop(tensor.name))
        for node in nodes:
            if node.op_type == "Cast":
                value = value.astype(np.float32)
            else:
                value = np.ascontiguousarray(value.transpose(list(node.attribute[0].ints)))
        tensors[name] = numpy_helper.from_array(value, name)
    nodes = [node for node in graph.node if node.output[0] not in unpacking]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors.values())
    return model


@dataclass(frozen=True, slots=True)
class Range:
    """What a byte stands for: ``scale * (byte - zero)``."""

    scale: float
    zero: int


def quantised(
    model: onnx.ModelProto,
    films: Sequence[NDArray[np.float32]],
    opened: Opened,
    kept: Sequence[str] = (),
) -> onnx.ModelProto:
    """The graph in 8-bit integers.

    Args:
        model: Graph with its tensors, see :func:`folded`.
        films: Inputs of the network to find scales and shifts with, (1, c, h, w) each.
        opened: Makes a graph ready to answer.
        kept: Convolutions that stay in floating point besides the last ones, by patterns of their
            kernels' names (``fnmatch``). Where a kernel is used again, its name ends with ``@1``
            at the second use, ``@2`` at the third.

    Raises:
        WeightsError: A pattern is that of no convolution.
    """
    plan = _Plan(model, kept)
    ranges = _ranges(plan, films, opened)
    scales = {name: kernel_scales(plan.tensors[name]) for name in plan.kernels}
    shifts = _shifts(plan, ranges, scales, films, opened)
    return _built(plan, ranges, scales, shifts)


class _Plan:
    """Which convolutions are rounded, and which tensors that takes.

    Attributes:
        model: The graph in float32.
        tensors: Its initialisers, and what it computes from them alone.
        convolutions: Nodes that are rounded.
        kernels: Names of their kernels.
        groups: Tensors that are rounded, those in one list with one scale: they are joined.
    """

    def __init__(self, model: onnx.ModelProto, kept: Sequence[str] = ()) -> None:
        self.model = model
        self.tensors = _constant(model.graph)
        self._maker = {name: node for node in model.graph.node for name in node.output}
        before = self._before_another()
        self.convolutions = [
            node
            for node in model.graph.node
            if _multiplies(node) and node.input[1] in self.tensors and node.output[0] in before
        ]
        self._keep(kept)
        self.kernels = list(dict.fromkeys(node.input[1] for node in self.convolutions))
        groups: list[set[str]] = []
        for node in self.convolutions:
            found = set(self._sources(node.input[0]))
            apart = [group for group in groups if not group & found]
            groups = [*apart, found.union(*(group for group in groups if group & found))]
        order = {name: place for place, name in enumerate(self._maker)}
        self.groups = sorted(
            (sorted(group, key=lambda name: order.get(name, -1)) for group in groups),
            key=lambda group: order.get(group[0], -1),
        )

    def _keep(self, kept: Sequence[str]) -> None:
        """Leaves convolutions out."""
        uses: Counter[str] = Counter()
        names = []
        for node in self.convolutions:
            kernel = node.input[1]
            names.append(f"{kernel}@{uses[kernel]}" if uses[kernel] else kernel)
            uses[kernel] += 1
        for pattern in kept:
            if not fnmatch.filter(names, pattern):
                raise WeightsError(
                    f"no convolution that can be rounded is called {pattern!r}; there are "
                    f"{', '.join(names)}"
                )
        self.convolutions = [
            node
            for node, name in zip(self.convolutions, names, strict=True)
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in kept)
        ]

    def _before_another(self) -> set[str]:
        """The tensors that a convolution is made from.

        A network's last convolutions, whose numbers nothing rounds again, are not before one: they
        take little time and stay in floating point.
        """
        found: set[str] = set()
        for node in reversed(self.model.graph.node):
            if _multiplies(node) or not found.isdisjoint(node.output):
                found.update(node.input)
        return found

    def source(self, name: str) -> str:
        """One of the tensors that a tensor is only chosen from; they have one range."""
        return next(iter(self._sources(name)))

    def _sources(self, name: str) -> Iterable[str]:
        """The tensors that a tensor is only chosen from, never computed."""
        node = self._maker.get(name)
        if node is not None and _only_chooses(node):
            many = node.op_type == "Concat"
            for each in node.input if many else node.input[:1]:
                yield from self._sources(each)
        else:
            yield name


def _constant(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    """The tensors of a graph that its inputs do not change, by name."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if all(name in found or not name for name in node.input):
            given = {name: found[name] for name in node.input if name}
            answered: Any = ReferenceEvaluator(node).run(None, given)
            found.update(zip(node.output, answered, strict=True))
    return found


def _multiplies(node: onnx.NodeProto) -> bool:
    """Whether a node is a convolution or a linear layer, its kernel (out, ...)."""
    if node.op_type == "Gemm":
        return any(a.name == "transB" and a.i == 1 for a in node.attribute)
    return node.op_type == "Conv"


def _only_chooses(node: onnx.NodeProto) -> bool:
    """Whether every number that a node answers is one that it was given."""
    if node.op_type == "Resize":
        return any(a.name == "mode" and a.s == b"nearest" for a in node.attribute)
    return node.op_type in ("MaxPool", "Concat", "DepthToSpace", "Flatten")


def _with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy of a graph that answers these tensors."""
    other = copy.deepcopy(model)
    del other.graph.output[:]
    other.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    return other


def _ranges(plan: _Plan, films: Sequence[NDArray[np.float32]], opened: Opened) -> dict[str, Range]:
    """The range of every tensor that is rounded."""
    given = {each.name for each in plan.model.graph.input}
    names = [name for group in plan.groups for name in group if name not in given]
    answer = opened(_with_outputs(plan.model, names))
    values: dict[str, list[NDArray[np.float32]]] = {}
    for film in films:
        answers = dict(answer(film)) | dict.fromkeys(given, film)
        for group in plan.groups:
            part = [answers[name].reshape(-1)[::STRIDE] for name in group]
            values.setdefault(group[0], []).append(np.concatenate(part).astype(np.float16))
    found: dict[str, Range] = {}
    for group in plan.groups:
        best = best_range(np.concatenate(values[group[0]]).astype(np.float32))
        found |= dict.fromkeys(group, best)
    return found


def best_range(values: NDArray[np.float32]) -> Range:
    """The range that rounds these values with the least square error."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 1e-6)
    counts, edges = np.histogram(values, BINS, (low, high))
    middles = (edges[:-1] + edges[1:]) / 2.0
    # A zero, of which there are many behind a ReLU, is always exact.
    counts[np.searchsorted(edges, 0.0, "right") - 1] -= int((values == 0.0).sum())
    tried = []
    for share in SHARES:
        scale = (high - low) * share / LEVELS
        zero = round(-low * share / scale)
        bytes_ = np.clip(np.round(middles / scale) + zero, 0, LEVELS)
        error = float((counts * (scale * (bytes_ - zero) - middles) ** 2).sum())
        tried.append((error, Range(float(scale), int(zero))))
    return min(tried, key=lambda each: each[0])[1]


def kernel_scales(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """(out,) scales that round each output channel's kernel with the least square error."""
    flat = kernel.reshape(len(kernel), -1).astype(np.float64)
    greatest = np.maximum(np.abs(flat).max(axis=1), 1e-8)
    tried = np.stack([greatest * share / 127.0 for share in SHARES])
    errors = np.stack(
        [((_rounded(flat, scale[:, None]) - flat) ** 2).sum(axis=1) for scale in tried]
    )
    best = errors.argmin(axis=0)
    chosen: NDArray[np.float32] = tried[best, np.arange(len(flat))].astype(np.float32)
    return chosen


def _rounded(values: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.clip(np.round(values / scale), -127, 127) * scale
    return found


def _pair(name: str, axis: int | None = None) -> list[onnx.NodeProto]:
    """The two nodes that put a tensor through 8 bits."""
    scale = [f"{name}@scale", f"{name}@zero"]
    more: dict[str, Any] = {} if axis is None else {"axis": axis}
    return [
        helper.make_node("QuantizeLinear", [name, *scale], [f"{name}@byte"], **more),
        helper.make_node("DequantizeLinear", [f"{name}@byte", *scale], [name + INT8], **more),
    ]


def _constants(
    ranges: dict[str, Range], scales: dict[str, NDArray[np.float32]]
) -> list[onnx.TensorProto]:
    """Scales and zeros of every tensor and kernel."""
    found = []
    for name, each in ranges.items():
        found.append(numpy_helper.from_array(np.array(each.scale, np.float32), f"{name}@scale"))
        found.append(numpy_helper.from_array(np.array(each.zero, np.uint8), f"{name}@zero"))
    for name, scale in scales.items():
        found.append(numpy_helper.from_array(scale, f"{name}@scale"))
        found.append(numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{name}@zero"))
    return found


def _shifts(
    plan: _Plan,
    ranges: dict[str, Range],
    scales: dict[str, NDArray[np.float32]],
    films: Sequence[NDArray[np.float32]],
    opened: Opened,
) -> dict[str, NDArray[np.float32]]:
    """(out,) by the convolution's output: how far rounding moves the mean of each channel.

    Each convolution is computed twice from the same input, as it is and rounded.
    """
    other = copy.deepcopy(plan.model)
    inputs = {node.input[0]: ranges[plan.source(node.input[0])] for node in plan.convolutions}
    other.graph.initializer.extend(_constants(inputs, scales))
    more = [node for name in scales for node in _pair(name, 0)]
    more += [node for name in inputs for node in _pair(name)]
    wanted = []
    for node in plan.convolutions:
        made = node.output[0]
        second = copy.deepcopy(node)
        second.name, second.output[0] = f"{made}@second", f"{made}@second"
        second.input[0], second.input[1] = node.input[0] + INT8, node.input[1] + INT8
        apart, shift = f"{made}@apart", f"{made}@shift"
        axes = [0, 2, 3] if node.op_type == "Conv" else [0]
        mean = helper.make_node("ReduceMean", [apart], [shift], axes=axes, keepdims=0)
        more += [second, helper.make_node("Sub", [second.output[0], made], [apart]), mean]
        wanted.append(shift)
    other.graph.node.extend(more)
    answer = opened(_with_outputs(other, wanted))
    means: dict[str, list[NDArray[np.float64]]] = {name: [] for name in wanted}
    for film in films:
        answers = answer(film)
        for name, found in means.items():
            found.append(answers[name].astype(np.float64))
    return {
        name.removesuffix("@shift"): np.mean(found, axis=0).astype(np.float32)
        for name, found in means.items()
    }


def _built(
    plan: _Plan,
    ranges: dict[str, Range],
    scales: dict[str, NDArray[np.float32]],
    shifts: dict[str, NDArray[np.float32]],
) -> onnx.ModelProto:
    """The graph with its pairs and shifts."""
    model = copy.deepcopy(plan.model)
    graph = model.graph
    rounded = {node.output[0] for node in plan.convolutions}
    stored = {tensor.name for tensor in graph.initializer}
    nodes = [node for name in plan.kernels if name in stored for node in _pair(name, 0)]
    for each in graph.input:
        nodes += _pair(each.name) if each.name in ranges else []
    constants = _constants(ranges, scales)
    for node in list(graph.node):
        if node.op_type == "Add" or _multiplies(node) or _only_chooses(node):
            for place, name in enumerate(node.input):
                if name in ranges:
                    node.input[place] = name + INT8
        if node.output[0] in rounded:
            made, kernel = node.output[0], node.input[1]
            node.input[1] = kernel + INT8
            bias = plan.tensors[node.input[2]] if len(node.input) > 2 else 0.0
            shifted = np.asarray(bias - shifts[made], dtype=np.float32)
            constants.append(numpy_helper.from_array(shifted, f"{made}@bias"))
            del node.input[2:]
            node.input.append(f"{made}@bias")
        nodes.append(node)
        for name in node.output:
            nodes += _pair(name) if name in ranges else []
            nodes += _pair(name, 0) if name in plan.kernels else []
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *constants])
    return model
