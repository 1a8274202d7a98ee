"""Losses of the semantic networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F

CLASS_WEIGHTS = {1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0, 5: 2.0}
"""Weight of each structure's number in the cross-entropy; background is 1. Hardware is a few
hundredths of a film's pixels and thin, so it weighs more."""


def semantic_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    class_weights: torch.Tensor | None = None,
    dice_weight: float = 1.0,
    pixel_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross-entropy plus weighted soft Dice loss.

    Args:
        logits: (n, classes, h, w); plane 0 is background.
        labels: (n, h, w) integers from 0 to classes - 1.
        class_weights: (classes,) weights of the cross-entropy, or None for 1 each.
        dice_weight: Weight of the Dice loss.
        pixel_weights: (n, h, w) weights of the cross-entropy's pixels, or None for 1 each.
    """
    logits = logits.float()
    if pixel_weights is None:
        cross_entropy = F.cross_entropy(logits, labels, weight=class_weights)
    else:
        each = F.cross_entropy(logits, labels, weight=class_weights, reduction="none")
        weights = pixel_weights if class_weights is None else pixel_weights * class_weights[labels]
        cross_entropy = (each * pixel_weights).sum() / weights.sum()
    if dice_weight == 0.0:
        return cross_entropy
    return cross_entropy + dice_weight * soft_dice_loss(logits, labels)


def soft_dice_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """One minus the mean soft Dice of the structures that the batch shows.

    Sums run over the batch, so that a film without a cage does not ask for an empty one. The
    merged foreground counts as one more structure, because the study's metrics are of it.

    Args:
        logits: (n, classes, h, w).
        labels: (n, h, w).
    """
    probabilities = logits.float().softmax(dim=1)
    classes = probabilities.shape[1]
    truth = F.one_hot(labels, classes).permute(0, 3, 1, 2).to(probabilities.dtype)
    overlap = (probabilities * truth).sum(dim=(0, 2, 3))  # (classes,)
    predicted = probabilities.sum(dim=(0, 2, 3))
    present = truth.sum(dim=(0, 2, 3))
    dice = 2.0 * overlap / (predicted + present).clamp_min(1.0)
    foreground = 1.0 - probabilities[:, 0]
    is_structure = 1.0 - truth[:, 0]
    merged = (
        2.0
        * (foreground * is_structure).sum()
        / (foreground.sum() + is_structure.sum()).clamp_min(1.0)
    )
    shown = (present[1:] > 0).to(dice.dtype)
    total = (dice[1:] * shown).sum() + merged
    return 1.0 - total / (shown.sum() + 1.0)
