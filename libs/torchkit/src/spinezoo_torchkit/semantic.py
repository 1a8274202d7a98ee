"""The predictor of the semantic networks: class probabilities a pixel, one region a structure."""

from __future__ import annotations

import numpy as np
import torch
from spinezoo_contract.cards import ModelCard
from spinezoo_contract.errors import InvalidOutputError
from spinezoo_contract.types import Film, Prediction, PredictOptions, ProbabilityMap, Timing
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


class SemanticPredictor:
    """A loaded semantic network.

    ``suppression_iou`` is checked and otherwise without meaning here: regions are not suppressed.

    Attributes:
        card: The model card with its preset chosen.
        network: In evaluation mode on the device; (n, 2, h, w) to logits (n, 1 + structures, h, w)
            or a coarser grid that covers the same canvas.
        device: Name of the device, such as ``cuda:0``.
        precision: Type that the network computes in, from the card.
    """

    def __init__(self, card: ModelCard, network: nn.Module, device: torch.device) -> None:
        """Takes a network from :func:`spinezoo_torchkit.loading.load_network`.

        Raises:
            CardError: The card asks for another preprocessing.
        """
        check_preprocessing(card)
        self.card = card
        self.network = network.eval()
        self.device = str(device)
        self.precision = inference_precision(card)

    def predict(self, film: Film, options: PredictOptions) -> Prediction:
        """Regions of one film at the film's own size; see ``spinezoo_contract.predictor``.

        Raises:
            FilmError: The film cannot be used.
            OptionError: A setting is out of its range.
            InvalidOutputError: The network answered numbers that are not finite.
        """
        settings = checked_options(options, self.card)
        check_film(film)
        watch = Stopwatch()
        inputs, fit = network_input(film, self.card)
        prepare_ms = watch.lap_ms()
        probabilities = self.probabilities(inputs)[0].cpu().numpy()  # (1 + structures, h, w)
        if not np.isfinite(probabilities).all():
            raise InvalidOutputError(
                f"{self.card.name} answered probabilities that are not finite; check the weights"
            )
        infer_ms = watch.lap_ms()
        assert settings.score_threshold is not None
        assert settings.max_segments is not None
        segments = finish.regions_from_probabilities(
            probabilities,
            self.card.structures,
            fit,
            score_threshold=settings.score_threshold,
            max_segments=settings.max_segments,
        )
        maps: tuple[ProbabilityMap, ...] = ()
        if settings.include_probability_maps:
            maps = finish.probability_maps(probabilities, self.card.structures, fit)
        timing = Timing(prepare_ms=prepare_ms, infer_ms=infer_ms, finish_ms=watch.lap_ms())
        return Prediction(
            height=film.height,
            width=film.width,
            segments=segments,
            provenance=provenance(self.card, self.device, timing),
            probability_maps=maps,
        )

    @torch.inference_mode()
    def probabilities(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, 1 + structures, h, w) float32 probabilities of (n, 2, h, w) prepared films."""
        device = torch.device(self.device)
        inputs = inputs.to(device, memory_format=torch.channels_last)
        with autocast(device, self.precision):
            logits = self.network(inputs)
        return logits.float().softmax(dim=1)
