"""The trained network as the file that gateway and evaluator load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from spinezoo_spine.measures.refiner.looking import CROP_PX
from spinezoo_torchkit.rounding import round_to_bytes
from spinezoo_torchkit.small_export import export_checked

from spinezoo_refiner.network import CHANNELS, RefinerNetwork

OUTPUTS = ("numbers", "spreads", "spurs")

TOLERANCE = 1e-4
"""Largest difference between the file's answer in float32 and the network's."""

KEPT = ("/stem/", "/maps/")
"""Convolutions that stay in floating point, by parts of their names: of few planes, which 8 bits
make no faster, and the maps, whose middles are the answer."""

ROUNDED_TOLERANCE = 0.2
"""Largest difference that 8 bits may make, root mean square of all answers; most of it is that of
the osteophytes' log-odds."""


def some_input(bodies: int, seed: int = 0) -> tuple[torch.Tensor]:
    """Made-up crops."""
    chance = torch.Generator().manual_seed(seed)
    return (torch.randn((bodies, CHANNELS, CROP_PX, CROP_PX), generator=chance),)


def export(
    network: RefinerNetwork, path: Path, examples: Sequence[NDArray[np.float32]] = ()
) -> None:
    """Writes the network and compares the file's answers with its own.

    Args:
        network: Evaluated, on the processor.
        path: The file.
        examples: (N, CHANNELS, CROP_PX, CROP_PX) crops to find the ranges of 8-bit integers with,
            in which most convolutions are then computed; none: all stays in float32.

    Raises:
        WeightsError: They differ.
    """
    axes = {name: {0: "bodies"} for name in ("crops", *OUTPUTS)}
    export_checked(
        network, path, some_input, ("crops",), OUTPUTS, axes, counts=(1, 9), tolerance=TOLERANCE
    )
    if examples:
        given = [{"crops": crops} for crops in examples]
        round_to_bytes(path, given, kept=KEPT, tolerance=ROUNDED_TOLERANCE)
