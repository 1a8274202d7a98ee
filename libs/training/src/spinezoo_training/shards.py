"""Folders of training examples in NumPy files of so many patients each, made by several processes.

A store that was cut short goes on where it stopped. The films of networks have a store of their
own kind, see :mod:`spinezoo_training.phantom_store`.
"""

from __future__ import annotations

import errno
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError
from spinezoo_phantom.settings import GENERATOR
from spinezoo_serving.disk import replace_file, replacing
from spinezoo_serving.workers import follow_parent
from tqdm import tqdm

RECORD_FILE = "store.json"

MakeShard = Callable[[Path, int, int, range], object]
"""Makes one shard: its file, the seed of the stream, looks at a patient, the patients."""


def make_shards(
    folder: Path,
    make: MakeShard,
    *,
    patients_a_shard: int,
    seed: int,
    patients: int,
    looks: int,
    workers: int,
) -> None:
    """Makes what is missing of a store.

    Args:
        folder: Of the store.
        make: A function of a module, which the workers import.
        patients_a_shard: Patients of one file.
        seed: Of the stream of patients.
        patients: How many.
        looks: Films of one patient.
        workers: Processes.

    Raises:
        ConfigurationError: The folder holds examples of other numbers.
    """
    record = {"generator": str(GENERATOR), "seed": seed, "patients": patients, "looks": looks}
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / RECORD_FILE
    if not note.is_file():
        replace_file(note, json.dumps(record) + "\n")
    elif read_record(folder) != record:
        raise ConfigurationError(
            f"{folder} holds examples of other numbers; remove it or choose another folder"
        )
    missing = [
        range(start, min(start + patients_a_shard, patients))
        for start in range(0, patients, patients_a_shard)
        if not _path_of(folder, start).is_file()
    ]
    with (
        ProcessPoolExecutor(workers, get_context("spawn"), initializer=follow_parent) as pool,
        tqdm(total=len(missing), unit="shard", disable=None) as bar,
    ):
        for _ in pool.map(partial(_make, make, folder, seed, looks), missing):
            bar.update()


def _make(make: MakeShard, folder: Path, seed: int, looks: int, some: range) -> None:
    make(_path_of(folder, some.start), seed, looks, some)


def _path_of(folder: Path, start: int) -> Path:
    return folder / f"{start:06d}.npz"


def write_shard(path: Path, **arrays: NDArray[Any]) -> None:
    """Writes arrays as one file, whole or not at all."""
    with replacing(path) as unfinished, unfinished.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def read_shards(folder: Path, names: Sequence[str]) -> Iterator[dict[str, NDArray[Any]]]:
    """The arrays of each file of a store, in order.

    Args:
        folder: Of the store.
        names: Arrays that each of its files has.

    Raises:
        ConfigurationError: There is none, or one is damaged or of another form.
    """
    paths = sorted(folder.glob("[0-9]*[0-9].npz"))
    if not paths:
        raise ConfigurationError(f"{folder} holds no examples; make them first")
    for path in paths:
        try:
            shard = read_arrays(path, names)
        except ValueError as error:
            raise ConfigurationError(
                f"{path} is damaged or of another version; remove it and start again: what is "
                "missing is made anew"
            ) from error
        yield shard


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays of one NumPy file, each checked by its sum.

    Args:
        path: The file.
        names: Arrays that it has.

    Raises:
        ValueError: It is damaged, or has not all of them.
        OSError: It cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as file:
            # Each is read whole before NumPy sees it: only then its sum has been looked at.
            return {
                name: np.load(io.BytesIO(file.read(f"{name}.npy")), allow_pickle=False)
                for name in names
            }
    except (EOFError, KeyError, RuntimeError, OSError, zipfile.BadZipFile) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that: a place before 0
            raise
        raise ValueError("damaged") from error


def read_record(folder: Path) -> dict[str, Any]:
    """What a store holds: generator, seed, patients, looks.

    Raises:
        ConfigurationError: Its record is damaged.
    """
    path = folder / RECORD_FILE
    try:
        record = json.loads(path.read_bytes())
        if isinstance(record, dict):
            return record
    except ValueError:
        pass
    raise ConfigurationError(f"{path} is damaged; remove the folder and start again")
