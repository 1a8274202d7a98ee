"""The trained network as the file that gateway and evaluator load."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from spinezoo_contract.errors import WeightsError
from spinezoo_spine.column.reader.looking import FACTS, FILM_PX, HALF_SIDES, PAIR_FACTS, VIEW_PX

from spinezoo_namer.network import ReaderNetwork

INPUTS = ("views", "facts", "pairs", "outlined", "film")
OUTPUTS = ("below", "above", "steps", "counts", "kind")

TOLERANCE = 1e-3
"""Largest difference between the file's answer and the network's, in nats."""


def some_input(spots: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Made-up input of one film."""
    chance = torch.Generator().manual_seed(seed)
    shapes = (
        (spots, len(HALF_SIDES), VIEW_PX, VIEW_PX),
        (spots, FACTS),
        (spots, spots, PAIR_FACTS),
        (spots,),
        (1, 1, FILM_PX, FILM_PX),
    )
    views, facts, pairs, outlined, film = (torch.randn(s, generator=chance) for s in shapes)
    return views, facts, pairs, (outlined > 0).float(), film


def export(network: ReaderNetwork, path: Path) -> None:
    """Writes the network and compares the file's answers with its own.

    Raises:
        WeightsError: They differ.
    """
    network.eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = {name: {0: "spots"} for name in ("views", "facts", "outlined", "below", "above")}
    axes |= {name: {0: "spots", 1: "spots"} for name in ("pairs", "steps")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network, some_input(5), str(path), input_names=list(INPUTS), output_names=list(OUTPUTS),
            dynamic_axes=axes, dynamo=False, opset_version=17,
        )  # fmt: skip
    model = onnx.load(str(path))
    for node in model.graph.node:  # names of layers only; nothing of the machine
        node.doc_string = ""
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for spots in (1, 12):
        given = some_input(spots, seed=spots)
        with torch.no_grad():
            own = network(*given)
        files = session.run(
            None, {name: each.numpy() for name, each in zip(INPUTS, given, strict=True)}
        )
        for name, ours, its in zip(OUTPUTS, own, files, strict=True):
            worst = float(np.abs(ours.numpy() - its).max())
            if not worst <= TOLERANCE:
                raise WeightsError(
                    f"the exported network differs by {worst:g} in {name}; report it"
                )
