"""What both families of predictors share: option checks, film checks, provenance."""

from __future__ import annotations

import time

import numpy as np
import torch
from spinezoo_contract.cards import ModelCard
from spinezoo_contract.errors import CardError, FilmError, OptionError
from spinezoo_contract.types import Film, PredictOptions, Provenance, Timing
from spinezoo_spine import prepare

MIN_FILM_SIDE_PX = 16
"""Smallest side of a film that is predicted, in pixels."""

MAX_SEGMENTS = 1000
"""Most outlines that a request may ask for."""


def checked_options(options: PredictOptions, card: ModelCard) -> PredictOptions:
    """Options with the card's defaults filled in.

    Raises:
        OptionError: A setting is out of its range.
    """
    score = card.defaults.score_threshold
    if options.score_threshold is not None:
        score = float(options.score_threshold)
    suppression = card.defaults.suppression_iou
    if options.suppression_iou is not None:
        suppression = float(options.suppression_iou)
    count = card.defaults.max_segments
    if options.max_segments is not None:
        count = int(options.max_segments)
    if not 0.0 <= score <= 1.0:
        raise OptionError(f"score_threshold {score} is outside 0..1; send a value within")
    if suppression is not None and not 0.0 <= suppression <= 1.0:
        raise OptionError(f"suppression_iou {suppression} is outside 0..1; send a value within")
    if not 1 <= count <= MAX_SEGMENTS:
        raise OptionError(f"max_segments {count} is outside 1..{MAX_SEGMENTS}; send one within")
    return PredictOptions(score, suppression, count, options.include_probability_maps)


def check_film(film: Film) -> None:
    """Refuses what no network of ours can use.

    Raises:
        FilmError: Not (height, width), too small, or not finite.
    """
    if film.pixels.ndim != 2:
        raise FilmError(f"film has {film.pixels.ndim} dimensions; send one grey plane")
    if min(film.pixels.shape) < MIN_FILM_SIDE_PX:
        raise FilmError(
            f"film of {film.height} x {film.width} pixels is too small; send at least "
            f"{MIN_FILM_SIDE_PX} x {MIN_FILM_SIDE_PX}"
        )
    if film.pixels.dtype.kind == "f" and not np.isfinite(film.pixels).all():
        raise FilmError("film holds values that are not finite; replace NaN and infinity")


def check_preprocessing(card: ModelCard) -> None:
    """Refuses a card that was made for another way from film to input.

    Raises:
        CardError: Another preprocessing or number of channels than this package does.
    """
    if card.preprocessing_id != prepare.PREPROCESSING_ID or card.input.channels != 2:
        raise CardError(
            f"card {card.path}: preprocessing {card.preprocessing_id!r} with {card.input.channels} "
            f"channels was trained, {prepare.PREPROCESSING_ID!r} with 2 is what this version does; "
            "install the version that trained the weights, or train again"
        )


def network_input(film: Film, card: ModelCard) -> tuple[torch.Tensor, prepare.Letterbox]:
    """(1, 2, input height, input width) network input on the CPU, and where the film lies."""
    grey, fit = prepare.letterbox(film.pixels, card.input.height, card.input.width)
    return torch.from_numpy(prepare.two_channels(grey)).unsqueeze(0), fit


def provenance(card: ModelCard, device: str, timing: Timing) -> Provenance:
    """Who answered."""
    return Provenance(
        model_name=card.name,
        model_version=card.version,
        preset=card.preset,
        weights_sha256=card.weights_sha256,
        preprocessing_id=card.preprocessing_id,
        device=device,
        timing=timing,
    )


class Stopwatch:
    """Milliseconds between calls."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap_ms(self) -> float:
        """Milliseconds since the last call, or since the start."""
        now = time.perf_counter()
        lap, self._last = (now - self._last) * 1000.0, now
        return lap
