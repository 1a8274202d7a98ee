"""How far the reader is from the true reading: exact over all readings of a column."""

from __future__ import annotations

import torch
from spinezoo_spine.column.reader.readings import (
    BY_ABOVE,
    BY_BELOW,
    LONGEST_STEP,
    LOWEST,
    LUMBAR_COUNTS,
    POSITIONS,
)
from torch import Tensor, nn

from spinezoo_namer.examples import NONE

_NEVER = -1e9


def reading_loss(
    below: Tensor,
    above: Tensor,
    steps: Tensor,
    counts: Tensor,
    real: Tensor,
    positions: Tensor,
    lumbar: Tensor,
) -> Tensor:
    """Negative log probability of each film's true reading.

    The same sums as :func:`spinezoo_spine.column.reader.readings.read_column`, for a batch.

    Args:
        below: (B, N, 8).
        above: (B, N, 9).
        steps: (B, N, N, 4).
        counts: (3,) log probabilities.
        real: (B, N) whether there is a spot.
        positions: (B, N) true positions, ``NONE`` for no vertebra.
        lumbar: (B,) place of the true count in ``LUMBAR_COUNTS``.

    Returns:
        (B,) in nats.
    """
    by_below = torch.as_tensor(BY_BELOW, device=below.device)
    by_above = torch.as_tensor(BY_ABOVE, device=below.device)
    each = below[:, :, by_below][:, None] + above[:, :, by_above].permute(0, 2, 1, 3)
    each = each.masked_fill(~real[:, None, :, None], _NEVER)  # (B, 3, N, P)
    batch, spots, size = each.shape[0], each.shape[2], len(POSITIONS)
    start = counts[None, :, None].expand(batch, len(LUMBAR_COUNTS), size)
    reach: list[Tensor] = []
    for spot in range(spots):
        come = start
        if spot:
            before = torch.stack(reach, dim=2)  # (B, 3, spot, P)
            moved = [start[:, :, None]]
            for step in range(1, LONGEST_STEP + 1):
                shifted = before.new_full(before.shape, _NEVER)
                shifted[..., step:] = before[..., :-step]
                moved.append(shifted + steps[:, None, :spot, spot, step - 1, None])
            come = torch.logsumexp(torch.cat(moved, dim=2), dim=2)
        reach.append(each[:, :, spot] + come)
    whole = torch.stack(reach, dim=2).reshape(batch, -1)
    total = torch.logsumexp(torch.cat([whole, whole.new_zeros(batch, 1)], dim=1), dim=1)
    return total - _true_weight(each, steps, counts, positions, lumbar)


def spot_loss(below: Tensor, above: Tensor, positions: Tensor, lumbar: Tensor) -> Tensor:
    """How far single spots are from their classes, without their neighbours; mean in nats.

    The reading tells the network one thing a film; this tells it one a spot, early in a training.

    Args:
        below: (M, 8) of spots that are one vertebra.
        above: (M, 9).
        positions: (M,) true positions.
        lumbar: (M,) place of the true count in ``LUMBAR_COUNTS``.
    """
    by_below = torch.as_tensor(BY_BELOW, device=below.device)
    from_below = nn.functional.cross_entropy(below, by_below[positions - LOWEST])
    return from_below + from_above_loss(above, positions, lumbar)


def from_above_loss(above: Tensor, positions: Tensor, lumbar: Tensor) -> Tensor:
    """How far single spots are from their classes from above; mean in nats.

    Args:
        above: (M, 9) of spots that are one vertebra.
        positions: (M,) true positions.
        lumbar: (M,) place of the true count in ``LUMBAR_COUNTS``.
    """
    by_above = torch.as_tensor(BY_ABOVE, device=above.device)
    return nn.functional.cross_entropy(above, by_above[lumbar, positions - LOWEST])


def _true_weight(
    each: Tensor, steps: Tensor, counts: Tensor, positions: Tensor, lumbar: Tensor
) -> Tensor:
    """(B,) weight of the true readings."""
    rows = torch.arange(len(positions), device=each.device)
    there = positions != NONE
    place = torch.where(there, positions - LOWEST, 0)
    of_count = each[rows, lumbar]  # (B, N, P)
    spots = of_count.gather(2, place[:, :, None])[:, :, 0]
    weight = torch.where(there, spots, 0.0).sum(dim=1)
    weight = weight + torch.where(there.any(dim=1), counts[lumbar], 0.0)
    before = torch.full_like(lumbar, -1)
    for spot in range(positions.shape[1]):
        low = before.clamp(min=0)
        linked = there[:, spot] & (before >= 0)
        step = torch.where(linked, place[:, spot] - place[rows, low] - 1, 0)
        weight = weight + torch.where(linked, steps[rows, low, spot, step], 0.0)
        before = torch.where(there[:, spot], spot, before)
    return weight
