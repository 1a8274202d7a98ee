"""Mask R-CNN as a predictor that the server shell can serve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import InvalidOutputError
from spinezoo_serving.cards import ModelCard
from spinezoo_spine.inference.engines import Graph, GraphEngine
from spinezoo_spine.inference.loading import load_served, picked, probe_film
from spinezoo_spine.inference.objects import InstancePredictor, Objects
from spinezoo_spine.inference.options import ResolvedOptions
from spinezoo_spine.inference.predictors import FilmPredictor

from spinezoo_mask_rcnn import arrays
from spinezoo_mask_rcnn.arrays import BOX_POOL_CELLS, MASK_POOL_CELLS, PROBE_VALUES

ROWS = 4
"""Masks are computed in multiples of so many: an engine prepares itself for every number anew."""


class MaskRcnnPredictor(InstancePredictor):
    """The exported Mask R-CNN; what is between its graphs is numpy's."""

    def __init__(self, card: ModelCard, engine: GraphEngine, graphs: Mapping[str, Graph]) -> None:
        """Takes what :func:`load_served` gives."""
        super().__init__(card, "cpu", engine.precision, engine.name)
        self.graphs = graphs
        self.size = (card.input.height, card.input.width)
        self.anchors = arrays.make_anchors(card.network, *self.size)
        self.settings = TORCHVISION_DEFAULTS | dict(card.network.get("settings") or {})

    def objects(
        self, inputs: NDArray[np.float32], settings: ResolvedOptions, box_iou: float
    ) -> Objects:
        """The objects of one film; see ``InstancePredictor.objects``."""
        film = self.graphs["pyramid"].run(inputs[np.newaxis])
        features = film["features"]
        regions = arrays.propose(
            film["objectness"], film["offsets"], self.anchors, *self.size, self.settings
        )
        found = self._boxes(features, regions)
        # What is not a number is never above a threshold: it would be an answer without objects.
        if not (np.isfinite(film["objectness"]).all() and np.isfinite(found["class_logits"]).all()):
            raise InvalidOutputError("Mask R-CNN's scores are not finite; check the weights")
        boxes, labels, scores = arrays.select(
            found["class_logits"],
            found["box_offsets"],
            regions,
            *self.size,
            score_threshold=settings.score_threshold,
            suppression_iou=box_iou,
            max_detections=settings.max_segments,
        )
        logits = self._masks(features, boxes)[np.arange(len(labels)), labels]
        masks = arrays.paste(arrays.sigmoid(logits), boxes, *self.size)
        return Objects(masks, scores, labels)

    def _boxes(
        self, features: NDArray[np.float32], regions: NDArray[np.float32]
    ) -> Mapping[str, NDArray[np.float32]]:
        return self.graphs["boxes"].run(arrays.pool(features, regions, BOX_POOL_CELLS, *self.size))

    def _masks(
        self, features: NDArray[np.float32], boxes: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(D, K, m, m) logits."""
        pooled = arrays.pool(features, boxes, MASK_POOL_CELLS, *self.size)
        rows = max(ROWS, -(-len(boxes) // ROWS) * ROWS)
        padded = np.zeros((rows, *pooled.shape[1:]), dtype=np.float32)
        padded[: len(boxes)] = pooled
        return self.graphs["masks"].run(padded)["mask_logits"][: len(boxes)]

    def probe(self, seed: int, count: int) -> NDArray[np.float64]:
        """The values of :meth:`spinezoo_mask_rcnn.network.MaskRcnn.probe_forward`."""
        film = self.graphs["pyramid"].run(probe_film(self.card, seed))
        regions = arrays.probe_regions(*self.size)
        boxes = self._boxes(film["features"], regions)
        parts = [
            boxes["class_logits"],
            boxes["box_offsets"],
            self._masks(film["features"], regions),
        ]
        values = [arrays.evenly(part, PROBE_VALUES) for part in parts]
        return picked(np.concatenate([film["probe"], *values]), count)


TORCHVISION_DEFAULTS = {
    "rpn_pre_nms_top_n_test": 1000,
    "rpn_post_nms_top_n_test": 1000,
    "rpn_nms_thresh": 0.7,
}
"""torchvision's settings where the card gives none."""


def load_predictor(card_path: Path, *, device: str | None = None) -> FilmPredictor[Any]:
    """The network of a card, its weights and probe checked; see :func:`load_served`."""
    return load_served(card_path, MaskRcnnPredictor, "torch", with_torch, device=device)


def with_torch(card_path: Path, device: str) -> FilmPredictor[Any]:
    """The network in torch, which is imported only now."""
    from spinezoo_mask_rcnn.framework import load_with_torch

    return load_with_torch(card_path, device)
