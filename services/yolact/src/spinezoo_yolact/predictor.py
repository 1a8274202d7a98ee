"""YOLACT as a predictor that the server shell can serve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_serving.cards import ModelCard
from spinezoo_spine.inference.engines import Graph, GraphEngine
from spinezoo_spine.inference.loading import load_served, picked, probe_film
from spinezoo_spine.inference.objects import InstancePredictor, Objects
from spinezoo_spine.inference.options import ResolvedOptions
from spinezoo_spine.inference.predictors import FilmPredictor

from spinezoo_yolact.arrays import detect, make_priors


class YolactPredictor(InstancePredictor):
    """The exported YOLACT with its last steps in numpy."""

    def __init__(self, card: ModelCard, engine: GraphEngine, graphs: Mapping[str, Graph]) -> None:
        """Takes what :func:`load_served` gives."""
        super().__init__(card, "cpu", engine.precision, engine.name)
        self.network = graphs["network"]
        self.priors = make_priors(card.network, card.input.height, card.input.width)

    def objects(
        self, inputs: NDArray[np.float32], settings: ResolvedOptions, box_iou: float
    ) -> Objects:
        """The objects of one film; see ``InstancePredictor.objects``."""
        return detect(
            self.network.run(inputs[np.newaxis]),
            self.priors,
            score_threshold=settings.score_threshold,
            suppression_iou=box_iou,
            max_detections=settings.max_segments,
        )

    def probe(self, seed: int, count: int) -> NDArray[np.float64]:
        """The values of :meth:`spinezoo_yolact.network.Yolact.probe_forward`."""
        return picked(self.network.run(probe_film(self.card, seed))["probe"], count)


def load_predictor(card_path: Path, *, device: str | None = None) -> FilmPredictor[Any]:
    """The network of a card, its weights and probe checked; see :func:`load_served`."""
    return load_served(card_path, YolactPredictor, "torch", with_torch, device=device)


def with_torch(card_path: Path, device: str) -> FilmPredictor[Any]:
    """The network in torch, which is imported only now."""
    from spinezoo_yolact.framework import load_with_torch

    return load_with_torch(card_path, device)
