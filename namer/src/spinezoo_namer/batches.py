"""Batches of examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from spinezoo_spine.column.reader.looking import RIB_SPOTS
from spinezoo_spine.column.reader.readings import LUMBAR_COUNTS
from spinezoo_torchkit.small_training import Epoch
from torch import Tensor

from spinezoo_namer.examples import NONE, TURNED_SHARE, Example, example_of
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

    given: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
    positions: Tensor
    lumbar: Tensor
    kinds: Tensor
    named: Tensor

    def to(self, device: str) -> Batch:
        """The same batch on a device."""
        if device == "cpu":
            return self
        views, facts, pairs, outlined, film, ribs = (each.to(device) for each in self.given)
        return Batch(
            (views, facts, pairs, outlined, film, ribs),
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
        np.concatenate([e.given.ribs[: len(e.positions[RIB_SPOTS])] for e in examples]),
    )
    views, *rest = (torch.from_numpy(array) for array in arrays)
    return Batch(
        (views, rest[0], rest[1], rest[2], rest[3], rest[4]),
        torch.from_numpy(positions),
        torch.tensor([LUMBAR_COUNTS.index(example.lumbar_count) for example in examples]),
        torch.tensor([int(example.kind) for example in examples]),
        torch.tensor([example.named for example in examples]),
    )


class Films(Epoch[Batch]):
    """Batches of one epoch: each film once, frontal ones as often as asked."""

    def __init__(
        self,
        films: Sequence[StoredFilm],
        seed: int,
        epoch: int,
        batch_size: int,
        disguised_share: float = 0.0,
        cut_short_share: float = 0.0,
        turned_share: float = TURNED_SHARE,
        frontal_share: float = 0.0,
    ) -> None:
        """Chooses the order.

        Args:
            films: All of them.
            seed: Of the training.
            epoch: Number of the epoch.
            batch_size: Films of a batch.
            disguised_share: How often a film is made unlike phantoms.
            cut_short_share: How often a film is cut to end within S1 or above.
            turned_share: How often a lateral film is shown turned or upside down.
            frontal_share: Least share of films that are not lateral; they are looked at several
                times for that.
        """
        self.films = films
        self.turned_share = turned_share
        self.cut_short_share = cut_short_share
        self.disguised_share = disguised_share
        frontal = np.array([film.view != "lateral" for film in films], bool)
        times = 1
        if frontal.any() and not frontal.all():
            wanted = frontal_share * np.count_nonzero(~frontal) / (1.0 - frontal_share)
            times = max(1, math.ceil(wanted / np.count_nonzero(frontal)))
        places = np.arange(len(films))
        super().__init__(np.repeat(places, np.where(frontal, times, 1)), seed, epoch, batch_size)

    def batch(self, number: int, places: NDArray[np.int64]) -> Batch:
        """Looks at these films."""
        examples = []
        for row, place in enumerate(places.tolist()):
            rng = np.random.default_rng((self.seed, self.epoch, number, row))
            disguise = bool(rng.random() < self.disguised_share) if self.disguised_share else False
            cut = bool(rng.random() < self.cut_short_share) if self.cut_short_share else False
            film = self.films[place]
            examples.append(
                example_of(film, rng, disguise=disguise, cut=cut, turned_share=self.turned_share)
            )
        return batch_of(examples)
