"""ONNX Runtime: for processors that OpenVINO does not know, and to compare with. Float32 only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError, WeightsError


class OnnxRuntimeGraph:
    """A session; see ``Graph``."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._inputs = [each.name for each in session.get_inputs()]
        self._outputs = [each.name for each in session.get_outputs()]

    def run(self, *inputs: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """The outputs by name."""
        given = dict(zip(self._inputs, inputs, strict=True))
        return dict(zip(self._outputs, self._session.run(None, given), strict=True))


class OnnxRuntimeEngine:
    """Opens sessions; see ``GraphEngine``."""

    name = "onnxruntime"
    concurrent = 2
    precision = "float32"

    def __init__(self, threads: int) -> None:
        self._options = onnxruntime.SessionOptions()
        self._options.log_severity_level = 3
        self._options.intra_op_num_threads = threads
        # Waiting threads must not burn the processors that other networks need.
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")

    def load(self, path: Path) -> OnnxRuntimeGraph:
        """A graph.

        Raises:
            WeightsError: ONNX Runtime does not take the file.
        """
        try:
            session = onnxruntime.InferenceSession(
                str(path), self._options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no base below Exception
            raise WeightsError(f"{path}: ONNX Runtime does not load it: {error}") from error
        return OnnxRuntimeGraph(session)


def open_engine(precision: str, threads: int) -> OnnxRuntimeEngine:
    """The engine; see :func:`spinezoo_spine.inference.engines.open_engine`.

    Raises:
        ConfigurationError: Another precision than float32.
    """
    if precision not in ("auto", "float32"):
        raise ConfigurationError(
            f"engine onnxruntime computes in float32 here, not in {precision}; set "
            "SPINEZOO_PRECISION to float32, or SPINEZOO_ENGINE to openvino"
        )
    return OnnxRuntimeEngine(threads)
