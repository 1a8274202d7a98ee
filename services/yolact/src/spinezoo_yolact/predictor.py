"""YOLACT as a predictor that the server shell can serve."""

from __future__ import annotations

import functools
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

from spinezoo_yolact.arrays import (
    PROBE_VALUES,
    Part,
    cells_around,
    detect,
    level_sizes,
    make_neighbours,
    make_priors,
    part_of,
)

ROWS = 16
"""Coefficients are computed in multiples of so many: an engine prepares itself for every number."""


class YolactPredictor(InstancePredictor):
    """The exported YOLACT; what is around its graphs is numpy's."""

    def __init__(self, card: ModelCard, engine: GraphEngine, graphs: Mapping[str, Graph]) -> None:
        """Takes what :func:`load_served` gives."""
        super().__init__(card, "cpu", engine.precision, engine.name)
        self.graphs = graphs
        size = (card.input.height, card.input.width)
        self.priors = make_priors(card.network, *size)
        self.neighbours = make_neighbours(level_sizes(card.network, *size))

    def objects(
        self, inputs: NDArray[np.float32], settings: ResolvedOptions, box_iou: float
    ) -> Objects:
        """The objects of one film; see ``InstancePredictor.objects``."""
        found = self.graphs["network"].run(inputs[np.newaxis])
        return detect(
            found,
            self.priors,
            functools.partial(self._coefficients, found["features"]),
            functools.partial(self._prototypes, found["finest"]),
            score_threshold=settings.score_threshold,
            suppression_iou=box_iou,
            max_detections=settings.max_segments,
        )

    def probe(self, seed: int, count: int) -> NDArray[np.float64]:
        """The values of :meth:`spinezoo_yolact.network.Yolact.probe_forward`."""
        found = self.graphs["network"].run(probe_film(self.card, seed))
        whole = self.graphs["prototypes"].run(found["finest"])
        # The same values of all priors' coefficients, of which only these are computed.
        each = whole["prototypes"].shape[-1]
        places = np.linspace(0, len(self.priors) * each - 1, PROBE_VALUES).round().astype(np.intp)
        coefficients = self._coefficients(found["features"], places // each)
        probed = (found["boxes"], found["class_logits"], whole["prototypes"], whole["semantic"])
        parts = [picked(part, PROBE_VALUES) for part in probed]
        own = coefficients[np.arange(len(places)), places % each]
        parts.insert(2, own.astype(np.float64))
        return picked(np.concatenate(parts).astype(np.float32), count)

    def _prototypes(self, finest: NDArray[Any], boxes: NDArray[np.float32]) -> Part:
        """The prototypes that lie in boxes, of the graph's answer for the whole film."""
        (top, left), (rows, columns) = part_of(boxes, finest.shape[2:])
        seen = np.ascontiguousarray(finest[:, :, top : top + rows, left : left + columns])
        return Part(self.graphs["prototypes"].run(seen)["prototypes"], 2 * top, 2 * left)

    def _coefficients(
        self, features: NDArray[np.float32], priors: NDArray[np.intp]
    ) -> NDArray[np.float32]:
        """(D, K) mask coefficients of priors by their numbers."""
        a_cell = len(self.priors) // len(self.neighbours)
        seen = cells_around(features, self.neighbours[priors // a_cell])
        rows = max(ROWS, -(-len(seen) // ROWS) * ROWS)
        padded = np.zeros((rows, *seen.shape[1:]), dtype=np.float32)
        padded[: len(seen)] = seen
        found = self.graphs["coefficients"].run(padded)["coefficients"]
        return found[np.arange(len(seen)), priors % a_cell]


def load_predictor(card_path: Path, *, device: str | None = None) -> FilmPredictor[Any]:
    """The network of a card, its weights and probe checked; see :func:`load_served`."""
    return load_served(card_path, YolactPredictor, "torch", with_torch, device=device)


def with_torch(card_path: Path, device: str) -> FilmPredictor[Any]:
    """The network in torch, which is imported only now."""
    from spinezoo_yolact.framework import load_with_torch

    return load_with_torch(card_path, device)
