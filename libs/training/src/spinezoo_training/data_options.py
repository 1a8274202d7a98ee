"""``--data`` and its companions on a training's command line, and the films that they name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinezoo_contract.errors import ConfigurationError
from spinezoo_spine.annotations.film_set import describe_film_set

from spinezoo_training.film_sources import FilmSource, FolderFilms
from spinezoo_training.phantom_sources import (
    EPOCH_FILMS,
    LOOKS,
    POOL_MIB,
    USES,
    PhantomFilms,
    StoredPhantoms,
)
from spinezoo_training.phantom_store import open_store
from spinezoo_training.prepared_set import PreparedFilm, PreparedSet, prepare_film_set
from spinezoo_training.splits import split_names

PHANTOMS = "phantoms:"
"""``--data phantoms:SEED`` makes films on the spot; anything else is a folder."""

VALIDATION_FILMS = 60


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What ``--data`` and its companions name.

    Attributes:
        source: Films to train on.
        validation: Films to validate on; may be empty.
        name: For a card: a folder's name or ``phantoms:SEED``, never a path.
        validation_name: What the validation films are, in words.
        record: More entries for the card's training record.
    """

    source: FilmSource
    validation: Sequence[PreparedFilm] | PreparedSet
    name: str
    validation_name: str
    record: dict[str, Any]


_PHANTOM_DEFAULTS = {
    "epoch_films": EPOCH_FILMS,
    "validation_films": VALIDATION_FILMS,
    "looks": LOOKS,
    "film_uses": USES,
    "pool_mib": POOL_MIB,
}


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--data`` and what belongs to it to a training's command line."""
    parser.add_argument(
        "--data",
        required=True,
        help=f"folder of films with outlines, or {PHANTOMS}SEED for phantoms made on the spot",
    )
    parser.add_argument("--cache-dir", type=Path, help="folder: where prepared films are kept")
    parser.add_argument(
        "--validation-share", type=float, help="folder: share to validate on (default 0.1)"
    )
    for name, what in (
        ("epoch-films", "films of an epoch"),
        ("validation-films", "films to validate on, of patients never trained on"),
        ("looks", "films made of one patient"),
        ("film-uses", "mean number of times a film is used before new ones take its place"),
        ("pool-mib", "most memory of films kept for reuse, in MiB"),
    ):
        default = _PHANTOM_DEFAULTS[name.replace("-", "_")]
        parser.add_argument(f"--{name}", type=int, help=f"phantoms: {what} (default {default})")
    parser.add_argument(
        "--store",
        type=Path,
        help="phantoms: folder of films made beforehand by "
        "python -m spinezoo_training.phantom_store",
    )


def open_data(
    arguments: argparse.Namespace, height: int, width: int, seed: int, *, progress: bool
) -> TrainingData:
    """The films that a command line names, for a canvas of ``height`` x ``width``.

    Raises:
        ConfigurationError: An option does not go with the kind of data, or is out of range.
        FilmError, AnnotationError: The folder is wrong.
    """
    if arguments.data.startswith(PHANTOMS):
        return _open_phantoms(arguments, height, width, progress=progress)
    _refuse(arguments, (*_PHANTOM_DEFAULTS, "store"), f"--data {PHANTOMS}SEED")
    folder = Path(arguments.data)
    films = prepare_film_set(
        folder, height, width, cache_dir=arguments.cache_dir, progress=progress
    )
    share = 0.1 if arguments.validation_share is None else arguments.validation_share
    training, validation = split_names(films.names, seed, share)
    name = folder.resolve().name
    return TrainingData(
        source=FolderFilms(films.subset(training)),
        validation=films.subset(validation),
        name=name,
        validation_name=f"validation share of {name}",
        record={"film_set": describe_film_set(folder)},
    )


def _open_phantoms(
    arguments: argparse.Namespace, height: int, width: int, *, progress: bool
) -> TrainingData:
    _refuse(arguments, ("cache_dir", "validation_share"), "a folder")
    text = arguments.data.removeprefix(PHANTOMS)
    if not text.isdecimal():
        raise ConfigurationError(
            f"--data {arguments.data!r}: write a whole number, such as {PHANTOMS}730"
        )
    given = {
        name: default if getattr(arguments, name) is None else getattr(arguments, name)
        for name, default in _PHANTOM_DEFAULTS.items()
    }
    if given["validation_films"] < 0:
        raise ConfigurationError(f"--validation-films is {given['validation_films']}; use 0 up")
    phantoms = PhantomFilms(
        int(text),
        height,
        width,
        epoch_films=given["epoch_films"],
        looks=given["looks"],
        uses=given["film_uses"],
        pool_mib=given["pool_mib"],
    )
    source: FilmSource = phantoms
    if arguments.store is not None:
        _refuse(arguments, ("looks", "film_uses", "pool_mib"), "phantoms made on the spot")
        films = open_store(arguments.store, seed=phantoms.seed, height=height, width=width)
        source = StoredPhantoms(films, epoch_films=given["epoch_films"])
    return TrainingData(
        source=source,
        validation=phantoms.held_out(given["validation_films"], progress=progress),
        name=f"{PHANTOMS}{phantoms.seed}",
        validation_name=f"patients of {PHANTOMS}{phantoms.seed} held out",
        record=source.identity,
    )


def _refuse(arguments: argparse.Namespace, names: Sequence[str] | dict[str, int], of: str) -> None:
    for name in names:
        if getattr(arguments, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise ConfigurationError(f"{option} goes with {of} only; leave it out")
