"""The command line of ``python -m spinezoo_<name>.train``, the same for every torch network."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from spinezoo_contract.errors import SpineZooError
from spinezoo_serving.cards import CardProbe, CardWeights, ModelCard, load_card, update_card
from spinezoo_training.data_options import TrainingData, add_data_arguments, open_data
from spinezoo_training.initial_weights import Start, add_start_argument, find_start, start_record
from spinezoo_training.run_log import command_of
from spinezoo_training.stopping import stop_on_signal
from torch import nn

from spinezoo_torchkit.checkpoints import begin_with, load_weights, make_probe, save_weights
from spinezoo_torchkit.device import PRECISIONS, choose_device, set_threads
from spinezoo_torchkit.loading import build_network
from spinezoo_torchkit.training import FitResult, Task, TrainSettings, fit

STOPPED = 130
"""Exit status of a training that was asked to stop and can go on."""


def train_main(
    argv: Sequence[str] | None,
    *,
    name: str,
    card_path: Path,
    make: Callable[..., nn.Module],
    make_task: Callable[[ModelCard], Task],
    defaults: TrainSettings,
) -> int:
    """Trains a network from films with outlines, writes weights and updates the card.

    Args:
        argv: Arguments without the program's name; None takes the process's.
        name: Name of the network.
        card_path: Its card, unless ``--card`` names another.
        make: The network's constructor, see :func:`~spinezoo_torchkit.loading.build_network`.
        make_task: What the network adds to the loop.
        defaults: Settings where the command line gives none.

    Returns:
        0 when trained, 130 when stopped on the way, 1 with a message on a named error.
    """
    arguments = _parser(name, card_path, defaults).parse_args(argv)
    command = command_of(name, list(sys.argv[1:] if argv is None else argv))
    try:
        with stop_on_signal() as stop:
            return _train(arguments, command, name, make, make_task, defaults, stop)
    except SpineZooError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 1


def _parser(name: str, card_path: Path, defaults: TrainSettings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m spinezoo_{name}.train",
        description=f"Train {name} on films with outlines. Stop it with Ctrl-C and start it again "
        "with the same command to go on.",
    )
    add_data_arguments(parser)
    add_start_argument(parser)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int, help="passes over the training films (default 30)")
    length.add_argument("--minutes", type=float, help="wall-clock time to train for instead")
    parser.add_argument(
        "--run-dir", type=Path, help="folder of this run (default runs/NAME-PRESET)"
    )
    parser.add_argument("--preset", default="lite", help="preset of the card (default lite)")
    parser.add_argument("--card", type=Path, default=card_path, help="the network's card.yaml")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:1 (default SPINEZOO_DEVICE)")
    parser.add_argument("--threads", type=int, help="CPU threads (default SPINEZOO_THREADS)")
    parser.add_argument(
        "--workers", type=int, help="processes that prepare films (default: 0, with CUDA 4)"
    )
    parser.add_argument(
        "--patience", type=int, help="stop after so many epochs without a better validation figure"
    )
    parser.add_argument("--batch-size", type=int, default=defaults.batch_size)
    parser.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    parser.add_argument("--precision", choices=sorted(PRECISIONS), default=defaults.precision)
    parser.add_argument(
        "--no-augmentation", action="store_true", help="train on the films as they are"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, only the last line")
    return parser


def _train(
    arguments: argparse.Namespace,
    command: str,
    name: str,
    make: Callable[..., nn.Module],
    make_task: Callable[[ModelCard], Task],
    defaults: TrainSettings,
    stop: Callable[[], bool],
) -> int:
    card = load_card(arguments.card, arguments.preset)
    device = choose_device(arguments.device)
    threads = set_threads(arguments.threads)
    epochs = arguments.epochs
    if epochs is None and arguments.minutes is None:
        epochs = 30
    settings = TrainSettings(
        epochs=epochs,
        minutes=arguments.minutes,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        weight_decay=defaults.weight_decay,
        average_decay=defaults.average_decay,
        clip_norm=defaults.clip_norm,
        precision=arguments.precision,
        seed=arguments.seed,
        workers=_workers(arguments.workers, device),
        patience=arguments.patience,
        augmentation=None if arguments.no_augmentation else defaults.augmentation,
    )
    run_dir = arguments.run_dir or Path("runs") / f"{name}-{card.preset}"
    start = find_start(arguments.start_from, card, run_dir, ".safetensors")
    torch.manual_seed(arguments.seed)
    network = build_network(card, make)
    if start is not None:
        begin_with(network, start.path, start.sha256)
    size = (card.input.height, card.input.width)
    data = open_data(arguments, *size, arguments.seed, progress=not arguments.quiet)
    result = fit(
        make_task(card),
        network,
        data.source,
        data.validation,
        settings,
        run_dir,
        device,
        identity={
            "network": json.loads(json.dumps(dict(card.network))),
            "input": [card.input.channels, *size],
            "augmentation": settings.augmentation is not None,
            **({} if start is None else {"start_from": start.sha256}),
        },
        stop=stop,
        quiet=arguments.quiet,
    )
    if not result.finished:
        sys.stdout.write(
            f"{name} {card.preset}: stopped after {result.epochs} epochs and {result.films_seen} "
            "films; the same command goes on from here\n"
        )
        return STOPPED
    card = write_weights(
        card,
        network.cpu(),
        make,
        training=_record(command, data, start, settings, result, device, threads),
        metrics=_metrics(data, result),
    )
    score = result.validation.get("merged_mean_iou")
    shown = "not validated" if score is None else f"merged mean IoU {score:.4f}"
    assert card.weights is not None
    sys.stdout.write(
        f"{name} {card.preset}: {result.epochs} epochs, {result.films_seen} films, "
        f"{result.minutes:.1f} min, {shown} on {len(data.validation)} films; "
        f"wrote {card.weights.file} ({card.weights.bytes / 2**20:.2f} MiB) and {card.path.name}\n"
    )
    return 0


def write_weights(
    card: ModelCard,
    network: nn.Module,
    make: Callable[..., nn.Module],
    *,
    training: dict[str, Any],
    metrics: dict[str, Any],
) -> ModelCard:
    """Writes a preset's weights file with its probe, and enters both into the card.

    The probe is taken from the file as a server will read it, half precision included.

    Raises:
        WeightsError: The weights are not finite.
        CardError: The card cannot be updated.
    """
    file = f"weights/{card.preset}.safetensors"
    record = save_weights(network, card.path.parent / file)
    served = build_network(card, make)
    load_weights(served, record.path, record.sha256)
    shape = (1, card.input.channels, card.input.height, card.input.width)
    probe = make_probe(served, shape, seed=0)
    weights = CardWeights(
        file=file,
        sha256=record.sha256,
        bytes=record.bytes,
        dtype=record.dtype,
        probe=CardProbe(probe.seed, probe.values, probe.tolerance),
    )
    return update_card(card.path, card.preset, weights=weights, training=training, metrics=metrics)


def _workers(asked: int | None, device: torch.device) -> int:
    """On a CPU the cores that would prepare films are better spent on the network."""
    if asked is not None:
        return asked
    return 4 if device.type == "cuda" else 0


def _record(
    command: str,
    data: TrainingData,
    start: Start | None,
    settings: TrainSettings,
    result: FitResult,
    device: torch.device,
    threads: int,
) -> dict[str, Any]:
    machine = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{platform.machine()} CPU, {threads} threads"
    )
    return {
        "data": data.name,
        **data.record,
        "films": result.different_films,
        "seed": settings.seed,
        "films_seen": result.films_seen,
        **start_record(start, result.films_seen),
        "epochs": result.epochs,
        **({"stopped_early": True} if result.stopped_early else {}),
        "minutes": round(result.minutes, 2),
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "precision": settings.precision,
        "machine": machine,
        "torch": str(torch.__version__),
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
    }


def _metrics(data: TrainingData, result: FitResult) -> dict[str, Any]:
    if not result.validation:
        return {}
    return {
        "data": f"{data.validation_name}, on the network's canvas",
        "films": len(data.validation),
        "date": datetime.now(UTC).date().isoformat(),
        "values": {name: round(value, 5) for name, value in result.validation.items()},
    }
