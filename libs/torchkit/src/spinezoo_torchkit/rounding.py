"""Exported files whose convolutions are computed in 8-bit integers, for ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from spinezoo_contract.errors import WeightsError

Given = Mapping[str, NDArray[np.float32]]


def round_to_bytes(
    path: Path, examples: Sequence[Given], *, kept: Sequence[str], tolerance: float
) -> None:
    """Makes a file's convolutions ones of 8-bit integers.

    Kernels get 7 of the 8 bits: processors without VNNI add two products in 16 bits, which then
    hold them. So all processors answer the same, and need no file of their own.

    Args:
        path: A file in float32; it is replaced.
        examples: Inputs by name, to find ranges with.
        kept: Convolutions that stay in floating point, by parts of their names.
        tolerance: Largest difference that 8 bits may make, root mean square of all answers.

    Raises:
        WeightsError: The rounded file answers something else.
    """
    plain = _answers(path, examples)
    convolutions = [n.name for n in onnx.load(path).graph.node if n.op_type == "Conv"]
    with TemporaryDirectory() as folder:
        rounded = Path(folder) / path.name
        quantize_static(
            path,
            rounded,
            _Examples(examples),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=[n for n in convolutions if any(part in n for part in kept)],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # The mean of the extremes: one bright film must not make all others coarse.
            extra_options={"CalibMovingAverage": True},
        )
        path.write_bytes(rounded.read_bytes())
    apart = np.concatenate(
        [
            (mine - other).reshape(-1)
            for before, after in zip(plain, _answers(path, examples), strict=True)
            for mine, other in zip(before, after, strict=True)
        ]
    )
    off = float(np.sqrt(np.mean(apart**2)))
    if not off <= tolerance:
        raise WeightsError(f"8 bits move what {path.name} answers by {off:g}; report it")


class _Examples(CalibrationDataReader):  # type: ignore[misc]
    """Examples in the form in which ONNX Runtime's quantiser asks for them."""

    def __init__(self, examples: Sequence[Given]) -> None:
        self._examples: Iterator[Given] = iter(examples)

    def get_next(self) -> Given | None:
        """The next one, None after the last."""
        return next(self._examples, None)


def _answers(path: Path, examples: Sequence[Given]) -> list[list[NDArray[np.float32]]]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [session.run(None, dict(given)) for given in examples]
