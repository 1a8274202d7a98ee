"""How a network is trained: one set of numbers for every network, and the schedule they make."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from spinezoo_contract.errors import ConfigurationError

from spinezoo_training.augmentation import AugmentSettings

PRECISIONS = ("float32", "bfloat16")
"""Arithmetic of a training; ``bfloat16`` keeps the weights in ``float32``."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How to train.

    Attributes:
        epochs: Passes over the training films. Give this or ``minutes``.
        minutes: Wall-clock time, validation included, over all starts of the run.
        batch_size: Films a step.
        learning_rate: Highest rate of AdamW.
        weight_decay: Decay of the weights a step, as a share of the learning rate.
        average_decay: Decay of the moving average of the weights, per step.
        clip_norm: Largest norm of the gradient.
        warmup_share: Share of the schedule over which the learning rate rises from 0.
        warmup_steps: Steps after which it has risen even where that share is longer.
        final_rate_share: The learning rate at the end, as a share of the highest.
        precision: One of :data:`PRECISIONS`.
        seed: Of weights, split, order, augmentation and dropout.
        workers: Processes that prepare films beside the training process.
        patience: Epochs without a better validation figure after which the run ends; None: never.
        augmentation: Settings of the augmentation; None trains on the films as they are.
    """

    epochs: int | None = None
    minutes: float | None = None
    batch_size: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    average_decay: float = 0.995
    clip_norm: float = 5.0
    warmup_share: float = 0.03
    warmup_steps: int = 1000
    final_rate_share: float = 0.01
    precision: str = "bfloat16"
    seed: int = 0
    workers: int = 0
    patience: int | None = None
    augmentation: AugmentSettings | None = field(default_factory=AugmentSettings)

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.minutes is None):
            raise ConfigurationError("give either epochs or minutes, to say how long to train")
        if self.epochs is not None and self.epochs < 1:
            raise ConfigurationError(f"epochs is {self.epochs}; train for at least 1")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise ConfigurationError(f"minutes is {self.minutes}; train for more than 0")
        if not 0 < self.learning_rate < math.inf:
            raise ConfigurationError(f"learning_rate is {self.learning_rate}; give one above 0")
        if self.batch_size < 1:
            raise ConfigurationError(f"batch_size is {self.batch_size}; use at least 1")
        if self.patience is not None and self.patience < 1:
            raise ConfigurationError(f"patience is {self.patience}; wait for at least 1 epoch")
        if self.precision not in PRECISIONS:
            raise ConfigurationError(
                f"precision {self.precision!r} is unknown; use one of {', '.join(PRECISIONS)}"
            )

    def rate_at(self, progress: float, step: int) -> float:
        """The learning rate: a rise, then half a cosine down to the final share.

        Args:
            progress: Share of the schedule that lies behind, 0 to 1.
            step: Finished steps. The first steps rise even where a step is a large share of the
                schedule.
        """
        rise = (step + 1) / self.warmup_steps
        if self.warmup_share > 0.0:
            rise = max(progress / self.warmup_share, rise)
        fall = max(0.0, (progress - self.warmup_share) / (1.0 - self.warmup_share))
        last = self.final_rate_share
        share = last + (1.0 - last) * 0.5 * (1 + math.cos(math.pi * fall))
        return self.learning_rate * min(1.0, rise) * share

    def decay_at(self, step: int) -> float:
        """Decay of the averaged weights: a short memory at first forgets the random start."""
        return min(self.average_decay, (1.0 + step) / (10.0 + step))
