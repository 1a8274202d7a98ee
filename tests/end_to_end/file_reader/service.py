"""The threshold network with the film reader of the real networks, behind both endpoints."""

from __future__ import annotations

from pathlib import Path

from spinezoo_contract.types import Film
from spinezoo_serving.bento import serve_network
from spinezoo_serving.predictor import Predictor
from spinezoo_testing.threshold import CARD_PATH


def load(card_path: Path, *, device: str | None = None) -> Predictor:
    from spinezoo_testing.threshold import ThresholdPredictor

    return ThresholdPredictor(card_path)


def read(data: bytes, *, kind: str | None = None) -> Film:
    from spinezoo_spine.films.reader import read_served_film

    return read_served_film(data, kind=kind)


Service = serve_network("threshold", CARD_PATH, load, read)
