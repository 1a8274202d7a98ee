"""Objects of instance networks: which of them are one, and what their predictors share."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import InvalidOutputError
from spinezoo_contract.types import VERTEBRAE, Structure

from spinezoo_spine.inference import postprocess as finish
from spinezoo_spine.inference.options import ResolvedOptions
from spinezoo_spine.inference.predictors import FilmPredictor, Outlines
from spinezoo_spine.inference.preprocess import Letterbox


class Objects(NamedTuple):
    """Detections of one film as arrays.

    Attributes:
        masks: (N, h, w) float32 probabilities that cover the whole canvas, on any grid.
        scores: (N,) float32.
        labels: (N,) integers from 1: label k is ``structures[k - 1]`` of the card.
    """

    masks: NDArray[np.float32]
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
    return Objects(objects.masks[kept], objects.scores[kept], objects.labels[kept])


def _second(objects: Objects, which: NDArray[np.intp], most: float) -> list[int]:
    """Which of some objects overlap a better one of them by more than ``most``."""
    if len(which) < 2:
        return []
    which = which[np.argsort(-objects.scores[which], kind="stable")]
    masks = objects.masks[which] > 0.5
    rows, columns = masks.any(axis=(0, 2)), masks.any(axis=(0, 1))
    flat = masks[:, rows][:, :, columns].reshape(len(which), -1).astype(np.float32)
    overlap = flat @ flat.T
    size = overlap.diagonal()
    ious = overlap / np.maximum(size[:, None] + size[None, :] - overlap, 1.0)
    stay: list[int] = []
    second: list[int] = []
    for index in range(len(which)):
        if (ious[index, stay] <= most).all():
            stay.append(index)
        else:
            second.append(int(which[index]))
    return second


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
            output.masks[kept],
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
            masks.ndim == 3
            and len(masks) == count
            and labels.shape == scores.shape == (count,)
            and bool(np.isfinite(scores).all())
            and bool(np.isfinite(masks).all())
            and bool(((labels >= 1) & (labels <= len(self.card.structures))).all())
        )
        if not sound:
            raise InvalidOutputError(
                f"{self.card.name} answered masks {masks.shape}, scores {scores.shape}, labels "
                f"{labels.shape} that are not finite, not alike or of unknown classes; check the "
                "weights"
            )
