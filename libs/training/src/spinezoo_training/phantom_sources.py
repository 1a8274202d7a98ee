"""Phantoms to train on: made on the spot, or beforehand into a store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError
from spinezoo_contract.words import counted
from spinezoo_phantom.settings import GENERATOR
from tqdm import tqdm

from spinezoo_training.film_sources import FilmSource
from spinezoo_training.phantom_films import training_films
from spinezoo_training.phantom_store import read_record
from spinezoo_training.prepared_set import PreparedFilm, PreparedSet

LANES = 24
"""Batches are dealt to this many lanes, each with a pool of its own. As many worker processes as
divide it share the lanes without making a film twice, and what is trained on does not depend on
their number."""

WINDOW_BATCHES = 2
"""Patients of a lane's pool, in batches: twice as many as a batch takes, each at most once."""

HELD_OUT_START = 1 << 30
"""Number of the first patient of a stream that only validates; training never gets that far."""

EPOCH_FILMS = 1000
LOOKS = 3
USES = 3
POOL_MIB = 1024
"""Default and reason: 1152 films of 320 x 256 need 90 MiB, 4608 of 550 x 550 need 1.3 GiB."""

MakeFilms = Callable[[int, int, int, int, int], list[PreparedFilm]]
"""(seed, patient's number, height, width, looks) -> that many films of one patient."""


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
            disable=None if progress else True,
            mininterval=2.0,
        )
        return [self._films_of(number, 1)[0] for number in numbers]

    def _films_of(self, patient: int, looks: int) -> list[PreparedFilm]:
        films = self._make(self.seed, patient, self.height, self.width, looks)
        shapes = {film.grey.shape for film in films}
        if len(films) != looks or shapes != {(self.height, self.width)}:
            raise ConfigurationError(
                f"the generator gave {counted(len(films), 'film')} of {sorted(shapes)} for "
                f"{looks} of {self.height} x {self.width}; mend it"
            )
        return films


class StoredPhantoms(FilmSource):
    """Phantoms made beforehand (:mod:`spinezoo_training.phantom_store`), over and over."""

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
