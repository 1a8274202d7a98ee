"""The command that trains a small model: its options, stores of examples, entries of the record."""

# ruff: noqa: T201 - a command: its progress goes to the terminal.
from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import torch
from spinezoo_contract.errors import SpineZooError
from spinezoo_contract.words import counted
from spinezoo_serving.disk import alone_in, disk_errors_named
from spinezoo_spine.built_in import BuiltInModel

from spinezoo_torchkit.small_training import SmallSettings, Trained, is_finished


def how_trained(
    settings: SmallSettings, trained: Trained, command: str, share: float = 1.0
) -> dict[str, Any]:
    """How weights came about, for the record; see :func:`mix_with` for the share."""
    return {
        "real_films_trained_on": 0,
        "data": f"phantoms:{settings.films_seed}",
        **trained.about,
        "examples_seen": trained.examples,
        **dataclasses.asdict(settings),
        "minutes": round(trained.minutes, 1),
        "torch": str(torch.__version__),
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
        "share_of_weights": share,
    }


def make_parser(
    prog: str, description: str, model: BuiltInModel, defaults: SmallSettings
) -> argparse.ArgumentParser:
    """The command line of a small training: where things lie, and each setting that is a number."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    data = f"phantoms:{defaults.films_seed}"
    parser.add_argument("--data", default=data, help="phantoms:SEED (default: %(default)s)")
    parser.add_argument("--run-dir", type=Path, required=True, help="where a run can go on from")
    parser.add_argument("--store", type=Path, help="where examples lie (default: the run folder)")
    parser.add_argument(
        "--card", type=Path, default=model.folder, help=f"folder of the {model.kind}'s card"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that make films")
    parser.add_argument(
        "--start", type=Path, help="folder of a run or a card whose weights to begin with"
    )
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the learnt weights; the rest: of --start"
    )
    parser.add_argument(
        "--only-learn", action="store_true", help="stop when the run is finished; export later"
    )
    parser.add_argument("--device", default="cpu", help="where the network learns: cpu or cuda")
    for field in dataclasses.fields(defaults):
        value = getattr(defaults, field.name)
        if field.name != "films_seed" and isinstance(value, int | float):
            name = f"--{field.name.replace('_', '-')}"
            parser.add_argument(
                name, type=type(value), default=value, help="(default: %(default)s)"
            )
    return parser


class MakeStore(Protocol):
    """Makes what is missing of a store."""

    def __call__(self, folder: Path, seed: int, patients: int, looks: int, workers: int) -> None:
        """Makes it; see :func:`spinezoo_training.shards.make_shards`."""


def make_stores(
    arguments: argparse.Namespace,
    settings: SmallSettings,
    what: str,
    held_out: Sequence[int],
    make_store: MakeStore,
    make_held_out: MakeStore | None = None,
) -> list[Path]:
    """The stores of a training and those held out, of the seeds that follow.

    A finished run needs its own store no more, one that only learns needs no other: these are not
    made.

    Args:
        arguments: Of :func:`make_parser`.
        settings: Of the training.
        what: Its examples; the stores are named so.
        held_out: Patients of each store that is held out.
        make_store: Makes the one to learn from.
        make_held_out: Makes the others; None: as the first.

    Raises:
        ConfigurationError: The run or a store is of other settings.
    """
    finished = is_finished(arguments.run_dir, settings)
    stores = arguments.store or arguments.run_dir
    folders = []
    for number, patients in enumerate((settings.patients, *held_out)):
        seed = settings.films_seed + number
        make = make_held_out if number and make_held_out else make_store
        apart = "-held-out" if number else ""
        folders.append(stores / f"{what}{apart}-{seed}")
        if not (arguments.only_learn if number else finished):
            print(f"{what} in {folders[-1].name}: {counted(patients, 'patient')}", flush=True)
            make(folders[-1], seed, patients, 2, arguments.workers)
    return folders


class Train(Protocol):
    """Trains by a command line; prints what came of it."""

    def __call__(
        self, arguments: argparse.Namespace, settings: Any, words: Sequence[str]
    ) -> Mapping[str, Any]:
        """Trains; returns what is to be printed."""


def run_command(
    parser: argparse.ArgumentParser,
    settings_class: type[SmallSettings],
    train: Train,
    argv: Sequence[str] | None,
) -> int:
    """Runs a command line of :func:`make_parser`; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parser.parse_args(words)
    # The record names the command, not where folders lie on this machine.
    words = [Path(word).name if Path(word).is_absolute() else word for word in words]
    if not 0.0 <= arguments.share <= 1.0 or (arguments.share < 1.0 and arguments.start is None):
        print("--share is 0 to 1, of weights that began with those of --start", file=sys.stderr)
        return 2
    kind, _, seed = arguments.data.partition(":")
    if kind != "phantoms" or not seed.isdecimal():
        print(f"--data is {arguments.data!r}; use phantoms:SEED", file=sys.stderr)
        return 2
    names = [each.name for each in dataclasses.fields(settings_class) if each.name != "films_seed"]
    settings = settings_class(
        films_seed=int(seed), **{name: getattr(arguments, name) for name in names}
    )
    try:
        with disk_errors_named(), alone_in(arguments.run_dir, "another training"):
            said = train(arguments, settings, words)
    except SpineZooError as error:
        print(f"the training cannot go on: {error}", file=sys.stderr)
        return 2
    print(json.dumps(said, indent=2))
    return 0
