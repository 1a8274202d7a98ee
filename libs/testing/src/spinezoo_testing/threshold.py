"""A network without a framework: everything brighter than the film's mean is bone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from spinezoo_contract.errors import FilmError
from spinezoo_contract.limits import check_film_size
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.types import (
    Box,
    Film,
    Prediction,
    PredictOptions,
    ProbabilityMap,
    Segment,
    SegmentKind,
    Structure,
    Timing,
)
from spinezoo_serving.cards import load_card

CARD_PATH = Path(__file__).with_name("threshold.yaml")
MAGIC = b"FILM"


class ThresholdPredictor:
    device = "cpu"
    precision = "float32"

    def __init__(self, card_path: Path = CARD_PATH, delay_s: float = 0.0) -> None:
        self.card = load_card(card_path)
        self.delay_s = delay_s
        self.seen: list[int] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.running = threading.Event()
        self.spoil: Callable[[Prediction], Prediction] | None = None

    def predict(self, film: Film, options: PredictOptions) -> Prediction:
        self.seen.append(int(film.pixels[0, 0]))
        self.threads.add(threading.get_ident())
        self.running.set()
        assert self.gate.wait(30)
        started = time.perf_counter()
        time.sleep(self.delay_s)
        pixels = film.pixels > film.pixels.mean()
        segments: tuple[Segment, ...] = ()
        if pixels.any():
            mask = encode_mask(pixels)
            region = SegmentKind.REGION
            segments = (Segment(Structure.LUMBAR_VERTEBRA, region, mask, 0.9, mask_box(mask)),)
        maps: tuple[ProbabilityMap, ...] = ()
        if options.include_probability_maps:
            box = Box(0.0, 0.0, float(film.width), float(film.height))
            values = (pixels * np.uint8(255)).astype(np.uint8)
            maps = (ProbabilityMap(Structure.LUMBAR_VERTEBRA, values, box),)
        timing = Timing(infer_ms=(time.perf_counter() - started) * 1000.0)
        provenance = self.card.provenance(self.device, timing)
        prediction = Prediction(film.height, film.width, segments, provenance, maps)
        return prediction if self.spoil is None else self.spoil(prediction)


def film_file(film: Film) -> bytes:
    """A film in this test's own file format: magic, height, width, 8-bit pixels."""
    size = np.array([film.height, film.width], "<u4").tobytes()
    return MAGIC + size + film.pixels.astype(np.uint8).tobytes()


def read_film(data: bytes, *, kind: str | None = None) -> Film:
    if data[:4] != MAGIC or len(data) < 12:
        raise FilmError("not a film of this test; send FILM, height, width and pixels")
    height, width = np.frombuffer(data[4:12], "<u4").tolist()
    check_film_size(height, width)
    if len(data) != 12 + height * width:
        raise FilmError("the film is cut off; send all of it")
    return Film(np.frombuffer(data[12:], np.uint8).reshape(height, width))
