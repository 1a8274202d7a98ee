"""A torch network as graphs for engines that need no torch (:mod:`spinezoo_training.graphs`)."""

from __future__ import annotations

import io
import json
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import torch
from spinezoo_serving.cards import ModelCard, verify_weights
from spinezoo_training.graphs import OPSET, StoredTensor, graph_path, write_graph
from torch import nn

_DTYPES = {"F16": "float16", "F32": "float32", "I64": "int64"}


@dataclass(frozen=True)
class GraphPart:
    """One graph of a network.

    Attributes:
        name: Its name; the file's too.
        module: What it computes; holds the network as ``network``.
        inputs: An example of each input.
        input_names: Names of the inputs.
        output_names: Names of the outputs.
        free: Names of the axes that may have any length, by input or output and axis.
    """

    name: str
    module: nn.Module
    inputs: tuple[torch.Tensor, ...]
    input_names: Sequence[str]
    output_names: Sequence[str]
    free: Mapping[str, Mapping[int, str]] = field(default_factory=dict)


MakeParts = Callable[[ModelCard, nn.Module], Sequence[GraphPart]]
"""The graphs of a network in evaluation mode."""


class _Semantic(nn.Module):
    """Logits on the network's own grid: what enlarges them does so only where something is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, film: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network.on_grid(film)
        return logits


def semantic_parts(card: ModelCard, network: nn.Module) -> list[GraphPart]:
    """The one graph of a semantic network.

    Its ``on_grid`` answers the logits that it enlarges to the size of the input.
    """
    return [GraphPart("network", _Semantic(network), (film_of(card),), ["film"], ["logits"])]


def film_of(card: ModelCard) -> torch.Tensor:
    """(1, channels, height, width) zeros."""
    return torch.zeros(1, card.input.channels, card.input.height, card.input.width)


def stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """Where the tensors of a safetensors file lie, by name."""
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        head = json.loads(stream.read(length))
    head.pop("__metadata__", None)
    return {
        name: StoredTensor(
            _DTYPES[entry["dtype"]], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0]
        )
        for name, entry in head.items()
    }


def write_graphs(card: ModelCard, network: nn.Module, make_parts: MakeParts) -> dict[str, Path]:
    """Writes the graphs of the card's weights beside them.

    Args:
        card: The card.
        network: The card's, with any weights: graphs hold none. They are overwritten.
        make_parts: Its graphs.

    Returns:
        The files by part.

    Raises:
        WeightsError: The weights file is not the card's.
    """
    weights = verify_weights(card)
    stored = stored_tensors(weights)
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():  # tensors of the same values would become one
                tensor.uniform_(0.5, 1.5, generator=chance)
    files = {}
    with _exact(network):
        for part in make_parts(card, network):
            model = _traced(part)
            for tensor in model.graph.initializer:
                tensor.name = tensor.name.removeprefix("network.")
            for node in model.graph.node:
                names = [name.removeprefix("network.") for name in node.input]
                del node.input[:]
                node.input.extend(names)
            files[part.name] = graph_path(card, part.name)
            write_graph(model, stored, weights, files[part.name])
    return files


def _traced(part: GraphPart) -> onnx.ModelProto:
    """A part as ONNX, its weights unfolded so that they bear the names of the file's tensors."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of the tracer, about sizes that are fixed on purpose
        torch.onnx.export(
            part.module.eval(), part.inputs, buffer, dynamo=False, opset_version=OPSET,
            input_names=list(part.input_names), output_names=list(part.output_names),
            dynamic_axes={name: dict(axes) for name, axes in part.free.items()},
            # Neither folds batch normalisation into kernels nor casts constants.
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        )  # fmt: skip
    return onnx.load_from_string(buffer.getvalue())


@contextmanager
def _exact(network: nn.Module) -> Iterator[None]:
    """Adaptive pooling as a product with constant matrices: ONNX has no such operator."""
    training = network.training
    network.eval()
    torch.onnx.register_custom_op_symbolic("aten::adaptive_avg_pool2d", _pooled, OPSET)
    try:
        yield
    finally:
        torch.onnx.unregister_custom_op_symbolic("aten::adaptive_avg_pool2d", OPSET)
        network.train(training)


@torch.onnx.symbolic_helper.parse_args("v", "is")  # type: ignore[untyped-decorator]
def _pooled(g: Any, x: Any, size: Sequence[int]) -> Any:
    """Averages over the cells of a grid, as torch's adaptive pooling has them."""
    rows, columns = size
    height, width = x.type().sizes()[-2:]
    down = g.op("Constant", value_t=_averages(height, rows))
    across = g.op("Constant", value_t=_averages(width, columns).T.contiguous())
    return g.op("MatMul", g.op("MatMul", down, x), across)


def _averages(cells: int, bins: int) -> torch.Tensor:
    """(bins, cells) weights of the mean over each bin of an axis."""
    weights = torch.zeros(bins, cells)
    for index in range(bins):
        first, last = index * cells // bins, -(-(index + 1) * cells // bins)
        weights[index, first:last] = 1.0 / (last - first)
    return weights
