"""What the gateway adds to its slowest member, every process on this machine.

Five member processes (the contract's own server shell around a network that sleeps a fixed time and
answers a fixed set of outlines) and one gateway process are started. In turn, in the same loop, the
client asks the ensemble and asks the slowest member directly for the same film, so that the
difference does not depend on what else the machine is doing.

Like ours, the members take films that were shrunk beforehand; asked directly they get the whole
film.

- *added*: median time of the ensemble minus median time of the slowest member asked directly.
- *processor*: the gateway's own processor time for a film, which other load does not change much.
- *own*: median, over films, of the ensemble's time minus the slowest member's latency as the
  gateway saw it: decoding, fusing, and the hop between client and gateway.

Run from the repository root::

    .venvs/core/bin/python benchmarks/gateway.py [--films 60] [--record] [--target HOST:PORT]

``--target`` measures a running gateway with its real members instead (``make up``): then only *own*
is measured, and nothing is judged or recorded. Ends with 1 when a mark is missed
(``spinezoo_tools.speed``) with members of different speed. In the other case all five end in the
same millisecond, so that the slowest also waits for the processors that the other four are using;
a direct question has them for itself. That is shown and not judged.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import grpc
import numpy as np
import record
from spinezoo.v1 import (
    ensemble_pb2,
    ensemble_pb2_grpc,
    image_pb2,
    segmenter_pb2,
    segmenter_pb2_grpc,
)
from spinezoo_conformance.films import dicom_bytes
from spinezoo_contract.codec import film_to_proto
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.types import (
    SHRINKING_ID,
    Film,
    Prediction,
    PredictOptions,
    Provenance,
    Segment,
    SegmentKind,
    Structure,
    Timing,
)
from spinezoo_phantom import PhantomFilm, PhantomSettings, make_film
from spinezoo_serving.cards import CardProbe, CardWeights, ModelCard, update_card
from spinezoo_serving.segmenter import NetworkRunner, segmenter_server
from spinezoo_serving.server import run_forever
from spinezoo_serving.settings import ServerSettings

HEIGHT, WIDTH = 2048, 1024
SEED = 5000
NAMES = ("deeplabv3", "mask_rcnn", "pspnet", "unet", "yolact")
DELAYS_MS = {
    "staggered": (60.0, 70.0, 80.0, 90.0, 100.0),
    "all at once": (100.0, 100.0, 100.0, 100.0, 100.0),
}
"""How long the networks take. Real ones differ; all ending at once is the gateway's worst case."""

LIMIT = 64 << 20
CHANNEL = (("grpc.max_receive_message_length", LIMIT), ("grpc.max_send_message_length", LIMIT))


# ---------------------------------------------------------------------------------- the members


CARD = """
name: {name}
version: 0.1.0
architecture: sleeps
family: instance
reference: "https://example.org"
license: Apache-2.0
preset: lite
preprocessing_id: none
structures: [lumbar_vertebra, sacral_vertebra, cage, screw, rod]
defaults: {{score_threshold: 0.5, suppression_iou: null, max_segments: 100}}
presets:
  lite:
    input: {{height: 320, width: 256, channels: 2}}
    network: {{}}
"""


def sleeping_card(name: str) -> ModelCard:
    """The card of a network without weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "card.yaml")
        path.write_text(CARD.format(name=name))
        probe = CardProbe(0, (0.0,), 0.01)
        weights = CardWeights("weights/lite.safetensors", "ab" * 32, 1, "float16", probe)
        return update_card(path, "lite", weights=weights)


@functools.cache
def phantom() -> PhantomFilm:
    """An operated spine of the study's kind, from the same seed in every process."""
    size = PhantomSettings(
        height_px=HEIGHT, width_px=WIDTH, bits_stored=12, implant_share=1.0, transitional_share=0.0
    )
    return make_film(SEED, size)


def outlines(seed: int) -> tuple[Segment, ...]:
    """The phantom's vertebrae and metal as an instance network sees them: shifted and wavy."""
    rng = np.random.default_rng(seed)
    segments = []
    for place, region in enumerate(phantom().regions):
        wave = 3.0 * np.sin(np.arange(len(region.polygon_xy)) / 3.0 + place)
        points = region.polygon_xy + rng.normal(0.0, 4.0, 2) + wave[:, None]
        pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.fillPoly(pixels, [points.round().astype(np.int32)], 1)
        mask = encode_mask(pixels.astype(bool))
        structure = Structure[region.structure.upper()]
        score = 0.99 - 0.01 * place
        segments.append(Segment(structure, SegmentKind.INSTANCE, mask, score, mask_box(mask)))
    return tuple(segments)


class SleepingNetwork:
    """Takes a fixed time and none of the processor's, and answers fixed outlines."""

    device = "cpu"
    shrinking_id = SHRINKING_ID

    def __init__(self, name: str, delay_ms: float) -> None:
        """Draws the outlines."""
        self.card = sleeping_card(name)
        self._delay_s = delay_ms / 1000.0
        self._segments = outlines(sum(name.encode()))

    def predict(self, film: Film, options: PredictOptions) -> Prediction:
        """The fixed answer after the fixed time."""
        time.sleep(self._delay_s)
        return Prediction(
            height=HEIGHT,
            width=WIDTH,
            segments=self._segments,
            provenance=Provenance(
                model_name=self.card.name,
                model_version="0.1.0",
                preset="lite",
                weights_sha256=self.card.weights_sha256,
                preprocessing_id="none",
                device=self.device,
                timing=Timing(infer_ms=self._delay_s * 1000.0),
            ),
        )


def serve_member(name: str, delay_ms: float) -> None:
    """Serves one sleeping network and says its port on the standard output."""
    from spinezoo_serving.memory import keep_film_memory
    from spinezoo_spine.films.reader import read_film

    keep_film_memory()
    runner = NetworkRunner(ServerSettings.from_env(), SleepingNetwork(name, delay_ms))
    server = segmenter_server(runner, read_film=read_film)

    async def say_port() -> None:
        print(server.port, flush=True)

    asyncio.run(run_forever(server, on_start=say_port))


@contextlib.contextmanager
def processes(delays_ms: tuple[float, ...]) -> Iterator[tuple[str, dict[str, str], int]]:
    """Starts members and gateway; gives their gRPC targets and the gateway's process number."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if "serve" in arguments[-1] else None,
            text=True,
            env={**os.environ, "SPINEZOO_GRPC_PORT": "0", "SPINEZOO_HTTP_PORT": "0", **environment},
        )
        started.append(process)
        return process

    try:
        members = {
            name: start(__file__, "--member", name, "--delay-ms", str(delay_ms))
            for name, delay_ms in zip(NAMES, delays_ms, strict=True)
        }
        targets = {
            name: f"127.0.0.1:{int(process.stdout.readline())}"  # type: ignore[union-attr]
            for name, process in members.items()
        }
        with tempfile.TemporaryDirectory() as folder:
            roster = Path(folder, "roster.yaml")
            lines = [f"  - {{name: {name}, target: '{where}'}}" for name, where in targets.items()]
            roster.write_text("members:\n" + "\n".join(lines) + "\n")
            gateway = start("-m", "spinezoo_gateway.serve", SPINEZOO_ROSTER=str(roster))
            port = None
            assert gateway.stderr is not None
            for line in gateway.stderr:
                entry = json.loads(line)
                if entry.get("endpoint") == "grpc":
                    port = entry["port"]
                if entry.get("phase") == "serving":
                    break
            if port is None:
                raise SystemExit("the gateway did not start")
            # Its log must not fill the pipe and stop it.
            drain = subprocess.Popen(
                ["cat"], stdin=gateway.stderr, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            started.append(drain)  # type: ignore[arg-type]
            yield f"127.0.0.1:{port}", targets, gateway.pid
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


# ---------------------------------------------------------------------------------- the measuring


def films() -> dict[str, image_pb2.Image]:
    """The film of 2048 x 1024 in the forms in which it may come."""
    grey = phantom().pixels
    return {
        "raw uint8": film_to_proto(Film((grey >> 4).astype(np.uint8))),
        "raw uint16": film_to_proto(Film(grey)),
        "DICOM 16 bit": image_pb2.Image(dicom=dicom_bytes(grey)),
    }


def timed(call: Callable[[], object]) -> tuple[object, float]:
    """The answer and the time it took, in ms."""
    began = time.perf_counter()
    answer = call()
    return answer, (time.perf_counter() - began) * 1000.0


def processor_ms(pid: int | None) -> float:
    """Processor time that a process has used, in ms; 0 where that cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * 1000.0 / os.sysconf("SC_CLK_TCK")


def measure(
    target: str, members: dict[str, str], image: image_pb2.Image, count: int, pid: int | None
) -> dict[str, float]:
    """Medians over ``count`` films, each asked of the ensemble and of the slowest member."""
    slowest = NAMES[-1]  # the last of the longest delays
    with contextlib.ExitStack() as stack:
        gateway = ensemble_pb2_grpc.EnsembleServiceStub(
            stack.enter_context(grpc.insecure_channel(target, CHANNEL))
        )
        direct = None
        if members:
            channel = stack.enter_context(grpc.insecure_channel(members[slowest], CHANNEL))
            direct = segmenter_pb2_grpc.SegmenterServiceStub(channel)
        question = ensemble_pb2.SegmentRequest(image=image)
        member_question = segmenter_pb2.PredictRequest(image=image)
        rows: list[dict[str, float]] = []
        for turn in range(count + 5):
            if turn == 5:
                used_ms = processor_ms(pid)
            answer, ensemble_ms = timed(lambda: gateway.Segment(question, timeout=120))
            assert isinstance(answer, ensemble_pb2.SegmentResponse)
            failed = [m.status for m in answer.members if m.status.message]
            if failed:
                raise SystemExit(f"members failed: {failed}")
            member_ms = max(member.status.latency_ms for member in answer.members)
            row = {
                "ensemble_ms": ensemble_ms,
                "own_ms": ensemble_ms - member_ms,
                "decode_ms": answer.timing.decode_ms,
                "fuse_ms": answer.timing.fuse_ms,
            }
            if direct is not None:
                _, row["slowest_direct_ms"] = timed(
                    lambda: direct.Predict(member_question, timeout=120)
                )
            if turn >= 5:  # the first ones warm up
                rows.append(row)
    result = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    result["gateway_processor_ms"] = (processor_ms(pid) - used_ms) / count
    if direct is not None:
        result["added_ms"] = result["ensemble_ms"] - result["slowest_direct_ms"]
        result["ratio"] = result["ensemble_ms"] / result["slowest_direct_ms"]
    return {key: round(value, 3) for key, value in result.items()}


def main() -> int:
    """Measures every case; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--films", type=int, default=60, help="films a case")
    record.add_option(parser)
    parser.add_argument("--target", help="measure this running gateway and its members")
    parser.add_argument("--member", help=argparse.SUPPRESS)
    parser.add_argument("--delay-ms", type=float, default=100.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.member:
        serve_member(options.member, options.delay_ms)
        return 0
    results: list[dict[str, object]] = []
    cases = {"running zoo": None} if options.target else DELAYS_MS
    for case, delays_ms in cases.items():
        with contextlib.ExitStack() as stack:
            if delays_ms is None:
                target, members, pid = options.target, {}, None
            else:
                target, members, pid = stack.enter_context(processes(delays_ms))
            for form, image in films().items():
                row = measure(target, members, image, options.films, pid)
                results.append({"members": case, "film": form, **row})
                print(json.dumps(results[-1]), flush=True)
    return 0 if options.target else record.finish("gateway", results, options)


if __name__ == "__main__":
    sys.exit(main())
