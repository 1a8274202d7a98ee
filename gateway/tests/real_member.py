"""A member that keeps the contract: the contract's own server shell around a threshold.

A process of its own: ``python real_member.py [--port P] [--version V] [--delay-ms N] [--fault F]``
says its port on the standard output and serves until SIGTERM, draining as every member does.
The weights digest is made from the version, so that two versions differ in both.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path

from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.types import (
    Film,
    Prediction,
    PredictOptions,
    Segment,
    SegmentKind,
    Structure,
    Timing,
)
from spinezoo_serving.cards import CardProbe, CardWeights, ModelCard, update_card
from spinezoo_serving.segmenter import NetworkRunner, segmenter_server
from spinezoo_serving.server import run_forever
from spinezoo_serving.settings import ServerSettings

CARD = """
name: {name}
version: {version}
architecture: everything brighter than the mean is bone
family: semantic
reference: "https://example.org/threshold"
license: Apache-2.0
preset: lite
preprocessing_id: none-v1
structures: [lumbar_vertebra, screw]
defaults: {{score_threshold: 0.0, suppression_iou: null, max_segments: 100}}
presets:
  lite:
    input: {{height: 64, width: 64, channels: 1}}
    network: {{}}
"""


def digest(version: str) -> str:
    """The weights digest of a version."""
    return hashlib.sha256(version.encode()).hexdigest()


class Threshold:
    """A semantic network without weights."""

    device = "cpu"

    def __init__(self, card: ModelCard, delay_s: float, fault: str) -> None:
        self.card = card
        self._delay_s = delay_s
        self._fault = fault

    def predict(self, film: Film, options: PredictOptions) -> Prediction:
        started = time.perf_counter()
        time.sleep(self._delay_s)
        bone = film.pixels > film.pixels.mean()
        score = 0.9
        segments: tuple[Segment, ...] = ()
        if bone.any() and score >= (options.score_threshold or 0.0):
            mask = encode_mask(bone)
            kind = SegmentKind.INSTANCE if self._fault == "kind" else SegmentKind.REGION
            box = mask_box(mask)
            segments = (Segment(Structure.LUMBAR_VERTEBRA, kind, mask, score, box),)
        if self._fault == "hangs" and film.height == 640:
            time.sleep(20.0)
        timing = Timing(infer_ms=(time.perf_counter() - started) * 1000.0)
        provenance = self.card.provenance(self.device, timing)
        return Prediction(film.height, film.width, segments, provenance)


def main() -> None:
    from spinezoo_spine.films.reader import read_film

    parser = argparse.ArgumentParser()
    parser.add_argument("--name", default="pspnet")
    parser.add_argument("--port", default="0")
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument("--delay-ms", type=float, default=5.0)
    parser.add_argument("--fault", default="")
    options = parser.parse_args()
    os.environ["SPINEZOO_GRPC_PORT"] = options.port
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "card.yaml")
        path.write_text(CARD.format(name=options.name, version=options.version))
        probe = CardProbe(0, (0.0,), 0.01)
        weights = CardWeights(
            "weights/lite.safetensors", digest(options.version), 1, "float16", probe
        )
        card = update_card(path, "lite", weights=weights)
    network = Threshold(card, options.delay_ms / 1000.0, options.fault)
    runner = NetworkRunner(ServerSettings.from_env(), network)
    server = segmenter_server(runner, read_film=read_film)

    async def say_port() -> None:
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()

    asyncio.run(run_forever(server, on_start=say_port))
    runner.close()


if __name__ == "__main__":
    main()
