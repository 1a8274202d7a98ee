"""A gateway for tests: a real gRPC server that answers with the truth, a little moved.

Can also be run as a process: ``python stand_in.py FOLDER [SECONDS_A_FILM]`` prints its address.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from outlines import as_regions, shifted
from spinezoo.v1 import ensemble_pb2_grpc
from spinezoo_contract import codec
from spinezoo_contract.errors import FilmError, QuorumError
from spinezoo_contract.types import (
    EnsembleAnswer,
    FusionOptions,
    GatewayTiming,
    MemberAnswer,
    MemberCode,
    MemberStatus,
    ModelFamily,
    ModelInfo,
    Prediction,
    Provenance,
    Roster,
    RosterMember,
    Structure,
    Timing,
)
from spinezoo_evaluator.benchmark.measuring import load_film
from spinezoo_serving.server import GrpcServer
from spinezoo_serving.settings import ServerSettings
from spinezoo_serving.tokens import TokenFile
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.fusion.votes import fuse

MEMBERS = {
    "deeplabv3": ModelFamily.SEMANTIC,
    "mask_rcnn": ModelFamily.INSTANCE,
    "pspnet": ModelFamily.SEMANTIC,
    "unet": ModelFamily.SEMANTIC,
    "yolact": ModelFamily.INSTANCE,
}
ARCHITECTURES = {
    "deeplabv3": "DeepLabV3 (Chen 2017)",
    "mask_rcnn": "Mask R-CNN (He 2017) with a feature pyramid",
    "pspnet": "PSPNet (Zhao 2017), dilated",
    "unet": "U-Net (Ronneberger 2015)",
    "yolact": "YOLACT (Bolya 2019): prototypes",
}
QUORUM = 3

Plan = Callable[[str, str], MemberCode]
"""How a member fares on a film: (film, member) -> code."""


def all_well(film: str, member: str) -> MemberCode:
    return MemberCode.OK


def model_info(name: str, weights: str = "a" * 64) -> ModelInfo:
    """What a member says of itself."""
    return ModelInfo(
        name=name,
        version="0.1.0",
        architecture=ARCHITECTURES[name],
        family=MEMBERS[name],
        preset="lite",
        structures=tuple(Structure),
        input_height=320,
        input_width=256,
        weights_sha256=weights,
        card_sha256="c" * 64,
        license="Apache-2.0",
        default_score_threshold=0.5,
        default_suppression_iou=None,
        max_message_bytes=67_108_864,
        queue_limit=16,
    )


class StandInGateway(ensemble_pb2_grpc.EnsembleServiceServicer):
    def __init__(self, folder: Path, plan: Plan = all_well, seconds_a_film: float = 0.0) -> None:
        films = FilmSet.open(folder)
        self._films = {}
        for name in films.names:
            try:
                film = load_film(films, name)
            except FilmError:
                continue
            self._films[film.sha256] = film
        self.plan = plan
        self.seconds_a_film = seconds_a_film
        self.asked: Counter[str] = Counter()
        self.weights = "a" * 64

    def _segments(self, film, member):
        order = list(MEMBERS).index(member)
        pixels = max(1, film.height // 256)
        film_number = int(film.sha256[:4], 16) % 5
        down = (order - 2) * pixels * (1 + film_number) // 2
        moved = [shifted(s, down, pixels * (order % 2)) for s in film.truth]
        segments = [s for s in moved if s is not None]
        if (film_number + order) % 4 == 0:
            segments = segments[1:]
        if MEMBERS[member] is ModelFamily.SEMANTIC:
            return as_regions(segments)
        return tuple(segments)

    async def Segment(self, request, context):  # noqa: N802
        image = request.image
        data = getattr(image, image.WhichOneof("form"))
        film = self._films[hashlib.sha256(data).hexdigest()]
        self.asked[film.name] += 1
        await asyncio.sleep(self.seconds_a_film)
        names = list(request.member_names) or list(MEMBERS)
        answers = []
        for order, name in enumerate(names):
            code = self.plan(film.name, name)
            status = MemberStatus(name, code, 100.0 + order, "" if code == 1 else f"{name} is ill")
            prediction = None
            if code is MemberCode.OK:
                timing = Timing(1.0, 2.0, 30.0 + order, 60.0 + order, 4.0)
                provenance = Provenance(
                    name, "0.1.0", "lite", self.weights, "letterbox-2ch-v1", "cpu", timing
                )
                segments = self._segments(film, name)
                prediction = Prediction(film.height, film.width, segments, provenance)
            answers.append(MemberAnswer(status, prediction))
        answered = {
            a.status.member_name: a.prediction.segments for a in answers if a.prediction is not None
        }
        quorum = request.quorum if request.HasField("quorum") else QUORUM
        if len(answered) < quorum:
            error = QuorumError(f"{len(answered)} of {len(names)} members answered")
            entries = [
                {
                    "member_name": a.status.member_name,
                    "code": a.status.code.name,
                    "latency_ms": a.status.latency_ms,
                    "message": a.status.message,
                }
                for a in answers
            ]
            error.trailing_metadata = (("x-spinezoo-members", json.dumps(entries)),)
            raise error
        fused = fuse(
            answered,
            film.height,
            film.width,
            codec.from_proto(FusionOptions, request.fusion),
        )
        timing = GatewayTiming(1.5, 120.0, 2.5, 125.0)
        answer = EnsembleAnswer(film.height, film.width, tuple(answers), fused, timing)
        return codec.to_proto(answer)

    async def ListModels(self, request, context):  # noqa: N802
        members = []
        for name in MEMBERS:
            model = model_info(name, self.weights)
            status = MemberStatus(name, MemberCode.OK, 1.0)
            members.append(RosterMember(name, "127.0.0.1:1", status, model))
        return codec.to_proto(Roster(tuple(members), QUORUM, 60_000))


def make_gateway(
    servicer: StandInGateway,
    port: int = 0,
    *,
    settings: ServerSettings | None = None,
    tokens: TokenFile | None = None,
) -> GrpcServer:
    server = GrpcServer(settings or ServerSettings(grpc_port=port), tokens=tokens)
    server.add(
        ensemble_pb2_grpc.add_EnsembleServiceServicer_to_server,
        servicer,
        "spinezoo.v1.EnsembleService",
    )
    return server


async def _main(folder: Path, seconds_a_film: float) -> None:
    server = make_gateway(StandInGateway(folder, seconds_a_film=seconds_a_film))
    await server.start()
    print(f"127.0.0.1:{server.port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
