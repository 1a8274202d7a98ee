"""OpenVINO: the fastest on processors of Intel and AMD."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError, WeightsError

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
"""OpenVINO's names."""

INT8_INSTRUCTIONS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""Flags of processors that add up products of bytes without a limit in between: others add two of
them in 16 bits, which some products go beyond, and gain nothing."""

PROCESSOR = Path("/proc/cpuinfo")
"""Where Linux says what the processor can do; other systems are taken to have none of it."""


class OpenVinoGraph:
    """A compiled graph with a request for each thread that asks; see ``Graph``."""

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        # A tensor may have more names than that of the graph's output.
        self._names = [
            (name, index)
            for index, output in enumerate(compiled.outputs)
            for name in output.get_names()
        ]
        self._compiled = compiled
        self._of_thread = threading.local()

    def run(self, *inputs: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """The outputs by name, in OpenVINO's own memory."""
        try:
            request = self._of_thread.request
        except AttributeError:
            request = self._of_thread.request = self._compiled.create_infer_request()
        found = request.infer(list(inputs), share_inputs=True, share_outputs=True)
        return {name: found[index] for name, index in self._names}


class OpenVinoEngine:
    """Compiles graphs for this processor; see ``GraphEngine``."""

    name = "openvino"
    concurrent = 2

    def __init__(self, precision: str, threads: int) -> None:
        self._core = _core()
        has_bfloat16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "auto":
            precision = "bfloat16" if has_bfloat16 else "float32"
        if precision == "bfloat16" and not has_bfloat16:
            raise ConfigurationError(
                "this processor has no bfloat16; set SPINEZOO_PRECISION to float32 or auto"
            )
        if precision == "int8" and not has_int8():
            raise ConfigurationError(
                "this processor has no instructions for int8 (VNNI or AMX); set SPINEZOO_PRECISION "
                "to auto"
            )
        if precision not in (*PRECISIONS, "int8"):
            raise ConfigurationError(
                f"precision {precision!r} is unknown; set SPINEZOO_PRECISION to auto or one of "
                f"{', '.join(PRECISIONS)}, int8"
            )
        self.precision = precision
        # Graphs for int8 say themselves what is computed so; this is for the rest of them.
        rest = "bfloat16" if has_bfloat16 else "float32"
        self._options = {
            "INFERENCE_PRECISION_HINT": PRECISIONS.get(precision, PRECISIONS[rest]),
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            # Several networks share the processors: a thread that is bound to one waits for it.
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            self._options["INFERENCE_NUM_THREADS"] = threads

    def load(self, path: Path) -> OpenVinoGraph:
        """A graph, compiled.

        Raises:
            WeightsError: OpenVINO does not take the file.
        """
        try:
            return OpenVinoGraph(self._core.compile_model(str(path), "CPU", self._options))
        except RuntimeError as error:
            raise WeightsError(f"{path}: OpenVINO does not load it: {error}") from error


def has_int8() -> bool:
    """Whether this processor has instructions for products of bytes."""
    try:
        said = PROCESSOR.read_text(encoding="utf-8")
    except OSError:
        return False
    return not INT8_INSTRUCTIONS.isdisjoint(said.split())


@functools.cache
def _core() -> openvino.Core:
    """OpenVINO itself, for as long as the process lives.

    Unloading its plug-in leaves pointers into it behind, which ended a later training of torch or
    TensorFlow in the same process.
    """
    return openvino.Core()


def open_engine(precision: str, threads: int) -> OpenVinoEngine:
    """The engine; see :func:`spinezoo_spine.inference.engines.open_engine`."""
    return OpenVinoEngine(precision, threads)
