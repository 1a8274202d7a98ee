"""The U-Net trained on PyTorch is the U-Net that Keras serves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from spinezoo_tools.environments import python_of

ROOT = Path(__file__).resolve().parents[2]
UNET = ROOT / "services" / "unet"


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """A copy of the shipped card with its weights."""
    shutil.copy(UNET / "card.yaml", tmp_path)
    shutil.copytree(UNET / "weights", tmp_path / "weights")
    return tmp_path / "card.yaml"


def test_keras_serves_what_torch_trained(card: Path, tmp_path: Path) -> None:
    shipped = json.loads((UNET / "weights" / "lite.json").read_text("utf-8"))["weights"]
    trained = subprocess.run(
        [
            *(
                str(python_of(ROOT, ROOT / "libs" / "torchkit")),
                "-m",
                "spinezoo_unet.torch_training",
            ),
            *("--card", str(card), "--start-from", "card", "--run-dir", str(tmp_path / "run")),
            *("--data", "phantoms:5", "--looks", "1", "--epoch-films", "2", "--epochs", "1"),
            *("--validation-films", "1", "--batch-size", "2", "--threads", "1", "--quiet"),
        ],
        env=os.environ | {"PYTHONPATH": str(UNET / "src")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert trained.returncode == 0, trained.stderr
    written = json.loads((card.parent / "weights" / "lite.json").read_text("utf-8"))
    assert written["weights"]["sha256"] != shipped["sha256"]
    assert written["training"]["started_from"]["sha256"] == shipped["sha256"]
    assert written["training"]["command"].startswith("python -m spinezoo_unet.torch_training")
    # Loading compares Keras's answer with the probe, which torch computed.
    loaded = subprocess.run(
        [
            str(python_of(ROOT, UNET)),
            "-c",
            "import sys; from pathlib import Path; from spinezoo_unet import predictor;"
            "predictor.load_predictor(Path(sys.argv[1]), device='cpu')",
            str(card),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert loaded.returncode == 0, loaded.stderr
