"""Training films made beforehand, for several trainings at once.

::

    python -m spinezoo_training.phantom_store --seed 740 --patients 6000 --height 512 --width 384 \
      --workers 16 --out data/store
    python -m spinezoo_pspnet.train --data phantoms:740 --store data/store ...

On a fast accelerator making films is what training waits for, and five networks that train side by
side would each make the same ones. The films are those of `training_films`; the folder is one of
prepared films (`spinezoo_training.prepared_set.PreparedSet`) with a record of how it was made.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError, SpineZooError
from spinezoo_contract.output import end_with_reader
from spinezoo_contract.words import counted
from spinezoo_phantom.settings import GENERATOR
from spinezoo_serving.disk import disk_errors_named
from spinezoo_serving.workers import follow_parent
from tqdm import tqdm

from spinezoo_training.phantom_films import training_films
from spinezoo_training.prepared_set import (
    PreparedFilm,
    PreparedSet,
    grey_sum,
    make_grey,
    write_prepared_index,
)

RECORD_FILE = "store.json"

MOST_GIB = 64.0
"""Default for the largest store: 350,000 films of 512 x 384."""

PATIENTS_AT_ONCE = 8
"""Patients of one task of a worker: about a second."""

Outlines = list[list[tuple[int, NDArray[np.float64]]]]


def make_store(
    folder: Path,
    *,
    seed: int,
    patients: int,
    looks: int,
    height: int,
    width: int,
    workers: int = 1,
    most_gib: float = MOST_GIB,
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Makes the films of the first ``patients`` patients of a stream; whole or not at all.

    A folder that already holds exactly these films is left as it is.

    Args:
        folder: The folder to make.
        seed: Of the stream of patients.
        patients: How many.
        looks: Films of one patient.
        height: Rows of the canvas.
        width: Columns of the canvas.
        workers: Processes that make films.
        most_gib: Refuse to write more grey levels than that.
        progress: Called with the number of films that were just made.

    Raises:
        ConfigurationError: A number is out of range, or the folder holds something else.
        OptionError: The generator refuses the canvas.
    """
    numbers = {"patients": patients, "looks": looks, "workers": workers}
    for name, number in numbers.items():
        if number < 1:
            raise ConfigurationError(f"{name} is {number}; use 1 or more")
    count = patients * looks
    needed = count * height * width / 2**30
    if needed > most_gib:
        raise ConfigurationError(
            f"{counted(count, 'film')} of {height} x {width} would take {needed:.1f} GiB, more "
            f"than the limit of {most_gib:g}; make fewer or raise --most-gib"
        )
    record = {
        "generator": str(GENERATOR),
        "seed": seed,
        "patients": patients,
        "looks": looks,
        "height": height,
        "width": width,
    }
    if folder.exists():
        if read_record(folder) == record:
            return
        raise ConfigurationError(f"{folder} holds other films; remove it or choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial_folder = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        make_grey(partial_folder, count, height, width)
        starts = range(0, patients, PATIENTS_AT_ONCE)
        task = partial(_make_some, partial_folder / "grey.npy", record)
        outlines: Outlines = []
        names: list[str] = []
        sums: list[int] = []
        # Not "fork": the caller may have threads.
        with ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=_prepare_worker
        ) as pool:
            for some_names, some, some_sums in pool.map(task, starts):
                names += some_names
                outlines += some
                sums += some_sums
                progress(len(some))
        write_prepared_index(partial_folder, names, outlines, sums)
        (partial_folder / RECORD_FILE).write_text(json.dumps(record) + "\n", encoding="utf-8")
        partial_folder.rename(folder)
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)


def _prepare_worker() -> None:
    cv2.setNumThreads(1)
    follow_parent()


def _make_some(
    grey_path: Path, record: dict[str, Any], first: int
) -> tuple[list[str], Outlines, list[int]]:
    grey = np.load(grey_path, mmap_mode="r+", allow_pickle=False)
    looks = record["looks"]
    films: list[PreparedFilm] = []
    for patient in range(first, min(first + PATIENTS_AT_ONCE, record["patients"])):
        films += training_films(record["seed"], patient, record["height"], record["width"], looks)
    for position, film in enumerate(films, start=first * looks):
        grey[position] = film.grey
    return (
        [film.name for film in films],
        [[(int(kind), polygon) for kind, polygon in film.regions] for film in films],
        [grey_sum(film.grey) for film in films],
    )


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a store.

    Raises:
        ConfigurationError: The folder is no store.
    """
    try:
        record: dict[str, Any] = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("no record")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{folder} is no store of phantoms; make one with python -m "
            "spinezoo_training.phantom_store"
        ) from error
    return record


def open_store(folder: Path, *, seed: int, height: int, width: int) -> PreparedSet:
    """The films of a store, if they are those that a training asks for.

    Raises:
        ConfigurationError: The folder is no store, is damaged, or holds films of another seed,
            canvas or version of the generator.
    """
    record = read_record(folder)
    wanted = {"generator": str(GENERATOR), "seed": seed, "height": height, "width": width}
    for name, value in wanted.items():
        if record.get(name) != value:
            raise ConfigurationError(
                f"{folder} holds phantoms of {name} {record.get(name)!r}, this training asks for "
                f"{value!r}; make a store for it or leave --store out"
            )
    films = PreparedSet(folder)
    if len(films) != record.get("patients", 0) * record.get("looks", 0):
        raise ConfigurationError(f"{folder} is damaged; remove it and make it again")
    return films


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_training.phantom_store",
        description="Make phantom films for training beforehand, for several networks.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--seed", type=int, required=True, help="of the stream of patients")
    parser.add_argument("--patients", type=int, required=True)
    parser.add_argument("--looks", type=int, default=3, help="films of a patient (default 3)")
    parser.add_argument("--height", type=int, required=True, help="rows of the networks' canvas")
    parser.add_argument("--width", type=int, required=True, help="columns of it")
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--most-gib", type=float, default=MOST_GIB, help="default %(default)s")
    options = parser.parse_args(arguments)
    try:
        with (
            disk_errors_named(),
            tqdm(total=options.patients * options.looks, unit="film", disable=None) as bar,
        ):
            make_store(
                options.out,
                seed=options.seed,
                patients=options.patients,
                looks=options.looks,
                height=options.height,
                width=options.width,
                workers=options.workers,
                most_gib=options.most_gib,
                progress=bar.update,
            )
    except SpineZooError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
