"""The trained network as the file that gateway and evaluator load."""

from __future__ import annotations

from pathlib import Path

import torch
from spinezoo_spine.measures.refiner.looking import CROP_PX
from spinezoo_torchkit.small_training import export_checked

from spinezoo_refiner.network import CHANNELS, RefinerNetwork

OUTPUTS = ("numbers", "spreads", "spurs")

TOLERANCE = 1e-4
"""Largest difference between the file's answer and the network's."""


def some_input(bodies: int, seed: int = 0) -> tuple[torch.Tensor]:
    """Made-up crops."""
    chance = torch.Generator().manual_seed(seed)
    return (torch.randn((bodies, CHANNELS, CROP_PX, CROP_PX), generator=chance),)


def export(network: RefinerNetwork, path: Path) -> None:
    """Writes the network and compares the file's answers with its own.

    Raises:
        WeightsError: They differ.
    """
    axes = {name: {0: "bodies"} for name in ("crops", *OUTPUTS)}
    export_checked(
        network, path, some_input, ("crops",), OUTPUTS, axes, counts=(1, 9), tolerance=TOLERANCE
    )
