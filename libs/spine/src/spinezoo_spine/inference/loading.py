"""From a model card to a predictor: which engine, its graphs, and the proof that they are right.

A network's ``predictor.py`` calls :func:`load_served` with two ways of making its predictor: from
graphs (:mod:`spinezoo_spine.inference.engines`), which need no framework, and with its framework.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError, WeightsError
from spinezoo_contract.words import counted
from spinezoo_serving.cards import ModelCard, load_card, verify_graphs, verify_weights
from spinezoo_serving.settings import NetworkSettings

from spinezoo_spine.films.limits import DecoderLimits
from spinezoo_spine.inference.device import DEVICE_VARIABLE
from spinezoo_spine.inference.engines import Graph, GraphEngine, can_int8, open_engine
from spinezoo_spine.inference.predictors import FilmPredictor

DEFAULT_ENGINE = "openvino"
"""Where neither setting nor card names one and no GPU is to be used."""

PROBE_SLACK = {"float32": 1.0, "bfloat16": 8.0, "int8": 8.0}
"""How many times a probe's tolerance an answer may be away, by precision. Another dilation or order
of channels is further away by an order of magnitude still."""


class GraphPredictor(Protocol):
    """What :func:`load_served` asks of a predictor that was made from graphs, beside predicting."""

    def probe(self, seed: int, count: int) -> NDArray[np.float64]:
        """The values that the network's training put into the card's probe, answered anew."""
        ...


FromGraphs = Callable[[ModelCard, GraphEngine, Mapping[str, Graph]], Any]
"""Makes a predictor, which is a :class:`GraphPredictor`, from a card, engine and graphs by name."""

WithFramework = Callable[[Path, str], FilmPredictor[Any]]
"""Makes a predictor from a card's path and a device setting, with the network's framework."""


def load_served(
    card_path: Path,
    from_graphs: FromGraphs,
    framework: str,
    with_framework: WithFramework,
    *,
    device: str | None = None,
) -> FilmPredictor[Any]:
    """The predictor of a card: weights verified, probe checked, ready to serve.

    OpenCV has one thread in this process from then on.

    Args:
        card_path: The ``card.yaml``.
        from_graphs: Makes it from graphs.
        framework: Name of the network's framework, ``torch`` or ``tensorflow``: the engine's name
            that asks for it, and the package that has to be there.
        with_framework: Makes it with the framework.
        device: Device setting; None takes ``SPINEZOO_DEVICE``.

    Raises:
        ConfigurationError: Card, engine, device, threads or weights are wrong.
    """
    # What OpenCV does of a film is short, and its threads look for more work in a loop meanwhile.
    cv2.setNumThreads(1)
    settings = NetworkSettings.from_env()
    DecoderLimits.from_env()  # wrong ones end the start, not each film
    wanted = device or settings.device
    card = load_card(card_path)
    name = chosen_engine(settings.engine, card.engine, wanted, framework)
    if name == framework:
        return with_framework(card_path, wanted)
    if wanted not in ("auto", "cpu"):
        raise ConfigurationError(
            f"engine {name!r} runs on the CPU, and device {wanted!r} was asked for; set "
            f"{DEVICE_VARIABLE}=cpu, or SPINEZOO_ENGINE={framework}"
        )
    verify_weights(card)
    precision = chosen_precision(settings.precision, card, name)
    files = verify_graphs(card, int8=precision == "int8")
    engine = open_engine(name, precision, settings.threads)
    predictor = from_graphs(card, engine, {part: engine.load(path) for part, path in files.items()})
    check_probe(predictor, card, engine)
    predictor.concurrent = getattr(engine, "concurrent", 1)
    return predictor


def chosen_engine(setting: str, of_card: str, device: str, framework: str) -> str:
    """The engine's name: the setting, else the card's, else by device.

    Args:
        setting: ``auto`` or a name.
        of_card: The card's entry; empty where it has none.
        device: Device setting.
        framework: The network's framework: taken where a GPU is asked for, or found beside an
            installed framework.
    """
    if setting != "auto":
        return setting
    if device.startswith("cuda"):
        return framework
    if of_card and of_card != "auto":
        return of_card
    if device == "auto" and importlib.util.find_spec(framework) is not None and gpu_count():
        return framework
    return DEFAULT_ENGINE


def chosen_precision(setting: str, card: ModelCard, engine: str) -> str:
    """What an engine is to compute in: the setting, else the card's where it can be had, else auto.

    Args:
        setting: ``SPINEZOO_PRECISION``.
        card: Its entry counts where it was exported for that.
        engine: The engine's name.
    """
    exported = card.graphs is not None and bool(card.graphs.int8)
    if setting == "auto" and card.precision == "int8" and exported and can_int8(engine):
        return "int8"
    return setting


def gpu_count() -> int:
    """CUDA devices that the driver shows to this process; asks no framework."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def check_probe(predictor: GraphPredictor, card: ModelCard, engine: GraphEngine) -> None:
    """Compares the answer to the card's probe with what the framework answered in training.

    Raises:
        WeightsError: They differ by more than the precision explains.
    """
    assert card.weights is not None  # verify_weights has refused a preset without
    probe = card.weights.probe
    found = predictor.probe(probe.seed, len(probe.values))
    if found.shape != (len(probe.values),):
        raise WeightsError(
            f"{card.name}: the probe has {counted(len(probe.values), 'value')}, {len(found)} fit; "
            f"export again with `make export NETWORK={card.name}`"
        )
    difference = float(np.abs(found - np.asarray(probe.values)).max())
    most = probe.tolerance * PROBE_SLACK[engine.precision]
    if not difference <= most:
        raise WeightsError(
            f"{card.name}: engine {engine.name} in {engine.precision} answers the probe "
            f"{difference:.4g} away from the card, more than {most:.4g}; the graph is not that of "
            f"the weights: export again with `make export NETWORK={card.name}`, or restore the "
            "card's `network` entry"
        )


def probe_film(card: ModelCard, seed: int) -> NDArray[np.float32]:
    """(1, channels, height, width) seeded standard normal numbers, clipped as a prepared film is.

    Numpy's PCG64 gives the same numbers on every platform.
    """
    shape = (1, card.input.channels, card.input.height, card.input.width)
    numbers = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape, dtype=np.float32)
    return np.clip(numbers, -3.0, 3.0)


def picked(values: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """At most ``count`` values at evenly spaced places of a flattened array."""
    flat = values.reshape(-1)
    places = np.linspace(0, flat.size - 1, min(count, flat.size)).round().astype(np.int64)
    found: NDArray[np.float64] = flat[places].astype(np.float64)
    return found
