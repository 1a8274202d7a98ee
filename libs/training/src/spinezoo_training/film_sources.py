"""Where the films of a training come from, by batch.

::

    source = PhantomFilms(seed=7, height=320, width=256)
    place = {"epoch": 0, "step": 0}
    films = augmented_batch(source, seed=0, batch_size=8, **place, settings=AugmentSettings())

A batch is a pure function of seeds, epoch and step, so a training that was stopped goes on with
the very films it would have seen, with any number of worker processes. Films of a folder are here,
phantoms in :mod:`spinezoo_training.phantom_sources`.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from spinezoo_contract.errors import ConfigurationError
from spinezoo_contract.words import counted

from spinezoo_training.augmentation import AugmentSettings, augment
from spinezoo_training.prepared_set import PreparedFilm, PreparedSet


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
                f"{counted(self.epoch_films, 'film')} an epoch in batches of {batch_size}; batch "
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
