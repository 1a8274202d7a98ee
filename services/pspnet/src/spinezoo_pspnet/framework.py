"""PSPNet in torch as a predictor: what a GPU is served with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spinezoo_spine.inference.predictors import FilmPredictor
from spinezoo_torchkit.semantic import load_semantic

from spinezoo_pspnet.network import PSPNet


def load_with_torch(card_path: Path, device: str) -> FilmPredictor[Any]:
    """The network of a card on a device, its weights and probe checked."""
    return load_semantic(card_path, PSPNet, device)
