"""Starts the gateway: ``python -m spinezoo_gateway.serve``."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
import sys
from collections.abc import Mapping

import cv2
import prometheus_client
from spinezoo.v1 import ensemble_pb2_grpc
from spinezoo_contract.errors import ConfigurationError
from spinezoo_contract.services import ENSEMBLE_SERVICE
from spinezoo_serving.calls import Places
from spinezoo_serving.endpoints import HttpEndpoint, make_app
from spinezoo_serving.logs import configure_logging
from spinezoo_serving.memory import keep_film_memory
from spinezoo_serving.metrics import STAGE_BUCKETS_S, ServerMetrics
from spinezoo_serving.server import GrpcServer, run_forever
from spinezoo_serving.settings import ServerSettings
from spinezoo_serving.tokens import TokenFile
from spinezoo_spine.column.reader.network import built_in_reader
from spinezoo_spine.films import isolation
from spinezoo_spine.films.limits import DecoderLimits
from spinezoo_spine.films.reader import FilmLimits, read_film
from spinezoo_spine.measures.refiner.network import built_in_refiner
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from spinezoo_gateway.http.app import HttpFace, http_app
from spinezoo_gateway.http.page import Page
from spinezoo_gateway.http.uploads import FULL, Uploads
from spinezoo_gateway.members import MemberResult
from spinezoo_gateway.service import EnsembleServicer
from spinezoo_gateway.settings import GatewaySettings
from spinezoo_gateway.zoo import Zoo

MESSAGE_RESERVE_BYTES = 65_536
"""What a request to a member may hold beside the pixels."""

_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:]+\](:[0-9]{1,5})?")
"""What a browser says in its Host header."""

log = logging.getLogger("spinezoo.gateway")


async def speak_tls(request: Request) -> Response:
    """What a caller without TLS gets where TLS is on: the way to the page, and no film read."""
    host = request.headers.get("host", "")
    if request.method == "GET" and _HOST.fullmatch(host):
        return RedirectResponse(f"https://{host}/", 307)
    return PlainTextResponse("this port speaks TLS: write https:// in front of the address", 426)


class MemberMetrics:
    """How the members fare, for Prometheus."""

    def __init__(self, registry: prometheus_client.CollectorRegistry) -> None:
        """Registers its metrics."""
        self._answers = prometheus_client.Counter(
            "spinezoo_member_answers",
            "What members made of films, by member and code.",
            ["member", "code"],
            registry=registry,
        )
        self._seconds = prometheus_client.Histogram(
            "spinezoo_member_seconds",
            "From asking a member to its checked answer.",
            ["member"],
            buckets=STAGE_BUCKETS_S,
            registry=registry,
        )

    def observe(self, result: MemberResult) -> None:
        """Counts one result."""
        self._answers.labels(result.name, result.code.name.lower()).inc()
        self._seconds.labels(result.name).observe(result.message.status.latency_ms / 1000.0)


class Gateway:
    """Everything of one gateway process, not yet started."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Reads settings and roster.

        Raises:
            ConfigurationError: One of them is wrong.
        """
        server_settings = ServerSettings.from_env(environment)
        self.settings = GatewaySettings.from_env(environment)
        DecoderLimits.from_env(environment)  # wrong ones end the start, not each film
        self.zoo = Zoo(self.settings, environment, server_settings.max_message_bytes)
        self.metrics = ServerMetrics()
        members = MemberMetrics(self.metrics.registry)
        limits = FilmLimits(
            max_pixels=server_settings.max_pixels,
            max_bytes=server_settings.max_message_bytes,
            # The members get the decoded pixels, in a message with as much beside them.
            max_raw_bytes=max(1, server_settings.max_message_bytes - MESSAGE_RESERVE_BYTES),
        )
        read = functools.partial(read_film, limits=limits)
        servicer = EnsembleServicer(
            self.zoo,
            self.settings,
            reader=built_in_reader(),
            refiner=built_in_refiner(),
            read_film=read,
            max_pixels=server_settings.max_pixels,
            observe=members.observe,
        )
        self.server = GrpcServer(
            server_settings,
            metrics=self.metrics,
            tokens=TokenFile.for_server(server_settings.security, server_settings.host),
        )
        # Half of them may be on their way: a film that is being sent takes no place among those
        # under way. Over HTTP half may be previews, which take none either.
        most = 2 * self.settings.gateway_concurrency
        self.server.add(
            ensemble_pb2_grpc.add_EnsembleServiceServicer_to_server,
            servicer,
            ENSEMBLE_SERVICE,
            dict.fromkeys(("Segment", "SegmentStream"), Places(most, FULL.format("gRPC"))),
        )
        page = Page(self.server.tokens)
        face = HttpFace(
            servicer,
            read_film=read,
            uploads=Uploads(most, server_settings.max_message_bytes),
            page=page,
            max_pixels=server_settings.max_pixels,
            max_bytes=server_settings.max_message_bytes,
        )
        app = http_app(face, page, self.server.calls)
        state = self.server.state
        self.http = HttpEndpoint(
            server_settings.host,
            server_settings.http_port,
            make_app(state, self.metrics, [Mount("/", app)]),
            security=server_settings.security,
            plain=make_app(state, self.metrics, [Route("/{path:path}", speak_tls)]),
        )

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains."""
        # The first film that needs a decoding process need not wait for its start.
        warming = asyncio.create_task(asyncio.to_thread(_warm_up))
        await run_forever(
            self.server, endpoints=[self.http], on_start=self.zoo.start, on_stop=self.zoo.stop
        )
        await warming


def _warm_up() -> None:
    try:
        isolation.warm_up()
    except ConfigurationError as error:
        log.error("%s", error)


def main() -> int:
    """Runs the gateway; returns the exit code."""
    configure_logging("gateway")
    keep_film_memory()
    # Its threads wait in a loop for more work: 4 ms of a core a film, and none is faster for them.
    cv2.setNumThreads(1)
    try:
        gateway = Gateway(os.environ)
        log.info("roster", extra={"fields": {"members": list(gateway.zoo.roster.names)}})
        asyncio.run(gateway.run())
    except ConfigurationError as error:
        log.critical("cannot start: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
