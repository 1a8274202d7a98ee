"""The composition, asked through its published port as any client would."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from spinezoo_contract.types import MemberCode
from spinezoo_tools.checkout import FRONT
from spinezoo_tools.composition import NETWORKS, PROJECT, ROOT, Composition, docker, inspect

SERVICES = (*NETWORKS, *FRONT)


def test_the_readmes_example_works(
    composition: Composition, film_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    example = next(
        code
        for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
        if "EnsembleClient" in code
    )
    assert "127.0.0.1:50050" in example
    monkeypatch.chdir(film_path.parent)
    exec(example.replace("127.0.0.1:50050", composition.target), {})
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in told] == [[name, "OK"] for name in NETWORKS]


@pytest.mark.parametrize("name", SERVICES)
def test_nobody_is_root_and_the_root_file_system_cannot_be_written(
    composition: Composition, name: str
) -> None:
    assert composition.python(name, "import os; print(os.getuid())").stdout.strip() == "10001"
    for path in ("/written", "/app/written", "/opt/venv/written", "/etc/written"):
        done = composition.python(name, f"open({path!r}, 'w')")
        assert done.returncode != 0
        assert "Read-only file system" in done.stderr
    # Even root of the container could not.
    container = composition.containers(name)[0]
    done = docker("exec", "--user", "0", container, "touch", "/written", check=False)
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr
    # The check can fail: there is one place to write to, which is in memory.
    assert composition.python(name, "open('/tmp/written', 'w')").returncode == 0


@pytest.fixture(scope="module")
def outside(composition: Composition) -> Iterator[tuple[str, int]]:
    """A server that is not in the members' network, where the gateway can reach it.

    Not one of this machine itself: Docker's internal networks keep a way to their own host.
    """
    code = "import socketserver as s; s.TCPServer(('', 9999), s.BaseRequestHandler).serve_forever()"
    image = inspect(composition.containers("gateway")[0])["Image"]
    network = f"{PROJECT}_front"
    started = docker("run", "-d", "--rm", "--network", network, image, "python", "-c", code)
    container = started.stdout.strip()
    try:
        address = inspect(container)["NetworkSettings"]["Networks"][network]["IPAddress"]
        assert address
        call = f"import socket; socket.create_connection(({address!r}, 9999), 5)"
        for _ in range(60):
            if composition.python("gateway", call).returncode == 0:
                break
        yield address, 9999
    finally:
        docker("rm", "--force", container)


@pytest.mark.parametrize("name", [*NETWORKS, "evaluator"])
def test_a_member_cannot_reach_the_outside(
    composition: Composition, outside: tuple[str, int], name: str
) -> None:
    call = f"import socket; socket.create_connection({outside!r}, 5)"
    done = composition.python(name, call)
    assert done.returncode != 0
    assert "unreachable" in done.stderr or "timed out" in done.stderr, done.stderr
    # The gateway has a way out, so the server is there and the check can fail.
    assert composition.python("gateway", call).returncode == 0


@pytest.mark.parametrize("name", [*NETWORKS, "evaluator"])
def test_a_member_has_no_published_port(composition: Composition, name: str) -> None:
    for container in composition.containers(name):
        told = inspect(container)
        assert not [p for p in (told["NetworkSettings"]["Ports"] or {}).values() if p]
        assert list(told["NetworkSettings"]["Networks"]) == [f"{PROJECT}_members"]


@pytest.mark.parametrize("name", SERVICES)
def test_the_limits_are_set(composition: Composition, name: str) -> None:
    host = inspect(composition.containers(name)[0])["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Memory"] >= 2**30
    assert host["PidsLimit"] == 512


def test_the_evaluator_answers_inside(composition: Composition) -> None:
    code = (
        "import numpy as np\n"
        "from spinezoo_contract.client import EvaluationClient\n"
        "from spinezoo_contract.masks import encode_mask, mask_box\n"
        "from spinezoo_contract.types import Segment, SegmentKind, Structure\n"
        "mask = encode_mask(np.eye(32, dtype=bool))\n"
        "one = Segment(Structure.ROD, SegmentKind.REGION, mask, 1.0, mask_box(mask))\n"
        "with EvaluationClient('evaluator:50060') as evaluator:\n"
        "    assert evaluator.fuse({'one': [one]}, 32, 32).merged_mask == mask\n"
        "print('fused')"
    )
    done = composition.python("gateway", code)
    assert done.stdout.strip() == "fused", done.stderr


def test_a_member_that_fails_is_named_and_the_rest_answer(
    composition: Composition, film_path: Path
) -> None:
    composition.compose("stop", "yolact")
    try:
        with composition.gateway() as gateway:
            answer = gateway.segment(film_path)
        codes = {each.status.member_name: each.status.code for each in answer.members}
        assert codes.pop("yolact") is not MemberCode.OK
        assert set(codes.values()) == {MemberCode.OK}
        assert "yolact" not in answer.fused.member_names
        # It drained and ended by itself: it was not killed.
        (container,) = composition.compose("ps", "-q", "yolact").stdout.split()
        assert inspect(container)["State"]["ExitCode"] == 0
    finally:
        composition.up()


def test_no_log_holds_an_error(composition: Composition) -> None:
    for name in SERVICES:
        text = composition.compose("logs", "--no-color", name).stdout
        assert '"level": "CRITICAL"' not in text
        assert "Traceback" not in text, f"{name}\n{text[-3000:]}"
