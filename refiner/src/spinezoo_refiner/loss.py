"""What the refiner is taught: endplates with their spreads, and osteophytes."""

from __future__ import annotations

import torch
from spinezoo_spine.measures.refiner.answers import SCALE
from torch import Tensor, nn

from spinezoo_refiner.examples import LEAST_SPUR, LONG_SPUR, Batch

PLAIN_SHARE = 1.0
"""Weight of the plain error beside the likelihood: hard bodies must not be given up."""

SPURS_SHARE = 0.5
"""Weight of osteophytes beside endplates."""


def refiner_loss(
    numbers: Tensor, spreads: Tensor, spurs: Tensor, batch: Batch
) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch, and its parts for the log.

    Numbers have Laplace's distribution, as errors with long tails have. Spreads weigh the errors
    only by their square root (*Seitzer 2022*): else what is hard is never learnt.
    """
    scale = torch.tensor(SCALE, device=numbers.device)
    counts = batch.counts.repeat_interleave(5, dim=1)
    off = (numbers - batch.numbers).abs() / scale
    spread = spreads / scale
    # Far from the truth a body is hidden; it must not drown the others.
    off = torch.where(off > 2.0, 2.0 + torch.log1p(off - 2.0), off)
    weight = spread.detach().sqrt()
    likely = weight * (off / spread + torch.log(spread))
    asked = counts.sum()
    fit = (counts * (likely + PLAIN_SHARE * off)).sum() / asked
    # Of S1 no osteophytes are asked for. A short one may be told or not: what is wanted is how much
    # likelier a long one is than none.
    long = batch.spurs > LONG_SPUR
    told = batch.spur_counts * (long | (batch.spurs < LEAST_SPUR))
    there = nn.functional.binary_cross_entropy_with_logits(
        spurs[:, :4], long.float(), pos_weight=scale.new_tensor(2.0), reduction="none"
    )
    length = (spurs[:, 4:] - batch.spurs).abs() * (batch.spurs > 0.02) * 5.0
    bone = (told * there + batch.spur_counts * length).sum()
    bone = bone / batch.spur_counts.sum().clamp(min=1.0)
    angle = torch.rad2deg((numbers - batch.numbers)[:, [2, 7]].abs())[batch.counts > 0]
    parts = {
        "fit": float(fit.detach()),
        "spurs": float(bone.detach()),
        "degrees": float(angle.detach().median()),
    }
    return fit + SPURS_SHARE * bone, parts
