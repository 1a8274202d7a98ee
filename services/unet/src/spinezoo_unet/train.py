"""Training of the U-Net: ``python -m spinezoo_unet.train --data FOLDER --minutes 20``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from spinezoo_contract.output import end_with_reader
from spinezoo_training.command import train_main
from spinezoo_training.settings import TrainSettings

from spinezoo_unet.engine import KerasFramework
from spinezoo_unet.task import UNetTask

CARD = Path(__file__).resolve().parents[2] / "card.yaml"
"""The card of the checkout that this file lies in; ``--card`` names another."""

DEFAULTS = TrainSettings(
    epochs=40,
    weight_decay=1e-3,
    clip_norm=1.0,
    warmup_share=0.0,
    warmup_steps=60,
    final_rate_share=0.02,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Trains from the command line; see ``--help``."""
    return train_main(
        argv,
        name="unet",
        card_path=CARD,
        framework=KerasFramework(),
        make_task=UNetTask,
        defaults=DEFAULTS,
    )


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
