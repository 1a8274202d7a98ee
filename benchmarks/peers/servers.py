"""Starts our service and the peers, each as its own processes, and says how to ask them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import grpc
from memory import family
from spinezoo.v1 import segmenter_pb2
from spinezoo_conformance.ports import free_ports
from spinezoo_conformance.testing import ServiceProcess

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENTS = ROOT / ".venvs" / "peers"
PEERS = ("litserve", "mlserver", "ray", "bentoml")
NAMES = {"litserve": "LitServe", "mlserver": "MLServer", "ray": "Ray Serve", "bentoml": "BentoML"}
OUR_PACKAGES = ("libs/contract", "libs/serving", "libs/spine", "services/pspnet", "services/yolact")
START_S = 240.0
LIMIT = 256 << 20
CHANNEL = (("grpc.max_receive_message_length", LIMIT), ("grpc.max_send_message_length", LIMIT))
BOUNDARY = "film-boundary"

Ask = Callable[[], bytes]
"""Sends the film and returns the answer as it came."""

Started = tuple[str, Callable[[], Ask], int, str]
"""A server's name, what makes a client of it, its first process, and what it runs."""


def make_environments() -> None:
    """Makes each peer's environment that is absent or lacks what is asked, from the index."""
    uv = ROOT / ".tools" / "bin" / "uv"
    for name in PEERS:
        folder = ENVIRONMENTS / name
        asked = "".join(
            (HERE / "requirements" / f"{file}.txt").read_text() for file in (name, "network")
        )
        made = folder / "made"
        if made.is_file() and made.read_text() == asked:
            continue
        print(f"{NAMES[name]}: making its environment", flush=True)
        environment = {**os.environ, "VIRTUAL_ENV": str(folder)}
        wanted = [flag for file in (name, "network") for flag in ("-r", f"requirements/{file}.txt")]
        ours = [flag for room in OUR_PACKAGES for flag in ("-e", str(ROOT / room))]
        for command in (
            ["venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)],
            ["pip", "install", "--quiet", *wanted],
            ["pip", "install", "--quiet", "--no-deps", *ours],
        ):
            subprocess.run([uv, *command], cwd=HERE, env=environment, check=True)
        made.write_text(asked)


@contextlib.contextmanager
def our_service(network: str, film: Path, workers: int) -> Iterator[Started]:
    """Our own service over gRPC, as ``make up`` starts it; one process, whatever ``workers``."""
    folder = ROOT / "services" / network
    python = ROOT / ".venvs" / "engine" / "bin" / "python"
    command = [str(python), "-m", "spinezoo_serving.bento", str(folder)]
    request = segmenter_pb2.PredictRequest()
    request.image.dicom = film.read_bytes()
    data = request.SerializeToString()
    with (
        ServiceProcess(folder, command=command) as process,
        grpc.insecure_channel(process.target, CHANNEL) as channel,
    ):
        ask = _raw_call(channel, "/spinezoo.v1.SegmenterService/Predict", data)
        answer = segmenter_pb2.PredictResponse.FromString(ask())
        said = answer.provenance
        segments = len(answer.segments)
        yield "SpineZoo", lambda: ask, process.pid, _said(said.engine, said.precision, segments)


def peer(name: str) -> Callable[[str, Path, int], AbstractContextManager[Started]]:
    """What starts a peer by its name, as :func:`our_service` starts ours."""

    @contextlib.contextmanager
    def start(network: str, film: Path, workers: int) -> Iterator[Started]:
        port, other, third = free_ports(3)
        scratch = str(ROOT / "run" / "peers" / f"{name}-{network}")
        Path(scratch).mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "PEER_NETWORK": network,
            "PEER_PORT": str(port),
            "PEER_WORKERS": str(workers),
            "PYTHONPATH": f"{HERE}:{HERE / 'mlserver_model'}",
            "PATH": f"{ENVIRONMENTS / name / 'bin'}:{os.environ['PATH']}",
            "BENTOML_DO_NOT_TRACK": "True",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_HTTP_PORT": str(other),
            "MLSERVER_GRPC_PORT": str(port),
            "MLSERVER_METRICS_PORT": str(third),
            "MLSERVER_PARALLEL_WORKERS": str(workers),
            "MLSERVER_GRPC_MAX_MESSAGE_LENGTH": str(LIMIT),
            "MLSERVER_METRICS_DIR": scratch,
            "MLSERVER_ENVIRONMENTS_DIR": scratch,
        }
        commands = {
            "litserve": ["python", "litserve_server.py"],
            "ray": ["python", "ray_server.py"],
            "bentoml": [
                *("bentoml", "serve", "bentoml_server:Peer"),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            "mlserver": ["mlserver", "start", "mlserver_model"],
        }
        log = ROOT / "run" / "peers" / f"{name}-{network}.log"
        with contextlib.ExitStack() as stack:
            process = subprocess.Popen(
                [ENVIRONMENTS / name / "bin" / commands[name][0], *commands[name][1:]],
                cwd=HERE,
                env=environment,
                stdout=stack.enter_context(log.open("wb")),
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            stack.callback(_stop, process)
            if name == "mlserver":
                channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}", CHANNEL))
                data = subprocess.run(
                    [ENVIRONMENTS / name / "bin" / "python", "mlserver_request.py", film],
                    cwd=HERE,
                    check=True,
                    capture_output=True,
                ).stdout
                call = _raw_call(channel, "/inference.GRPCInferenceService/ModelInfer", data)

                def make() -> Ask:
                    return call
            else:
                body, kind = _body(name, film.read_bytes())

                def make() -> Ask:
                    return _http_call(port, body, kind)

            answer = _first(make, process, log)
            found = json.loads(answer[answer.index(b"{") : answer.rindex(b"}") + 1])
            said = _said(*found["engine"].split(), len(found["segments"]))
            yield NAMES[name], make, process.pid, f"{said}, {workers} workers"

    return start


def _said(engine: str, precision: str, segments: int) -> str:
    return f"{engine} in {precision}, {segments} outlines"


def _body(name: str, film: bytes) -> tuple[bytes, str]:
    """The body of an HTTP request and its content type: a form, or the file itself."""
    if name == "ray":
        return film, "application/dicom"
    head = (
        f"--{BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="film"; filename="film.dcm"\r\n'
        "Content-Type: application/dicom\r\n\r\n"
    )
    body = head.encode() + film + f"\r\n--{BOUNDARY}--\r\n".encode()
    return body, f"multipart/form-data; boundary={BOUNDARY}"


def _http_call(port: int, body: bytes, kind: str) -> Ask:
    """A client that keeps its connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask() -> bytes:
        connection.request("POST", "/predict", body, {"Content-Type": kind})
        response = connection.getresponse()
        answer = response.read()
        if response.status != http.client.OK:
            raise RuntimeError(f"HTTP {response.status}: {answer[:200]!r}")
        return answer

    return ask


def _raw_call(channel: grpc.Channel, method: str, request: bytes) -> Ask:
    """A gRPC call of messages that were written beforehand and are not read here."""
    call = channel.unary_unary(method)

    def ask() -> bytes:
        answer: bytes = call(request, timeout=60.0, wait_for_ready=True)
        return answer

    return ask


def _first(make: Callable[[], Ask], process: subprocess.Popen[bytes], log: Path) -> bytes:
    """The first answer of a server that is starting.

    Raises:
        RuntimeError: It ended, or gave none in time.
    """
    ends = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < ends:
        try:
            return make()()
        except (OSError, RuntimeError, http.client.HTTPException, grpc.RpcError):
            time.sleep(0.5)
    how = f"no answer in {START_S:.0f} s" if process.poll() is None else "it ended by itself"
    raise RuntimeError(f"{how}; see {log}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a server and all that it started, by their numbers."""
    members = list(family(process.pid))
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(15.0)
    for pid in members:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
