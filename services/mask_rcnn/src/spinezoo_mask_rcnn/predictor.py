"""Mask R-CNN as a predictor that the server shell can serve."""

from __future__ import annotations

from pathlib import Path

from spinezoo_torchkit.instance import Detections, InstancePredictor
from spinezoo_torchkit.loading import load_network
from torch import Tensor

from spinezoo_mask_rcnn.network import MaskRcnn, detect


def load_predictor(card_path: Path, *, device: str | None = None) -> InstancePredictor:
    """The network of a card, its weights and probe checked.

    Args:
        card_path: The ``card.yaml``.
        device: Device setting; None takes ``SPINEZOO_DEVICE``.

    Raises:
        ConfigurationError: Card, device, threads or weights are wrong.
    """
    card, network, chosen = load_network(card_path, MaskRcnn, device=device)
    return InstancePredictor(card, network, chosen, detect_one)


def detect_one(
    network: MaskRcnn,
    inputs: Tensor,
    *,
    score_threshold: float,
    suppression_iou: float | None,
    max_segments: int,
) -> Detections:
    """Masks, scores and labels of one film.

    Args:
        network: In evaluation mode.
        inputs: (1, channels, height, width).
        score_threshold: Keep scores above this.
        suppression_iou: Overlap of boxes above which the lesser one is dropped; None drops none.
        max_segments: Most objects.
    """
    (found,) = detect(
        network,
        inputs,
        score_threshold=score_threshold,
        suppression_iou=1.0 if suppression_iou is None else suppression_iou,
        max_detections=max_segments,
    )
    return found.masks, found.scores, found.labels
