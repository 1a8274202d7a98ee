"""The trained network as the file that gateway and evaluator load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from spinezoo_spine.column.reader.looking import (
    FACTS,
    FILM_PX,
    HALF_SIDES,
    PAIR_FACTS,
    RIB_SPOTS,
    RIBS_PX,
    VIEW_PX,
    ReaderInput,
)
from spinezoo_torchkit.rounding import round_to_bytes
from spinezoo_torchkit.small_export import export_checked
from torch import nn

INPUTS = ("views", "facts", "pairs", "outlined", "film", "ribs")
OUTPUTS = ("below", "above", "steps", "counts", "kind")

TOLERANCE = 1e-3
"""Largest difference between the file's answer in float32 and the network's, in nats."""

KEPT = ("/look/look.0/", "/whole/", "/ribs/ribs.0/")
"""Convolutions that stay in floating point, by parts of their names: those of few planes, which
8 bits make no faster."""

ROUNDED_TOLERANCE = 0.5
"""Largest difference that 8 bits may make, root mean square of all evidence, in nats."""


def some_input(spots: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Made-up input of one film."""
    chance = torch.Generator().manual_seed(seed)
    shapes = (
        (spots, len(HALF_SIDES), VIEW_PX, VIEW_PX),
        (spots, FACTS),
        (spots, spots, PAIR_FACTS),
        (spots,),
        (1, 1, FILM_PX, FILM_PX),
        (max(1, len(range(spots)[RIB_SPOTS])), 1, RIBS_PX, RIBS_PX),
    )
    views, facts, pairs, outlined, film, ribs = (torch.randn(s, generator=chance) for s in shapes)
    return views, facts, pairs, (outlined > 0).float(), film, ribs


def export(network: nn.Module, path: Path, examples: Sequence[ReaderInput] = ()) -> None:
    """Writes the network and compares the file's answers with its own.

    Args:
        network: Evaluated, on the processor.
        path: The file.
        examples: Films to find the ranges of 8-bit integers with, in which the widest convolutions
            are then computed; none: all stays in float32.

    Raises:
        WeightsError: They differ.
    """
    axes = {name: {0: "spots"} for name in ("views", "facts", "outlined", "below", "above")}
    axes |= {name: {0: "spots", 1: "spots"} for name in ("pairs", "steps")}
    axes["ribs"] = {0: "rib_spots"}
    export_checked(
        network, path, some_input, INPUTS, OUTPUTS, axes, counts=(1, 12), tolerance=TOLERANCE
    )
    if examples:
        given = [named_input(each) for each in examples]
        round_to_bytes(path, given, kept=KEPT, tolerance=ROUNDED_TOLERANCE)


def named_input(given: ReaderInput) -> dict[str, NDArray[np.float32]]:
    """A film's input by the names that the file has for its parts."""
    return {name: getattr(given, name) for name in INPUTS}
