"""A request's settings with the card's defaults filled in and every range checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spinezoo_contract.errors import OptionError
from spinezoo_contract.types import PredictOptions

if TYPE_CHECKING:
    from spinezoo_contract.cards import ModelCard

MAX_SEGMENTS_LIMIT = 1000
"""Most outlines that a request may ask for."""


@dataclass(frozen=True, slots=True)
class ResolvedOptions:
    """Settings of one prediction, none of them absent.

    Attributes:
        score_threshold: 0 to 1.
        suppression_iou: 0 to 1; 1 where the network suppresses nothing.
        max_segments: 1 to 1000.
    """

    score_threshold: float
    suppression_iou: float
    max_segments: int


def _unit(value: float, name: str) -> float:
    if not 0.0 <= value <= 1.0:  # also refuses NaN
        raise OptionError(f"{name} is {value}; use a number from 0 to 1")
    return float(value)


def resolve_options(options: PredictOptions, card: ModelCard) -> ResolvedOptions:
    """The request's settings, or the card's default where the request has none.

    Raises:
        OptionError: A setting is out of its range.
    """
    threshold = options.score_threshold
    suppression = options.suppression_iou
    most = options.max_segments
    if suppression is None:
        suppression = card.default_suppression_iou
    if most is None:
        most = card.default_max_segments
    if not 1 <= most <= MAX_SEGMENTS_LIMIT:
        raise OptionError(f"max_segments is {most}; use 1 to {MAX_SEGMENTS_LIMIT}")
    return ResolvedOptions(
        score_threshold=_unit(
            card.default_score_threshold if threshold is None else threshold, "score_threshold"
        ),
        suppression_iou=1.0 if suppression is None else _unit(suppression, "suppression_iou"),
        max_segments=most,
    )
