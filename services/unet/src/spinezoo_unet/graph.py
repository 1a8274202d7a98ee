"""U-Net as a graph for engines that need no framework (:mod:`spinezoo_training.graphs`).

What :func:`spinezoo_unet.network.build_unet` builds, in ONNX's operators and channels first; the
card's probe proves that both compute the same. Tensors lie in Keras's HDF5 file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import onnx
from onnx import TensorProto, helper
from spinezoo_contract.errors import CardError
from spinezoo_serving.cards import ModelCard, verify_weights
from spinezoo_training.graphs import OPSET, StoredTensor, graph_path, write_graph

KERNEL_ORDER = (3, 2, 0, 1)
"""Keras keeps kernels as (rows, columns, in, out), ONNX wants (out, in, rows, columns)."""


def stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """Where the arrays of a file of :func:`spinezoo_unet.weights.save_weights` lie, by name."""
    found = {}
    with h5py.File(path, "r") as file:
        for name, array in file.items():
            order = KERNEL_ORDER if array.ndim == 4 else None
            found[name] = StoredTensor(str(array.dtype), array.shape, array.id.get_offset(), order)
    return found


class _Drawing:
    """Nodes and tensors of a graph, drawn from the input to the output."""

    def __init__(self, stored: Mapping[str, StoredTensor]) -> None:
        self.nodes: list[Any] = []
        self.tensors: dict[str, Any] = {}
        self._stored = stored

    def node(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output of its own name."""
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def weights(self, name: str) -> str:
        """A tensor of the weights file."""
        place = self._stored[name]
        dims = place.shape if place.order is None else [place.shape[a] for a in place.order]
        self.tensors[name] = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
        return name

    def constant(self, name: str, *values: float) -> str:
        """A short list of numbers."""
        self.tensors[name] = helper.make_tensor(name, TensorProto.FLOAT, [len(values)], values)
        return name

    def convolution(self, name: str, x: str, pads: tuple[int, int, int, int], bias: bool) -> str:
        """A convolution of stride 1 with ``pads`` above, left, below, right."""
        given = [x, self.weights(f"{name}.kernel")]
        if bias:
            given.append(self.weights(f"{name}.bias"))
        return self.node("Conv", name, *given, pads=pads)

    def double(self, name: str, x: str, normalise: bool) -> str:
        """Two 3 x 3 convolutions with ReLU."""
        for index in (1, 2):
            x = self.convolution(f"{name}_conv{index}", x, (1, 1, 1, 1), not normalise)
            if normalise:
                norm = f"{name}_bn{index}"
                parts = ("gamma", "beta", "moving_mean", "moving_variance")
                given = [self.weights(f"{norm}.{part}") for part in parts]
                x = self.node("BatchNormalization", norm, x, *given, epsilon=1e-5)
            x = self.node("Relu", f"{name}_relu{index}", x)
        return x


def unet_graph(card: ModelCard, stored: Mapping[str, StoredTensor]) -> onnx.ModelProto:
    """The card's network: ``film`` (1, c, h, w) to ``logits`` of that size.

    Raises:
        CardError: The ``network`` entry asks for what the graph has not, or is not the weights'.
    """
    levels = int(card.network.get("levels", 5))
    normalise = bool(card.network.get("normalise", False))
    known = {"filters", "levels", "most_filters", "normalise"}
    if set(card.network) - known:
        raise CardError(
            f"{card.name}: presets.{card.preset}.network: {sorted(set(card.network) - known)} "
            "cannot be exported; serve it with SPINEZOO_ENGINE=tensorflow"
        )
    drawing = _Drawing(stored)
    x, skips = "film", []
    try:
        for level in range(levels):
            x = drawing.double(f"down{level}", x, normalise)
            if level < levels - 1:
                skips.append(x)
                x = drawing.node("MaxPool", f"pool{level}", x, kernel_shape=[2, 2], strides=[2, 2])
        twice = drawing.constant("twice", 1.0, 1.0, 2.0, 2.0)
        for level in reversed(range(levels - 1)):
            x = drawing.node(
                "Resize", f"up{level}_nearest", x, "", twice, mode="nearest",
                coordinate_transformation_mode="asymmetric", nearest_mode="floor",
            )  # fmt: skip
            # Keras fills "same" of an even kernel up below and on the right.
            x = drawing.convolution(f"up{level}_conv", x, (0, 0, 1, 1), bias=True)
            x = drawing.node("Relu", f"up{level}_relu", x)
            x = drawing.node("Concat", f"up{level}_skip", skips[level], x, axis=1)
            x = drawing.double(f"up{level}", x, normalise)
        x = drawing.convolution("logits", x, (0, 0, 0, 0), bias=True)
    except KeyError as error:
        raise CardError(
            f"{card.name}: presets.{card.preset}.network is not that of the weights: they have no "
            f"{error}"
        ) from error
    size = (card.input.height, card.input.width)
    film, logits = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, channels, *size))
        for name, channels in (("film", card.input.channels), ("logits", 1 + len(card.structures)))
    )
    graph = helper.make_graph(
        drawing.nodes, card.name, [film], [logits], list(drawing.tensors.values())
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
        producer_name="spinezoo",
    )


def write_graphs(card: ModelCard) -> dict[str, Path]:
    """Writes the graph of the card's weights beside them; see ``Framework.write_graphs``."""
    weights = verify_weights(card)
    stored = stored_tensors(weights)
    path = graph_path(card, "network")
    write_graph(unet_graph(card, stored), stored, weights, path)
    return {"network": path}
