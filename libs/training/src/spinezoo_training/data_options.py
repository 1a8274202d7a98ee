"""``--data`` and its companions on a training's command line, and the films that they name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinezoo_contract.errors import ConfigurationError
from spinezoo_spine.annotations.film_set import FilmSet, describe_film_set
from spinezoo_spine.annotations.options import (
    OutlineOptions,
    add_outline_options,
    outline_options,
)

from spinezoo_training.film_sources import FilmSource, FolderFilms
from spinezoo_training.patients import Patients, patients_of
from spinezoo_training.phantom_sources import (
    EPOCH_FILMS,
    LOOKS,
    POOL_MIB,
    USES,
    PhantomFilms,
    StoredPhantoms,
)
from spinezoo_training.phantom_store import open_store
from spinezoo_training.prepared_set import (
    PreparedFilm,
    PreparedSet,
    open_film_set,
    prepare_films,
)
from spinezoo_training.splits import split_names

PHANTOMS = "phantoms:"
"""``--data phantoms:SEED`` makes films on the spot; anything else is a folder."""

VALIDATION_FILMS = 60
"""Phantoms to validate on where nothing else is said."""

VALIDATION_SHARE = 0.1
"""Of a folder's films, likewise."""

MOST_TOLD = 20
"""Findings on outlines that the console shows."""


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
    add_outline_options(parser)
    parser.add_argument(
        "--patient-pattern",
        metavar="REGEX",
        help="folder: finds the patient in a film's name (default: patients.csv, else DICOM)",
    )
    parser.add_argument("--cache-dir", type=Path, help="folder: where prepared films are kept")
    parser.add_argument(
        "--validation-share",
        type=float,
        help=f"folder: share to validate on (default {VALIDATION_SHARE})",
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
    outlines = outline_options(arguments)
    opened = open_film_set(folder, outlines=outlines)
    given = arguments.validation_share
    share = VALIDATION_SHARE if given is None else given
    patients = Patients({}, "", len(opened.names))
    if share:
        patients = patients_of(
            opened.film_paths, opened.names, folder, pattern=arguments.patient_pattern
        )
    training, validation = split_names(opened.names, seed, share, patients=patients.by_film)
    _tell(opened, patients if share else None, outlines.skip_bad_regions)
    films = prepare_films(opened, height, width, cache_dir=arguments.cache_dir, progress=progress)
    name = folder.resolve().name
    return TrainingData(
        source=FolderFilms(films.subset(training)),
        validation=films.subset(validation),
        name=name,
        validation_name=f"validation share of {name}",
        record={
            "film_set": describe_film_set(folder),
            **({"split": patients.to_json()} if share else {}),
            **({"outlines": outlines.to_json()} if outlines != OutlineOptions() else {}),
        },
    )


def _tell(films: FilmSet, patients: Patients | None, skipped: bool) -> None:
    """Says on the console what is odd about outlines, what was skipped, and how films are split."""
    for finding in films.findings[:MOST_TOLD]:
        weight = "skipped" if skipped and finding.is_error else "warning"
        sys.stderr.write(f"{weight}: {finding}\n")
    if len(films.findings) > MOST_TOLD:
        sys.stderr.write(f"and {len(films.findings) - MOST_TOLD} more; make check lists all\n")
    if patients is not None:
        sys.stderr.write(f"{patients.sentence}\n")


def _open_phantoms(
    arguments: argparse.Namespace, height: int, width: int, *, progress: bool
) -> TrainingData:
    _refuse(
        arguments,
        ("cache_dir", "validation_share", "class_attribute", "patient_pattern"),
        "a folder",
    )
    if arguments.class_map or arguments.skip_bad_regions:
        raise ConfigurationError("--map and --skip-bad-regions go with a folder only; leave it out")
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
