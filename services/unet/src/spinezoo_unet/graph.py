"""U-Net as graphs for engines that need no framework (:mod:`spinezoo_training.graphs`).

What :func:`spinezoo_unet.network.build_unet` builds, in ONNX's operators and channels first; the
card's probe proves that both compute the same. Tensors lie in Keras's HDF5 file.

``network`` sees the film and ends two steps before the full resolution; ``finest`` goes on from
there, on any part of the film. It takes a third of the time, and most of a film is background:
``network`` tells besides where structures may be (:mod:`spinezoo_unet.regions`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import onnx
from onnx import TensorProto, helper, numpy_helper
from spinezoo_contract.errors import CardError
from spinezoo_serving.cards import ModelCard, verify_weights
from spinezoo_training.graphs import OPSET, StoredTensor, graph_path, write_graph
from spinezoo_training.phantom_films import SMALLEST_SIDE_PX
from spinezoo_training.quantised import film_inputs

from spinezoo_unet.regions import Rule, found_rule

STEPS = 2
"""Doublings of the resolution that ``finest`` makes."""

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

    def up(self, level: int, x: str, skip: str, normalise: bool) -> str:
        """From a resolution to twice that of it, beside what the way down left there."""
        x = self.node(
            "Resize", f"up{level}_nearest", x, "", self.constant("twice", 1.0, 1.0, 2.0, 2.0),
            mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )  # fmt: skip
        # Keras fills "same" of an even kernel up below and on the right.
        x = self.convolution(f"up{level}_conv", x, (0, 0, 1, 1), bias=True)
        x = self.node("Relu", f"up{level}_relu", x)
        x = self.node("Concat", f"up{level}_skip", skip, x, axis=1)
        return self.double(f"up{level}", x, normalise)

    def rename(self, names: Mapping[str, str]) -> None:
        """Gives tensors other names."""
        for node in self.nodes:
            for given in (node.input, node.output):
                given[:] = [names.get(name, name) for name in given]

    def told_by(self, rule: Rule) -> None:
        """Adds ``structures``: a sum of what ``coarse`` has at a place."""
        kernel = rule.weights.reshape(1, -1, 1, 1)
        self.tensors["rule.kernel"] = numpy_helper.from_array(kernel, "rule.kernel")
        self.constant("rule.bias", rule.bias)
        self.node("Conv", "structures", "coarse", "rule.kernel", "rule.bias")

    def model(self, name: str, given: Sequence[Any], answered: Sequence[Any]) -> onnx.ModelProto:
        """The graph between its inputs and outputs."""
        graph = helper.make_graph(self.nodes, name, given, answered, list(self.tensors.values()))
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=8,
            producer_name="spinezoo",
        )

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


def unet_graphs(
    card: ModelCard, stored: Mapping[str, StoredTensor], rule: Rule
) -> dict[str, onnx.ModelProto]:
    """The card's network in two parts.

    ``network``: ``film`` (1, c, h, w) to ``coarse`` (1, ., h / 4, w / 4), ``skip1`` of twice and
    ``skip0`` of four times its sides, and ``structures`` (1, 1, h / 4, w / 4), above 0 where a
    structure may be. ``finest``: any part of the first three to ``logits`` of four times the sides.

    Args:
        card: The card.
        stored: The tensors of its weights file.
        rule: What ``structures`` is computed with.

    Raises:
        CardError: The ``network`` entry asks for what the graphs have not, or is not the weights'.
    """
    levels = int(card.network.get("levels", 5))
    normalise = bool(card.network.get("normalise", False))
    known = {"filters", "levels", "most_filters", "normalise"}
    if set(card.network) - known or levels <= STEPS:
        raise CardError(
            f"{card.name}: presets.{card.preset}.network: "
            f"{sorted(set(card.network) - known) or f'{levels} levels'} cannot be exported; serve "
            "it with SPINEZOO_ENGINE=tensorflow"
        )
    drawing, finest = _Drawing(stored), _Drawing(stored)
    x, skips = "film", []
    try:
        for level in range(levels):
            x = drawing.double(f"down{level}", x, normalise)
            if level < levels - 1:
                skips.append(x)
                x = drawing.node("MaxPool", f"pool{level}", x, kernel_shape=[2, 2], strides=[2, 2])
        for level in reversed(range(STEPS, levels - 1)):
            x = drawing.up(level, x, skips[level], normalise)
        handed = {x: "coarse"} | {skips[level]: f"skip{level}" for level in range(STEPS)}
        drawing.rename(handed)
        drawing.told_by(rule)
        x = "coarse"
        for level in reversed(range(STEPS)):
            x = finest.up(level, x, f"skip{level}", normalise)
        finest.convolution("logits", x, (0, 0, 0, 0), bias=True)
        channels = [
            stored[f"{name}.kernel"].shape[-1]
            for name in (f"{_made_by(levels)}_conv2", "down1_conv2", "down0_conv2")
        ]
    except KeyError as error:
        raise CardError(
            f"{card.name}: presets.{card.preset}.network is not that of the weights: they have no "
            f"{error}"
        ) from error
    height, width = card.input.height, card.input.width
    film = _ends({"film": (1, card.input.channels, height, width)})
    coarse, skip1, skip0 = channels
    answered = {
        "coarse": (1, coarse, height // 4, width // 4),
        "skip1": (1, skip1, height // 2, width // 2),
        "skip0": (1, skip0, height, width),
        "structures": (1, 1, height // 4, width // 4),
    }
    given = {
        "coarse": (1, coarse, "rows", "columns"),
        "skip1": (1, skip1, "rows2", "columns2"),
        "skip0": (1, skip0, "rows4", "columns4"),
    }
    logits = {"logits": (1, 1 + len(card.structures), "rows4", "columns4")}
    return {
        "network": drawing.model(card.name, film, _ends(answered)),
        "finest": finest.model(f"{card.name}_finest", _ends(given), _ends(logits)),
    }


def _made_by(levels: int) -> str:
    """The block that ``coarse`` comes from."""
    return f"up{STEPS}" if levels - 1 > STEPS else f"down{STEPS}"


def _ends(shapes: Mapping[str, Sequence[int | str]]) -> list[Any]:
    """Inputs or outputs of a graph."""
    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]


def write_graphs(card: ModelCard) -> dict[str, Path]:
    """Writes the graphs of the card's weights beside them; see ``Framework.write_graphs``."""
    weights = verify_weights(card)
    stored = stored_tensors(weights)
    files = {part: graph_path(card, part) for part in ("network", "finest")}

    def write(rule: Rule) -> None:
        for part, model in unet_graphs(card, stored, rule).items():
            write_graph(model, stored, weights, files[part])

    channels = stored[f"{_made_by(int(card.network.get('levels', 5)))}_conv2.kernel"].shape[-1]
    write(Rule.everywhere(channels))
    size = (card.input.height, card.input.width)
    if min(size) >= SMALLEST_SIDE_PX:  # no phantoms are made for smaller ones
        write(found_rule(files, film_inputs(*size)))
    return files
