"""Losses of the semantic networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F


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
    log_probabilities = F.log_softmax(logits.float(), dim=1)
    picked = log_probabilities.gather(1, labels[:, None])[:, 0]  # (n, h, w): of the true class
    weights = torch.ones_like(picked) if class_weights is None else class_weights[labels]
    if pixel_weights is not None:
        weights = weights * pixel_weights
    cross_entropy = -(picked * weights).sum() / weights.sum()
    if dice_weight == 0.0:
        return cross_entropy
    # The softmax is taken once for both: at the input's size it costs as much as the backbone.
    return cross_entropy + dice_weight * _dice_loss(log_probabilities.exp(), picked.exp(), labels)


def _dice_loss(
    probabilities: torch.Tensor, picked: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """One minus the mean soft Dice of the structures that the batch shows.

    Sums run over the batch, so that a film without a cage does not ask for an empty one. The
    merged foreground counts as one more structure, because the study's metrics are of it.

    Args:
        probabilities: (n, classes, h, w).
        picked: (n, h, w) of the true class.
        labels: (n, h, w).
    """
    classes = probabilities.shape[1]
    true = labels.reshape(-1)
    overlap = picked.new_zeros(classes).index_add(0, true, picked.reshape(-1))  # (classes,)
    predicted = probabilities.sum(dim=(0, 2, 3))
    present = torch.bincount(true, minlength=classes).to(picked.dtype)
    dice = 2.0 * overlap / (predicted + present).clamp_min(1.0)
    structures = present[1:].sum()
    background_taken = (probabilities[:, 0] * (labels > 0)).sum()
    foreground = labels.numel() - predicted[0]
    merged = 2.0 * (structures - background_taken) / (foreground + structures).clamp_min(1.0)
    shown = (present[1:] > 0).to(dice.dtype)
    total = (dice[1:] * shown).sum() + merged
    return 1.0 - total / (shown.sum() + 1.0)
