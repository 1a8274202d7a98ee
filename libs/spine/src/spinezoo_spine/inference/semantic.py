"""The predictor of an exported semantic network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from spinezoo_serving.cards import ModelCard

from spinezoo_spine.inference.class_planes import ClassPlanes, enlarged
from spinezoo_spine.inference.engines import Graph, GraphEngine
from spinezoo_spine.inference.loading import picked, probe_film
from spinezoo_spine.inference.options import ResolvedOptions
from spinezoo_spine.inference.predictors import SemanticPredictor


class SemanticGraphPredictor(SemanticPredictor):
    """One graph, ``network``: (1, 2, h, w) to ``logits``, (1, K, ., .) on a grid of its own."""

    def __init__(self, card: ModelCard, engine: GraphEngine, graphs: Mapping[str, Graph]) -> None:
        """Takes what :func:`spinezoo_spine.inference.loading.load_served` gives."""
        super().__init__(card, "cpu", engine.precision, engine.name)
        self.network = graphs["network"]
        self.size = (card.input.height, card.input.width)

    def infer(self, inputs: NDArray[np.float32], settings: ResolvedOptions) -> ClassPlanes:
        """Probabilities where a structure may be, everywhere where maps are asked for."""
        everywhere = settings.include_probability_maps
        return ClassPlanes.of_logits(self._logits(inputs), self.size, everywhere=everywhere)

    def probabilities(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """(2, h, w) network input to (1 + structures, h, w) probabilities."""
        return ClassPlanes.of_logits(self._logits(inputs), self.size, everywhere=True).values

    def probe(self, seed: int, count: int) -> NDArray[np.float64]:
        """Logits of the probe's film at the size of the input."""
        logits = self.network.run(probe_film(self.card, seed))["logits"][0]
        return picked(enlarged(logits, self.size), count)

    def _logits(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.checked(self.network.run(inputs[np.newaxis])["logits"][0])
