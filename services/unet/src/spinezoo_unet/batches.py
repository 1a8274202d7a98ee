"""Training batches as bytes, and what the network gets of them.

Three bytes a pixel travel from the processes that prepare films to the one that trains, and from
there to an accelerator; two channels in half precision and weights would be seven.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from spinezoo_spine.inference.preprocess import two_channels
from spinezoo_training.prepared_set import PreparedFilm
from spinezoo_training.targets import CLASS_WEIGHTS, label_map_with_gaps

GAP_STEPS = 50
"""Steps of a unit of weight; a byte holds what ``GAP_WEIGHT`` can add to it."""


class Batch(NamedTuple):
    """Films for one step; every array is (N, h, w) ``uint8``, or (h, w) of one film.

    Attributes:
        grey: Grey levels on the canvas.
        labels: Numbers of the structures, 0 for background.
        gaps: What a pixel weighs above 1, in steps of 1 / :data:`GAP_STEPS`.
    """

    grey: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    gaps: NDArray[np.uint8]


def encode(film: PreparedFilm) -> Batch:
    """One film; every array is (h, w)."""
    labels, weights = label_map_with_gaps(film)
    return Batch(film.grey, labels, np.rint((weights - 1.0) * GAP_STEPS).astype(np.uint8))


def collate(films: Sequence[Batch]) -> Batch:
    """Films of one size as a batch."""
    grey, labels, gaps = zip(*films, strict=True)
    return Batch(np.stack(grey), np.stack(labels), np.stack(gaps))


def inputs_of(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, h, w, 2) network inputs of (N, h, w) grey levels, by the function that serves."""
    unit = grey.astype(np.float32) / np.float32(255.0)
    return np.stack([two_channels(film).transpose(1, 2, 0) for film in unit])


def weights_of(gaps: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, h, w) weights of the pixels: the class's, times 1 to 1 + ``GAP_WEIGHT``."""
    by_class = np.ones(256, dtype=np.float32)
    by_class[list(CLASS_WEIGHTS)] = list(CLASS_WEIGHTS.values())
    gap = np.float32(1.0) + gaps.astype(np.float32) / np.float32(GAP_STEPS)
    return gap * by_class[labels]
