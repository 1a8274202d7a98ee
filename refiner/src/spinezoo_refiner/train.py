"""``python -m spinezoo_refiner.train``: trains the refiner on phantoms and exports it.

::

    python -m spinezoo_refiner.train --data phantoms:951 --run-dir runs/refiner

Makes the bodies first where they are not there. A run that is stopped goes on where it was when it
is started again with the same settings. The model and its record are written into ``libs/spine``.
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

import numpy as np
import torch
from spinezoo_contract.errors import ConfigurationError, SpineZooError
from spinezoo_spine.measures.refiner.answers import landmarks_of
from spinezoo_spine.measures.refiner.card import FOLDER, RECORD_FILE, WEIGHTS_FILE
from spinezoo_spine.measures.refiner.looking import LOOK_ID
from spinezoo_torchkit.checkpoints import load_state, save_state, write_in_one_step
from torch import nn

from spinezoo_refiner.examples import LONG_SPUR, Epoch, loader
from spinezoo_refiner.export import export
from spinezoo_refiner.loss import refiner_loss
from spinezoo_refiner.network import RefinerNetwork
from spinezoo_refiner.store import Crops, make_store, read_record, read_store

WARM_UP = 0.1
"""Share of a training in which the learning rate rises."""

HELD_OUT_PATIENTS = 60
"""Patients of the next seed, for the figures of the record."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What changes the weights.

    Attributes:
        seed: Of weights and chances.
        films_seed: Of the films.
        patients: Of the films; two looks each.
        epochs: Times that every body is seen.
        batch_size: Bodies of a batch.
        learning_rate: Highest rate of the one cycle.
        weight_decay: Of AdamW.
        width: Of the network.
    """

    seed: int = 1
    films_seed: int = 951
    patients: int = 880
    epochs: int = 12
    batch_size: int = 48
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    width: int = 24


def rate_at(share: float) -> float:
    """Learning rate after a share of the training, against the highest: up, then a half cosine."""
    if share < WARM_UP:
        return 0.05 + 0.95 * share / WARM_UP
    return 0.005 + 0.995 * 0.5 * (1.0 + math.cos(math.pi * (share - WARM_UP) / (1.0 - WARM_UP)))


def fit(settings: Settings, crops: Crops, run_dir: Path, workers: int) -> RefinerNetwork:
    """Trains, or goes on with a training that was stopped.

    Raises:
        ConfigurationError: The run folder holds a run with other settings.
    """
    torch.manual_seed(settings.seed)
    network = RefinerNetwork(settings.width)
    optimiser = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    per_epoch = max(1, len(Epoch(crops, settings.seed, 0, settings.batch_size)))
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
        batches = loader(Epoch(crops, settings.seed, epoch, settings.batch_size), workers)
        for number, batch in enumerate(batches):
            numbers, spreads, spurs = network(batch.crops)
            loss, parts = refiner_loss(numbers, spreads, spurs, batch)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 3.0)
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * rate_at((epoch * per_epoch + number) / steps)
            optimiser.step()
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + value
            if number % 50 == 0:
                told = ", ".join(f"{name} {v / (number + 1):.3f}" for name, v in sums.items())
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
    return network.eval()


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
        if kept:
            optimiser.state[parameter] = kept


@torch.no_grad()
def measured(network: RefinerNetwork, crops: Crops, *, worse: bool) -> dict[str, float]:
    """Figures on bodies that the network has not seen."""
    angles, corners, sacral, inside, spurs = [], [], [], [], []
    for batch in Epoch(crops, 7, 0, min(32, len(crops.grey)), worse=worse):
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
        whole = asked[:, 1]
        spurs.append(np.stack([said[:, :4].numpy()[whole], batch.spurs.numpy()[whole]]))
    every, odds = np.concatenate(angles), np.concatenate(spurs, axis=1)
    long, says = odds[1] > LONG_SPUR, odds[0] > 0.0
    return {
        "endplate_deg_median": float(np.median(every)),
        "endplate_deg_p90": float(np.percentile(every, 90)),
        "s1_deg_median": float(np.median(np.concatenate(sacral))),
        "corner_median": float(np.median(np.concatenate(corners))),
        "corner_p90": float(np.percentile(np.concatenate(corners), 90)),
        "angles_inside_90": float(np.concatenate(inside).mean()),
        "long_osteophytes_recall": float(says[long].mean()),
        "long_osteophytes_precision": float((odds[1] > 0.02)[says].mean()) if says.any() else 0.0,
    }


def finish(
    network: RefinerNetwork, held_out: Crops, folder: Path, training: dict[str, Any]
) -> dict[str, Any]:
    """Measures, exports and writes the record; returns it."""
    figures = {
        name: {key: round(value, 4) for key, value in measured(network, held_out, worse=w).items()}
        for name, w in (("as_they_come", False), ("made_worse", True))
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
        "look_id": LOOK_ID,
        "training": training,
        "metrics": {"bodies": len(held_out.grey), **figures},
    }
    write_in_one_step(folder / RECORD_FILE, (json.dumps(record, indent=2) + "\n").encode())
    return record


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_refiner.train",
        description="Trains the refiner of corners and endplates on phantoms and writes its card.",
    )
    defaults = Settings()
    data = f"phantoms:{defaults.films_seed}"
    parser.add_argument("--data", default=data, help="phantoms:SEED")
    parser.add_argument("--run-dir", type=Path, required=True, help="where a run can go on from")
    parser.add_argument("--store", type=Path, help="where bodies lie (default: in the run folder)")
    parser.add_argument("--card", type=Path, default=FOLDER, help="folder of the refiner's card")
    parser.add_argument("--workers", type=int, default=2, help="processes that make films")
    parser.add_argument("--held-out-patients", type=int, default=HELD_OUT_PATIENTS)
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
    )
    run_dir: Path = arguments.run_dir
    run_dir.mkdir(parents=True, exist_ok=True)
    stores = arguments.store or run_dir
    folder, beside = (stores / f"bodies-{settings.films_seed + more}" for more in (0, 1))
    try:
        for number, (each, patients) in enumerate(
            ((folder, settings.patients), (beside, arguments.held_out_patients))
        ):
            print(f"bodies in {each.name}: {patients} patients", flush=True)
            make_store(each, settings.films_seed + number, patients, 2, arguments.workers)
        torch.set_num_threads(1)  # the other processors make examples
        crops = read_store(folder)
        network = fit(settings, crops, run_dir, max(1, arguments.workers - 1))
        minutes = load_state(run_dir / "state.safetensors")[1]["minutes"]
        training = {
            "real_films_trained_on": 0,
            "data": f"phantoms:{settings.films_seed}",
            "phantoms": read_record(folder),
            "bodies": len(crops.grey),
            "bodies_seen": (len(crops.grey) + int(crops.sacral.sum())) * settings.epochs,
            **asdict(settings),
            "minutes": round(minutes, 1),
            "torch": str(torch.__version__),
            "date": datetime.now(UTC).date().isoformat(),
            "command": "python -m spinezoo_refiner.train --data "
            f"phantoms:{settings.films_seed} --run-dir runs/refiner",
        }
        record = finish(network, read_store(beside), arguments.card, training)
    except SpineZooError as error:
        print(f"the training cannot go on: {error}", file=sys.stderr)
        return 2
    print(json.dumps(record["metrics"], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
