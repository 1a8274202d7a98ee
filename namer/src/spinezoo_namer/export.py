"""The trained network as the file that gateway and evaluator load."""

from __future__ import annotations

from pathlib import Path

import torch
from spinezoo_spine.column.reader.looking import FACTS, FILM_PX, HALF_SIDES, PAIR_FACTS, VIEW_PX
from spinezoo_torchkit.small_training import export_checked
from torch import nn

INPUTS = ("views", "facts", "pairs", "outlined", "film")
OUTPUTS = ("below", "above", "steps", "counts", "kind")

TOLERANCE = 1e-3
"""Largest difference between the file's answer and the network's, in nats."""


def some_input(spots: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Made-up input of one film."""
    chance = torch.Generator().manual_seed(seed)
    shapes = (
        (spots, len(HALF_SIDES), VIEW_PX, VIEW_PX),
        (spots, FACTS),
        (spots, spots, PAIR_FACTS),
        (spots,),
        (1, 1, FILM_PX, FILM_PX),
    )
    views, facts, pairs, outlined, film = (torch.randn(s, generator=chance) for s in shapes)
    return views, facts, pairs, (outlined > 0).float(), film


def export(network: nn.Module, path: Path) -> None:
    """Writes the network and compares the file's answers with its own.

    Raises:
        WeightsError: They differ.
    """
    axes = {name: {0: "spots"} for name in ("views", "facts", "outlined", "below", "above")}
    axes |= {name: {0: "spots", 1: "spots"} for name in ("pairs", "steps")}
    export_checked(
        network, path, some_input, INPUTS, OUTPUTS, axes, counts=(1, 12), tolerance=TOLERANCE
    )
