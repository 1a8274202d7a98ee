"""Batches of examples, made by worker processes while the network learns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from spinezoo_spine.column.reader.readings import LUMBAR_COUNTS
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from spinezoo_namer.examples import NONE, Example, example_of
from spinezoo_namer.store import StoredFilm


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Several examples with spots padded to one number; see ``ReaderNetwork.of_batch``.

    Attributes:
        given: What the network is given.
        positions: (B, N) true positions, ``NONE`` for none and for padding.
        lumbar: (B,) place of the true count among ``LUMBAR_COUNTS``.
        kinds: (B,) what the films show.
        named: (B,) whether positions are to be learnt.
    """

    given: tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
    positions: Tensor
    lumbar: Tensor
    kinds: Tensor
    named: Tensor

    def to(self, device: str) -> Batch:
        """The same batch on a device."""
        if device == "cpu":
            return self
        views, facts, pairs, outlined, film = (each.to(device) for each in self.given)
        return Batch(
            (views, facts, pairs, outlined, film),
            *(each.to(device) for each in (self.positions, self.lumbar, self.kinds, self.named)),
        )


def batch_of(examples: Sequence[Example]) -> Batch:
    """Pads and stacks."""
    count = max(len(example.positions) for example in examples)
    first = examples[0].given
    shape = (len(examples), count)
    facts = np.zeros((*shape, first.facts.shape[1]), np.float32)
    pairs = np.zeros((*shape, count, first.pairs.shape[2]), np.float32)
    outlined = np.full(shape, -1.0, np.float32)
    positions = np.full(shape, NONE, np.int64)
    for row, example in enumerate(examples):
        spots = len(example.positions)
        facts[row, :spots] = example.given.facts
        pairs[row, :spots, :spots] = example.given.pairs
        outlined[row, :spots] = example.given.outlined
        positions[row, :spots] = example.positions
    arrays = (
        np.concatenate([example.given.views for example in examples]),
        facts,
        pairs,
        outlined,
        np.concatenate([example.given.film for example in examples]),
    )
    views, *rest = (torch.from_numpy(array) for array in arrays)
    return Batch(
        (views, rest[0], rest[1], rest[2], rest[3]),
        torch.from_numpy(positions),
        torch.tensor([LUMBAR_COUNTS.index(example.lumbar_count) for example in examples]),
        torch.tensor([int(example.kind) for example in examples]),
        torch.tensor([example.named for example in examples]),
    )


class Epoch(IterableDataset[Batch]):
    """Batches of one epoch: each film once, in an order and with chances of its own."""

    def __init__(
        self, films: Sequence[StoredFilm], seed: int, epoch: int, batch_size: int, size: int
    ) -> None:
        """Chooses the films.

        Args:
            films: All films.
            seed: Of the training.
            epoch: Number of the epoch.
            batch_size: Films of a batch.
            size: Films of the epoch at most.
        """
        self.films, self.seed, self.epoch, self.batch_size = films, seed, epoch, batch_size
        order = np.random.default_rng((seed, epoch)).permutation(len(films))[:size]
        self.order = order[: len(order) // batch_size * batch_size]

    def __len__(self) -> int:
        return len(self.order) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        cv2.setNumThreads(1)
        worker = torch.utils.data.get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for batch in range(first, len(self), step):
            places = self.order[batch * self.batch_size : (batch + 1) * self.batch_size]
            examples = [
                example_of(
                    self.films[place], np.random.default_rng((self.seed, self.epoch, int(place)))
                )
                for place in places
            ]
            yield batch_of(examples)


def loader(epoch: Epoch, workers: int) -> DataLoader[Batch]:
    """Runs an epoch in worker processes; 0: in this one."""
    return DataLoader(
        epoch,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="fork" if workers else None,
    )
