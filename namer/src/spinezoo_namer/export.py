"""The trained network as the file that gateway and evaluator load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from spinezoo_contract.errors import WeightsError
from spinezoo_spine.column.reader.looking import (
    FACTS,
    FILM_PX,
    HALF_SIDES,
    PAIR_FACTS,
    VIEW_PX,
    ReaderInput,
)
from spinezoo_torchkit.small_training import export_checked
from torch import nn

INPUTS = ("views", "facts", "pairs", "outlined", "film")
OUTPUTS = ("below", "above", "steps", "counts", "kind")

TOLERANCE = 1e-3
"""Largest difference between the file's answer in float32 and the network's, in nats."""

KEPT = ("/look/look.0/", "/whole/")
"""Convolutions that stay in floating point, by parts of their names: those of few planes, which
8 bits make no faster."""

ROUNDED_TOLERANCE = 0.5
"""Largest difference that 8 bits may make, root mean square of all evidence, in nats."""


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


def export(network: nn.Module, path: Path, examples: Sequence[ReaderInput] = ()) -> None:
    """Writes the network and compares the file's answers with its own.

    Args:
        network: Evaluated, on the processor.
        path: The file.
        examples: Films to find the ranges of 8-bit integers with, in which the widest convolutions
            are then computed; none: all stays in float32.

    Raises:
        WeightsError: They differ.
    """
    axes = {name: {0: "spots"} for name in ("views", "facts", "outlined", "below", "above")}
    axes |= {name: {0: "spots", 1: "spots"} for name in ("pairs", "steps")}
    export_checked(
        network, path, some_input, INPUTS, OUTPUTS, axes, counts=(1, 12), tolerance=TOLERANCE
    )
    if examples:
        round_to_bytes(path, [named_input(each) for each in examples])


def named_input(given: ReaderInput) -> dict[str, NDArray[np.float32]]:
    """A film's input by the names that the file has for its parts."""
    return {name: getattr(given, name) for name in INPUTS}


def round_to_bytes(path: Path, films: Sequence[Mapping[str, NDArray[np.float32]]]) -> None:
    """Makes a file's widest convolutions ones of 8-bit integers.

    Kernels get 7 of the 8 bits: processors without VNNI add two products in 16 bits, which then
    hold them. So all processors answer the same, and need no file of their own.

    Args:
        path: A file of :func:`export` in float32; it is replaced.
        films: Inputs to find ranges with, see :func:`named_input`.

    Raises:
        WeightsError: The rounded file answers something else.
    """
    plain = _answers(path, films)
    convolutions = [n.name for n in onnx.load(path).graph.node if n.op_type == "Conv"]
    with TemporaryDirectory() as folder:
        rounded = Path(folder) / path.name
        quantize_static(
            path,
            rounded,
            _Films(films),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=[n for n in convolutions if any(part in n for part in KEPT)],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # The mean of the films' extremes: one bright film must not make all others coarse.
            extra_options={"CalibMovingAverage": True},
        )
        path.write_bytes(rounded.read_bytes())
    apart = np.concatenate(
        [
            (mine - other).reshape(-1)
            for before, after in zip(plain, _answers(path, films), strict=True)
            for mine, other in zip(before, after, strict=True)
        ]
    )
    worst = float(np.sqrt(np.mean(apart**2)))
    if not worst <= ROUNDED_TOLERANCE:
        raise WeightsError(f"8 bits move the reader's evidence by {worst:g} nats; report it")


class _Films(CalibrationDataReader):  # type: ignore[misc]
    """Films in the form in which ONNX Runtime's quantiser asks for them."""

    def __init__(self, films: Sequence[Mapping[str, NDArray[np.float32]]]) -> None:
        self._films: Iterator[Mapping[str, NDArray[np.float32]]] = iter(films)

    def get_next(self) -> Mapping[str, NDArray[np.float32]] | None:
        """The next film, None after the last one."""
        return next(self._films, None)


def _answers(
    path: Path, films: Sequence[Mapping[str, NDArray[np.float32]]]
) -> list[list[NDArray[np.float32]]]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [session.run(None, dict(film)) for film in films]
