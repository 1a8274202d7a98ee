"""YOLACT's losses: class, box, mask and semantic."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from spinezoo_yolact.arrays import CROP_PADDING_PX
from spinezoo_yolact.boxes import box_window, encode_boxes
from spinezoo_yolact.matching import first_objects, match_batch, places
from spinezoo_yolact.outputs import Truth, YolactOutput

BOX_WEIGHT = 1.5
MASK_WEIGHT = 6.125
"""Weights of the published code; the class and the semantic loss weigh 1."""

NEGATIVES_PER_POSITIVE = 3
"""Priors that count as background in the class loss, for each that answers for an object."""


def class_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Summed softmax cross-entropy over positives and the hardest negatives, 3:1 for each film.

    Args:
        logits: (N, P, 1 + C).
        targets: (N, P) classes, 0 background, :data:`NEUTRAL` left out.
    """
    positive = targets > 0
    # Of all priors, because choosing some of them makes an accelerator wait.
    loss = logits.logsumexp(dim=-1) - logits.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    with torch.no_grad():
        # How far from background a prior is believed to be: the loss it has as a negative.
        hardness = loss.masked_fill(targets != 0, -1.0)
        rank = hardness.argsort(dim=1, descending=True).argsort(dim=1)
        wanted = (NEGATIVES_PER_POSITIVE * positive.sum(dim=1)).clamp(
            min=NEGATIVES_PER_POSITIVE, max=targets.shape[1] - 1
        )
        negative = (rank < wanted[:, None]) & (targets == 0)
    return loss.where(positive | negative, 0.0).sum()


def positive_mask_losses(
    prototypes: Tensor, coefficients: Tensor, boxes: Tensor, masks: Tensor, objects: Tensor
) -> Tensor:
    """(N, M) mean cross-entropy inside the true box, of M positives of each of N films.

    Args:
        prototypes: (N, ph, pw, K).
        coefficients: (N, M, K).
        boxes: (T, 4) true corners.
        masks: (T, ph, pw) true masks, 0.0 or 1.0.
        objects: (N, M) which of the T objects each positive answers for.
    """
    height, width = prototypes.shape[1:3]
    logits = (coefficients @ prototypes.flatten(1, 2).mT).unflatten(-1, (height, width))
    # The cross-entropy of a logit x is log(1 + exp(-x)) where the mask is 1, log(1 + exp(x)) where
    # it is 0. This is most of the losses' work: what belongs to an object is computed only once.
    loss = F.softplus(logits * (1.0 - 2.0 * masks)[objects])
    loss = loss.where(box_window(boxes, height, width, CROP_PADDING_PX)[objects], 0.0)
    # A box thinner than a prototype pixel counts as one pixel, or its loss would explode.
    box_width = ((boxes[:, 2] - boxes[:, 0]) * width).clamp(min=1.0)
    box_height = ((boxes[:, 3] - boxes[:, 1]) * height).clamp(min=1.0)
    return loss.sum(dim=(2, 3)) / (box_width * box_height)[objects]


def masks_by_grid(truths: Sequence[Truth]) -> list[Tensor]:
    """The T masks of a batch in order, (n, h, w) float for each run of films on one grid."""
    masks = [truth.masks for truth in truths if truth.masks.shape[0] > 0]
    return [torch.cat(list(run)).float() for _, run in groupby(masks, lambda mask: mask.shape[1:])]


def on_grid(masks: Tensor, height: int, width: int) -> Tensor:
    """(G, h, w) masks on a (height, width) grid, 0.0 or 1.0: what covers most of a cell."""
    if tuple(masks.shape[-2:]) == (height, width) or masks.shape[0] == 0:
        return masks.float().reshape(-1, height, width)
    share = F.interpolate(
        masks.float()[None],
        size=(height, width),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )[0]
    return (share > 0.5).float()


def semantic_truth(truths: Sequence[Truth], class_count: int, height: int, width: int) -> Tensor:
    """(N, C, height, width) float: where any object of a class covers most of a cell."""
    device = truths[0].boxes.device
    covered = torch.zeros(len(truths) * class_count, height, width, device=device)
    small = [
        F.adaptive_avg_pool2d(masks[:, None], (height, width))[:, 0]
        for masks in masks_by_grid(truths)
    ]
    if small:
        film = places([truth.boxes.shape[0] for truth in truths], device)[0]
        plane = film * class_count + torch.cat([truth.classes for truth in truths]) - 1
        covered.index_add_(0, plane, (torch.cat(small) > 0.5).float())
    return covered.clamp(max=1.0).reshape(-1, class_count, height, width)


def yolact_losses(
    output: YolactOutput, truths: Sequence[Truth], mask_positives: int = 100
) -> dict[str, Tensor]:
    """Box, class, mask and semantic loss of a batch, each with its weight of the paper.

    Box, class and mask loss are divided by the number of positive priors of the batch, the
    semantic loss by the number of films.

    Waits twice for an accelerator: for the matching, and for the number of positives.

    Args:
        output: Of N films.
        truths: Their N truths.
        mask_positives: Most positive priors of a film that enter the mask loss; a larger set is
            thinned at random and the loss scaled up accordingly.
    """
    matched, targets = match_batch(output.priors, truths)
    counts = (targets > 0).sum(dim=1)  # (N,) positives
    host_counts: list[int] = counts.tolist()
    most = max(host_counts)
    divisor = max(sum(host_counts), 1)
    box_loss = mask_loss = output.boxes.sum() * 0.0
    if most > 0:
        # The positives of each film in random order, so that the first few are any few; then, in
        # films with fewer than others, priors that do not count.
        order = torch.rand(targets.shape, device=targets.device).masked_fill_(targets <= 0, -1.0)
        order, chosen = order.topk(most, dim=1)  # (N, M)
        counted = order >= 0.0
        first = first_objects([truth.boxes.shape[0] for truth in truths], targets.device)
        objects = (first + matched.gather(1, chosen)).where(counted, 0)  # (N, M) of T
        boxes = torch.cat([truth.boxes for truth in truths])  # (T, 4)
        box_losses = F.smooth_l1_loss(
            output.boxes.take_along_dim(chosen[..., None], dim=1),
            encode_boxes(boxes[objects], output.priors[chosen]),
            reduction="none",
        )
        box_loss = (box_losses * counted[..., None]).sum()

        prototype_grid = output.prototypes.shape[1:3]
        mask_losses = positive_mask_losses(
            output.prototypes,
            output.coefficients.take_along_dim(chosen[:, :mask_positives, None], dim=1),
            boxes,
            torch.cat([on_grid(masks, *prototype_grid) for masks in masks_by_grid(truths)]),
            objects[:, :mask_positives],
        )
        film_losses = (mask_losses * counted[:, :mask_positives]).sum(dim=1)
        mask_loss = (film_losses * (counts / counts.clamp(1, mask_positives))).sum()
    semantic_logits = output.semantic_logits
    class_count, height, width = semantic_logits.shape[1:]
    semantic_loss = F.binary_cross_entropy_with_logits(
        semantic_logits, semantic_truth(truths, class_count, height, width), reduction="sum"
    )
    return {
        "box": BOX_WEIGHT * box_loss / divisor,
        "class": class_loss(output.class_logits, targets) / divisor,
        "mask": MASK_WEIGHT * mask_loss / divisor,
        "semantic": semantic_loss / (height * width) / len(truths),
    }
