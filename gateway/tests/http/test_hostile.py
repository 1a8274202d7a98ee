"""Callers who mean no good, or have a bad line: the port answers by name and serves on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import grpc
import httpx
import numpy as np
import pytest
from bench import Bench
from fake_member import FakeMember
from refused_films import refused_films
from spinezoo.v1 import image_pb2
from spinezoo_serving import endpoints, forms
from spinezoo_testing.servers import until

Connect = Callable[..., httpx.Client]

HEAD = b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
PART = b'--x\r\nContent-Disposition: form-data; name="film"; filename="a"\r\n\r\n'


@dataclass
class CountingMember(FakeMember):
    """Knows how many films it had at once."""

    now: int = 0
    most: int = 0

    async def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await super().Predict(request, context)
        finally:
            self.now -= 1


def test_everything_that_readers_refuse_is_refused_by_name(connect: Connect, png: bytes) -> None:
    client = connect()
    wrong = []
    for name, film in refused_films().items():
        for path in ("/v1/segment", "/v1/preview"):
            answer = client.post(path, files={"film": film})
            problem = answer.json()
            named = problem.get("error") in ("FilmError", "TooLargeError")
            if answer.status_code not in (400, 413) or not named or len(problem["detail"]) < 20:
                wrong.append((name, path, answer.status_code, str(problem)[:300]))
            assert "MUSTERMANN" not in answer.text
    assert not wrong
    assert client.post("/v1/segment", files={"film": png}).status_code == 200


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (PART.replace(b"\r\n\r\n", b"\r\nX-Long: " + b"y" * (1 << 20) + b"\r\n\r\n"), "read"),
        (PART.replace(b"\r\n\r\n", b"\r\nX: 1" * 100_000 + b"\r\n\r\n"), "read"),
        (b'--x\r\nContent-Disposition: form-data; name="masks"\r\n\r\n' + b"a" * 200_000, "64KB"),
        (b"".join(b'--x\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n1\r\n' % i
                  for i in range(2000)), "fields"),
        (b'--x\r\nContent-Disposition: form-data; name="film"; filename="a"\r\n\r\nb\r\n' * 500,
         "files"),
        (PART + b"a film that never ends", "film"),
        (b"\r\n" * 200_000 + PART + b"b\r\n--x--\r\n", ""),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n", "name"),
    ],
    ids=["long header", "many headers", "long field", "many fields", "many films", "no end",
         "long preamble", "no name"],
)  # fmt: skip
def test_forms_made_to_hurt(connect: Connect, png: bytes, body: bytes, says: str) -> None:
    client = connect()
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = client.post("/v1/segment", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"]
    assert client.post("/v1/segment", files={"film": png}).status_code == 200


def test_names_of_files_and_fields_go_nowhere(connect: Connect, png: bytes) -> None:
    client = connect()
    names = [
        "../../etc/passwd",
        'a"; name="members',
        "a\r\nSet-Cookie: b=c",
        "\0",
        "<script>",
        "x" * 9000,
    ]
    for name in names:
        answer = client.post("/v1/segment", files={"film": (name, png)})
        assert answer.status_code in (200, 400), name
        assert "set-cookie" not in answer.headers
        assert name not in answer.text
    answer = client.post("/v1/segment", files={"film": png}, data={"<img src=x>\r\n": "1"})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    # A request id that could forge a line of the log, or a header, is replaced.
    answer = client.get("/v1/models", headers={b"X-Request-Id": b'a" {"level": "INFO"'})
    assert '"' not in answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "path",
    [
        "/page/free/../../settings.py",
        "/page/free/%2e%2e/%2e%2e/settings.py",
        "/page/free/..%2f..%2fsettings.py",
        "/page/free//etc/passwd",
        "/page/free/phantoms/../../serve.py",
        "/page/free/phantoms",
        "/page/free/",
        "/page/free/app.js%00.html",
        "/page/free/APP.JS",
        "/..%2froster.yaml",
        "//etc/passwd",
    ],
)
def test_no_path_leads_out_of_the_page(connect: Connect, path: str) -> None:
    client = connect()
    with socket.create_connection((client.base_url.host, client.base_url.port)) as line:
        line.settimeout(20)
        # As it stands: a client would put the path in order first.
        line.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: line.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404"), answer[:200]
    assert b"import " not in answer


def test_a_sender_that_falls_silent_gives_its_place_back(
    bench: Bench, connect: Connect, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "SILENCE_S", 0.5)
    client = connect(SPINEZOO_GATEWAY_CONCURRENCY="1")
    lines = []
    for _ in range(2):  # all the places there are
        line = socket.create_connection((client.base_url.host, client.base_url.port))
        line.settimeout(20)
        line.sendall(HEAD + b"Content-Length: 9000000\r\n\r\n" + PART + b"the first bytes")
        lines.append(line)
    time.sleep(0.1)
    for line in lines:
        said = line.recv(4096)
        assert said.startswith(b"HTTP/1.1 504"), said[:200]
        line.close()
    assert client.post("/v1/segment", files={"film": png}).status_code == 200


def test_answers_that_nobody_takes_are_bounded_and_given_up(
    connect: Connect, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "SILENT_S", 1.0)
    client = connect(SPINEZOO_GATEWAY_CONCURRENCY="1")
    # 18 MB of pixels, more than the buffers between two sockets hold.
    _, film = cv2.imencode(".png", np.zeros((3000, 3000), np.uint16))
    large = PART + film.tobytes() + b"\r\n--x--\r\n"
    asked = HEAD.replace(b"segment", b"preview") + b"Accept: application/octet-stream\r\n"
    lines = []
    for _ in range(2):  # all the places there are
        lines.append(line := socket.socket())
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.settimeout(20)
        line.connect((client.base_url.host, client.base_url.port))
        line.sendall(asked + b"Content-Length: %d\r\n\r\n" % len(large) + large)
        assert line.recv(15) == b"HTTP/1.1 200 OK"
    answer = client.post("/v1/preview", files={"film": png})
    assert (answer.status_code, answer.json()["error"]) == (503, "QueueFullError")
    assert until(lambda: client.post("/v1/preview", files={"film": png}).status_code == 200)
    for line in lines:
        line.close()


def ended(client: httpx.Client) -> float:
    """How many calls for an answer have ended."""
    lines = client.get("/metrics").text.splitlines()
    mine = [each for each in lines if each.startswith("spinezoo_requests_total{")]
    return sum(float(each.split()[-1]) for each in mine if 'method="http:segment"' in each)


def test_senders_and_listeners_that_go_leave_nothing_behind(
    bench: Bench, connect: Connect, png: bytes
) -> None:
    slow = bench.add_member("unet", delay_s=30.0)
    quick = bench.add_member("pspnet")
    client = connect(SPINEZOO_GATEWAY_CONCURRENCY="2", SPINEZOO_QUORUM="1")
    address = (client.base_url.host, client.base_url.port)
    form = PART + png + b"\r\n--x--\r\n"
    whole = HEAD + b"Content-Length: %d\r\n" % len(form)
    gone = 0
    for accept in (b"", b"Accept: text/event-stream\r\n"):
        for sent in (PART[:20], PART + png[:99], form):
            for _ in range(3):
                before = len(slow.seen)
                with socket.create_connection(address) as line:
                    line.sendall(whole + accept + b"\r\n" + sent)
                    if sent == form:
                        # Gone while the networks work.
                        assert until(lambda before=before: len(slow.seen) > before)
                gone += 1
                assert until(lambda: ended(client) == gone)  # noqa: B023
    assert bench.gateway.server.calls.in_flight._count == 0
    assert until(lambda: slow.cancelled == len(slow.seen))
    slow.delay_s = 0.0
    assert client.post("/v1/segment", files={"film": png}).status_code == 200
    assert quick.seen


def test_browsers_and_grpc_callers_share_one_bounded_queue(
    bench: Bench, connect: Connect, png: bytes
) -> None:
    member = CountingMember(name="unet", delay_s=0.6)
    bench.loop.run(member.start())
    bench.members["unet"] = member
    client = connect(SPINEZOO_GATEWAY_CONCURRENCY="4", SPINEZOO_QUORUM="1")
    said: list[str] = []

    def over_http() -> None:
        with httpx.Client(base_url=client.base_url, timeout=60.0, trust_env=False) as own:
            form = {"files": {"film": png}, "headers": {"Accept": "text/event-stream"}}
            answer = own.post("/v1/segment", **form)
        said.append("answered" if answer.status_code == 200 else answer.json()["error"])

    def over_grpc() -> None:
        try:
            bench.segment(image_pb2.Image(encoded=png), timeout_s=60.0)
            said.append("answered")
        except grpc.RpcError as error:
            full = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            said.append("QueueFullError" if full else str(error))

    asks = (over_http, over_grpc)
    for total in (50, 100):  # places that are given back are no more than were taken
        callers = [threading.Thread(target=ask) for _ in range(25) for ask in asks]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(60)
        assert len(said) == total
        assert set(said) == {"answered", "QueueFullError"}
        assert 4 <= said.count("answered") == len(member.seen)
        assert member.most == 4
    assert bench.segment(image_pb2.Image(encoded=png)).height == 96


def test_a_preview_as_bytes_is_a_line_and_rows(
    connect: Connect, png: bytes, levels: np.ndarray
) -> None:
    answer = connect().post(
        "/v1/preview", files={"film": png}, headers={"Accept": "application/octet-stream"}
    )
    assert answer.headers["content-type"] == "application/octet-stream"
    line, _, rows = answer.content.partition(b"\n")
    said = httpx.Response(200, content=line).json()
    assert (len(line) + 1) % 8 == 0
    assert (said["height"], said["width"], said["levels"]["type"]) == (96, 64, "uint16")
    assert "raw" not in said
    assert np.array_equal(np.frombuffer(rows, "<u2").reshape(96, 64), levels)


def test_a_form_that_is_cut_off_is_never_answered_without_its_last_field(
    connect: Connect, png: bytes
) -> None:
    client = connect()
    film = (
        b'--x\r\nContent-Disposition: form-data; name="film"; filename="a"\r\n\r\n' + png + b"\r\n"
    )
    field = b'--x\r\nContent-Disposition: form-data; name="members"\r\n\r\nunet\r\n--x--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for kept in (0, 3, 20, len(field) - 12, len(field) - 8, len(field) - 5):
        answer = client.post("/v1/segment", content=film + field[:kept], headers=headers)
        assert answer.status_code == 400, (kept, answer.text)
        assert "ends before" in answer.json()["detail"]
    for rest in (field, field[:-2], field + b"behind"):
        answer = client.post("/v1/segment", content=film + rest, headers=headers)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["members"]) == 1
