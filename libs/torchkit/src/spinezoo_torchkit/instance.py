"""The predictor of the instance networks: one soft mask an object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from spinezoo_serving.cards import ModelCard
from spinezoo_spine.inference.objects import InstancePredictor, Objects, box_suppression
from spinezoo_spine.inference.options import ResolvedOptions
from spinezoo_spine.inference.soft_masks import SoftMasks
from torch import nn

from spinezoo_torchkit.device import autocast
from spinezoo_torchkit.loading import inference_precision, load_network, precision_name


class Detections(Protocol):
    """The objects that a network found on one film; there may be none."""

    @property
    def masks(self) -> torch.Tensor:
        """(N, h, w) probabilities from 0 to 1 that cover the whole canvas, on any grid."""

    @property
    def scores(self) -> torch.Tensor:
        """(N,) scores."""

    @property
    def labels(self) -> torch.Tensor:
        """(N,) integers from 1: label k is ``structures[k - 1]`` of the card."""


Detect = Callable[..., Sequence[Detections]]
"""``detect(network, inputs, *, score_threshold, suppression_iou, max_detections)`` answers the
:class:`Detections` of each of (n, 2, h, w) inputs on the network's device. Called in inference
mode, in the card's precision."""


def objects_of(found: Detections) -> Objects:
    """A network's detections as arrays, unchecked."""
    return Objects(
        SoftMasks.of(found.masks.detach().float().cpu().numpy()),
        found.scores.detach().float().cpu().numpy(),
        found.labels.detach().cpu().numpy(),
    )


class TorchInstancePredictor(InstancePredictor):
    """An instance network in torch.

    Attributes:
        network: In evaluation mode on the device.
    """

    def __init__(
        self, card: ModelCard, network: nn.Module, device: torch.device, detect: Detect
    ) -> None:
        """Takes a network from :func:`spinezoo_torchkit.loading.load_network`.

        Args:
            card: Its card.
            network: The network.
            device: Where it lies.
            detect: From inputs to detections, see :data:`Detect`.

        Raises:
            CardError: The card asks for another preprocessing.
            ConfigurationError: It names an unknown precision.
        """
        super().__init__(card, str(device), precision_name(card), engine="torch")
        self.network = network.eval()
        self._precision = inference_precision(card)
        self._detect = detect

    def objects(
        self, inputs: NDArray[np.float32], settings: ResolvedOptions, box_iou: float
    ) -> Objects:
        """The objects of one film; see ``InstancePredictor.objects``."""
        (found,) = self._found([inputs], settings, box_iou)
        return found

    def infer_many(
        self, inputs: Sequence[NDArray[np.float32]], settings: Sequence[ResolvedOptions]
    ) -> list[Objects]:
        """The objects of several films; see ``FilmPredictor.infer_many``.

        Films go through the network together where their requests ask for the same thresholds,
        which nearly all do: a network takes one set of them.
        """
        together: dict[tuple[float, float, int], list[int]] = {}
        for place, own in enumerate(settings):
            asked = (own.score_threshold, own.suppression_iou, own.max_segments)
            together.setdefault(asked, []).append(place)
        found: dict[int, Objects] = {}
        for places in together.values():
            own = settings[places[0]]
            box_iou = box_suppression(own.suppression_iou)
            films = [inputs[place] for place in places]
            for place, objects in zip(places, self._found(films, own, box_iou), strict=True):
                found[place] = self.checked(objects, own)
        return [found[place] for place in range(len(inputs))]

    def _found(
        self, inputs: Sequence[NDArray[np.float32]], settings: ResolvedOptions, box_iou: float
    ) -> list[Objects]:
        """What the network finds on films that were asked about with the same thresholds."""
        device = torch.device(self.device)
        films = torch.from_numpy(np.stack(inputs))
        with torch.inference_mode(), autocast(device, self._precision):
            found = self._detect(
                self.network,
                films.to(device, memory_format=torch.channels_last),
                score_threshold=settings.score_threshold,
                suppression_iou=box_iou,
                max_detections=settings.max_segments,
            )
        return [objects_of(each) for each in found]


def load_instance(
    card_path: Path, make: Callable[..., nn.Module], detect: Detect, device: str | None
) -> TorchInstancePredictor:
    """The network of a card, its weights and probe checked; see :func:`load_network`."""
    card, network, chosen = load_network(card_path, make, device=device)
    return TorchInstancePredictor(card, network, chosen, detect)
