"""The command line of ``python -m spinezoo_<name>.train``, the same for every network."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from spinezoo_contract.errors import SpineZooError
from spinezoo_contract.words import counted
from spinezoo_serving.cards import ModelCard, load_card
from spinezoo_serving.disk import alone_in, disk_errors_named

from spinezoo_training.data_options import add_data_arguments, open_data
from spinezoo_training.engine import Framework, Machine, Task
from spinezoo_training.graphs import record_graphs
from spinezoo_training.initial_weights import add_start_argument, find_start
from spinezoo_training.loop import fit
from spinezoo_training.quantised import Examples, write_int8_graphs
from spinezoo_training.records import metrics_record, training_record, write_records
from spinezoo_training.run_log import command_of
from spinezoo_training.settings import PRECISIONS, TrainSettings
from spinezoo_training.stopping import stop_on_signal
from spinezoo_training.validation import validate

STOPPED = 130
"""Exit status of a training that was asked to stop and can go on."""


def train_main(
    argv: Sequence[str] | None,
    *,
    name: str,
    card_path: Path,
    framework: Framework,
    make_task: Callable[[ModelCard], Task],
    defaults: TrainSettings,
    module: str | None = None,
    not_int8: Sequence[str] = (),
    int8_examples: Examples | None = None,
) -> int:
    """Trains a network from films with outlines, writes weights and updates the card.

    Args:
        argv: Arguments without the program's name; None takes the process's.
        name: Name of the network.
        card_path: Its card, unless ``--card`` names another.
        framework: What the network is built on.
        make_task: What the network adds to the loop.
        defaults: Settings where the command line gives none; ``epochs`` must be one of them.
        module: What ``python -m`` runs; None stands for ``spinezoo_<name>.train``.
        not_int8: Convolutions that an int8 graph keeps in floating point, see
            :func:`spinezoo_training.quantised.quantised`.
        int8_examples: Inputs of further parts that are to be graphs for 8-bit integers, see
            :func:`spinezoo_training.quantised.write_int8_graphs`.

    Returns:
        0 when trained, 130 when stopped on the way, 1 with a message on a named error.
    """
    module = module or f"spinezoo_{name}.train"
    exporting = _export_parser(card_path).parse_known_args(argv)[0]
    if exporting.export:
        return _export(name, exporting, framework, not_int8, int8_examples)
    arguments = _parser(name, module, card_path, defaults).parse_args(argv)
    command = command_of(module, list(sys.argv[1:] if argv is None else argv))
    try:
        with disk_errors_named(), stop_on_signal() as stop:
            machine = framework.set_up(arguments.device, arguments.threads)
            with framework.on(machine):
                return _train(
                    arguments, command, name, framework, machine, make_task, defaults, stop
                )
    except SpineZooError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 1


def _export_parser(card_path: Path) -> argparse.ArgumentParser:
    """The part of the command line that an export looks at."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(
        "--export",
        action="store_true",
        help="train nothing: write the graphs of the card's weights again (`make export`)",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="with --export: graphs for 8-bit integers too; without it where there were such",
    )
    parser.add_argument("--preset", default="lite", help="preset of the card (default lite)")
    parser.add_argument("--card", type=Path, default=card_path, help="the network's card.yaml")
    return parser


def _export(
    name: str,
    exporting: argparse.Namespace,
    framework: Framework,
    not_int8: Sequence[str],
    int8_examples: Examples | None,
) -> int:
    """Exports a card's weights for engines that need no framework, and records it."""
    try:
        with disk_errors_named():
            card = load_card(exporting.card, exporting.preset)
            had_int8 = card.graphs is not None and bool(card.graphs.int8)
            files = framework.write_graphs(card)
            card = record_graphs(card, files)
            rounded = {}
            if exporting.int8 or had_int8:
                rounded = write_int8_graphs(card, not_int8, int8_examples)
                record_graphs(card, files, rounded)
    except SpineZooError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 1
    written = [*files.values(), *rounded.values()]
    sizes = ", ".join(f"{path.name} ({path.stat().st_size} bytes)" for path in written)
    sys.stdout.write(f"{name} {card.preset}: wrote {sizes}\n")
    return 0


def _parser(
    name: str, module: str, card_path: Path, defaults: TrainSettings
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=f"Train {name} on films with outlines. Stop it with Ctrl-C and start it again "
        "with the same command to go on.",
        parents=[_export_parser(card_path)],
    )
    add_data_arguments(parser)
    add_start_argument(parser)
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--epochs", type=int, help=f"passes over the training films (default {defaults.epochs})"
    )
    length.add_argument("--minutes", type=float, help="wall-clock time to train for instead")
    parser.add_argument(
        "--run-dir", type=Path, help="folder of this run (default runs/NAME-PRESET)"
    )
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:1 (default SPINEZOO_DEVICE)")
    parser.add_argument("--threads", type=int, help="CPU threads (default SPINEZOO_THREADS)")
    parser.add_argument(
        "--workers", type=int, help="processes that prepare films (default: 0, torch on CUDA 4)"
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


def _settings(
    arguments: argparse.Namespace, defaults: TrainSettings, default_workers: int
) -> TrainSettings:
    epochs = arguments.epochs
    if epochs is None and arguments.minutes is None:
        epochs = defaults.epochs
    return dataclasses.replace(
        defaults,
        epochs=epochs,
        minutes=arguments.minutes,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        precision=arguments.precision,
        seed=arguments.seed,
        workers=default_workers if arguments.workers is None else arguments.workers,
        patience=arguments.patience,
        augmentation=None if arguments.no_augmentation else defaults.augmentation,
    )


def _train(
    arguments: argparse.Namespace,
    command: str,
    name: str,
    framework: Framework,
    machine: Machine,
    make_task: Callable[[ModelCard], Task],
    defaults: TrainSettings,
    stop: Callable[[], bool],
) -> int:
    card = load_card(arguments.card, arguments.preset)
    settings = _settings(arguments, defaults, framework.default_workers(machine))
    run_dir = arguments.run_dir or Path("runs") / f"{name}-{card.preset}"
    start = find_start(arguments.start_from, card, run_dir, framework.weights_suffix)
    engine = framework.engine(card, make_task(card), settings, machine, start)
    size = (card.input.height, card.input.width)
    data = open_data(arguments, *size, settings.seed, progress=not arguments.quiet)
    with alone_in(run_dir, "another training"):
        result = fit(
            engine,
            data.source,
            data.validation,
            run_dir,
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
            f"{name} {card.preset}: stopped after {counted(result.epochs, 'epoch')} and "
            f"{counted(result.films_seen, 'film')}; the same command goes on from here\n"
        )
        return STOPPED
    weights_path = card.path.parent / "weights" / f"{card.preset}{framework.weights_suffix}"
    written = framework.write_weights(card, engine, weights_path)
    # Half precision is what is shipped, so half precision is what is measured.
    validation = validate(engine, data.validation, result.batch_size)
    card = write_records(
        card,
        weights_path,
        written,
        training=training_record(
            command=command,
            data=data,
            start=start,
            settings=settings,
            result=result,
            machine=machine,
            versions=framework.versions,
        ),
        metrics=metrics_record(data, validation),
    )
    record_graphs(card, framework.write_graphs(card))
    score = validation.get("merged_mean_iou")
    shown = "not validated" if score is None else f"merged mean IoU {score:.4f}"
    assert card.weights is not None
    sys.stdout.write(
        f"{name} {card.preset}: {counted(result.epochs, 'epoch')}, "
        f"{counted(result.films_seen, 'film')}, {result.minutes:.1f} min, {shown} on "
        f"{counted(len(data.validation), 'film')}; wrote {card.weights.file} "
        f"({card.weights.bytes / 2**20:.2f} MiB) and {card.path.name}\n"
    )
    return 0
