"""From outputs to detections: Fast NMS, then masks from prototypes and coefficients."""

from __future__ import annotations

import torch
from torch import Tensor

from spinezoo_yolact.arrays import CROP_PADDING_PX
from spinezoo_yolact.boxes import box_window, decode_boxes, pairwise_iou
from spinezoo_yolact.network import Yolact
from spinezoo_yolact.outputs import Detections, YolactOutput


def fast_nms(
    boxes: Tensor, scores: Tensor, *, suppression_iou: float, score_threshold: float, top: int = 200
) -> tuple[Tensor, Tensor, Tensor]:
    """Fast NMS of every class at once.

    A box is dropped if any better box of its class overlaps it by more than the threshold, even
    if that better box is itself dropped: that is what makes it one matrix operation, and what
    makes it drop slightly more than the sequential form.

    Args:
        boxes: (P, 4) corners.
        scores: (C, P) scores of the structures.
        suppression_iou: Drop above this IoU.
        score_threshold: Keep scores above this only.
        top: Most candidates of a class.

    Returns:
        (D,) index into P, (D,) class 1 to C, (D,) score; best score first.
    """
    top = min(top, scores.shape[1])
    if top == 0:
        none = torch.zeros(0, dtype=torch.int64, device=boxes.device)
        return none, none, scores.new_zeros(0)
    sorted_scores, order = scores.sort(dim=1, descending=True, stable=True)
    sorted_scores, order = sorted_scores[:, :top], order[:, :top]  # (C, top)
    candidates = boxes[order]  # (C, top, 4)
    iou = pairwise_iou(candidates, candidates).triu(diagonal=1)  # (C, top, top)
    # Candidates that are below the threshold come last, so they cannot drop one that is above it.
    keep = (iou.amax(dim=1) <= suppression_iou) & (sorted_scores > score_threshold)
    classes = torch.arange(1, scores.shape[0] + 1, device=boxes.device)[:, None].expand_as(order)
    kept_scores, ranking = sorted_scores[keep].sort(descending=True, stable=True)
    return order[keep][ranking], classes[keep][ranking], kept_scores


def assemble_masks(prototypes: Tensor, coefficients: Tensor, boxes: Tensor) -> Tensor:
    """(ph, pw, K) prototypes and (D, K) coefficients to (D, ph, pw) masks, cropped to the boxes."""
    height, width = prototypes.shape[:2]
    masks = torch.sigmoid(torch.einsum("hwk,dk->dhw", prototypes, coefficients))
    return masks * box_window(boxes, height, width, CROP_PADDING_PX)


def detections_of(
    output: YolactOutput,
    *,
    score_threshold: float = 0.05,
    suppression_iou: float = 0.5,
    max_detections: int = 100,
) -> list[Detections]:
    """The objects of each film of a batch.

    Args:
        output: Of N films.
        score_threshold: Keep scores above this.
        suppression_iou: IoU of boxes above which the lesser one is dropped.
        max_detections: Most objects of a film.
    """
    corners = decode_boxes(output.boxes, output.priors)  # (N, P, 4)
    probabilities = output.class_logits.softmax(dim=-1)[..., 1:]  # (N, P, C)
    detections = []
    for index in range(corners.shape[0]):
        plausible = (probabilities[index].amax(dim=-1) > score_threshold).nonzero()[:, 0]
        boxes = corners[index, plausible]
        kept, classes, scores = fast_nms(
            boxes,
            probabilities[index, plausible].T,
            suppression_iou=suppression_iou,
            score_threshold=score_threshold,
        )
        kept, classes, scores = (part[:max_detections] for part in (kept, classes, scores))
        masks = assemble_masks(
            output.prototypes[index], output.coefficients[index, plausible[kept]], boxes[kept]
        )
        detections.append(Detections(boxes[kept].clamp(0, 1), classes, scores, masks))
    return detections


def detect(
    network: Yolact,
    inputs: Tensor,
    *,
    score_threshold: float,
    suppression_iou: float,
    max_detections: int,
) -> list[Detections]:
    """The objects of each film of (N, channels, height, width); see :func:`detections_of`."""
    return detections_of(
        network(inputs),
        score_threshold=score_threshold,
        suppression_iou=suppression_iou,
        max_detections=max_detections,
    )
