"""What runs a network that was exported: one module an engine, each with :func:`open_engine`.

``SPINEZOO_ENGINE`` or a card names one of :data:`ENGINES`, or a module of one's own by its import
path. An engine's module has ``open_engine(precision, threads)``, and ``has_int8()`` where it
computes in 8-bit integers; nothing else knows of it.

A network that is to be replaced by its framework (``torch``, ``tensorflow``) is none of these: its
own predictor does that, see :mod:`spinezoo_spine.inference.loading`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError

PACKAGE = __name__

ENGINES = ("openvino", "onnxruntime")
"""Engines that are modules of this package."""


class Graph(Protocol):
    """One exported network, or a part of one, ready to run on the CPU."""

    def run(self, *inputs: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        """The outputs by name; they may lie in the engine's memory and change with the next call.

        Args:
            inputs: In the graph's order, contiguous. ``float32``, but for what another graph of
                the same network answered as bytes.
        """
        ...


class GraphEngine(Protocol):
    """Loads graphs.

    Attributes:
        name: As the settings name it.
        precision: What it computes in, ``float32``, ``bfloat16`` or ``int8``.
        concurrent: From how many threads at a time a network is asked, so that one film is prepared
            or outlined while another is in the graph; 1 for an engine that does not say.
    """

    name: str
    precision: str

    def load(self, path: Path) -> Graph:
        """A graph from an ONNX file whose tensors lie in the weights file beside it."""
        ...


def can_int8(name: str) -> bool:
    """Whether an engine computes in 8-bit integers on this processor without loss of speed.

    Its module says so with ``has_int8``; one that has no such function does not.
    """
    return bool(getattr(_module(name), "has_int8", lambda: False)())


def open_engine(name: str, precision: str = "auto", threads: int = 0) -> GraphEngine:
    """An engine by its name.

    Args:
        name: One of :data:`ENGINES`, or the import path of a module with a dot in it.
        precision: ``auto`` (what the processor is fastest in for a graph of floating-point
            numbers), ``float32``, ``bfloat16`` or ``int8``, which graphs for it are needed for.
        threads: CPU threads; 0 takes one a processor.

    Raises:
        ConfigurationError: There is no such engine, it is not installed, or it cannot compute in
            that precision.
    """
    opened: GraphEngine = _module(name).open_engine(precision, threads)
    return opened


def _module(name: str) -> Any:
    """An engine's module; see :func:`open_engine`."""
    if name not in ENGINES and "." not in name:
        raise ConfigurationError(
            f"engine {name!r} is unknown; set SPINEZOO_ENGINE to one of {', '.join(ENGINES)}, to "
            "the network's framework, or to the import path of a module with open_engine"
        )
    path = f"{PACKAGE}.{name}" if name in ENGINES else name
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"engine {name!r} cannot be loaded: {error}; install it, or set SPINEZOO_ENGINE"
        ) from error
