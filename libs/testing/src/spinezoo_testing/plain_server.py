"""A stranger's container: plain grpc, a network of two thresholds, and faults to order.

It reads the films that the conformance suite writes and refuses everything else.
"""

# ruff: noqa: N802 - the methods are named by the contract
from __future__ import annotations

import hashlib
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from spinezoo.v1 import (
    model_pb2,
    segmenter_pb2,
    segmenter_pb2_grpc,
)
from spinezoo_contract import codec
from spinezoo_contract.errors import FilmError, SpineZooError
from spinezoo_contract.limits import check_film_size
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.services import SEGMENTER_SERVICE
from spinezoo_contract.status import REQUEST_ID_KEY, to_status
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
from spinezoo_serving.cards import CardProbe, CardWeights, update_card
from spinezoo_serving.settings import ServerSettings

LIMIT_BYTES = 28 << 20
"""Greatest message that it takes and sends."""


def read_film(data: bytes, *, kind: str) -> Film:
    """Reads the forms that the conformance suite writes and refuses everything else."""
    try:
        return Film(_read_png(data) if kind == "encoded" else _read_dicom(data))
    except (ValueError, KeyError, IndexError, struct.error, zlib.error) as error:
        raise FilmError(f"not a film: {type(error).__name__}; send a grey PNG or DICOM") from error


def _read_png(data: bytes) -> np.ndarray:
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("signature")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    if colour != 0:
        raise ValueError("colour")
    check_film_size(height, width)
    length = struct.unpack(">I", data[33:37])[0]
    rows = np.frombuffer(zlib.decompress(data[41 : 41 + length]), np.uint8)
    pixels = np.ascontiguousarray(rows.reshape(height, 1 + width * depth // 8)[:, 1:])
    return pixels if depth == 8 else pixels.view(">u2").astype(np.uint16)


def _read_dicom(data: bytes) -> np.ndarray:
    if data[128:132] != b"DICM":
        raise ValueError("preamble")
    elements, at = {}, 132
    while at < len(data):
        group, element, kind, length = struct.unpack("<HH2sH", data[at : at + 8])
        at += 8
        if kind in (b"OB", b"OW"):
            length = struct.unpack("<I", data[at : at + 4])[0]
            at += 4
        elements[group, element] = data[at : at + length]
        at += length
    number = {
        name: struct.unpack("<H", elements[0x28, tag])[0]
        for name, tag in (("samples", 2), ("rows", 0x10), ("columns", 0x11), ("bits", 0x100))
    }
    if number["samples"] != 1 or (0x28, 8) in elements:
        raise ValueError("one grey frame")
    check_film_size(number["rows"], number["columns"])
    stored = elements[0x7FE0, 0x10]
    pixels = np.frombuffer(stored, "u1" if number["bits"] == 8 else "<u2")
    pixels = pixels[: number["rows"] * number["columns"]]
    pixels = pixels.reshape(number["rows"], number["columns"])
    inverted = elements[0x28, 4].startswith(b"MONOCHROME1")
    return np.iinfo(pixels.dtype).max - pixels if inverted else pixels


class Thresholder:
    """A semantic network: two thresholds on the grey value."""

    def __init__(self, card: Any) -> None:
        self.card = card
        self.device = "cpu"

    def predict(self, film: Film, options: PredictOptions) -> Prediction:
        started = time.perf_counter()
        pixels = film.pixels.astype(np.float32)
        grey = (pixels - pixels.min()) / max(float(np.ptp(pixels)), 1e-6)
        least = options.score_threshold or 0.0
        segments = []
        for structure, low, high, score in (
            (Structure.LUMBAR_VERTEBRA, 0.5, 0.9, 0.75),
            (Structure.SCREW, 0.9, 2.0, 0.95),
        ):
            mask = (grey >= low) & (grey < high)
            if not mask.any() or score < least:
                continue
            encoded = encode_mask(mask)
            segments.append(
                Segment(structure, SegmentKind.REGION, encoded, score, mask_box(encoded))
            )
        segments.sort(key=lambda segment: -segment.score)
        maps: tuple[ProbabilityMap, ...] = ()
        if options.include_probability_maps:
            grid = np.zeros((8, 6), dtype=np.uint8)
            box = Box(0.0, 0.0, film.width, film.height)
            maps = (ProbabilityMap(Structure.LUMBAR_VERTEBRA, grid, box),)
        timing = Timing(infer_ms=(time.perf_counter() - started) * 1e3)
        provenance = self.card.provenance(self.device, timing)
        most = options.max_segments or self.card.defaults.max_segments
        return Prediction(film.height, film.width, tuple(segments[:most]), provenance, maps)


CARD = """\
name: thresholder
version: 0.1.0
architecture: two thresholds
family: semantic
reference: "https://example.org/thresholds"
license: Apache-2.0
preset: lite
preprocessing_id: none-v1
structures: [lumbar_vertebra, screw]
defaults: {score_threshold: 0.0, suppression_iou: null, max_segments: 100}
presets:
  lite:
    input: {height: 64, width: 64, channels: 1}
    network: {}
"""


def thresholder(folder: Path) -> Thresholder:
    """The network, its card written to a folder."""
    path = folder / "card.yaml"
    path.write_text(CARD, encoding="utf-8")
    digest, probe = hashlib.sha256(b"0000").hexdigest(), CardProbe(0, (1.0,), 0.1)
    weights = CardWeights("weights/lite.safetensors", digest, 4, "float16", probe)
    return Thresholder(update_card(path, "lite", weights=weights))


class PlainServicer(segmenter_pb2_grpc.SegmenterServiceServicer):
    """Keeps the contract with nothing but grpc; ``fault`` bends an answer before it leaves."""

    def __init__(self, network: Thresholder) -> None:
        self.network = network
        self.server: grpc.Server | None = None
        self.health: health.HealthServicer | None = None

    def say_serving(self) -> None:
        assert self.health is not None
        for name in ("", SEGMENTER_SERVICE):
            self.health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def fault(self, response: segmenter_pb2.PredictResponse, context: Any) -> Any:
        return response

    def model(self) -> model_pb2.ModelInfo:
        settings = ServerSettings(max_message_bytes=LIMIT_BYTES, queue_limit=4)
        return codec.to_proto(self.network.card.info(settings))

    def echo(self, context: Any) -> None:
        sent = dict(context.invocation_metadata()).get(REQUEST_ID_KEY, "none")
        context.set_trailing_metadata(((REQUEST_ID_KEY, sent),))

    def on_error(self, error: SpineZooError, context: Any) -> Any:
        context.abort(*to_status(error))

    def Predict(self, request: Any, context: Any) -> Any:
        self.echo(context)
        try:
            film = codec.film_from_proto(request.image, read_film)
            options = codec.from_proto(PredictOptions, request.options)
        except SpineZooError as error:
            return self.on_error(error, context)
        prediction = self.network.predict(film, options)
        return self.fault(codec.to_proto(prediction), context)

    def GetModel(self, request: Any, context: Any) -> Any:
        return segmenter_pb2.GetModelResponse(model=self.model())


@contextmanager
def serve(
    servicer: PlainServicer,
    *,
    reflect: bool = True,
    known: Sequence[str] = ("", SEGMENTER_SERVICE),
    status: Any = health_pb2.HealthCheckResponse.SERVING,
    limit_bytes: int = LIMIT_BYTES,
) -> Iterator[str]:
    server = grpc.server(
        futures.ThreadPoolExecutor(6),
        options=[
            ("grpc.max_receive_message_length", limit_bytes),
            ("grpc.max_send_message_length", limit_bytes),
        ],
    )
    segmenter_pb2_grpc.add_SegmenterServiceServicer_to_server(servicer, server)
    health_servicer = health.HealthServicer()
    for name in known:
        health_servicer.set(name, status)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if reflect:
        names = (SEGMENTER_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    servicer.server, servicer.health = server, health_servicer
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait(5)
