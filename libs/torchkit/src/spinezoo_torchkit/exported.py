"""Weights of a small model's exported file, as its network names them.

An exported file is all that travels with a package. A training that begins with it needs no run
folder of the machine that made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

NORM_EPSILON = 1e-5
"""What layers that normalise add to a variance."""


def exported_weights(path: Path, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by name; those that the file does not hold are left out.

    Convolutions hold what the layers after them normalised by: these get weights that leave them
    as they are. 8-bit integers are given as the numbers that they stand for.

    Args:
        path: The file.
        own: Weights of such a network, by name: their form.
    """
    graph = onnx.load(path).graph
    held = {each.name: torch.tensor(numpy_helper.to_array(each)) for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in held:
            numbers, scale, zero = (held[name].double() for name in node.input)
            shape = (-1,) + (1,) * (numbers.ndim - 1)
            plain = (numbers - zero.reshape(shape)) * scale.reshape(shape)
            held[node.output[0]] = plain.float()
        elif node.op_type == "Identity" and node.input[0] in held:  # numbers that stand once
            held[node.output[0]] = held[node.input[0]]
    found: dict[str, Tensor] = {}
    for node in graph.node:
        layer = ".".join(node.name.split("/")[-2:-1])
        if node.op_type == "Conv" and node.input[1] in held:
            norm = f"{layer.rpartition('.')[0]}.1"
            bias = held[node.input[2]]
            found |= {
                f"{layer}.weight": held[node.input[1]],
                f"{norm}.weight": torch.ones_like(bias),
                f"{norm}.bias": bias,
                f"{norm}.running_mean": torch.zeros_like(bias),
                f"{norm}.running_var": torch.full_like(bias, 1.0 - NORM_EPSILON),
                f"{norm}.num_batches_tracked": torch.tensor(0),
            }
        elif node.op_type == "MatMul" and node.input[1] in held:
            found[f"{layer}.weight"] = held[node.input[1]].T
    for name, value in held.items():
        plain_name = name.removeprefix("network.")
        if plain_name in own:
            found[plain_name] = value
    return {name: value for name, value in found.items() if name in own}
