"""`make bento-build`: a bento holds all that it needs, and BentoML serves it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from spinezoo_contract.client import SegmenterClient
from spinezoo_serving.cards import load_card
from spinezoo_tools.bento import bento
from spinezoo_tools.composition import ROOT
from spinezoo_tools.environments import Room, serving_python_of

NETWORK = "pspnet"
READY_LIMIT_S = 180.0


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bento of one network."""
    bentoml = serving_python_of(ROOT, ROOT / "services" / NETWORK, {}).parent / "bentoml"
    if not bentoml.exists() or not (ROOT / ".tools/bin/uv").exists():
        pytest.skip(f"room services/{NETWORK} is not set up; run `make setup`")
    folder = tmp_path_factory.mktemp("dist")
    bento([NETWORK], folder)
    return folder


def test_a_bento_holds_our_packages_the_lock_and_the_weights(dist: Path) -> None:
    card = load_card(ROOT / "services" / NETWORK / "card.yaml")
    bento = dist / "bentoml" / "bentos" / NETWORK / card.version
    source = bento / "src"
    wheels = sorted(path.name.split("-")[0] for path in (source / "wheels").iterdir())
    rooms = sorted(("contract", NETWORK, "serving", "spine"))  # of no framework
    assert wheels == [f"spinezoo_{room}" for room in rooms]
    assert load_card(source / "card.yaml").weights_sha256 == card.weights_sha256
    assert list((source / "weights").iterdir())
    requirements = (bento / "env/python/requirements.txt").read_text()
    assert "://" not in requirements
    lock = Room(ROOT / "services" / NETWORK).serving_environment.lock.read_text()
    pins = re.findall(r"^[a-z0-9._-]+==\S+", lock, re.MULTILINE)
    assert len(pins) > 50
    assert set(pins) <= set(re.findall(r"^[a-z0-9._-]+==\S+", requirements, re.MULTILINE))
    # Paths that hold where BentoML installs from: the bento's src folder.
    for path in re.findall(r"^\./wheels/\S+", requirements, re.MULTILINE):
        assert (source / path).is_file()
    assert (dist / f"{NETWORK}-{card.version}.bento").stat().st_size > 10**6


@pytest.fixture(scope="module")
def served(dist: Path) -> Iterator[str]:
    """The gRPC target of the bento, served as BentoML's users serve theirs."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        grpc_port, http_port = one.getsockname()[1], two.getsockname()[1]
    version = load_card(ROOT / "services" / NETWORK / "card.yaml").version
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SPINEZOO_")}
    environment = {
        **kept,
        "BENTOML_HOME": str(dist / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "SPINEZOO_HOST": "127.0.0.1",
        "SPINEZOO_GRPC_PORT": str(grpc_port),
        "SPINEZOO_THREADS": "1",
    }
    bentoml = serving_python_of(ROOT, ROOT / "services" / NETWORK, {}).parent / "bentoml"
    command = [str(bentoml), "serve", f"{NETWORK}:{version}", "--port", str(http_port)]
    log = (dist / "serve.log").open("wb")
    process = subprocess.Popen(
        command, env=environment, stdout=log, stderr=log, start_new_session=True
    )
    try:
        yield f"127.0.0.1:{grpc_port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60.0)
        log.close()


def test_bentoml_serves_it_with_both_faces(served: str, dist: Path) -> None:
    end = time.monotonic() + READY_LIMIT_S
    serving = health_pb2.HealthCheckResponse.SERVING
    with grpc.insecure_channel(served) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while True:
            try:
                if health.Check(health_pb2.HealthCheckRequest(), timeout=5.0).status == serving:
                    break
            except grpc.RpcError:
                pass
            assert time.monotonic() < end, (dist / "serve.log").read_text()[-4000:]
            time.sleep(0.5)
    with SegmenterClient(served) as client:
        assert client.get_model().name == NETWORK
