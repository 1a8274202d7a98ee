"""What a training leaves for its readers: weights entry, record of the training, measured figures.

The only module of the trainer that writes a card.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spinezoo_serving.cards import ModelCard, describe_weights, update_card

from spinezoo_training.data_options import TrainingData
from spinezoo_training.engine import Machine, WrittenWeights
from spinezoo_training.initial_weights import Start, start_record
from spinezoo_training.loop import FitResult
from spinezoo_training.settings import TrainSettings


def write_records(
    card: ModelCard,
    weights_path: Path,
    weights: WrittenWeights,
    *,
    training: dict[str, Any],
    metrics: dict[str, Any],
) -> ModelCard:
    """Enters a preset's weights, the record of its training and its figures.

    Args:
        card: The card with its preset chosen.
        weights_path: The weights file, below the card's folder.
        weights: What is known of it.
        training: See :func:`training_record`.
        metrics: See :func:`metrics_record`.

    Returns:
        The card as written.

    Raises:
        CardError: The card cannot be updated.
    """
    entry = describe_weights(
        card.path,
        weights_path,
        dtype=weights.dtype,
        probe_seed=weights.probe_seed,
        probe_values=weights.probe_values,
        probe_tolerance=weights.probe_tolerance,
    )
    return update_card(card.path, card.preset, weights=entry, training=training, metrics=metrics)


def training_record(
    *,
    command: str,
    data: TrainingData,
    start: Start | None,
    settings: TrainSettings,
    result: FitResult,
    machine: Machine,
    versions: dict[str, str],
) -> dict[str, Any]:
    """How a preset's weights came about; the same keys for every network.

    Args:
        command: As typed, paths by their last part.
        data: Films that it was trained on.
        start: Weights that it began with.
        settings: How it was trained.
        result: How the run ended.
        machine: Where it ran.
        versions: Of the framework's packages.
    """
    return {
        "data": data.name,
        **data.record,
        "films": result.different_films,
        "seed": settings.seed,
        "films_seen": result.films_seen,
        **start_record(start, result.films_seen),
        "epochs": result.epochs,
        **({"stopped_early": True} if result.stopped_early else {}),
        "minutes": round(result.minutes, 2),
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "precision": settings.precision,
        "machine": machine.description,
        **versions,
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
    }


def metrics_record(data: TrainingData, validation: dict[str, float]) -> dict[str, Any]:
    """Validation figures of the weights that were written; empty where there were no films."""
    if not validation:
        return {}
    return {
        "data": f"{data.validation_name}, on the network's canvas",
        "films": len(data.validation),
        "date": datetime.now(UTC).date().isoformat(),
        "values": {name: round(value, 5) for name, value in validation.items()},
    }
