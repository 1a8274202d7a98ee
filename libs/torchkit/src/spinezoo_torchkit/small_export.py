"""Writes the weights of small models as ONNX, checked, and their record."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from spinezoo_contract.errors import WeightsError
from spinezoo_serving.disk import replace_file
from spinezoo_spine.built_in import BuiltInModel
from torch import Tensor, nn


def export_checked(
    network: nn.Module,
    path: Path,
    some_input: Callable[[int, int], tuple[Tensor, ...]],
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
    *,
    counts: Sequence[int],
    tolerance: float,
) -> None:
    """Writes a network as ONNX and compares the file's answers with its own.

    Args:
        network: On the processor.
        path: The file.
        some_input: Made-up input of so many rows, by a seed.
        inputs: Names of the input.
        outputs: Names of the answers.
        axes: Names of the axes that vary, by name and axis.
        counts: Rows that are compared.
        tolerance: Largest difference of an answer.

    Raises:
        WeightsError: They differ.
    """
    network.eval()
    exported = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer
        torch.onnx.export(
            network, some_input(5, 0), exported, input_names=list(inputs),
            output_names=list(outputs), dynamic_axes={k: dict(v) for k, v in axes.items()},
            dynamo=False, opset_version=17,
        )  # fmt: skip
    model = onnx.load_from_string(exported.getvalue())
    for node in model.graph.node:  # names of layers only; nothing of the machine
        node.doc_string = ""
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for count in counts:
        given = some_input(count, count)
        with torch.no_grad():
            own = network(*given)
        names = {name: each.numpy() for name, each in zip(inputs, given, strict=True)}
        for name, ours, its in zip(outputs, own, session.run(None, names), strict=True):
            worst = float(np.abs(ours.numpy() - its).max())
            if not worst <= tolerance:
                raise WeightsError(
                    f"the exported network differs by {worst:g} in {name}; report it"
                )
    replace_file(path, content)


def write_record(folder: Path, model: BuiltInModel, **parts: Any) -> dict[str, Any]:
    """Writes the record of weights beside them, whose widest layers are of 8 bits; returns it.

    Args:
        folder: Of the card.
        model: Which model.
        parts: Its further keys.

    Raises:
        OSError: The weights cannot be read, or the record cannot be written.
    """
    content = (folder / model.weights_file).read_bytes()
    record = {
        "weights": {
            "file": model.weights_file,
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "dtype": "int8",
        },
        model.input_key: model.input_id,
        **parts,
    }
    text = json.dumps(record, indent=2) + "\n"
    replace_file(folder / model.record_file, text)
    return record
