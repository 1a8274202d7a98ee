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
from spinezoo_spine.inference.objects import InstancePredictor, Objects, surely_second
from spinezoo_spine.inference.options import ResolvedOptions
from spinezoo_spine.inference.predictors import FilmPredictor

from spinezoo_mask_rcnn import arrays
from spinezoo_mask_rcnn.arrays import (
    BOX_POOL_CELLS,
    MASK_POOL_CELLS,
    MASK_REGIONS,
    PROBE_VALUES,
)


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
        features, proposals = film["features"], film["proposals"]
        objectness = arrays.objectness_of(proposals)
        regions = arrays.propose(proposals, objectness, self.anchors, *self.size, self.settings)
        found = self._boxes(features, regions)
        # What is not a number is never above a threshold: it would be an answer without objects.
        if not (np.isfinite(objectness).all() and np.isfinite(found["class_logits"]).all()):
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
        # Masks are a tenth of the work: none for what is surely an object's second outline.
        second = surely_second(boxes, labels, self.card.structures, settings.suppression_iou)
        boxes, labels, scores = boxes[~second], labels[~second], scores[~second]
        logits = arrays.masks_of(self._masks(features, boxes), labels)
        masks = arrays.paste(arrays.sigmoid(logits), boxes, *self.size)
        return Objects(masks, scores, labels)

    def _boxes(
        self, features: NDArray[np.float32], regions: NDArray[np.float32]
    ) -> Mapping[str, NDArray[np.float32]]:
        return self.graphs["boxes"].run(arrays.pool(features, regions, BOX_POOL_CELLS, *self.size))

    def _masks(
        self, features: NDArray[np.float32], boxes: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """What the mask head answers, see :func:`arrays.masks_of`."""
        rows = max(1, -(-len(boxes) // MASK_REGIONS)) * MASK_REGIONS
        pooled = arrays.pool(features, boxes, MASK_POOL_CELLS, *self.size, rows=rows)
        groups = pooled.reshape(-1, MASK_REGIONS, *pooled.shape[1:])
        # Each call's answer lies where the one before it did.
        found = [self.graphs["masks"].run(group)["mask_logits"].copy() for group in groups]
        return np.concatenate(found)[: len(boxes)]

    def probe(self, seed: int, count: int) -> NDArray[np.float64]:
        """The values of :meth:`spinezoo_mask_rcnn.network.MaskRcnn.probe_forward`."""
        film = self.graphs["pyramid"].run(probe_film(self.card, seed))
        regions = arrays.probe_regions(*self.size)
        boxes = self._boxes(film["features"], regions)
        masks = arrays.masks_of(self._masks(film["features"], regions))
        parts = [boxes["class_logits"], boxes["box_offsets"], masks]
        values = [arrays.evenly(part, PROBE_VALUES) for part in parts]
        first = arrays.probe_proposals(film["proposals"], *self.size, len(self.anchors))
        return picked(np.concatenate([first, *values]), count)


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
