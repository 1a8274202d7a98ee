"""Figures of a network on prepared films, on the canvas, without augmentation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.types import VERTEBRAE, Segment, SegmentKind, Structure
from spinezoo_spine.metrics.matching import Matches, match_objects
from spinezoo_spine.metrics.study import merged_mean_iou

from spinezoo_training.engine import Engine, FoundObjects
from spinezoo_training.prepared_set import PreparedFilm, PreparedSet
from spinezoo_training.run_log import STRIP_FILMS, prediction_strip
from spinezoo_training.targets import instances_of, label_map_of


def validate(
    engine: Engine, films: Sequence[PreparedFilm] | PreparedSet, batch_size: int = 8
) -> dict[str, float]:
    """Figures of the engine's averaged network.

    Returns:
        ``merged_mean_iou``: the study's mean IoU of the merged mask, averaged over films;
        ``iou_<n>``: IoU of structure number n, pooled over films, where truth or answer has it;
        of instance networks also ``vertebra_recognition_rate`` and ``vertebra_precision``,
        matched one to one at IoU 0.5 and pooled over films; empty where there are no films.
    """
    if len(films) == 0:
        return {}
    merged: list[float] = []
    overlap = np.zeros(256, dtype=np.int64)
    union = np.zeros(256, dtype=np.int64)
    matches: list[Matches] = []
    for start in range(0, len(films), batch_size):
        group = [films[i] for i in range(start, min(start + batch_size, len(films)))]
        found = engine.answers(group)
        if found.objects is not None:
            matches += [
                vertebra_matches(film, objects)
                for film, objects in zip(group, found.objects, strict=True)
            ]
        for film, answer in zip(group, found.label_maps, strict=True):
            truth = label_map_of(film)
            merged.append(merged_mean_iou(truth > 0, answer > 0))
            for number in np.union1d(truth, answer):
                a, b = truth == number, answer == number
                overlap[number] += np.count_nonzero(a & b)
                union[number] += np.count_nonzero(a | b)
    figures = {"merged_mean_iou": float(np.mean(merged))}
    for number in np.flatnonzero(union[1:]) + 1:
        figures[f"iou_{number}"] = float(overlap[number] / union[number])
    hits = sum(len(film.matched_ious) for film in matches)
    true_count = sum(film.true_count for film in matches)
    predicted_count = sum(film.predicted_count for film in matches)
    if true_count:
        figures["vertebra_recognition_rate"] = hits / true_count
    if predicted_count:
        figures["vertebra_precision"] = hits / predicted_count
    return figures


def answer_strip(
    engine: Engine, films: Sequence[PreparedFilm] | PreparedSet
) -> NDArray[np.uint8] | None:
    """The averaged network's answers to the first validation films, as a picture."""
    shown = [films[i] for i in range(min(STRIP_FILMS, len(films)))]
    return prediction_strip(shown, list(engine.answers(shown).label_maps)) if shown else None


def vertebra_matches(film: PreparedFilm, found: FoundObjects) -> Matches:
    """A film's true vertebrae matched with the found ones, lumbar and sacral together."""
    true_masks, _, numbers = instances_of(film)
    kinds = [int(structure) for structure in VERTEBRAE]
    return match_objects(
        _segments(true_masks[np.isin(numbers, kinds)]),
        _segments(found.masks[np.isin(found.numbers, kinds)]),
    )


def _segments(masks: NDArray[np.uint8] | NDArray[np.bool_]) -> list[Segment]:
    """Masks (n, h, w) as objects to match; empty ones are left out."""
    encoded = [encode_mask(mask) for mask in masks if mask.any()]
    return [
        Segment(Structure.LUMBAR_VERTEBRA, SegmentKind.INSTANCE, mask, 1.0, mask_box(mask))
        for mask in encoded
    ]
