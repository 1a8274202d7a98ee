"""Folders of training examples in NumPy files of so many patients each, made by several processes.

A store that was cut short goes on where it stopped. The films of networks have a store of their
own kind, see :mod:`spinezoo_training.phantom_store`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
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


def shard_paths(folder: Path) -> list[Path]:
    """The files of a store, in order.

    Raises:
        ConfigurationError: There is none.
    """
    paths = sorted(folder.glob("[0-9]*[0-9].npz"))
    if not paths:
        raise ConfigurationError(f"{folder} holds no examples; make them first")
    return paths


def read_record(folder: Path) -> dict[str, Any]:
    """What a store holds: generator, seed, patients, looks."""
    record: dict[str, Any] = json.loads((folder / RECORD_FILE).read_text())
    return record
