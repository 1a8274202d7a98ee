"""The sixth network behind gRPC and HTTP; start: ``python -m spinezoo_serving.bento FOLDER``."""

from __future__ import annotations

from pathlib import Path

from spinezoo_contract.types import Film
from spinezoo_serving.bento import serve_network
from spinezoo_serving.predictor import Predictor


def load(card_path: Path, *, device: str | None = None) -> Predictor:
    """The network, ready to predict."""
    from spinezoo_sixth.predictor import load_predictor

    return load_predictor(card_path, device=device)


def read(data: bytes, *, kind: str | None = None) -> Film:
    """A film from a DICOM, PNG, JPEG or TIFF file."""
    from spinezoo_spine.films.reader import read_served_film

    return read_served_film(data, kind=kind)


Service = serve_network("sixth", Path(__file__).with_name("card.yaml"), load, read)
