"""Objects of instance networks: which of them are one, and what their predictors share."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import InvalidOutputError
from spinezoo_contract.types import VERTEBRAE, Structure
from spinezoo_contract.words import counted

from spinezoo_spine.inference import postprocess as finish
from spinezoo_spine.inference.options import ResolvedOptions
from spinezoo_spine.inference.predictors import FilmPredictor, Outlines
from spinezoo_spine.inference.preprocess import Letterbox
from spinezoo_spine.inference.soft_masks import SoftMasks, Window


class Objects(NamedTuple):
    """Detections of one film as arrays.

    Attributes:
        masks: N probabilities that cover the whole canvas, on any grid.
        scores: (N,) float32.
        labels: (N,) integers from 1: label k is ``structures[k - 1]`` of the card.
    """

    masks: SoftMasks
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


CROSSING = frozenset({Structure.SCREW, Structure.ROD})
"""Structures of which two lie on each other on most lateral films: the left and the right one."""


def box_suppression(iou: float) -> float:
    """The overlap of boxes at which a network itself drops one, for a request's ``iou`` of masks.

    61 % of true screws share 0.4 of their box with another one, but only 18 % share 0.7: what is
    one object is decided by :func:`one_an_object`, on masks. The fourth root: 0.4 gives 0.8.
    """
    return math.sqrt(math.sqrt(iou))


def one_an_object(objects: Objects, structures: Sequence[Structure], iou: float) -> Objects:
    """Objects without second outlines of the same one.

    A vertebra is one object whichever class it has: of two vertebral masks that overlap more than
    ``iou`` the one of lower score goes. Of other structures two of one class are compared. Screws
    and rods lie on each other, so two of them may share the square root of ``iou``: 0.63 for 0.4,
    which 5 % of true neighbours share.

    Args:
        objects: What a network found on one film, checked.
        structures: Those of its card.
        iou: Most overlap of masks at 0.5, 0 to 1; the request's ``suppression_iou``.
    """
    kept = np.ones(len(objects.labels), dtype=bool)
    vertebral = np.array([structure in VERTEBRAE for structure in structures], dtype=bool)
    groups = [(np.flatnonzero(vertebral[objects.labels - 1]), iou)]
    for label, structure in enumerate(structures, start=1):
        if structure not in VERTEBRAE:
            most = math.sqrt(iou) if structure in CROSSING else iou
            groups.append((np.flatnonzero(objects.labels == label), most))
    for which, most in groups:
        kept[_second(objects, which, most)] = False
    masks = objects.masks.chosen(np.flatnonzero(kept))
    return Objects(masks, objects.scores[kept], objects.labels[kept])


BESIDE = 0.3
"""Most that boxes of two vertebrae beside each other share, or of two cages."""


def surely_second(
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    structures: Sequence[Structure],
    iou: float,
) -> NDArray[np.bool_]:
    """Which objects :func:`one_an_object` will drop, as far as boxes tell: they need no mask.

    Vertebrae, and cages, fill their boxes alike. On 300 phantoms all of 640 pairs whose boxes
    shared more than the square root of 0.4 shared more than 0.4 of their masks. An object goes only
    for one that surely stays, since nothing better of its kind is near.

    Args:
        boxes: (N, 4) corners (x1, y1, x2, y2), best score first.
        labels: (N,) from 1.
        structures: Those of the network's card.
        iou: The request's ``suppression_iou``.
    """
    kinds = np.arange(1, len(structures) + 1)
    kinds[[structure in VERTEBRAE for structure in structures]] = 0
    crossing = np.array([structure in CROSSING for structure in structures], dtype=bool)
    kind = kinds[labels - 1]
    better = np.triu(kind[:, np.newaxis] == kind, 1) & ~crossing[labels - 1]
    low = np.maximum(boxes[:, np.newaxis, :2], boxes[:, :2])
    high = np.minimum(boxes[:, np.newaxis, 2:], boxes[:, 2:])
    both = np.maximum(high - low, np.float32(0.0)).prod(axis=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    shared = both / np.maximum(area[:, np.newaxis] + area - both, np.float32(1e-6))
    first = ~(better & (shared > BESIDE)).any(axis=0)
    most = max(math.sqrt(iou), 2 * BESIDE)
    return (better & first[:, np.newaxis] & (shared > most)).any(axis=0)


def _second(objects: Objects, which: NDArray[np.intp], most: float) -> list[int]:
    """Which of some objects overlap a better one of them by more than ``most``."""
    if len(which) < 2:
        return []
    stay: list[_Shape] = []
    second: list[int] = []
    for number in which[np.argsort(-objects.scores[which], kind="stable")]:
        shape = _Shape.of(objects.masks.windows[number])
        if all(shape.iou(other) <= most for other in stay):
            stay.append(shape)
        else:
            second.append(int(number))
    return second


class _Shape(NamedTuple):
    """The pixels of an object, in the box around them."""

    top: int
    left: int
    inside: NDArray[np.bool_]
    area: int

    @classmethod
    def of(cls, window: Window) -> _Shape:
        inside = window.values > 0.5
        left, top, width, height = cv2.boundingRect(inside.view(np.uint8))
        inside = inside[top : top + height, left : left + width]
        return cls(window.top + top, window.left + left, inside, int(np.count_nonzero(inside)))

    def iou(self, other: _Shape) -> float:
        """Intersection over union; 0 of two that are empty."""
        if (
            self.top >= other.top + other.inside.shape[0]
            or other.top >= self.top + self.inside.shape[0]
            or self.left >= other.left + other.inside.shape[1]
            or other.left >= self.left + self.inside.shape[1]
        ):
            return 0.0
        shared = int(np.count_nonzero(self._beside(other) & other._beside(self)))
        return shared / max(self.area + other.area - shared, 1)

    def _beside(self, other: _Shape) -> NDArray[np.bool_]:
        """Its part in both boxes."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom = min(self.top + self.inside.shape[0], other.top + other.inside.shape[0])
        right = min(self.left + self.inside.shape[1], other.left + other.inside.shape[1])
        return self.inside[
            top - self.top : max(bottom, top) - self.top,
            left - self.left : max(right, left) - self.left,
        ]


class InstancePredictor(FilmPredictor[Objects]):
    """A loaded instance network.

    Probability maps are asked for in vain: an instance network has no class probability a pixel,
    so the answer holds none.
    """

    @abstractmethod
    def objects(
        self, inputs: NDArray[np.float32], settings: ResolvedOptions, box_iou: float
    ) -> Objects:
        """What the network finds on one film, unchecked.

        Args:
            inputs: (2, height, width) of the card's input.
            settings: Of the request.
            box_iou: Overlap of boxes of one class above which the lesser one is dropped.
        """

    def infer(self, inputs: NDArray[np.float32], settings: ResolvedOptions) -> Objects:
        """The objects of one film, each once; see ``FilmPredictor.infer``."""
        objects = self.objects(inputs, settings, box_suppression(settings.suppression_iou))
        return self.checked(objects, settings)

    def checked(self, objects: Objects, settings: ResolvedOptions) -> Objects:
        """What the network found on one film, each object once.

        Raises:
            InvalidOutputError: It is not finite, not alike, or of unknown classes.
        """
        self._check(objects)
        return one_an_object(objects, self.card.structures, settings.suppression_iou)

    def outlines(self, output: Objects, fit: Letterbox, settings: ResolvedOptions) -> Outlines:
        """One segment an object, best score first; see ``FilmPredictor.outlines``."""
        kept = np.flatnonzero(output.scores >= settings.score_threshold)
        segments = finish.instances_from_masks(
            output.masks.chosen(kept),
            output.scores[kept],
            [self.card.structures[int(label) - 1] for label in output.labels[kept]],
            fit,
            max_segments=settings.max_segments,
        )
        return segments, ()

    def _check(self, objects: Objects) -> None:
        masks, scores, labels = objects
        count = len(scores)
        sound = (
            len(masks) == count
            and labels.shape == scores.shape == (count,)
            and bool(np.isfinite(scores).all())
            and all(bool(np.isfinite(window.values).all()) for window in masks.windows)
            and bool(((labels >= 1) & (labels <= len(self.card.structures))).all())
        )
        if not sound:
            raise InvalidOutputError(
                f"{self.card.name} answered {counted(len(masks), 'mask')}, scores {scores.shape}, "
                f"labels {labels.shape} that are not finite, not alike or of unknown classes; "
                "check the weights"
            )
