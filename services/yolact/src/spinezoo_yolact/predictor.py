"""YOLACT as a predictor that the server shell can serve."""

from __future__ import annotations

from pathlib import Path

from spinezoo_torchkit.instance import TorchInstancePredictor
from spinezoo_torchkit.loading import load_network

from spinezoo_yolact.detection import detect
from spinezoo_yolact.network import Yolact


def load_predictor(card_path: Path, *, device: str | None = None) -> TorchInstancePredictor:
    """The network of a card, its weights and probe checked.

    Args:
        card_path: The ``card.yaml``.
        device: Device setting; None takes ``SPINEZOO_DEVICE``.

    Raises:
        ConfigurationError: Card, device, threads or weights are wrong.
    """
    card, network, chosen = load_network(card_path, Yolact, device=device)
    return TorchInstancePredictor(card, network, chosen, detect)
