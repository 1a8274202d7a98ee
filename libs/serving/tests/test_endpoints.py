"""The HTTP endpoints of gateway and evaluator."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest
from spinezoo_contract.errors import ConfigurationError
from spinezoo_serving.endpoints import HttpEndpoint, make_app
from spinezoo_serving.health import ask, own_server
from spinezoo_serving.metrics import ServerMetrics
from spinezoo_serving.server import GrpcServer
from spinezoo_serving.settings import ServerSettings
from spinezoo_serving.state import Phase, ServingState
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def hello(_: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def test_readiness_follows_the_state() -> None:
    state, metrics = ServingState(), ServerMetrics()
    metrics.failure("FilmError")
    endpoint = HttpEndpoint("127.0.0.1", 0, make_app(state, metrics, [Route("/hello", hello)]))
    await endpoint.start()
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{endpoint.port}", trust_env=False
        ) as client:

            async def codes() -> tuple[int, int]:
                return (
                    (await client.get("/livez")).status_code,
                    (await client.get("/readyz")).status_code,
                )

            assert await codes() == (200, 503)
            state.move(Phase.SERVING)
            assert await codes() == (200, 200)
            state.move(Phase.DRAINING)
            assert await codes() == (200, 503)
            state.move(Phase.SERVING)  # there is no way back
            assert await codes() == (200, 503)
            state.move(Phase.FAILED)
            assert await codes() == (503, 503)
            text = (await client.get("/metrics")).text
            assert 'spinezoo_failures_total{reason="FilmError"} 1.0' in text
            assert (await client.get("/hello")).text == "hello"
            # No empty answer, and none that `curl --fail` takes for success.
            for path in ("/hello/", "/nothing", "//", "/metrics/"):
                answer = await client.get(path)
                assert answer.status_code == 404
                assert "/hello, /livez, /metrics, /readyz" in answer.text
            answer = await client.post("/hello")
            assert answer.status_code == 405
            assert "takes no POST" in answer.text
            assert "GET" in answer.headers["allow"]
    finally:
        await endpoint.stop()


async def test_what_keeps_a_process_from_its_work_is_named_and_goes_again() -> None:
    state, names = ServingState(), ["", "disk: gone", ""]
    app = make_app(state, ServerMetrics(), trouble=lambda: names.pop(0))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(base_url="http://process", transport=transport) as client:
        assert (await client.get("/readyz")).text == "loading"
        state.move(Phase.SERVING)
        answers = [await client.get("/readyz") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 503, 200]
        assert [answer.text for answer in answers] == ["serving", "disk: gone", "serving"]
        assert (await client.get("/livez")).status_code == 200


@pytest.mark.parametrize("host", ["::1", "[::1]", "::"])
async def test_servers_listen_on_ipv6(host: str) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    settings = ServerSettings.from_env({"SPINEZOO_HOST": host})
    state = ServingState()
    server = GrpcServer(settings, state=state)
    endpoint = HttpEndpoint(settings.host, 0, make_app(state, ServerMetrics()))
    await server.start()
    await endpoint.start()
    try:
        own = {"SPINEZOO_HOST": host, "SPINEZOO_GRPC_PORT": str(server.port)}
        target, security, _ = own_server(own)
        assert target == f"[::1]:{server.port}"
        assert await asyncio.to_thread(ask, target, security) == "SERVING"
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://[::1]:{endpoint.port}/readyz")
        assert answer.status_code == 200
    finally:
        await endpoint.stop()
        await server.stop(0.0)


async def test_a_taken_port_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        app = make_app(ServingState(), ServerMetrics())
        endpoint = HttpEndpoint("127.0.0.1", taken.getsockname()[1], app)
        with pytest.raises(ConfigurationError, match="SPINEZOO_HTTP_PORT"):
            await endpoint.start()
