"""The trained network as the file that gateway and evaluator load."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from spinezoo_contract.errors import WeightsError
from spinezoo_spine.measures.refiner.looking import CROP_PX

from spinezoo_refiner.network import CHANNELS, RefinerNetwork

OUTPUTS = ("numbers", "spreads", "spurs")

TOLERANCE = 1e-4
"""Largest difference between the file's answer and the network's."""


def some_input(bodies: int, seed: int = 0) -> torch.Tensor:
    """Made-up crops."""
    chance = torch.Generator().manual_seed(seed)
    return torch.randn((bodies, CHANNELS, CROP_PX, CROP_PX), generator=chance)


def export(network: RefinerNetwork, path: Path) -> None:
    """Writes the network and compares the file's answers with its own.

    Raises:
        WeightsError: They differ.
    """
    network.eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = {name: {0: "bodies"} for name in ("crops", *OUTPUTS)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (some_input(5),), str(path), input_names=["crops"],
            output_names=list(OUTPUTS), dynamic_axes=axes, dynamo=False, opset_version=17,
        )  # fmt: skip
    model = onnx.load(str(path))
    for node in model.graph.node:  # names of layers only; nothing of the machine
        node.doc_string = ""
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for bodies in (1, 9):
        given = some_input(bodies, seed=bodies)
        with torch.no_grad():
            own = network(given)
        files = session.run(None, {"crops": given.numpy()})
        for name, ours, its in zip(OUTPUTS, own, files, strict=True):
            worst = float(np.abs(ours.numpy() - its).max())
            if not worst <= TOLERANCE:
                raise WeightsError(
                    f"the exported network differs by {worst:g} in {name}; report it"
                )
