"""What every peer serves: one of our networks, from the bytes of a film to an answer for JSON.

Runs in the peer's own environment, which has our packages but not all that they ask for: nothing
here needs our gRPC messages. Weights, graphs, engine, preparation and outlines are those of our own
services, so that only the servers differ.
"""

from __future__ import annotations

import importlib
import os
import threading
from pathlib import Path
from typing import Any

SERVICES = Path(__file__).resolve().parents[2] / "services"
NETWORK = os.environ.get("PEER_NETWORK", "pspnet")
PORT = int(os.environ.get("PEER_PORT", "8000"))
WORKERS = int(os.environ.get("PEER_WORKERS", "1"))


class Work:
    """A loaded network. One film at a time, whichever threads the peer calls it from."""

    def __init__(self) -> None:
        from spinezoo_contract.types import PredictOptions
        from spinezoo_spine.films.reader import read_served_film

        module = importlib.import_module(f"spinezoo_{NETWORK}.predictor")
        self._predictor = module.load_predictor(SERVICES / NETWORK / "card.yaml")
        self._options = PredictOptions()
        self._read = read_served_film
        self._one = threading.Lock()

    def answer(self, film: bytes) -> dict[str, Any]:
        """Outlines of a film from the bytes of its file."""
        pixels = self._read(film)
        with self._one:
            prediction = self._predictor.predict(pixels, self._options)
        return {
            "height": prediction.height,
            "width": prediction.width,
            "engine": f"{prediction.provenance.engine} {prediction.provenance.precision}",
            "segments": [
                {
                    "structure": segment.structure.name,
                    "score": segment.score,
                    "box": [segment.box.x, segment.box.y, segment.box.width, segment.box.height],
                    "counts": segment.mask.counts.decode("ascii"),
                }
                for segment in prediction.segments
            ],
        }
