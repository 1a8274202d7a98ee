"""The predictor of an exported semantic network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from spinezoo_serving.cards import ModelCard

from spinezoo_spine.inference.engines import Graph, GraphEngine
from spinezoo_spine.inference.loading import picked, probe_film
from spinezoo_spine.inference.predictors import SemanticPredictor


class SemanticGraphPredictor(SemanticPredictor):
    """One graph, ``network``: (1, 2, h, w) to ``logits`` and ``probabilities``, (1, K, h, w)."""

    def __init__(self, card: ModelCard, engine: GraphEngine, graphs: Mapping[str, Graph]) -> None:
        """Takes what :func:`spinezoo_spine.inference.loading.load_served` gives."""
        super().__init__(card, "cpu", engine.precision, engine.name)
        self.network = graphs["network"]

    def probabilities(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """(2, h, w) network input to (1 + structures, h, w) probabilities."""
        return self.network.run(inputs[np.newaxis])["probabilities"][0]

    def probe(self, seed: int, count: int) -> NDArray[np.float64]:
        """Logits of the probe's film."""
        return picked(self.network.run(probe_film(self.card, seed))["logits"], count)
