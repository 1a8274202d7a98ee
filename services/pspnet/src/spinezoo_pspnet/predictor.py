"""PSPNet as a predictor that the server shell can serve."""

from __future__ import annotations

from pathlib import Path

from spinezoo_torchkit.loading import load_network
from spinezoo_torchkit.semantic import TorchSemanticPredictor

from spinezoo_pspnet.network import PSPNet


def load_predictor(card_path: Path, *, device: str | None = None) -> TorchSemanticPredictor:
    """The network of a card, its weights and probe checked.

    Args:
        card_path: The ``card.yaml``.
        device: Device setting; None takes ``SPINEZOO_DEVICE``.

    Raises:
        ConfigurationError: Card, device, threads or weights are wrong.
    """
    card, network, chosen = load_network(card_path, PSPNet, device=device)
    return TorchSemanticPredictor(card, network, chosen)
