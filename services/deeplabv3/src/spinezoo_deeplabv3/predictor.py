"""DeepLabV3 as a predictor that the server shell can serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spinezoo_spine.inference.loading import load_served
from spinezoo_spine.inference.predictors import FilmPredictor
from spinezoo_spine.inference.semantic import SemanticGraphPredictor


def load_predictor(card_path: Path, *, device: str | None = None) -> FilmPredictor[Any]:
    """The network of a card, its weights and probe checked; see :func:`load_served`."""
    return load_served(card_path, SemanticGraphPredictor, "torch", with_torch, device=device)


def with_torch(card_path: Path, device: str) -> FilmPredictor[Any]:
    """The network in torch, which is imported only now."""
    from spinezoo_deeplabv3.framework import load_with_torch

    return load_with_torch(card_path, device)
