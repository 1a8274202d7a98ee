"""``python -m spinezoo_namer.train``: trains the reader on phantoms, calibrates and exports it.

::

    python -m spinezoo_namer.train --data phantoms:900 --run-dir runs/namer

Makes the films first where they are not there. A run that is stopped goes on where it was when it
is started again with the same settings. The model and its card are written into ``libs/spine``.
"""

# ruff: noqa: T201 - a command: its progress goes to the terminal.
from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from spinezoo_contract.errors import ConfigurationError, SpineZooError
from spinezoo_spine.column.reader.card import FOLDER, RECORD_FILE, WEIGHTS_FILE
from spinezoo_spine.column.reader.looking import VIEWS_ID
from spinezoo_torchkit.checkpoints import load_state, save_state, write_in_one_step
from torch import nn

from spinezoo_namer.batches import Batch, Epoch, loader
from spinezoo_namer.calibrate import (
    COUNT_SHARES,
    best_temperature,
    count_threshold,
    counts_of,
    judge_all,
    measured,
    name_threshold,
    names_of,
    view_threshold,
)
from spinezoo_namer.examples import NONE
from spinezoo_namer.export import export
from spinezoo_namer.loss import reading_loss, spot_loss
from spinezoo_namer.network import ReaderNetwork
from spinezoo_namer.store import StoredFilm, make_store, read_record, read_store

HELD_OUT_SEEDS = (1, 2)
"""Added to the seed of the films: for calibration and for the figures of the card."""

SINGLE_SPOTS = 0.3
"""Weight of what single spots are taken for, beside the whole reading."""

WARM_UP = 0.1
"""Share of a training in which the learning rate rises."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What changes the weights.

    Attributes:
        seed: Of weights and chances.
        films_seed: Of the films.
        patients: Of the films; two looks each.
        epochs: Times that every film is seen.
        batch_size: Films of a batch.
        learning_rate: Highest rate of the one cycle.
        weight_decay: Of AdamW.
        width: Of the network.
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
    precision: str = "float32"


def loss_of(
    network: ReaderNetwork, batch: Batch, precision: str = "float32"
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of a batch, and its parts for the log."""
    seeing = torch.autocast(batch.kinds.device.type, torch.bfloat16, precision == "bfloat16")
    below, above, steps, counts, kinds = network.of_batch(*batch.given, seeing=seeing)
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


def rate_at(share: float) -> float:
    """Learning rate after a share of the training, against the highest: up, then a half cosine."""
    if share < WARM_UP:
        return 0.05 + 0.95 * share / WARM_UP
    return 0.005 + 0.995 * (0.5 + 0.5 * math.cos(math.pi * (share - WARM_UP) / (1.0 - WARM_UP)))


def fit(
    settings: Settings,
    films: Sequence[StoredFilm],
    run_dir: Path,
    workers: int,
    device: str = "cpu",
) -> tuple[ReaderNetwork, float]:
    """Trains, or goes on; returns the network in evaluation mode and the minutes used.

    Args:
        settings: What changes the weights.
        films: To learn from.
        run_dir: Where the state is kept.
        workers: Processes that make examples; 0: this one.
        device: Where the network learns.

    Raises:
        ConfigurationError: The folder holds a run with other settings.
    """
    torch.manual_seed(settings.seed)
    network = ReaderNetwork(settings.width).to(device)
    network.look.to(memory_format=torch.channels_last)  # 1.6 times faster on a CPU
    optimiser = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    per_epoch = len(Epoch(films, settings.seed, 0, settings.batch_size, len(films)))
    steps = settings.epochs * per_epoch
    state, begin, minutes = run_dir / "state.safetensors", 0, 0.0
    if state.is_file():
        tensors, record = load_state(state)
        if record["settings"] != asdict(settings):
            raise ConfigurationError(
                f"{run_dir} holds a run with other settings; remove it or choose another --run-dir"
            )
        restore(network, optimiser, tensors)
        begin, minutes = record["epoch"], record["minutes"]
    for epoch in range(begin, settings.epochs):
        started = time.monotonic()
        torch.manual_seed(1000 * settings.seed + epoch)  # a run that goes on draws the same
        network.train()
        sums: dict[str, float] = {}
        batches = loader(
            Epoch(films, settings.seed, epoch, settings.batch_size, len(films)), workers
        )
        for number, batch in enumerate(batches):
            loss, parts = loss_of(network, batch.to(device), settings.precision)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            rate = settings.learning_rate * rate_at((epoch * per_epoch + number) / steps)
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + value
            if number % 20 == 0:
                told = ", ".join(
                    f"{name} {value / (number + 1):.3f}" for name, value in sums.items()
                )
                print(f"epoch {epoch} batch {number} of {per_epoch}: {told}", flush=True)
        minutes += (time.monotonic() - started) / 60.0
        save_state(
            state,
            tensors_of(network, optimiser),
            {"settings": asdict(settings), "epoch": epoch + 1, "minutes": minutes},
        )
        line = {"epoch": epoch, "minutes": round(minutes, 2)} | {
            name: round(value / per_epoch, 4) for name, value in sums.items()
        }
        with (run_dir / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
    with torch.no_grad():
        network.counts.copy_(torch.log(torch.tensor(COUNT_SHARES)))
    return network.cpu().eval(), minutes


def tensors_of(network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Weights and the optimiser's memory, by name."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser.{name}.{key}"] = torch.as_tensor(value)
    return tensors


def restore(
    network: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]
) -> None:
    """The opposite of :func:`tensors_of`."""
    network.load_state_dict(
        {
            name.removeprefix("network."): value
            for name, value in tensors.items()
            if name.startswith("network.")
        }
    )
    for name, parameter in network.named_parameters():
        prefix = f"optimiser.{name}."
        kept = {
            key.removeprefix(prefix): value
            for key, value in tensors.items()
            if key.startswith(prefix) and "." not in key.removeprefix(prefix)
        }
        kept = {
            key: value if key == "step" else value.to(parameter.device)
            for key, value in kept.items()
        }
        if kept:
            optimiser.state[parameter] = kept


def record_of(
    settings: Settings, films: Sequence[StoredFilm], minutes: float, command: str, store: Path
) -> dict[str, Any]:
    """How the weights came about, for the card."""
    made = read_record(store)
    return {
        "real_films_trained_on": 0,
        "data": f"phantoms:{settings.films_seed}",
        "phantoms": made,
        "films": len(films),
        "films_seen": len(films) * settings.epochs,
        **asdict(settings),
        "minutes": round(minutes, 1),
        "torch": str(torch.__version__),
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
    }


def write_card(folder: Path, record: dict[str, Any]) -> None:
    """Writes the record beside the weights."""
    content = json.dumps(record, indent=2) + "\n"
    write_in_one_step(folder / RECORD_FILE, content.encode())


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
        training: See :func:`record_of`.
    """
    worse = judge_all(network, held_out[0], settings.seed, hard=True)
    whole = judge_all(network, held_out[0], settings.seed, whole=True)
    whole += judge_all(network, held_out[0], settings.seed + 1, whole=True, hard=True)
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
        name: measured(judge_all(network, held_out[1], settings.seed, **options), calibration)
        for name, options in sets.items()
    }
    path = folder / WEIGHTS_FILE
    export(network, path)
    content = path.read_bytes()
    record = {
        "weights": {
            "file": WEIGHTS_FILE,
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "dtype": "float32",
        },
        "views_id": VIEWS_ID,
        "calibration": calibration,
        "training": training,
        "metrics": {"films": len(held_out[1]), **figures},
    }
    write_card(folder, record)
    return record


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_namer.train",
        description="Trains the reader on phantoms, calibrates it and writes its card.",
    )
    defaults = Settings()
    data = f"phantoms:{defaults.films_seed}"
    parser.add_argument("--data", default=data, help="phantoms:SEED")
    parser.add_argument("--run-dir", type=Path, required=True, help="where a run can go on from")
    parser.add_argument("--store", type=Path, help="where films lie (default: in the run folder)")
    parser.add_argument("--card", type=Path, default=FOLDER, help="folder of the reader's card")
    parser.add_argument("--workers", type=int, default=2, help="processes that make films")
    precisions = ("float32", "bfloat16")
    parser.add_argument("--precision", choices=precisions, default=defaults.precision)
    parser.add_argument("--device", default="cpu", help="where the network learns: cpu or cuda")
    parser.add_argument("--held-out-patients", type=int, default=400, help="for each of two sets")
    for name in ("seed", "patients", "epochs", "batch_size", "width"):
        default = getattr(defaults, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    for name in ("learning_rate", "weight_decay"):
        default = getattr(defaults, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=default)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = make_parser().parse_args(words)
    kind, _, seed = arguments.data.partition(":")
    if kind != "phantoms" or not seed.isdecimal():
        print(f"--data is {arguments.data!r}; use phantoms:SEED", file=sys.stderr)
        return 2
    settings = Settings(
        seed=arguments.seed,
        films_seed=int(seed),
        patients=arguments.patients,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        weight_decay=arguments.weight_decay,
        width=arguments.width,
        precision=arguments.precision,
    )
    run_dir: Path = arguments.run_dir
    run_dir.mkdir(parents=True, exist_ok=True)
    stores = arguments.store or run_dir
    folders = [stores / f"films-{settings.films_seed}"]
    folders += [stores / f"films-{settings.films_seed + more}" for more in HELD_OUT_SEEDS]
    counts = [settings.patients, arguments.held_out_patients, arguments.held_out_patients]
    try:
        for number, (folder, patients) in enumerate(zip(folders, counts, strict=True)):
            print(f"films in {folder.name}: {patients} patients", flush=True)
            make_store(folder, settings.films_seed + number, patients, 2, arguments.workers)
        torch.set_num_threads(1)  # the other processors make examples
        films = read_store(folders[0])
        learners = max(1, arguments.workers - 1)
        network, minutes = fit(settings, films, run_dir, learners, arguments.device)
        command = " ".join(["python -m spinezoo_namer.train", *words])
        training = record_of(settings, films, minutes, command, folders[0])
        held_out = [read_store(folder) for folder in folders[1:]]
        record = finish(network, settings, held_out, arguments.card, training)
    except SpineZooError as error:
        print(f"the training cannot go on: {error}", file=sys.stderr)
        return 2
    print(json.dumps({key: record[key] for key in ("calibration", "metrics")}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
