"""The threshold network behind both faces, in the form of a real network's service.py."""

from __future__ import annotations

import os
import time
from pathlib import Path

from spinezoo_contract.errors import WeightsError
from spinezoo_contract.types import Film
from spinezoo_serving.bento import serve_network
from spinezoo_serving.predictor import Predictor
from spinezoo_testing.threshold import CARD_PATH


def load(card_path: Path, *, device: str | None = None) -> Predictor:
    from spinezoo_testing.threshold import ThresholdPredictor

    time.sleep(float(os.environ.get("TEST_LOAD_S", "0")))
    if os.environ.get("TEST_BREAK"):
        raise WeightsError("weights/lite.safetensors is absent; train the network")
    return ThresholdPredictor(card_path, delay_s=float(os.environ.get("TEST_DELAY_S", "0")))


def read(data: bytes, *, kind: str | None = None) -> Film:
    from spinezoo_testing.threshold import read_film

    return read_film(data, kind=kind)


Service = serve_network("threshold", CARD_PATH, load, read)
