"""A network behind BentoML: the real process, both endpoints over the wire."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from spinezoo.v1 import segmenter_pb2_grpc
from spinezoo_conformance.ports import free_ports
from spinezoo_contract import codec
from spinezoo_contract.client import SegmenterClient
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.types import Film, Prediction, RunLengthMask
from spinezoo_serving.server import channel_options
from spinezoo_serving.settings import ServerSettings
from spinezoo_testing.threshold import film_file

pytest.importorskip("bentoml", reason="bentoml is not installed; run `make setup`")
httpx = pytest.importorskip("httpx")

FOLDER = Path(__file__).parent / "threshold"
LAUNCHER = ("-m", "spinezoo_serving.bento", str(FOLDER))
BENTOML = ("-m", "bentoml", "serve", "service:Service")

SPY = '''
"""Records every connection and name look-up that does not stay on this machine."""
import os, sys
def spy(event, arguments):
    if event == "socket.connect":
        target = arguments[1]
        if isinstance(target, tuple) and target[0] not in ("127.0.0.1", "::1", "localhost"):
            note(event, target)
    elif event == "socket.getaddrinfo":
        if arguments[0] not in (None, "127.0.0.1", "::1", "localhost", "0.0.0.0", b"127.0.0.1"):
            note(event, arguments[:2])
def note(event, target):
    with open(os.environ["TEST_SPY_FILE"], "a") as file:
        file.write(f"{event} {target}\\n")
with open(os.environ["TEST_SPY_FILE"], "a") as file:
    file.write("watching\\n")
sys.addaudithook(spy)
'''


def film(first: int = 7) -> Film:
    pixels = np.random.default_rng(0).integers(0, 200, (32, 48)).astype(np.uint8)
    pixels[0, 0] = first
    return Film(pixels)


@dataclass
class Process:
    child: subprocess.Popen[bytes]
    grpc_port: int
    http: Any
    log: Path
    spy: Path

    def stub(self) -> segmenter_pb2_grpc.SegmenterServiceStub:
        channel = grpc.insecure_channel(
            f"127.0.0.1:{self.grpc_port}", options=channel_options(1 << 26)
        )
        return segmenter_pb2_grpc.SegmenterServiceStub(channel)

    def health(self) -> int | None:
        with grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}") as channel:
            try:
                stub = health_pb2_grpc.HealthStub(channel)
                return stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status
            except grpc.RpcError:
                return None

    def readyz(self) -> int | None:
        try:
            return self.http.get("/readyz").status_code
        except httpx.TransportError:
            return None

    def until_ready(self, wanted: int = 200) -> None:
        end = time.monotonic() + 120
        while self.readyz() != wanted:
            assert time.monotonic() < end, self.log.read_text()
            assert self.child.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextmanager
def network(tmp_path: Path, command: tuple[str, ...] = LAUNCHER, **extra: str) -> Iterator[Process]:
    grpc_port, http_port = free_ports(2)
    (tmp_path / "sitecustomize.py").write_text(SPY)
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("BENTOML", "SPINEZOO", "PROMETHEUS"))
    }
    environment |= {
        "SPINEZOO_GRPC_PORT": str(grpc_port),
        "SPINEZOO_HTTP_PORT": str(http_port),
        "SPINEZOO_DRAIN_S": "10",
        "PYTHONPATH": str(tmp_path),
        "TEST_SPY_FILE": str(tmp_path / "spy"),
        "HOME": str(tmp_path),
        **extra,
    }
    if command is BENTOML:
        command = (*BENTOML, "--host", "127.0.0.1", "--port", str(http_port))
    log = tmp_path / "log"
    with log.open("wb") as stream:
        child = subprocess.Popen(
            [sys.executable, *command],
            env=environment,
            stdout=stream,
            stderr=stream,
            cwd=FOLDER,
            start_new_session=True,
        )
    client = httpx.Client(base_url=f"http://127.0.0.1:{http_port}", trust_env=False, timeout=30)
    try:
        yield Process(child, grpc_port, client, log, tmp_path / "spy")
    finally:
        client.close()
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait(10)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with network(tmp_path_factory.mktemp("bento"), SPINEZOO_MAX_MESSAGE_BYTES="1048576") as process:
        process.until_ready()
        yield process


# --- TLS ----------------------------------------------------------------------------------------


def test_the_http_endpoint_is_no_way_round_tls(tmp_path: Path, certificates: Any) -> None:
    settings = certificates.server("mutual") | {"SPINEZOO_TOKENS": str(tmp_path / "unused")}
    with network(tmp_path, **settings) as process:
        process.until_ready()
        for content in (film_file(film()), b"junk"):
            refused = process.http.post("/predict", content=content)
            assert refused.status_code == 403
            assert refused.json()["error"] == "ClosedFaceError"
            assert "SegmenterService/Predict" in refused.json()["message"]
        assert "spinezoo_failures_total" in process.http.get("/metrics").text
        assert process.http.get("/livez").status_code == 200
        # Over gRPC with a certificate, as the refusal says; without one there is no answer.
        target = f"127.0.0.1:{process.grpc_port}"
        files = {
            "ca_file": certificates.path("ca.crt"),
            "certificate_file": certificates.path("client.crt"),
            "key_file": certificates.path("client.key"),
        }
        with SegmenterClient(target, **files) as client:
            assert client.predict(film()).width == 48
        assert process.health() is None
        probe = [sys.executable, "-m", "spinezoo_serving.health"]
        own = {**os.environ, **settings, "SPINEZOO_GRPC_PORT": str(process.grpc_port)}
        asked = subprocess.run(probe, env=own, capture_output=True, text=True, timeout=60)
        assert (asked.returncode, asked.stdout) == (0, f"{target} SERVING\n"), asked.stderr
        told = process.log.read_text()
        assert "a network asks for no tokens" in told
        assert certificates.path("server.key").read_text().splitlines()[1] not in told


def test_a_certificate_that_is_over_ends_the_start(tmp_path: Path, certificates: Any) -> None:
    with network(tmp_path, **certificates.server(name="old")) as process:
        assert process.child.wait(60) == 1
        assert "SPINEZOO_TLS_CERT" in process.log.read_text()


# --- both endpoints -------------------------------------------------------------------------------


def test_both_endpoints_give_the_same_answer(running: Process) -> None:
    sent = film()
    by_grpc = codec.to_json(
        codec.from_proto(Prediction, running.stub().Predict(codec.predict_request_to_proto(sent)))
    )
    form = running.http.post("/predict", files={"film": ("film.dcm", film_file(sent))})
    body = running.http.post("/predict", content=film_file(sent))
    assert form.status_code == body.status_code == 200
    for answer in (form.json(), body.json()):
        assert answer["segments"] == by_grpc["segments"]
        assert answer["provenance"]["timing"].keys() == by_grpc["provenance"]["timing"].keys()
    mask = form.json()["segments"][0]["mask"]
    pixels = decode_mask(RunLengthMask(*mask["size"], mask["counts"].encode()))
    assert np.array_equal(pixels, sent.pixels > sent.pixels.mean())


CUT_FORM = (
    b'--x\r\nContent-Disposition: form-data; name="film"; filename="a"\r\n\r\nx\r\n'
    b'--x\r\nContent-Disposition: form-data; name="score_threshold"\r\n\r\n0.'
)


@pytest.mark.parametrize(
    ("request_arguments", "code", "name", "says"),
    [
        ({"content": b""}, 400, "FilmError", "no film"),
        ({"content": b"junk"}, 400, "FilmError", "send FILM"),
        ({"files": {"movie": b"x"}}, 400, "OptionError", "'film'"),
        ({"files": {"film": b""}}, 400, "FilmError", "no film"),
        (
            {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
            400,
            "FilmError",
            "multipart",
        ),
        ({"content": b"x", "params": {"max_segments": "0"}}, 400, "OptionError", "1 to 1000"),
        ({"content": b"x", "params": {"max_segments": "1.5"}}, 400, "OptionError", "whole"),
        ({"content": b"x", "params": {"score_threshold": "high"}}, 400, "OptionError", "number"),
        ({"content": b"x", "params": {"score_threshold": "nan"}}, 400, "OptionError", "0 to 1"),
        (
            {"content": b"x", "params": [("max_segments", "3"), ("max_segments", "4")]},
            400,
            "OptionError",
            "twice",
        ),
        (
            {
                "files": {"film": b"x"},
                "data": {"max_segments": "3"},
                "params": {"max_segments": "4"},
            },
            400,
            "OptionError",
            "twice",
        ),
        (
            {"content": CUT_FORM, "headers": {"content-type": "Multipart/Form-Data; boundary=x"}},
            400,
            "FilmError",
            "ends before",
        ),
        ({"content": b"x", "params": {"scroe": "1"}}, 400, "OptionError", "known are"),
        ({"content": b"x" * (1 << 20) + b"y"}, 413, "TooLargeError", "SPINEZOO_MAX_MESSAGE_BYTES"),
        ({"files": {"film": b"x" * (1 << 20)}}, 413, "TooLargeError", "smaller film"),
        (
            {"content": b"FILM" + np.array([20000, 20000], "<u4").tobytes()},
            413,
            "TooLargeError",
            "reduce it",
        ),
    ],
)
def test_errors_are_json_with_a_name(
    running: Process, request_arguments: dict, code: int, name: str, says: str
) -> None:
    answer = running.http.post("/predict", **request_arguments)
    assert answer.status_code == code
    assert answer.json()["error"] == name
    assert says in answer.json()["message"]
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert running.http.post("/predict", content=film_file(film())).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("POST", "/predict/", 404), ("POST", "/nothing", 404), ("GET", "/predict", 405)],
)
def test_what_there_is_not_is_named(running: Process, method: str, path: str, code: int) -> None:
    answer = running.http.request(method, path)
    assert (answer.status_code, answer.json()["error"]) == (code, "BadInputError")
    assert "POST /predict" in answer.json()["message"]


def test_more_callers_than_places_are_refused_before_their_films_are_read(
    running: Process,
) -> None:
    address, places = running.http.base_url, 16 + 1
    with ExitStack() as stack:
        lines = [
            stack.enter_context(socket.create_connection((address.host, address.port)))
            for _ in range(places)
        ]
        for line in lines:
            line.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nFILM")
        time.sleep(1.0)
        full = running.http.post("/predict", content=film_file(film()))
        assert (full.status_code, full.json()["error"]) == (503, "QueueFullError")
        assert "SPINEZOO_QUEUE_LIMIT" in full.json()["message"]
        # Who falls silent is given up by itself.
        lines[0].settimeout(60)
        assert lines[0].recv(100).startswith(b"HTTP/1.1 504")
    end = time.monotonic() + 20.0
    while running.http.post("/predict", content=film_file(film())).status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_options_reach_the_network_from_form_and_query(running: Process) -> None:
    answer = running.http.post(
        "/predict",
        files={"film": film_file(film())},
        data={"score_threshold": "0.5"},
        params={"max_segments": "3", "timeout_ms": "20000"},
    )
    assert answer.status_code == 200


def test_metrics_cover_both_endpoints(running: Process) -> None:
    running.stub().Predict(codec.predict_request_to_proto(film()))
    running.http.post("/predict", content=b"junk")
    text = running.http.get("/metrics").text
    for line in (
        'spinezoo_requests_total{code="OK",method="Predict"}',
        'spinezoo_requests_total{code="400",method="POST /predict"}',
        'spinezoo_failures_total{reason="FilmError"}',
        'spinezoo_stage_seconds_count{stage="infer"}',
        "spinezoo_queue_length",
        f"spinezoo_queue_limit {ServerSettings().queue_limit}",
        "bentoml_service_request_total",
    ):
        assert line in text
    families = [each.name for each in text_string_to_metric_families(text)]
    assert len(families) == len({*families})
    # A full disk ends a process by SIGBUS whose counts lie in mapped files.
    mapped = Path(f"/proc/{running.child.pid}/maps").read_text().splitlines()
    assert not [line for line in mapped if line.endswith(".db")]


def test_every_line_of_the_log_is_json_without_pixels(running: Process) -> None:
    running.http.post(
        "/predict", content=film_file(film()), headers={"x-request-id": "find-me-again"}
    )
    lines = running.lines()
    (line,) = [line for line in lines if line.get("request_id") == "find-me-again"]
    assert (line["code"], line["method"]) == (200, "POST /predict")
    assert all(len(json.dumps(each)) < 1000 for each in lines)
    (loaded,) = (each for each in lines if each["message"] == "loaded")
    assert (loaded["device"], loaded["precision"]) == ("cpu", "float32")


def test_the_process_is_small_and_alone(running: Process) -> None:
    """BentoML, gRPC and HTTP without a framework: what a network's process starts from."""
    status = Path(f"/proc/{running.child.pid}/status")
    if not status.exists():
        pytest.skip("no /proc on this machine")
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmRSS")]
    assert int(line.split()[1]) < 200_000  # kB; about 120 MB when written
    children = Path(f"/proc/{running.child.pid}/task/{running.child.pid}/children")
    assert children.read_text() == ""


# --- life ----------------------------------------------------------------------------------------


def test_not_ready_until_loaded_and_while_draining(tmp_path: Path) -> None:
    with network(tmp_path, TEST_LOAD_S="1.5", TEST_DELAY_S="1.5") as process:
        process.until_ready(503)
        assert process.health() == health_pb2.HealthCheckResponse.NOT_SERVING
        assert process.http.get("/livez").status_code == 200
        refused = process.http.post("/predict", content=film_file(film()))
        assert (refused.status_code, refused.json()["error"]) == (503, "NotServingError")
        process.until_ready()
        assert process.health() == health_pb2.HealthCheckResponse.SERVING
        answers: list[Any] = []
        askers = [
            threading.Thread(
                target=lambda: answers.append(
                    process.stub().Predict(codec.predict_request_to_proto(film()), timeout=20)
                )
            ),
            threading.Thread(
                target=lambda: answers.append(
                    httpx.post(
                        process.http.base_url.join("/predict"),
                        content=film_file(film()),
                        trust_env=False,
                        timeout=20,
                    )
                )
            ),
        ]
        for asker in askers:
            asker.start()
        time.sleep(0.5)
        process.child.send_signal(signal.SIGTERM)
        process.until_ready(503)
        for asker in askers:
            asker.join(20)
        # Both were in flight at the signal; both were answered.
        assert len(answers) == 2
        assert {getattr(answer, "status_code", 200) for answer in answers} == {200}
        assert process.child.wait(60) == 0
        only_here(process, 1)


def test_http_shares_the_queue_and_honours_its_time_limit(tmp_path: Path) -> None:
    with network(tmp_path, TEST_DELAY_S="1", SPINEZOO_QUEUE_LIMIT="1") as process:
        process.until_ready()
        late = process.http.post(
            "/predict", content=film_file(film()), params={"timeout_ms": "200"}
        )
        assert (late.status_code, late.json()["error"]) == (504, "DeadlineError")
        stub = process.stub()
        waiting = [stub.Predict.future(codec.predict_request_to_proto(film())) for _ in range(2)]
        time.sleep(0.3)
        full = process.http.post("/predict", content=film_file(film()))
        assert (full.status_code, full.json()["error"]) == (503, "QueueFullError")
        codes = [each.code() for each in waiting]
        assert grpc.StatusCode.OK in codes


def test_a_network_that_cannot_be_loaded_ends_the_process(tmp_path: Path) -> None:
    with network(tmp_path, TEST_BREAK="1") as process:
        assert process.child.wait(120) == 1
        (line,) = [line for line in process.lines() if line["message"] == "cannot serve"]
        assert (line["error"], line["level"]) == ("WeightsError", "error")
        assert "train the network" in line["reason"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("SPINEZOO_QUEUE_LIMIT", "many"), ("SPINEZOO_GRPC_PORT", "taken")],
)
def test_wrong_settings_end_the_process(tmp_path: Path, variable: str, value: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        if value == "taken":
            value = str(taken.getsockname()[1])
        with network(tmp_path, **{variable: value}) as process:
            assert process.child.wait(120) == 1
            (line,) = [line for line in process.lines() if line["message"] == "cannot serve"]
            assert variable in line["reason"]


def only_here(process: Process, python_processes: int) -> None:
    seen = process.spy.read_text().splitlines()
    assert seen.count("watching") == python_processes
    assert set(seen) == {"watching"}, seen


def test_nothing_calls_home(running: Process) -> None:
    """No tracking variable is set; the process has served both endpoints; only loopback used."""
    assert running.http.post("/predict", content=film_file(film())).status_code == 200
    assert running.stub().Predict(codec.predict_request_to_proto(film())).height == 32
    only_here(running, 1)


def test_nothing_calls_home_under_bentoml_serve(tmp_path: Path) -> None:
    """The other way of starting: a supervisor and a worker, tracking on by BentoML's default."""
    with network(tmp_path, BENTOML) as process:
        process.until_ready()
        assert process.http.post("/predict", content=film_file(film())).status_code == 200
        assert process.stub().Predict(codec.predict_request_to_proto(film())).height == 32
        assert "spinezoo_requests_total" in process.http.get("/metrics").text
        process.child.send_signal(signal.SIGTERM)
        process.child.wait(60)
        only_here(process, 2)


def test_the_spy_sees_a_call_home(tmp_path: Path) -> None:
    """The test above can fail."""
    (tmp_path / "sitecustomize.py").write_text(SPY)
    script = "import socket\ntry: socket.getaddrinfo('t.invalid', 443)\nexcept OSError: pass"
    environment = {"PYTHONPATH": str(tmp_path), "TEST_SPY_FILE": str(tmp_path / "spy")}
    subprocess.run([sys.executable, "-c", script], env={**os.environ, **environment}, check=True)
    assert "t.invalid" in (tmp_path / "spy").read_text()


def test_a_caller_who_goes_while_it_sends_is_no_failure_of_the_network(running: Process) -> None:
    address = running.http.base_url
    with socket.create_connection((address.host, address.port)) as line:
        line.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nFILM")
    end = time.monotonic() + 20.0
    while time.monotonic() < end and 'code="503"' not in running.http.get("/metrics").text:
        time.sleep(0.1)
    shown = running.http.get("/metrics").text
    assert 'code="503"' in shown
    assert 'code="500"' not in shown
