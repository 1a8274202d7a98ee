"""From a model card to a network on its device, with weights and probe checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from spinezoo_contract.errors import CardError, WeightsError
from spinezoo_serving.cards import ModelCard, load_card, weights_path
from torch import nn

from spinezoo_torchkit.checkpoints import check_probe, load_weights
from spinezoo_torchkit.device import choose_device, precision_of, set_threads

Network = TypeVar("Network", bound=nn.Module)

PRECISION_KEY = "precision"
"""Key of a preset's ``network`` entry that is not the constructor's: how the network is served."""


def network_arguments(card: ModelCard) -> dict[str, Any]:
    """The constructor's keyword arguments of the card's preset, without the precision."""
    return {name: value for name, value in card.network.items() if name != PRECISION_KEY}


def precision_name(card: ModelCard) -> str:
    """Name of the precision that the card's preset is served in; float32 where it names none."""
    return str(card.network.get(PRECISION_KEY, "float32"))


def inference_precision(card: ModelCard) -> torch.dtype:
    """The precision that the card's preset is served in.

    Raises:
        ConfigurationError: The card names an unknown one.
    """
    return precision_of(precision_name(card))


def build_network(card: ModelCard, make: Callable[..., Network]) -> Network:
    """The preset's network with random weights.

    Args:
        card: The card with its preset chosen.
        make: The constructor; gets the preset's ``network`` entry and must take
            ``in_channels`` and ``num_classes`` (background included) from the card beside it.

    Raises:
        CardError: The ``network`` entry does not fit the constructor.
    """
    arguments: Mapping[str, Any] = network_arguments(card)
    try:
        return make(
            in_channels=card.input.channels, num_classes=1 + len(card.structures), **arguments
        )
    except (TypeError, ValueError) as error:
        raise CardError(
            f"card {card.path}: presets.{card.preset}.network does not fit {card.name}: {error}"
        ) from error


def load_network(
    card_path: Path | str, make: Callable[..., Network], *, device: str | None = None
) -> tuple[ModelCard, Network, torch.device]:
    """The network of a card's preset, or of ``SPINEZOO_PRESET``, ready to serve.

    Weights are verified, the probe is checked; the network is in evaluation mode.

    Args:
        card_path: The ``card.yaml``.
        make: The constructor, see :func:`build_network`.
        device: Device setting; None takes ``SPINEZOO_DEVICE``.

    Raises:
        ConfigurationError: Card, device, threads or weights are wrong.
    """
    card = load_card(card_path)
    chosen = choose_device(device)
    set_threads()
    path = weights_path(card)
    weights = card.weights
    if weights is None:  # weights_path has raised already; this tells the type checker.
        raise WeightsError(f"{card.name}: preset {card.preset!r} has no weights; train them")
    network = build_network(card, make)
    load_weights(network, path, weights.sha256)
    network.eval().to(memory_format=torch.channels_last)
    # On the CPU and in float32, where every machine gives the same numbers.
    shape = (1, card.input.channels, card.input.height, card.input.width)
    check_probe(network, shape, weights.probe, card.name)
    return card, network.to(chosen), chosen
