"""The thresholds as a predictor that the server shell can serve."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import numpy as np
from safetensors.numpy import load_file
from spinezoo_contract.errors import WeightsError
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.types import (
    Film,
    Prediction,
    PredictOptions,
    ProbabilityMap,
    Segment,
    SegmentKind,
    Timing,
)
from spinezoo_serving.cards import ModelCard, load_card, verify_weights
from spinezoo_spine.inference.options import resolve_options
from spinezoo_spine.inference.postprocess import probability_maps
from spinezoo_spine.inference.preprocess import letterbox, unit_grey

from spinezoo_sixth.network import Thresholds


def probe(network: Thresholds, seed: int) -> list[float]:
    """What the network answers to four seeded grey levels."""
    grey = np.random.default_rng(seed).random((2, 2)).astype(np.float32)
    return [float(value) for value in network(grey).ravel()]


class ThresholdPredictor:
    """See ``spinezoo_serving.predictor.Predictor``."""

    def __init__(self, card: ModelCard, network: Thresholds) -> None:
        self.card = card
        self.device = "cpu"
        self._network = network

    def predict(self, film: Film, options: PredictOptions) -> Prediction:
        """Regions of one film at the film's own size."""
        settings = resolve_options(options, self.card)
        started = perf_counter()
        grey = unit_grey(film.pixels)
        prepared = perf_counter()
        probabilities = self._network(grey)
        inferred = perf_counter()
        best, likeliest = probabilities.max(axis=0), probabilities.argmax(axis=0)
        segments = []
        for plane, structure in enumerate(self.card.structures, start=1):
            pixels = (likeliest == plane) & (best >= settings.score_threshold)
            if pixels.any():
                mask = encode_mask(pixels)
                score = float(best[pixels].mean())
                segments.append(Segment(structure, SegmentKind.REGION, mask, score, mask_box(mask)))
        segments.sort(key=lambda segment: -segment.score)
        maps: tuple[ProbabilityMap, ...] = ()
        if options.include_probability_maps:
            canvas, fit = letterbox(film.pixels, self.card.input.height, self.card.input.width)
            maps = probability_maps(self._network(canvas), self.card.structures, fit)
        finished = perf_counter()
        timing = Timing(
            prepare_ms=1000.0 * (prepared - started),
            infer_ms=1000.0 * (inferred - prepared),
            finish_ms=1000.0 * (finished - inferred),
        )
        provenance = self.card.provenance(self.device, timing)
        kept = tuple(segments[: settings.max_segments])
        return Prediction(film.height, film.width, kept, provenance, maps)


def load_predictor(card_path: Path, *, device: str | None = None) -> ThresholdPredictor:
    """The network of a card, its weights and probe checked.

    Args:
        card_path: The ``card.yaml``.
        device: Taken for the contract's sake; numpy has one device.

    Raises:
        ConfigurationError: Card or weights are wrong.
    """
    card = load_card(card_path)
    bone, metal = load_file(verify_weights(card))["levels"].tolist()
    network = Thresholds(bone, metal)
    assert card.weights is not None
    wanted = card.weights.probe
    answer = np.array(probe(network, wanted.seed))
    if not np.allclose(answer, wanted.values, atol=wanted.tolerance):
        raise WeightsError("the weights answer their probe wrongly; train the network again")
    return ThresholdPredictor(card, network)
