"""``python -m spinezoo_refiner.train``: trains the refiner on phantoms and exports it.

::

    python -m spinezoo_refiner.train --run-dir runs/refiner [--data phantoms:SEED]

Makes the bodies first where they are not there. A run that is stopped goes on where it was when it
is started again with the same settings. The model and its record are written into ``libs/spine``.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from spinezoo_contract.output import end_with_reader
from spinezoo_spine.measures.osteophytes import LEAST_ODDS
from spinezoo_spine.measures.refiner.answers import landmarks_of
from spinezoo_spine.measures.refiner.card import REFINER
from spinezoo_torchkit.small_command import how_trained, make_parser, make_stores, run_command
from spinezoo_torchkit.small_export import write_record
from spinezoo_torchkit.small_training import (
    SmallSettings,
    Trained,
    is_finished,
    mix_with,
    run_epochs,
)
from spinezoo_training.shards import read_record

from spinezoo_refiner.examples import LEAST_SPUR, LONG_SPUR, Batch, Bodies
from spinezoo_refiner.export import export
from spinezoo_refiner.loss import refiner_loss
from spinezoo_refiner.network import RefinerNetwork
from spinezoo_refiner.store import Crops, make_store, read_store

HELD_OUT_PATIENTS = 60
"""Patients of the next seed, for the figures of the record."""

ROUNDING_BATCHES = 20
"""Batches of 16 of their bodies that tell the ranges of 8-bit integers."""

MIXING_BATCHES = 30
"""Batches of 64 bodies that tell what the layers of mixed weights normalise by."""


@dataclass(frozen=True, slots=True)
class Settings(SmallSettings):
    """What changes the weights."""

    seed: int = 1
    films_seed: int = 951
    patients: int = 880
    epochs: int = 12
    batch_size: int = 48
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    width: int = 24


def fit(
    settings: Settings,
    crops: Crops | None,
    run_dir: Path,
    workers: int,
    device: str = "cpu",
    about: Mapping[str, Any] | None = None,
    start: Path | None = None,
) -> tuple[RefinerNetwork, Trained]:
    """Trains, or goes on; returns the network in evaluation mode and how it was trained.

    Args:
        settings: What changes the weights.
        crops: To learn from; not needed where the run is finished.
        run_dir: Where the state is kept.
        workers: Processes that make examples; 0: this one.
        device: Where the network learns.
        about: What is learnt from, for the record.
        start: Folder of a run whose weights to begin with.

    Raises:
        ConfigurationError: The run folder holds a run with other settings.
    """
    torch.manual_seed(settings.seed)
    network = RefinerNetwork(settings.width).to(device)

    def epoch_of(number: int) -> Bodies:
        assert crops is not None, "an unfinished run learns from crops"
        return Bodies(crops, settings.seed, number, settings.batch_size)

    def losses(batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        batch = batch.to(device)
        crops = batch.crops.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16, enabled=_knows_bfloat16(device)):
            numbers, spreads, spurs = network(crops)
        return refiner_loss(numbers, spreads, spurs, batch)

    trained = run_epochs(
        network, settings, epoch_of, losses, run_dir, workers,
        clip_norm=3.0, told_every=50, about=about or {}, start=start,
    )  # fmt: skip
    return network.cpu().eval(), trained


def _knows_bfloat16(device: str) -> bool:
    """Whether a device computes with it, not only by way of other numbers."""
    return device != "cpu" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))


@torch.no_grad()
def measured(network: RefinerNetwork, crops: Crops, *, worse: bool) -> dict[str, float]:
    """Figures on bodies that the network has not seen."""
    angles, corners, sacral, inside, spurs = [], [], [], [], []
    for batch in Bodies(crops, 7, 0, min(32, len(crops.grey)), worse=worse):
        numbers, spreads, said = network(batch.crops)
        off = (numbers - batch.numbers).numpy()
        asked = batch.counts.numpy() > 0
        angle = np.degrees(np.abs(off[:, [2, 7]]))
        angles.append(angle[asked])
        sacral.append(angle[~asked[:, 1], 0])
        ratio = np.abs(off[:, [2, 7]]) / spreads.numpy()[:, [2, 7]]
        inside.append(ratio[asked] < math.log(10.0))  # nine tenths of a Laplace distribution
        found, _ = landmarks_of(numbers.double().numpy())
        true, _ = landmarks_of(batch.numbers.double().numpy())
        apart = np.hypot(*np.moveaxis(found - true, -1, 0))[asked[:, 1]]
        corners.append(apart / np.hypot(*(true[:, 1] - true[:, 0]).T)[asked[:, 1], None])
        told = batch.spur_counts.numpy() > 0
        spurs.append(np.stack([said[:, :4].numpy()[told], batch.spurs.numpy()[told]]))
    every, odds = np.concatenate(angles), np.concatenate(spurs, axis=1)
    long, says = odds[1] > LONG_SPUR, odds[0] > LEAST_ODDS
    right = (odds[1] > LEAST_SPUR)[says]
    return {
        "endplate_deg_median": float(np.median(every)),
        "endplate_deg_p90": float(np.percentile(every, 90)),
        "s1_deg_median": float(np.median(np.concatenate(sacral))),
        "corner_median": float(np.median(np.concatenate(corners))),
        "corner_p90": float(np.percentile(np.concatenate(corners), 90)),
        "angles_inside_90": float(np.concatenate(inside).mean()),
        "long_osteophytes_recall": float(says[long].mean()),
        "long_osteophytes_precision": float(right.mean()) if len(right) else 0.0,
    }


def finish(
    network: RefinerNetwork, held_out: Crops, folder: Path, training: dict[str, Any]
) -> dict[str, Any]:
    """Measures, exports and writes the record; returns it."""
    figures = {
        name: {key: round(value, 4) for key, value in measured(network, held_out, worse=w).items()}
        for name, w in (("as_they_come", False), ("made_worse", True))
    }
    seen = [batch.crops.numpy() for batch in Bodies(held_out, 7, 0, min(16, len(held_out.grey)))]
    export(network, folder / REFINER.weights_file, seen[:ROUNDING_BATCHES])
    metrics = {"bodies": len(held_out.grey), **figures}
    return write_record(folder, REFINER, training=training, metrics=metrics)


def train(
    arguments: argparse.Namespace, settings: Settings, words: Sequence[str]
) -> Mapping[str, Any]:
    """Makes bodies, trains and writes the record; returns its figures."""
    folder, beside = make_stores(
        arguments, settings, "bodies", [arguments.held_out_patients], make_store
    )
    crops: Crops | None = None
    about: dict[str, Any] = {}
    if not is_finished(arguments.run_dir, settings):
        crops = read_store(folder)
        about = {"phantoms": dict(read_record(folder)), "bodies": len(crops.grey)}
    torch.set_num_threads(1)  # the other processors make examples
    learners = max(1, arguments.workers - 1)
    network, trained = fit(
        settings, crops, arguments.run_dir, learners, arguments.device, about, arguments.start
    )
    if arguments.share < 1.0:
        if crops is None:
            make_store(folder, settings.films_seed, settings.patients, 2, arguments.workers)
            crops = read_store(folder)
        batches = itertools.islice(Bodies(crops, settings.seed, 0, 64), MIXING_BATCHES)
        given = (batch.crops for batch in batches)
        mix_with(network, arguments.start, arguments.share, given)
    if arguments.only_learn:
        return {"minutes": trained.minutes, "examples": trained.examples}
    command = " ".join(["python -m spinezoo_refiner.train", *words])
    training = how_trained(settings, trained, command, arguments.share)
    record = finish(network, read_store(beside), arguments.card, training)
    metrics: Mapping[str, Any] = record["metrics"]
    return metrics


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = make_parser(
        "python -m spinezoo_refiner.train",
        "Trains the refiner of corners and endplates on phantoms and writes its card.",
        REFINER,
        Settings(),
    )
    parser.add_argument("--held-out-patients", type=int, default=HELD_OUT_PATIENTS)
    return run_command(parser, Settings, train, argv)


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
