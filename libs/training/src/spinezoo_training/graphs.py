"""Exported networks: graphs in ONNX whose tensors stay in the weights file beside them.

A graph file holds no weights. Each of its tensors is a place (offset and length) in the weights
file, which is what ONNX calls external data; half precision is cast when a graph is loaded. So
weights are shipped once, and a graph changes only when the network does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from spinezoo_contract.errors import WeightsError
from spinezoo_serving.cards import ModelCard, describe_graphs, update_card, weights_path
from spinezoo_serving.disk import replace_file

OPSET = 17
"""Version of ONNX's operators: the newest that both engines have known for years."""

_TYPES = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies in a weights file.

    Attributes:
        dtype: ``float16``, ``float32`` or ``int64``, little-endian.
        shape: As stored, row-major.
        offset: Of its first byte in the file.
        order: Stored axes in the order of the graph's; None where they are the same.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int
    order: tuple[int, ...] | None = None

    @property
    def bytes(self) -> int:
        """Its length."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


def graph_path(card: ModelCard, part: str) -> Path:
    """Where a part of the card's exported network lies: beside the weights."""
    return weights_path(card).with_name(f"{card.preset}.{part}.onnx")


def write_graph(
    model: onnx.ModelProto, stored: Mapping[str, StoredTensor], weights: Path, path: Path
) -> None:
    """Writes a graph with the weights file's tensors in the place of its own.

    Args:
        model: Its initialisers bear the names of ``stored``; others stay in the graph.
        stored: The tensors of the weights file by name.
        weights: That file, in the folder of ``path``.
        path: The graph.

    Raises:
        WeightsError: An initialiser has another shape than the stored tensor.
    """
    graph = model.graph
    initialisers = list(graph.initializer)
    del graph.initializer[:]
    unpacked = []
    for tensor in initialisers:
        place = stored.get(tensor.name)
        if place is None:
            graph.initializer.append(tensor)
            continue
        shape = place.shape if place.order is None else tuple(place.shape[a] for a in place.order)
        if shape != tuple(tensor.dims):
            raise WeightsError(
                f"{tensor.name} is {shape} in {weights.name}, the network has {tuple(tensor.dims)}"
            )
        steps: list[tuple[str, dict[str, Any]]] = []
        if place.dtype != "float32" and tensor.data_type == TensorProto.FLOAT:
            steps.append(("Cast", {"to": TensorProto.FLOAT}))
        if place.order is not None:
            steps.append(("Transpose", {"perm": place.order}))
        names = [f"{tensor.name}@{number}" for number in range(len(steps))] + [tensor.name]
        graph.initializer.append(_external(names[0], place, weights.name))
        unpacked += [
            helper.make_node(kind, [before], [after], **attributes)
            for (kind, attributes), before, after in zip(steps, names[:-1], names[1:], strict=True)
        ]
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*unpacked, *nodes])
    write_model(model, path)


def write_model(model: onnx.ModelProto, path: Path) -> None:
    """Writes a graph in one step; its weights file lies beside it."""
    for node in model.graph.node:
        node.doc_string = ""  # names files of the machine
    replace_file(path, model.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path))


def stored_in(
    model: onnx.ModelProto,
) -> dict[str, tuple[onnx.TensorProto, list[onnx.NodeProto]]]:
    """The tensors of the weights file that a graph of :func:`write_graph` uses, by their name.

    Args:
        model: The graph, read without its external data.

    Returns:
        Each one's place in the file, and the nodes that unpack what lies there.
    """
    after = {
        node.input[0]: node
        for node in model.graph.node
        if node.op_type in ("Cast", "Transpose") and "@" in node.input[0]
    }
    found = {}
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        name, nodes = tensor.name, []
        while name in after:
            nodes.append(after[name])
            name = after[name].output[0]
        found[name] = (tensor, nodes)
    return found


def _external(name: str, place: StoredTensor, file: str) -> TensorProto:
    """A tensor that lies in a file."""
    tensor = TensorProto(
        name=name,
        data_type=_TYPES[place.dtype],
        dims=place.shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (("location", file), ("offset", place.offset), ("length", place.bytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def record_graphs(
    card: ModelCard, files: Mapping[str, Path], int8: Mapping[str, Path] | None = None
) -> ModelCard:
    """Enters an export into the preset's record.

    Args:
        card: The card whose weights were exported.
        files: The graphs by the name of the part.
        int8: Those of them that were also written for 8-bit integers.
    """
    return update_card(card.path, card.preset, graphs=describe_graphs(card, files, int8))
