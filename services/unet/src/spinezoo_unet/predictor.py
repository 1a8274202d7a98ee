"""U-Net as a predictor that the server shell can serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_spine.inference.loading import load_served
from spinezoo_spine.inference.predictors import FilmPredictor
from spinezoo_spine.inference.semantic import SemanticGraphPredictor


class UNetPredictor(SemanticGraphPredictor):
    """The exported U-Net."""

    def probe(self, seed: int, count: int) -> NDArray[np.float64]:
        """What :func:`spinezoo_unet.weights.probe_values` picks: channels last, not clipped."""
        shape = (self.card.input.height, self.card.input.width, self.card.input.channels)
        film = np.random.default_rng(seed).standard_normal((1, *shape)).astype(np.float32)
        film = np.ascontiguousarray(film.transpose(0, 3, 1, 2))
        logits = self.network.run(film)["logits"].transpose(0, 2, 3, 1).ravel()
        return logits[np.linspace(0, logits.size - 1, count).astype(int)].astype(np.float64)


def load_predictor(card_path: Path, *, device: str | None = None) -> FilmPredictor[Any]:
    """The network of a card, its weights and probe checked; see :func:`load_served`."""
    return load_served(card_path, UNetPredictor, "tensorflow", with_tensorflow, device=device)


def with_tensorflow(card_path: Path, device: str) -> FilmPredictor[Any]:
    """The network in Keras, which is imported only now."""
    from spinezoo_unet.framework import load_keras_predictor

    return load_keras_predictor(card_path, device)
