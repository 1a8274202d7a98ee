"""The predictor of the instance networks: one soft mask an object."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from spinezoo_contract.cards import ModelCard
from spinezoo_contract.errors import InvalidOutputError
from spinezoo_contract.types import Film, Prediction, PredictOptions, Timing
from spinezoo_spine import finish
from torch import nn

from spinezoo_torchkit.device import autocast
from spinezoo_torchkit.loading import inference_precision
from spinezoo_torchkit.serving import (
    Stopwatch,
    check_film,
    check_preprocessing,
    checked_options,
    network_input,
    provenance,
)

Detections = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""``(mask_probabilities, scores, labels)`` of one film: (N, h, w) float32 from 0 to 1 that cover
the whole canvas (any grid), (N,) float32 scores, (N,) integers from 1: label k is
``structures[k - 1]`` of the card. N may be 0."""

Detect = Callable[..., Detections]
"""``detect(network, inputs, *, score_threshold, suppression_iou, max_segments) -> Detections`` for
(1, 2, h, w) inputs on the network's device; called in inference mode, in the card's precision."""


class InstancePredictor:
    """A loaded instance network.

    Attributes:
        card: The model card with its preset chosen.
        network: In evaluation mode on the device.
        device: Name of the device, such as ``cuda:0``.
        precision: Type that the network computes in, from the card.
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
        """
        check_preprocessing(card)
        self.card = card
        self.network = network.eval()
        self.device = str(device)
        self.precision = inference_precision(card)
        self._detect = detect

    def predict(self, film: Film, options: PredictOptions) -> Prediction:
        """Instances of one film at the film's own size; see ``spinezoo_contract.predictor``.

        Probability maps are asked for in vain: an instance network has no class probability a
        pixel, so the answer holds none.

        Raises:
            FilmError: The film cannot be used.
            OptionError: A setting is out of its range.
            InvalidOutputError: The network answered nonsense.
        """
        settings = checked_options(options, self.card)
        check_film(film)
        watch = Stopwatch()
        inputs, fit = network_input(film, self.card)
        prepare_ms = watch.lap_ms()
        device = torch.device(self.device)
        with torch.inference_mode(), autocast(device, self.precision):
            masks, scores, labels = self._detect(
                self.network,
                inputs.to(device, memory_format=torch.channels_last),
                score_threshold=settings.score_threshold,
                suppression_iou=settings.suppression_iou,
                max_segments=settings.max_segments,
            )
        mask_array = masks.detach().float().cpu().numpy()
        score_array = scores.detach().float().cpu().numpy()
        label_array = labels.detach().cpu().numpy()
        self._check(mask_array, score_array, label_array)
        infer_ms = watch.lap_ms()
        assert settings.score_threshold is not None
        assert settings.max_segments is not None
        kept = np.flatnonzero(score_array >= settings.score_threshold)
        segments = finish.instances_from_masks(
            mask_array[kept],
            score_array[kept],
            [self.card.structures[int(label) - 1] for label in label_array[kept]],
            fit,
            max_segments=settings.max_segments,
        )
        timing = Timing(prepare_ms=prepare_ms, infer_ms=infer_ms, finish_ms=watch.lap_ms())
        return Prediction(
            height=film.height,
            width=film.width,
            segments=segments,
            provenance=provenance(self.card, self.device, timing),
        )

    def _check(
        self,
        masks: np.ndarray,  # (N, h, w)
        scores: np.ndarray,  # (N,)
        labels: np.ndarray,  # (N,)
    ) -> None:
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
