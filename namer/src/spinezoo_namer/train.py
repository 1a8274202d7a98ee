"""``python -m spinezoo_namer.train``: trains the reader on phantoms, calibrates and exports it.

::

    python -m spinezoo_namer.train --run-dir runs/namer [--data phantoms:SEED]

Makes the films first where they are not there. A run that is stopped goes on where it was when it
is started again with the same settings. The model and its card are written into ``libs/spine``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from spinezoo_contract.errors import ConfigurationError
from spinezoo_contract.output import end_with_reader
from spinezoo_spine.column.reader.card import READER
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
from torch import nn

from spinezoo_namer.batches import Batch, Films
from spinezoo_namer.calibrate import (
    COUNT_SHARES,
    TURNED_FAVOUR,
    best_temperature,
    count_threshold,
    counts_of,
    judge_all,
    measured,
    name_threshold,
    names_of,
    view_threshold,
)
from spinezoo_namer.examples import NONE, TURNED_SHARE, example_of
from spinezoo_namer.export import export
from spinezoo_namer.loss import from_above_loss, reading_loss, spot_loss
from spinezoo_namer.network import RIB_PARTS, VIEW_PARTS, BothWays, ReaderNetwork, rib_rows
from spinezoo_namer.store import (
    StoredFilm,
    make_frontal_shard,
    make_held_out_shard,
    make_store,
    read_store,
)

ROUNDING_FILMS = 150
"""Of the films for calibration, those that ranges of 8-bit integers are found with."""

HELD_OUT_SETS = 2
"""Of the seeds that follow: for calibration and for the figures of the card."""

FRONTAL_SEED = 20
"""From the seed of the films to that of further films from the front; those between are for
stores that are held out."""

SINGLE_SPOTS = 0.3
"""Weight of what single spots are taken for, beside the whole reading."""

RIBS_ALONE = 0.5
"""Weight of what ribs alone tell of single spots, beside what they add."""

PARTS: Mapping[str, Sequence[str]] = {"all": (), "views": VIEW_PARTS, "ribs": RIB_PARTS}
"""What may learn alone, and its layers."""


@dataclass(frozen=True, slots=True)
class Settings(SmallSettings):
    """What changes the weights.

    Attributes:
        disguised_share: How often a film is made unlike phantoms; see ``disguises``.
        cut_short_share: How often a film is cut to end within S1 or above.
        turned_share: How often a lateral film is shown turned or upside down.
        frontal_share: Least share of films from the front.
        frontal_patients: So many more are taken from the front, beside those of every store.
        parts: What learns: ``"all"``; ``"views"``: only what says which way the film is, anew, so
            that names stay as they are; or ``"ribs"``: only what looks for ribs.
        precision: ``"float32"``, or ``"bfloat16"`` for the layers that see pixels: twice as fast on
            processors that know it.
    """

    seed: int = 1
    films_seed: int = 900
    patients: int = 4000
    epochs: int = 20
    batch_size: int = 24
    learning_rate: float = 3e-3
    weight_decay: float = 2e-3
    width: int = 24
    disguised_share: float = 0.8
    cut_short_share: float = 0.2
    turned_share: float = TURNED_SHARE
    frontal_share: float = 0.0
    frontal_patients: int = 0
    parts: str = "all"
    precision: str = "float32"


def loss_of(
    network: ReaderNetwork, batch: Batch, precision: str = "float32"
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of a batch, and its parts for the log."""
    seeing = torch.autocast(batch.kinds.device.type, torch.bfloat16, precision == "bfloat16")
    below, above, steps, counts, kinds, _ = network.of_batch(*batch.given, seeing=seeing)
    kind_loss = nn.functional.cross_entropy(kinds, batch.kinds)
    named = batch.named
    loss = 0.5 * kind_loss
    reading = 0.0
    if bool(named.any()):
        real = batch.given[3][named] >= 0
        per_film = reading_loss(
            below[named], above[named], steps[named], counts, real,
            batch.positions[named], batch.lumbar[named],
        )  # fmt: skip
        # One film on which everything is hidden must not drown the others.
        per_film = torch.where(per_film > 8.0, 8.0 + torch.log1p(per_film - 8.0), per_film)
        there = named[:, None] & (batch.positions != NONE)
        lumbar = batch.lumbar[:, None].expand_as(batch.positions)
        single = spot_loss(below[there], above[there], batch.positions[there], lumbar[there])
        loss = loss + per_film.mean() + SINGLE_SPOTS * single
        reading = float(per_film.mean().detach())
    return loss, {"reading": reading, "kind": float(kind_loss.detach())}


def view_loss_of(
    network: ReaderNetwork, batch: Batch, precision: str = "float32"
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of what films show, alone, and the same for the log."""
    seeing = torch.autocast(batch.kinds.device.type, torch.bfloat16, precision == "bfloat16")
    *_, kinds, _ = network.of_batch(*batch.given, seeing=seeing)
    loss = nn.functional.cross_entropy(kinds, batch.kinds)
    return loss, {"kind": float(loss.detach())}


def rib_loss_of(
    network: ReaderNetwork, batch: Batch, precision: str = "float32"
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of what single spots are taken for, counted from above; and its parts for the log.

    Of the evidence that ribs are added to, so that they do not say again what is known; and of ribs
    alone, without which they learn slowly.
    """
    seeing = torch.autocast(batch.kinds.device.type, torch.bfloat16, precision == "bfloat16")
    _, above, _, _, _, ribs = network.of_batch(*batch.given, seeing=seeing)
    asked = batch.named[:, None] & (batch.positions != NONE) & rib_rows(batch.given[3])
    lumbar = batch.lumbar[:, None].expand_as(batch.positions)
    positions, lumbar = batch.positions[asked], lumbar[asked]
    both = from_above_loss(above[asked], positions, lumbar)
    alone = from_above_loss(ribs[asked], positions, lumbar)
    return both + RIBS_ALONE * alone, {"both": float(both.detach()), "ribs": float(alone.detach())}


def fit(
    settings: Settings,
    films: Sequence[StoredFilm],
    run_dir: Path,
    workers: int,
    device: str = "cpu",
    about: Mapping[str, Any] | None = None,
    start: Path | None = None,
) -> tuple[ReaderNetwork, Trained]:
    """Trains, or goes on; returns the network in evaluation mode and how it was trained.

    Args:
        settings: What changes the weights.
        films: To learn from; not needed where the run is finished.
        run_dir: Where the state is kept.
        workers: Processes that make examples; 0: this one.
        device: Where the network learns.
        about: What is learnt from, for the record.
        start: Folder of a run whose weights to begin with.

    Raises:
        ConfigurationError: The folder holds a run with other settings.
    """
    torch.manual_seed(settings.seed)
    network = ReaderNetwork(settings.width).to(device)
    network.look.to(memory_format=torch.channels_last)  # 1.6 times faster on a CPU
    network.ribs.to(memory_format=torch.channels_last)
    losses = {"views": view_loss_of, "ribs": rib_loss_of}.get(settings.parts, loss_of)
    parts = PARTS[settings.parts]
    if parts:
        network.learn_only(parts)
    trained = run_epochs(
        network, settings, lambda epoch: Films(
            films, settings.seed, epoch, settings.batch_size,
            settings.disguised_share, settings.cut_short_share,
            settings.turned_share, settings.frontal_share,
        ),
        lambda batch: losses(network, batch.to(device), settings.precision),
        run_dir, workers, clip_norm=5.0, told_every=20, about=about or {}, start=start,
        anew=VIEW_PARTS if settings.parts == "views" else (), lacking=RIB_PARTS,
    )  # fmt: skip
    network.presume(COUNT_SHARES, TURNED_FAVOUR if settings.parts != "ribs" else 0.0)
    return network.cpu().eval(), trained


def finish(
    network: ReaderNetwork,
    settings: Settings,
    held_out: Sequence[Sequence[StoredFilm]],
    folder: Path,
    training: dict[str, Any],
) -> dict[str, Any]:
    """Calibrates, measures, exports and writes the record; returns it.

    Args:
        network: Trained.
        settings: Of the training.
        held_out: Films for calibration, and films for the figures; both never trained on.
        folder: Of the card.
        training: How the weights came about.
    """
    reader = BothWays(network).eval()
    worse = judge_all(reader, held_out[0], settings.seed, hard=True)
    whole = judge_all(reader, held_out[0], settings.seed, whole=True)
    whole += judge_all(reader, held_out[0], settings.seed + 1, whole=True, hard=True)
    temperature = best_temperature(whole)
    calibration = {
        "temperature": temperature,
        "threshold": name_threshold(names_of(whole, temperature)),
        "count_threshold": count_threshold(counts_of(whole, temperature)),
        "view_threshold": view_threshold(worse),
    }
    sets: dict[str, dict[str, bool]] = {
        "whole_columns": {"whole": True},
        "whole_columns_made_worse": {"whole": True, "hard": True},
        "with_parts_of_columns": {},
    }
    figures = {
        name: measured(judge_all(reader, held_out[1], settings.seed, **options), calibration)
        for name, options in sets.items()
    }
    seen = [
        example_of(
            film, np.random.default_rng((settings.seed, place)), whole=True, hard=place % 2 > 0
        )
        for place, film in enumerate(held_out[0][:ROUNDING_FILMS])
    ]
    export(reader, folder / READER.weights_file, [each.given for each in seen])
    metrics = {"films": len(held_out[1]), **figures}
    return write_record(folder, READER, calibration=calibration, training=training, metrics=metrics)


def make_frontal(arguments: argparse.Namespace, settings: Settings) -> Path:
    """Makes what is missing of the store of further films from the front; returns its folder."""
    seed = settings.films_seed + FRONTAL_SEED
    folder: Path = (arguments.store or arguments.run_dir) / f"films-frontal-{seed}"
    make_store(
        folder, seed, settings.frontal_patients, 2, arguments.workers, make=make_frontal_shard
    )
    return folder


def train(
    arguments: argparse.Namespace, settings: Settings, words: Sequence[str]
) -> Mapping[str, Any]:
    """Makes films, trains, calibrates and writes the record; returns its figures.

    Raises:
        ConfigurationError: A mean is asked for of weights that were learnt anew.
    """
    if settings.parts == "views" and arguments.share < 1.0:
        raise ConfigurationError(
            "--parts views learns weights anew, which have no mean with those of --start; "
            "leave --share out"
        )
    held_out_patients = [arguments.held_out_patients] * HELD_OUT_SETS
    make_held_out = partial(make_store, make=make_held_out_shard)
    folders = make_stores(
        arguments, settings, "films", held_out_patients, make_store, make_held_out
    )
    films: list[StoredFilm] = []
    about: dict[str, Any] = {}
    if not is_finished(arguments.run_dir, settings):
        films = read_store(folders[0])
        about = {"phantoms": dict(read_record(folders[0]))}
        if settings.frontal_patients:
            folder = make_frontal(arguments, settings)
            films += read_store(folder)
            about["frontal_phantoms"] = dict(read_record(folder))
        about["films"] = len(films)
    torch.set_num_threads(1)  # the other processors make examples
    learners = max(1, arguments.workers - 1)
    network, trained = fit(
        settings, films, arguments.run_dir, learners, arguments.device, about, arguments.start
    )
    if arguments.only_learn:
        return {"minutes": trained.minutes, "examples": trained.examples}
    command = " ".join(["python -m spinezoo_namer.train", *words])
    training = how_trained(settings, trained, command, arguments.share)
    if arguments.share < 1.0:
        mix_with(network, arguments.start, arguments.share)
    held_out = [read_store(folder) for folder in folders[1:]]
    record = finish(network, settings, held_out, arguments.card, training)
    return {key: record[key] for key in ("calibration", "metrics")}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    defaults = Settings()
    parser = make_parser(
        "python -m spinezoo_namer.train",
        "Trains the reader on phantoms, calibrates it and writes its card.",
        READER,
        defaults,
    )
    precisions = ("float32", "bfloat16")
    parser.add_argument("--precision", choices=precisions, default=defaults.precision)
    parser.add_argument("--parts", choices=tuple(PARTS), default=defaults.parts)
    parser.add_argument("--held-out-patients", type=int, default=400, help="for each of two sets")
    return run_command(parser, Settings, train, argv)


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
