"""YOLACT in torch as a predictor: what a GPU is served with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spinezoo_spine.inference.predictors import FilmPredictor
from spinezoo_torchkit.instance import load_instance

from spinezoo_yolact.detection import detect
from spinezoo_yolact.network import Yolact


def load_with_torch(card_path: Path, device: str) -> FilmPredictor[Any]:
    """The network of a card on a device, its weights and probe checked."""
    return load_instance(card_path, Yolact, detect, device)
