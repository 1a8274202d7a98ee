"""Training of PSPNet: ``python -m spinezoo_pspnet.train --data FOLDER --minutes 20``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from spinezoo_contract.output import end_with_reader
from spinezoo_torchkit.engine import TorchFramework
from spinezoo_torchkit.semantic_task import SemanticTask
from spinezoo_training.command import train_main
from spinezoo_training.settings import TrainSettings

from spinezoo_pspnet.network import PSPNet

CARD = Path(__file__).resolve().parents[2] / "card.yaml"
"""The card of the checkout that this file lies in; ``--card`` names another."""


def main(argv: Sequence[str] | None = None) -> int:
    """Trains from the command line; see ``--help``."""
    return train_main(
        argv,
        name="pspnet",
        card_path=CARD,
        framework=TorchFramework(PSPNet),
        make_task=SemanticTask,
        defaults=TrainSettings(epochs=30),
    )


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
