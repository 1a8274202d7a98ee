"""Weights files, probes and training state, all as safetensors: no file can carry code.

A weights file holds matrices and kernels in float16 and vectors (biases, batch-norm statistics)
in float32, because a running variance can leave float16's range while it costs next to nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from spinezoo_contract.errors import WeightsError
from spinezoo_contract.words import counted
from spinezoo_serving.disk import replace_file
from torch import nn

PROBE_VALUES = 24
"""Output values that a probe remembers."""

PROBE_TOLERANCE_SHARE = 0.02
"""A probe's tolerance as a share of the output's standard deviation. Float32 arithmetic on other
machines differs by less than a thousandth of that; a changed dilation by far more."""


@dataclass(frozen=True, slots=True)
class WeightsRecord:
    """A weights file as written.

    Attributes:
        path: The file.
        sha256: Its digest, lower-case hexadecimal.
        bytes: Its size.
        dtype: How matrices and kernels are stored.
    """

    path: Path
    sha256: str
    bytes: int
    dtype: str = "float16"


@dataclass(frozen=True, slots=True)
class Probe:
    """What a network answers to a seeded input.

    Attributes:
        seed: Seed of the input.
        values: Output values at evenly spaced places of the flattened output.
        tolerance: Largest absolute difference that passes.
    """

    seed: int
    values: tuple[float, ...]
    tolerance: float


def save_weights(module: nn.Module, path: Path | str) -> WeightsRecord:
    """Writes a module's parameters and buffers in one step.

    Raises:
        WeightsError: A value is not finite or too large for float16.
    """
    tensors = {}
    for name, tensor in module.state_dict().items():
        stored = tensor.detach().cpu()
        if stored.is_floating_point():
            stored = stored.to(torch.float16 if stored.ndim >= 2 else torch.float32)
            if not bool(torch.isfinite(stored).all()):
                raise WeightsError(
                    f"tensor {name!r} holds values that are not finite or exceed float16's "
                    "65504; training has diverged: lower the learning rate and train again"
                )
        tensors[name] = stored.contiguous().clone()
    content = safetensors.torch.save(tensors)
    replace_file(Path(path), content)
    return WeightsRecord(Path(path), hashlib.sha256(content).hexdigest(), len(content))


def load_weights(module: nn.Module, path: Path | str, sha256: str) -> None:
    """Reads a weights file into a module.

    Args:
        module: The network; its names and shapes must be the file's, all of them.
        path: The file.
        sha256: Digest that the file must have.

    Raises:
        WeightsError: File missing, another digest, not safetensors, or of another network.
    """
    fill_module(module, read_weights(path, sha256), str(path))


def begin_with(module: nn.Module, path: Path | str, sha256: str) -> None:
    """Reads a weights file into a module that is to be trained further.

    Args:
        module: The network. Where it can begin with weights of an earlier form of itself, it has a
            method ``begin_with`` that turns those tensors into its own.
        path: The file.
        sha256: Digest that the file must have.

    Raises:
        WeightsError: As :func:`load_weights`.
    """
    tensors = read_weights(path, sha256)
    adapt = getattr(module, "begin_with", None)
    fill_module(module, tensors if adapt is None else adapt(tensors), str(path))


def read_weights(path: Path | str, sha256: str) -> dict[str, torch.Tensor]:
    """The tensors of a weights file, by name.

    Raises:
        WeightsError: File missing, another digest, or not safetensors.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"weights file {path} cannot be read ({error.strerror}); restore it, or train again"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise WeightsError(
            f"{path} has SHA-256 {digest}, expected {sha256}; restore the file that belongs to "
            "the card, or train again, which writes both"
        )
    try:
        return safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise WeightsError(
            f"{path} is not a safetensors file ({error}); convert it, other forms are not read"
        ) from error


def fill_module(module: nn.Module, tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Copies tensors into a module by name, in the module's own precision.

    Raises:
        WeightsError: A name is missing or unknown, or a shape differs.
    """
    own = module.state_dict()
    missing = sorted(own.keys() - tensors.keys())
    unknown = sorted(tensors.keys() - own.keys())
    shapes = [
        f"{name} {tuple(tensors[name].shape)} for {tuple(own[name].shape)}"
        for name in sorted(own.keys() & tensors.keys())
        if tensors[name].shape != own[name].shape
    ]
    faults = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in (
            ("tensors missing", missing),
            ("tensors unknown", unknown),
            ("shapes differ", shapes),
        )
        if names
    ]
    if faults:
        raise WeightsError(
            f"{source} is of another network: {'; '.join(faults)}; check that the preset's "
            "`network` entry in card.yaml is the one it was trained with"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def evenly(values: torch.Tensor, count: int) -> torch.Tensor:
    """(count,) values at evenly spaced places of a flattened tensor, for a probe."""
    flat = values.reshape(-1)
    return flat[torch.linspace(0, flat.numel() - 1, count).round().long()]


def probe_input(input_shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Seeded standard normal numbers, clipped to -3..3 as a prepared film is.

    Numpy's PCG64 gives the same numbers on every platform.
    """
    numbers = np.random.Generator(np.random.PCG64(seed)).standard_normal(
        input_shape, dtype=np.float32
    )
    return torch.from_numpy(np.clip(numbers, -3.0, 3.0))


def make_probe(module: nn.Module, input_shape: tuple[int, ...], seed: int = 0) -> Probe:
    """What a module answers, in evaluation mode and float32, to :func:`probe_input`.

    Args:
        module: The network. Where its output is a list of detections, which jumps, it has a
            method ``probe_forward`` that answers smooth tensors instead.
        input_shape: Shape of the input, with the batch dimension.
        seed: Seed of the input.

    Raises:
        WeightsError: The answer is not finite.
    """
    values = _answer(module, input_shape, seed)
    if not bool(torch.isfinite(values).all()):
        raise WeightsError(
            "the network answers numbers that are not finite; the weights are unusable"
        )
    tolerance = PROBE_TOLERANCE_SHARE * float(values.double().std(correction=0))
    picked = _picked(values)
    return Probe(seed, tuple(float(f"{v:.6g}") for v in picked), max(tolerance, 1e-6))


def check_probe(
    module: nn.Module,
    input_shape: tuple[int, ...],
    probe: Probe | Any,
    name: str = "the network",
) -> None:
    """Compares a module's answer with a probe.

    Matching names and shapes do not prove the same network: two dilations, paddings or orders of
    channels have the same parameters and other answers.

    Args:
        module: The network with its weights.
        input_shape: Shape of the input, with the batch dimension.
        probe: ``seed``, ``values``, ``tolerance``: a :class:`Probe` or a card's entry.
        name: Name of the network, for the message.

    Raises:
        WeightsError: A value is further away than the tolerance.
    """
    picked = _picked(_answer(module, input_shape, probe.seed), len(probe.values))
    expected = torch.tensor(probe.values, dtype=torch.float64)
    if len(picked) != len(expected):
        raise WeightsError(
            f"{name}: the probe has {counted(len(expected), 'value')}, {len(picked)} fit"
        )
    difference = float((picked - expected).abs().max())
    if not difference <= probe.tolerance:
        raise WeightsError(
            f"{name}: the loaded network answers a probe {difference:.4g} away from the card, more "
            f"than {probe.tolerance:.4g}; it has the weights' names and shapes but is another "
            "network (dilation, padding, order of channels); restore the card's `network` entry"
        )


def _answer(module: nn.Module, input_shape: tuple[int, ...], seed: int) -> torch.Tensor:
    parameter = next(module.parameters())
    forward = getattr(module, "probe_forward", module)
    training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            output = forward(probe_input(input_shape, seed).to(parameter.device))
    finally:
        module.train(training)
    return torch.cat([tensor.float().reshape(-1).cpu() for tensor in _tensors(output)])


def _tensors(value: Any) -> list[torch.Tensor]:
    """All tensors of nested lists, tuples and mappings, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    return []


def _picked(values: torch.Tensor, count: int = PROBE_VALUES) -> torch.Tensor:
    places = torch.linspace(0, len(values) - 1, min(count, len(values)), dtype=torch.float64)
    return values[places.round().long()].double()


def save_state(
    path: Path | str, tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]
) -> None:
    """Writes a training state, tensors and JSON-able record in one file, in one step."""
    content = safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()},
        metadata={"record": json.dumps(record)},
    )
    replace_file(Path(path), content)


def load_state(path: Path | str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Reads what :func:`save_state` wrote.

    Raises:
        WeightsError: The file is not a training state.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as stream:
            record = json.loads((stream.metadata() or {})["record"])
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise WeightsError(
            f"{path} is not a training state ({error}); remove it to train from the beginning"
        ) from error
    return tensors, record
