"""A request's settings with the card's defaults filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spinezoo_contract.types import PredictOptions

if TYPE_CHECKING:
    from spinezoo_serving.cards import ModelCard


@dataclass(frozen=True, slots=True)
class ResolvedOptions:
    """Settings of one prediction, none of them absent.

    Attributes:
        score_threshold: 0 to 1.
        suppression_iou: 0 to 1; 1 where the network suppresses nothing.
        max_segments: 1 to ``spinezoo_contract.limits.MAX_SEGMENTS_LIMIT``.
        include_probability_maps: Whether the answer holds probability maps.
    """

    score_threshold: float
    suppression_iou: float
    max_segments: int
    include_probability_maps: bool = False


def resolve_options(options: PredictOptions, card: ModelCard) -> ResolvedOptions:
    """The request's settings, or the card's default where the request has none.

    The options have checked themselves, and the card's defaults when it was read.
    """
    score, suppression, most = (
        options.score_threshold,
        options.suppression_iou,
        options.max_segments,
    )
    default = card.defaults
    if suppression is None:
        suppression = default.suppression_iou
    return ResolvedOptions(
        score_threshold=float(default.score_threshold if score is None else score),
        suppression_iou=1.0 if suppression is None else float(suppression),
        max_segments=int(default.max_segments if most is None else most),
        include_probability_maps=options.include_probability_maps,
    )
