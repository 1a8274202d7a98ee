"""Which prior answers for which object: MultiBox matching."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from spinezoo_yolact.boxes import pairwise_iou, to_corners
from spinezoo_yolact.outputs import Truth

POSITIVE_IOU = 0.5
NEGATIVE_IOU = 0.4
"""Overlap with an object from which a prior answers for it, and below which it is background."""

NEUTRAL = -1
"""Class target of a prior that is neither positive nor negative."""


def without_waiting(host: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host's memory on a device, where it arrives when the device gets to it."""
    if device.type == "cuda":
        host = host.pin_memory()
    return host.to(device, non_blocking=True)


def places(counts: Sequence[int], device: torch.device) -> Tensor:
    """(2, T) film and index within the film of every object, of N films with so many objects."""
    film = np.repeat(np.arange(len(counts)), counts)
    within = np.concatenate([np.arange(count) for count in counts])
    return without_waiting(torch.from_numpy(np.stack([film, within])), device)


def first_objects(counts: Sequence[int], device: torch.device) -> Tensor:
    """(N, 1) place of every film's first object among the T, of N films with so many objects."""
    return without_waiting(torch.from_numpy(np.cumsum([0, *counts[:-1]]))[:, None], device)


def match_batch(priors: Tensor, truths: Sequence[Truth]) -> tuple[Tensor, Tensor]:
    """Which object of its film each prior answers for.

    A prior is positive for the object it overlaps most if their IoU is at least
    :data:`POSITIVE_IOU`, negative below :data:`NEGATIVE_IOU`, neutral between. Besides, every
    object keeps its best prior, however small the overlap; where two want the same one, the larger
    overlap has it and the other takes its next best.

    Waits once for an accelerator.

    Args:
        priors: (P, 4) centres.
        truths: The objects of N films.

    Returns:
        (N, P) index of the object within its film, and (N, P) class target: 1 to C, 0 background,
        or :data:`NEUTRAL`.
    """
    device = priors.device
    prior_count = priors.shape[0]
    counts = [truth.boxes.shape[0] for truth in truths]
    most = max(1, *counts)  # G of the film with the most, at least 1
    film, within = places(counts, device)
    iou = pairwise_iou(torch.cat([truth.boxes for truth in truths]), to_corners(priors))  # (T, P)
    per_film = iou.new_full((len(truths), most, prior_count), -1.0)  # objects that are not there
    per_film[film, within] = iou
    best_iou, best_object = per_film.max(dim=1)  # (N, P)

    # Only an object's G best priors can matter to it: the others take at most G - 1 of them. One
    # number holds the IoU (the bits of a positive float are in its order) and the prior, so that
    # equal overlaps have an order too (the first prior wins) and one transfer brings both.
    backwards = torch.arange(prior_count - 1, -1, -1, device=device)
    keys = (iou.view(torch.int32).long() << 32) | backwards
    top = keys.topk(min(most, prior_count), dim=1).values.cpu().numpy()  # (T, candidates)
    kept = best_priors(top >> 32, prior_count - 1 - (top & 0xFFFFFFFF), counts)
    film, prior, index = without_waiting(torch.from_numpy(kept), device)
    best_object[film, prior] = index
    best_iou[film, prior] = 2.0  # above every threshold

    # One class more, for films without objects at the end of the batch.
    classes = F.pad(torch.cat([truth.classes for truth in truths]), (0, 1))
    target = classes[first_objects(counts, device) + best_object]
    target = torch.where(best_iou < POSITIVE_IOU, torch.full_like(target, NEUTRAL), target)
    target = torch.where(best_iou < NEGATIVE_IOU, torch.zeros_like(target), target)
    return best_object, target


def best_priors(
    overlaps: NDArray[np.int64], priors: NDArray[np.int64], counts: Sequence[int]
) -> NDArray[np.int64]:
    """The prior that every object keeps, the largest overlaps of a film first.

    Args:
        overlaps: (T, candidates) numbers in the order of the IoU, an object's best first.
        priors: (T, candidates) their priors.
        counts: Objects of each film.

    Returns:
        (3, at most T) film, prior, and index of the object within its film.
    """
    kept: list[tuple[int, int, int]] = []
    start = 0
    for film, count in enumerate(counts):
        rows = slice(start, start + count)
        start += count
        order = np.argsort(-overlaps[rows], axis=None, kind="stable")
        objects = (order // overlaps.shape[1]).tolist()
        taken: set[int] = set()
        served: set[int] = set()
        for index, prior in zip(objects, priors[rows].ravel()[order].tolist(), strict=True):
            if index in served or prior in taken:
                continue
            served.add(index)
            taken.add(prior)
            kept.append((film, prior, index))
            if len(served) == count:
                break
    return np.array(kept, dtype=np.int64).reshape(-1, 3).T.copy()
