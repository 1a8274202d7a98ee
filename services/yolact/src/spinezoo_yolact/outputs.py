"""What goes in and out: the network's output, the truth it learns from, detections."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class YolactOutput(NamedTuple):
    """What the network says about a batch.

    Attributes:
        boxes: (N, P, 4) box offsets from the priors, see :func:`decode_boxes`.
        class_logits: (N, P, 1 + C); plane 0 is background.
        coefficients: (N, P, K), -1 to 1.
        prototypes: (N, prototype height, prototype width, K), not negative.
        semantic_logits: (N, C, height, width) of the finest pyramid level.
        priors: (P, 4) centres.
    """

    boxes: Tensor
    class_logits: Tensor
    coefficients: Tensor
    prototypes: Tensor
    semantic_logits: Tensor
    priors: Tensor


class Truth(NamedTuple):
    """The true objects of one film.

    Attributes:
        boxes: (G, 4) corners, 0 to 1.
        classes: (G,) int64, 1 to C.
        masks: (G, height, width) 0 or 1, on any grid that covers the input and is at least as fine
            as the prototypes'.
    """

    boxes: Tensor
    classes: Tensor
    masks: Tensor


class Detections(NamedTuple):
    """The found objects of one film, best score first.

    Attributes:
        boxes: (D, 4) corners, 0 to 1.
        labels: (D,) int64, 1 to C.
        scores: (D,), 0 to 1.
        masks: (D, prototype height, prototype width) probabilities, 0 outside the box.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    masks: Tensor
