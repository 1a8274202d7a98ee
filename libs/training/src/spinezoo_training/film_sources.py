"""Where the films of a training come from: a folder, or phantoms that are made on the spot.

::

    source = PhantomFilms(seed=7, height=320, width=256)
    place = {"epoch": 0, "step": 0}
    films = augmented_batch(source, seed=0, batch_size=8, **place, settings=AugmentSettings())

A batch is a pure function of seeds, epoch and step, so a training that was stopped goes on with
the very films it would have seen, with any number of worker processes.
"""

from __future__ import annotations

import argparse
import hashlib
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError
from spinezoo_phantom.settings import GENERATOR
from tqdm import tqdm

from spinezoo_training.dataset import (
    AugmentSettings,
    PreparedFilm,
    PreparedSet,
    augment,
    prepare_film_set,
)
from spinezoo_training.phantom_films import training_films
from spinezoo_training.phantom_store import open_store, read_record
from spinezoo_training.splits import split_names

PHANTOMS = "phantoms:"
"""``--data phantoms:SEED`` makes films on the spot; anything else is a folder."""

LANES = 24
"""Batches are dealt to this many lanes, each with a pool of its own. As many worker processes as
divide it share the lanes without making a film twice, and what is trained on does not depend on
their number."""

WINDOW_BATCHES = 2
"""Patients of a lane's pool, in batches: twice as many as a batch takes, each at most once."""

HELD_OUT_START = 1 << 30
"""Number of the first patient of a stream that only validates; training never gets that far."""

EPOCH_FILMS = 1000
VALIDATION_FILMS = 60
LOOKS = 3
USES = 3
POOL_MIB = 1024
"""Default and reason: 1152 films of 320 x 256 need 90 MiB, 4608 of 550 x 550 need 1.3 GiB."""

MakeFilms = Callable[[int, int, int, int, int], list[PreparedFilm]]
"""(seed, patient's number, height, width, looks) -> that many films of one patient."""

Encoded = TypeVar("Encoded")


class FilmSource(ABC):
    """Films to train on, by batch. Cheap to send to worker processes."""

    @property
    @abstractmethod
    def epoch_films(self) -> int:
        """Films of an epoch."""

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What must be equal for a stopped run to go on; plain JSON values."""

    @abstractmethod
    def batch(
        self, seed: int, batch_size: int, epoch: int, step: int
    ) -> list[tuple[PreparedFilm, tuple[int, ...]]]:
        """Films of a batch, each with the key of its random stream.

        Args:
            seed: Of the order.
            batch_size: Films to give.
            epoch: From 0.
            step: Batch within the epoch, from 0 to below :meth:`steps`.
        """

    @abstractmethod
    def different_films(self, seed: int, batch_size: int, steps: int) -> int:
        """How many different films the first ``steps`` batches hold."""

    def steps(self, batch_size: int) -> int:
        """Batches of an epoch, all of one size.

        Films that are left over wait for another epoch's order: a batch of another size would
        change the batch statistics.
        """
        return self.epoch_films // batch_size

    def check(self, batch_size: int, workers: int) -> None:
        """Refuses what does not go together.

        Raises:
            ConfigurationError: Too few films for a batch, too many workers, too much memory.
        """
        if workers < 0:
            raise ConfigurationError(f"workers is {workers}; use 0 or more")
        if not 2 <= batch_size <= self.epoch_films:
            raise ConfigurationError(
                f"{self.epoch_films} film(s) an epoch in batches of {batch_size}; batch "
                "normalisation needs at least 2 a batch: add films or take smaller batches"
            )


class FolderFilms(FilmSource):
    """The prepared films of a folder, each once an epoch."""

    def __init__(self, films: PreparedSet) -> None:
        self.films = films

    @property
    def epoch_films(self) -> int:
        """All of them."""
        return len(self.films)

    @property
    def identity(self) -> dict[str, Any]:
        """A digest of the names."""
        names = "\n".join(sorted(self.films.names))
        return {"films": hashlib.sha256(names.encode()).hexdigest()}

    def batch(
        self, seed: int, batch_size: int, epoch: int, step: int
    ) -> list[tuple[PreparedFilm, tuple[int, ...]]]:
        """The next films of the epoch's order."""
        order = np.random.default_rng([seed, epoch]).permutation(len(self.films))
        chosen = order[step * batch_size : (step + 1) * batch_size]
        return [(self.films[int(index)], (epoch, int(index))) for index in chosen]

    def different_films(self, seed: int, batch_size: int, steps: int) -> int:
        """The films of the folder, or what was seen of them."""
        return min(len(self.films), steps * batch_size)


class PhantomFilms(FilmSource):
    """Phantoms that are made when they are needed, kept for a while and replaced by new ones.

    A patient is rendered with ``looks`` looks. Each film is used ``uses`` times on average, with
    fresh augmentation, before its patient leaves the pool. No film is ever read from a disk.
    """

    def __init__(
        self,
        seed: int,
        height: int,
        width: int,
        *,
        epoch_films: int = EPOCH_FILMS,
        looks: int = LOOKS,
        uses: int = USES,
        pool_mib: int = POOL_MIB,
        make: MakeFilms = training_films,
    ) -> None:
        """Makes no film yet.

        Args:
            seed: Of the stream of patients.
            height: Rows of the canvas.
            width: Columns of the canvas.
            epoch_films: Films of an epoch.
            looks: Films of one patient.
            uses: How often a film is used, on average.
            pool_mib: Most memory of the pool, over all worker processes.
            make: The generator.

        Raises:
            ConfigurationError: A number is out of range.
        """
        numbers = {"epoch_films": epoch_films, "looks": looks, "uses": uses, "pool_mib": pool_mib}
        for name, number in numbers.items():
            if number < 1:
                raise ConfigurationError(f"{name} is {number}; use 1 or more")
        if seed < 0:
            raise ConfigurationError(f"the seed of the phantoms is {seed}; use 0 or more")
        self.seed, self.height, self.width = seed, height, width
        self.looks, self.uses, self.pool_mib = looks, uses, pool_mib
        self._epoch_films, self._make = epoch_films, make
        self._pools: list[dict[int, list[PreparedFilm]]] = [{} for _ in range(LANES)]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pools": [{} for _ in range(LANES)]}

    @property
    def epoch_films(self) -> int:
        """As stated."""
        return self._epoch_films

    @property
    def identity(self) -> dict[str, Any]:
        """Generator, seed and how its films are used."""
        return {
            "phantoms": {
                "generator": str(GENERATOR),
                "seed": self.seed,
                "looks": self.looks,
                "uses": self.uses,
                "epoch_films": self.epoch_films,
            }
        }

    def pool_bytes(self, batch_size: int) -> int:
        """Grey levels that the pool holds at most, in bytes."""
        return LANES * WINDOW_BATCHES * batch_size * self.looks * self.height * self.width

    def check(self, batch_size: int, workers: int) -> None:
        """As for every source, and the size of the pool and the number of workers."""
        super().check(batch_size, workers)
        needed = self.pool_bytes(batch_size) / 2**20
        if needed > self.pool_mib:
            raise ConfigurationError(
                f"the pool of phantoms needs {needed:.0f} MiB in batches of {batch_size}, more "
                f"than the limit of {self.pool_mib}; raise --pool-mib or take fewer --looks or "
                "smaller batches"
            )
        if workers and LANES % workers:
            fitting = ", ".join(str(n) for n in range(1, LANES + 1) if LANES % n == 0)
            raise ConfigurationError(
                f"{workers} workers cannot share {LANES} lanes of phantoms; use 0 or one of "
                f"{fitting}"
            )

    def picks(self, seed: int, batch_size: int, number: int) -> list[tuple[int, int]]:
        """Patient's number and look of each film of batch ``number``, counted over all epochs."""
        rng = np.random.default_rng([seed, number])
        lane, turn = number % LANES, number // LANES
        first = self._first(batch_size, turn)
        places = rng.permutation(WINDOW_BATCHES * batch_size)[:batch_size]
        looks = rng.integers(self.looks, size=batch_size)
        return [
            ((first + int(place)) * LANES + lane, int(look))
            for place, look in zip(places, looks, strict=True)
        ]

    def _first(self, batch_size: int, turn: int) -> int:
        """The oldest patient of a lane's pool at one of its turns, counted within the lane."""
        return turn * batch_size // (self.uses * self.looks)

    def batch(
        self, seed: int, batch_size: int, epoch: int, step: int
    ) -> list[tuple[PreparedFilm, tuple[int, ...]]]:
        """Films of a lane's pool; those that are not there yet are made."""
        number = epoch * self.steps(batch_size) + step
        lane, turn = number % LANES, number // LANES
        oldest = self._first(batch_size, turn)
        pool = self._pools[lane]
        for patient in [patient for patient in pool if patient // LANES < oldest]:
            del pool[patient]
        films: list[tuple[PreparedFilm, tuple[int, ...]]] = []
        for position, (patient, look) in enumerate(self.picks(seed, batch_size, number)):
            if patient not in pool:
                pool[patient] = self._films_of(patient, self.looks)
            films.append((pool[patient][look], (number, position)))
        return films

    def different_films(self, seed: int, batch_size: int, steps: int) -> int:
        """Counted by going through all picks again."""
        return len({pick for n in range(steps) for pick in self.picks(seed, batch_size, n)})

    def held_out(self, count: int, *, progress: bool = False) -> list[PreparedFilm]:
        """Films of patients that training never sees, one look of each; always the same."""
        numbers = tqdm(
            range(HELD_OUT_START, HELD_OUT_START + count),
            desc="making validation films",
            unit="film",
            disable=not progress,
            mininterval=2.0,
        )
        return [self._films_of(number, 1)[0] for number in numbers]

    def _films_of(self, patient: int, looks: int) -> list[PreparedFilm]:
        films = self._make(self.seed, patient, self.height, self.width, looks)
        shapes = {film.grey.shape for film in films}
        if len(films) != looks or shapes != {(self.height, self.width)}:
            raise ConfigurationError(
                f"the generator gave {len(films)} films of {sorted(shapes)} for {looks} of "
                f"{self.height} x {self.width}; mend it"
            )
        return films


class StoredPhantoms(FilmSource):
    """Phantoms that were made beforehand (:mod:`spinezoo_training.phantom_store`), over and over."""

    def __init__(self, films: PreparedSet, *, epoch_films: int = EPOCH_FILMS) -> None:
        """Reads no film yet.

        Args:
            films: Of a store (:func:`spinezoo_training.phantom_store.open_store`).
            epoch_films: Films of an epoch; the store is gone through in one order after another,
                whatever an epoch is.

        Raises:
            ConfigurationError: ``epoch_films`` is out of range.
        """
        if epoch_films < 1:
            raise ConfigurationError(f"epoch_films is {epoch_films}; use 1 or more")
        self.films, self.record = films, read_record(films.folder)
        self._epoch_films = epoch_films
        self._order: tuple[tuple[int, int], NDArray[np.int64]] | None = None

    @property
    def epoch_films(self) -> int:
        """As stated."""
        return self._epoch_films

    @property
    def identity(self) -> dict[str, Any]:
        """Generator, seed and what of it is in the store."""
        kept = ("generator", "seed", "patients", "looks")
        return {
            "phantoms": {
                **{name: self.record[name] for name in kept},
                "epoch_films": self.epoch_films,
            }
        }

    def _film_at(self, seed: int, place: int) -> int:
        """Which film is the ``place``-th of a run."""
        turn, position = divmod(place, len(self.films))
        key = (seed, turn)
        if self._order is None or self._order[0] != key:
            self._order = key, np.random.default_rng(key).permutation(len(self.films))
        return int(self._order[1][position])

    def batch(
        self, seed: int, batch_size: int, epoch: int, step: int
    ) -> list[tuple[PreparedFilm, tuple[int, ...]]]:
        """The next films of the order."""
        number = epoch * self.steps(batch_size) + step
        places = range(number * batch_size, (number + 1) * batch_size)
        return [
            (self.films[self._film_at(seed, place)], (number, position))
            for position, place in enumerate(places)
        ]

    def different_films(self, seed: int, batch_size: int, steps: int) -> int:
        """The films of the store, or what was seen of them."""
        return min(len(self.films), steps * batch_size)


def augmented_batch(
    source: FilmSource,
    *,
    seed: int,
    batch_size: int,
    epoch: int,
    step: int,
    settings: AugmentSettings | None,
) -> list[PreparedFilm]:
    """A batch as a network sees it: pure in its numbers; None leaves the films as they are."""
    batch = source.batch(seed, batch_size, epoch, step)
    if settings is None:
        return [film for film, _ in batch]
    return [augment(film, np.random.default_rng([seed, *key]), settings) for film, key in batch]


# ------------------------------------------------------------------------ batches ahead of time

_encode_here: Callable[[int, int], Any]


def _prepare_worker(encode: Callable[[int, int], Any]) -> None:
    global _encode_here
    _encode_here = encode
    cv2.setNumThreads(1)
    # The training process decides when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _encode_in_worker(epoch: int, step: int) -> Any:
    return _encode_here(epoch, step)


def batches_ahead(
    encode: Callable[[int, int], Encoded], epoch: int, step: int, steps: int, workers: int
) -> Generator[Encoded, None, None]:
    """Encoded batches without end from a place on, made two batches ahead a worker.

    For frameworks that bring no loader of their own.

    Args:
        encode: (epoch, step) -> the batch; with workers it is sent to each of them once.
        epoch: Where to begin.
        step: Where to begin in it.
        steps: Batches of an epoch.
        workers: Processes; 0 takes a thread of this one. Batch ``n`` is made by worker
            ``n % workers``, so that each keeps to its lanes.
    """
    cv2.setNumThreads(1)
    if workers:
        # Not "fork": a framework's threads may hold locks.
        context = get_context("spawn")
        pools: list[Executor] = [
            ProcessPoolExecutor(
                1, mp_context=context, initializer=_prepare_worker, initargs=(encode,)
            )
            for _ in range(workers)
        ]
        task: Callable[[int, int], Any] = _encode_in_worker
    else:
        pools, task = [ThreadPoolExecutor(1)], encode
    waiting: list[Future[Encoded]] = []
    number = epoch * steps + step
    try:
        while True:
            while len(waiting) < 2 * len(pools):
                pool = pools[number % len(pools)]
                waiting.append(pool.submit(task, *divmod(number, steps)))
                number += 1
            yield waiting.pop(0).result()
    finally:
        for pool in pools:
            pool.shutdown(wait=True, cancel_futures=True)


# ------------------------------------------------------------------------------- command line


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
        help="phantoms: folder of films made beforehand by python -m spinezoo_training.phantom_store",
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
        record={},
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
