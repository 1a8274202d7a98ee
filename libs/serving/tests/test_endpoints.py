"""The HTTP endpoints of gateway and evaluator."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from spinezoo_contract.errors import ConfigurationError
from spinezoo_serving import endpoints
from spinezoo_serving.endpoints import HttpEndpoint, make_app
from spinezoo_serving.health import ask, own_server
from spinezoo_serving.metrics import ServerMetrics
from spinezoo_serving.server import GrpcServer
from spinezoo_serving.settings import ServerSettings
from spinezoo_serving.state import Phase, ServingState
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
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


LARGE = bytes(32 << 20)
"""More than the buffers between two sockets hold."""


async def large(_: Request) -> Response:
    return Response(LARGE)


async def slow(_: Request) -> PlainTextResponse:
    await asyncio.sleep(1.5)
    return PlainTextResponse("slow")


@contextmanager
def callers(port: int, *said: bytes) -> Iterator[list[socket.socket]]:
    """A connection for each of what is said on it."""
    lines = []
    for text in said:
        lines.append(line := socket.socket())
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", port))
        line.sendall(text)
        line.setblocking(False)
    yield lines
    for line in lines:
        line.close()


def asked(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def everything(line: socket.socket) -> bytes:
    """What comes until the other end closes."""
    got = bytearray()
    loop = asyncio.get_running_loop()
    try:
        while piece := await asyncio.wait_for(loop.sock_recv(line, 1 << 20), 10):
            got += piece
    except ConnectionResetError:
        got += b"[reset]"
    return bytes(got)


async def test_connections_on_which_nothing_moves_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endpoints, "FIRST_BYTE_S", 0.3)
    monkeypatch.setattr(endpoints, "SILENT_S", 0.3)
    routes = [Route("/large", large), Route("/slow", slow)]
    endpoint = HttpEndpoint("127.0.0.1", 0, make_app(ServingState(), ServerMetrics(), routes))
    await endpoint.start()
    said = (b"", b"GET / HT", asked("/large"), asked("/livez") + b"G", asked("/slow"))
    try:
        with callers(endpoint.port, *said) as lines:
            await asyncio.sleep(1.2)
            silent, half, untaken, again, working = [await everything(line) for line in lines]
        assert silent == half == b""
        assert 0 < len(untaken) < len(LARGE)
        assert b"200 OK" in again
        # Its answer took longer than that, and was not due to the caller.
        assert b"slow" in working
    finally:
        await endpoint.stop()


async def test_more_connections_than_there_may_be_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(endpoints, "MOST_CONNECTIONS", 2)
    endpoint = HttpEndpoint("127.0.0.1", 0, make_app(ServingState(), ServerMetrics()))
    await endpoint.start()
    try:
        with callers(endpoint.port, b"G", b"G", asked("/livez")) as (first, _, third):
            await asyncio.sleep(0.5)
            with pytest.raises(BlockingIOError):
                third.recv(1)
            first.close()
            assert b"200 OK" in await everything(third)
        full = [each for each in caplog.records if "connections are open" in each.message]
        assert 1 <= len(full) <= 2  # not at every look
    finally:
        await endpoint.stop()
