"""A member that answers as told: right, late, wrong, or not at all. Real sockets, no network.

Written on the bare protos and grpc, without the project's server shell: what the gateway must
withstand comes from strangers. Runs inside a test's event loop, or as a process of its own:
``python fake_member.py PORT BEHAVIOUR``.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field

import grpc
import grpc.aio
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from pycocotools import mask as coco_mask
from spinezoo.v1 import model_pb2, segment_pb2, segmenter_pb2, segmenter_pb2_grpc

SERVICE = "spinezoo.v1.SegmenterService"
OPTIONS = (
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.so_reuseport", 0),
)


def run_lengths(pixels: np.ndarray) -> bytes:
    return coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"]


def vertebra(height: int, width: int, top: float = 0.25) -> segment_pb2.Segment:
    """A lumbar vertebra that fills the middle half of the film's columns."""
    pixels = np.zeros((height, width), dtype=bool)
    pixels[int(top * height) : int((top + 0.25) * height), width // 4 : 3 * width // 4] = True
    rows = np.flatnonzero(pixels.any(axis=1))
    return segment_pb2.Segment(
        structure=segment_pb2.STRUCTURE_LUMBAR_VERTEBRA,
        kind=segment_pb2.SEGMENT_KIND_INSTANCE,
        score=0.9,
        box=segment_pb2.Box(x=width // 4, y=rows[0], width=width // 2, height=rows.size),
        mask=segment_pb2.RunLengthMask(height=height, width=width, counts=run_lengths(pixels)),
    )


@dataclass
class FakeMember(segmenter_pb2_grpc.SegmenterServiceServicer):
    """One member; a test changes its fields while it runs."""

    name: str = "fake"
    behaviour: str = "ok"
    delay_s: float = 0.0
    weights: str = "a" * 64
    shrinking_id: str = ""
    understands: bool = True
    seen: list[segmenter_pb2.PredictRequest] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    budgets_s: list[float] = field(default_factory=list)
    cancelled: int = 0
    model_calls: int = 0
    port: int = 0
    server: grpc.aio.Server | None = None
    health: health_aio.HealthServicer | None = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self, port: int = 0) -> None:
        self.server = grpc.aio.server(options=OPTIONS)
        segmenter_pb2_grpc.add_SegmenterServiceServicer_to_server(self, self.server)
        self.health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        await self.serving(True)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        await self.server.start()

    async def serving(self, yes: bool) -> None:
        kinds = health_pb2.HealthCheckResponse
        for service in ("", SERVICE):
            await self.health.set(service, kinds.SERVING if yes else kinds.NOT_SERVING)

    async def stop(self) -> None:
        await self.server.stop(None)

    async def GetModel(  # noqa: N802
        self, request: segmenter_pb2.GetModelRequest, context: grpc.aio.ServicerContext
    ) -> segmenter_pb2.GetModelResponse:
        self.model_calls += 1
        structures = [segment_pb2.STRUCTURE_LUMBAR_VERTEBRA, segment_pb2.STRUCTURE_SACRAL_VERTEBRA]
        return segmenter_pb2.GetModelResponse(
            model=model_pb2.ModelInfo(
                name=self.name,
                version="0.1.0",
                architecture="none",
                family=model_pb2.MODEL_FAMILY_INSTANCE,
                preset="lite",
                structures=structures,
                input_height=64,
                input_width=64,
                weights_sha256=self.weights,
                card_sha256="c" * 64,
                license="Apache-2.0",
                max_message_bytes=64 << 20,
                queue_limit=16,
                shrinking_id=self.shrinking_id,
            )
        )

    async def Predict(  # noqa: N802
        self, request: segmenter_pb2.PredictRequest, context: grpc.aio.ServicerContext
    ) -> segmenter_pb2.PredictResponse | bytes:
        self.seen.append(request)
        self.budgets_s.append(context.time_remaining() or 0.0)
        metadata = dict(context.invocation_metadata())
        self.request_ids.append(metadata.get("x-request-id", ""))
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raw = request.image.raw
        height, width = raw.height, raw.width
        if request.HasField("whole_height") and self.understands:
            height, width = request.whole_height, request.whole_width
        answer = segmenter_pb2.PredictResponse(
            height=height,
            width=width,
            segments=[vertebra(height, width)],
            provenance=model_pb2.Provenance(
                model_name=self.name, model_version="0.1.0", weights_sha256=self.weights
            ),
        )
        segment = answer.segments[0]
        match self.behaviour:
            case "ok":
                pass
            case "nothing_found":
                del answer.segments[:]
            case "wrong_size":
                answer.height = height + 1
            case "wrong_mask_size":
                segment.mask.width = width // 2
            case "unknown_class":
                segment.structure = 17
            case "class_of_another_model":
                segment.structure = segment_pb2.STRUCTURE_CAGE
            case "invalid_runs":
                segment.mask.counts = segment.mask.counts[:-1]
            case "not_runs":
                segment.mask.counts = b"\xff\x00 nonsense \xfe" * 50
            case "runs_of_pixels":
                segment.mask.counts = bytes(1000) + b"\xff" * 1000
            case "empty_mask":
                segment.mask.counts = run_lengths(np.zeros((height, width)))
            case "score_2":
                segment.score = 2.0
            case "score_nan":
                segment.score = float("nan")
            case "no_kind":
                segment.kind = 0
            case "two_regions":
                segment.kind = segment_pb2.SEGMENT_KIND_REGION
                answer.segments.append(segment)
            case "no_provenance":
                answer.ClearField("provenance")
            case "1001_outlines":
                answer.segments.extend([segment] * 1000)
            case "two_outlines":
                answer.segments.append(vertebra(height, width, 0.5))
            case "maps_unasked":
                box = segment_pb2.Box(width=width, height=height)
                answer.probability_maps.add(structure=1, height=1, width=1, data=b"0", film_box=box)
            case "long_device":
                answer.provenance.device = "x" * 5_000_000
            case "note_below_all":
                answer.notes.add(code=-5, text="of another world")
            case "empty":
                answer = segmenter_pb2.PredictResponse()
            case "large":
                answer.probability_maps.add(
                    structure=1,
                    height=4000,
                    width=6000,
                    data=bytes(24_000_000),
                    film_box=segment_pb2.Box(width=width, height=height),
                )
            case "crash":
                raise RuntimeError("the network crashed on patient MUSTERMANN")
            case "refuse":
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the film is not a spine")
            case "full":
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue is full")
            case _:
                raise ValueError(self.behaviour)
        return answer


async def main(port: int, behaviour: str, delay_s: float) -> None:
    member = FakeMember(behaviour=behaviour, delay_s=delay_s)
    await member.start(port)
    sys.stdout.write(f"{member.port}\n")
    sys.stdout.flush()
    await member.server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
