"""A sixth network, by the steps of ``services/README.md``, in a temporary folder.

Its files lie in ``sixth_network/``. It borrows an environment that has BentoML; it uses no
framework itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from spinezoo_conformance.check import check
from spinezoo_conformance.verdict import Outcome
from spinezoo_contract.types import EnsembleOptions, Film, MemberCode, Structure
from spinezoo_phantom import PhantomSettings, write_film_set
from spinezoo_serving.cards import load_card

from end_to_end.support import (
    NETWORKS,
    ROOT,
    Zoo,
    call_probe,
    clean_environment,
    free_ports,
    room_python,
    started,
    strangers,
    wait_for,
)

TEMPLATE = Path(__file__).parent / "sixth_network"
LENDER = "services/pspnet"
"""The room whose environment is borrowed."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``services/sixth`` in a temporary folder, trained on four small phantoms."""
    base = tmp_path_factory.mktemp("sixth")
    folder = base / "services" / "sixth"
    shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    films = base / "films"
    settings = PhantomSettings(height_px=256, width_px=192)
    write_film_set(films, count=4, seed=2, settings=settings, file_format="png")
    done = subprocess.run(
        [
            room_python(LENDER),
            "-m",
            "spinezoo_sixth.train",
            "--data",
            str(films),
            "--card",
            str(folder / "card.yaml"),
        ],
        env=clean_environment(PYTHONPATH=str(folder / "src")),
        capture_output=True,
        text=True,
        timeout=120.0,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def address(service: Path) -> Iterator[tuple[str, str]]:
    """gRPC target and HTTP address of the sixth network, served by plain ``bentoml serve``."""
    grpc_port, http_port = free_ports(2)
    probe = call_probe(service / "probe")
    probe["PYTHONPATH"] += os.pathsep + str(service / "src")
    environment = clean_environment(
        SPINEZOO_GRPC_PORT=str(grpc_port),
        SPINEZOO_HTTP_PORT=str(http_port),
        SPINEZOO_HOST="127.0.0.1",
        SPINEZOO_DRAIN_SECONDS="5",
        BENTOML_HOME=str(service / "bentoml"),
        **probe,
    )
    command = [
        room_python(LENDER),
        "-m",
        "bentoml",
        "serve",
        "service:Service",
        "--working-dir",
        str(service),
        "--host",
        "127.0.0.1",
        "--port",
        str(http_port),
    ]
    log = service / "serve.log"
    http = f"http://127.0.0.1:{http_port}"
    with started(command, log, env=environment, cwd=service) as server:

        def ready() -> bool:
            assert server.poll() is None, log.read_text()
            try:
                return httpx.get(f"{http}/readyz", timeout=5.0).status_code == 200
            except httpx.TransportError:
                return False

        wait_for("the sixth network", ready, 180.0)
        yield f"127.0.0.1:{grpc_port}", http


def test_the_readme_lists_what_the_network_consists_of() -> None:
    readme = (ROOT / "services" / "README.md").read_text()
    for path in TEMPLATE.rglob("*"):
        if path.is_file() and path.suffix in (".py", ".yaml"):
            assert path.name in readme, path.name
    assert "make conform TARGET=" in readme


def test_it_conforms(address: tuple[str, str]) -> None:
    results = check(address[0])
    broken = [f"{result.rule_id}: {result.message}" for result in results if result.failed]
    assert not broken
    passed = [result for result in results if result.outcome is Outcome.PASS]
    assert len(passed) >= 21


def test_it_answers_through_the_running_gateway(
    zoo: Zoo, address: tuple[str, str], service: Path, film_path: Path
) -> None:
    five = {name: zoo.grpc(name) for name in NETWORKS}
    with zoo.gateway() as gateway:

        def joined() -> bool:
            states = {each.member_name: each.status for each in gateway.list_models().members}
            # A newcomer is listed while it is being checked, and serves when it has been taken in.
            return "sixth" in states and states["sixth"].code is MemberCode.OK

        assert not joined()
        zoo.write_roster({**five, "sixth": address[0]})
        try:
            wait_for("the sixth in the roster", joined, 90.0)
            answer = gateway.segment(film_path)
            assert [m.status.member_name for m in answer.members] == sorted([*NETWORKS, "sixth"])
            assert {m.status.code for m in answer.members} == {MemberCode.OK}
            assert "sixth" in answer.fused.member_names
            (sixth,) = (m for m in answer.members if m.status.member_name == "sixth")
            assert sixth.prediction is not None
            card = load_card(service / "card.yaml")
            assert sixth.prediction.provenance.weights_sha256 == card.weights_sha256
            found = {segment.structure for segment in sixth.prediction.segments}
            assert Structure.LUMBAR_VERTEBRA in found
            assert_a_large_answer_passes(zoo)
        finally:
            zoo.write_roster(five)
        wait_for("the sixth to leave", lambda: not joined(), 30.0)
        assert len(gateway.segment(film_path).members) == 5


def assert_a_large_answer_passes(zoo: Zoo) -> None:
    """Noise is the worst of masks: its run lengths make an answer above gRPC's own 4 MiB."""
    noise = np.random.default_rng(0).integers(0, 65536, (4096, 3072)).astype(np.uint16)
    with zoo.gateway() as gateway:
        answer = gateway.segment(Film(noise), EnsembleOptions(member_names=("sixth",), quorum=1))
    (member,) = answer.members
    assert member.prediction is not None
    size = sum(len(segment.mask.counts) for segment in member.prediction.segments)
    assert size > 4 << 20, size


def test_plain_bentoml_serve_calls_nobody(address: tuple[str, str], service: Path) -> None:
    assert httpx.get(f"{address[1]}/livez", timeout=10.0).status_code == 200
    calls = (service / "probe" / "calls.txt").read_text()
    assert calls.count(" started ") >= 2, "a supervisor and a worker were to be watched"
    assert not strangers(calls)
