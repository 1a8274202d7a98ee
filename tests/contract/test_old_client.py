"""Clients that were built before the rooms by subject still understand the zoo of today."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from observe.test_prometheus import Running
from spinezoo_conformance import films as synthetic
from spinezoo_contract.client import EnsembleClient
from spinezoo_contract.errors import NotServingError
from spinezoo_contract.types import NewcomerState, RosterMember
from spinezoo_tools import proto
from spinezoo_tools.environments import python_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MEMBER = HERE.parent / "observe" / "member.py"
BEFORE = "46be441"
"""The last commit before the contract's Python was split into rooms."""
LIMIT_S = 240.0
NEWCOMER_SECONDS = 10


@pytest.fixture(scope="module")
def before() -> str:
    """The old commit, where this clone holds it."""
    found = subprocess.run(
        ["git", "cat-file", "-e", f"{BEFORE}:protos/buf.yaml"], cwd=ROOT, capture_output=True
    )
    if found.returncode:
        pytest.skip(f"commit {BEFORE} is not in this clone: `git fetch --unshallow`")
    return BEFORE


class Zoo(NamedTuple):
    """A gateway process with one member process, and the roster file between them."""

    gateway: str
    member: str
    roster: Path

    def name_member(self, target: str) -> None:
        """Writes the roster: one member, at a target. The gateway never sees half a file."""
        fresh = self.roster.with_suffix(".fresh")
        fresh.write_text(f"members:\n  - {{name: pspnet, target: '{target}'}}\n")
        fresh.replace(self.roster)


@pytest.fixture
def zoo(tmp_path: Path) -> Iterator[Zoo]:
    python = python_of(ROOT, ROOT / "gateway")
    if not python.exists():
        pytest.skip("the gateway is not set up: run `make setup`")
    zero = {"SPINEZOO_GRPC_PORT": "0", "SPINEZOO_HTTP_PORT": "0", "SPINEZOO_DRAIN_S": "2"}
    with contextlib.ExitStack() as stack:
        member = Running([sys.executable, str(MEMBER)], tmp_path, "member", **zero)
        stack.callback(member.stop)
        at = f"127.0.0.1:{member.endpoint('grpc')}"
        roster = tmp_path / "roster.yaml"
        Zoo("", at, roster).name_member(at)
        gateway = Running(
            [str(python), "-m", "spinezoo_gateway.serve"],
            tmp_path,
            "gateway",
            **zero,
            SPINEZOO_ROSTER=str(roster),
            SPINEZOO_NEWCOMER_S=str(NEWCOMER_SECONDS),
        )
        stack.callback(gateway.stop)
        found = Zoo(f"127.0.0.1:{gateway.endpoint('grpc')}", at, roster)
        wait_for("the gateway", lambda: serving(found))
        yield found


@pytest.fixture
def old_source(before: str, tmp_path: Path) -> Path:
    """The client's source folder as it was at the old commit."""
    packed = subprocess.run(
        ["git", "archive", "--format=tar", before, "libs/contract/src"],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(tmp_path / "old", filter="data")
    return tmp_path / "old" / "libs" / "contract" / "src"


def ask(zoo: Zoo, source: Path, folder: Path) -> dict[str, Any]:
    """What the client in ``source`` gets from the zoo."""
    film = folder / "film.npy"
    np.save(film, synthetic.spine_like_pixels(96, 64))
    environment = {key: value for key, value in os.environ.items() if "SPINEZOO" not in key}
    done = subprocess.run(
        [sys.executable, str(HERE / "old_client.py"), zoo.gateway, zoo.member, str(film)],
        env=environment | {"PYTHONPATH": str(source)}, cwd=folder,
        capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert all(Path(module).is_relative_to(source) for module in found["modules"]), found
    return found


def serving(zoo: Zoo) -> bool:
    """Whether the gateway has joined its members."""
    try:
        shown(zoo)
    except NotServingError:
        return False
    return True


def shown(zoo: Zoo) -> RosterMember:
    """The one member, as the client of today sees it."""
    with EnsembleClient(zoo.gateway) as client:
        (member,) = client.list_models(timeout_s=60).members
    return member


def wait_for(what: str, look: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not look():
        assert time.monotonic() < end, f"{what}: not within {LIMIT_S:g} s"
        time.sleep(0.2)


def test_an_old_client_understands_the_zoo(zoo: Zoo, old_source: Path, tmp_path: Path) -> None:
    old = ask(zoo, old_source, tmp_path)
    assert "newcomer" not in old["roster_fields"]
    assert old["size"] == [96, 64]
    assert old["members"] == {"pspnet": "OK"}
    assert old["fused_from"] == ["pspnet"]
    assert [structure for structure, _ in old["predicted"]] == ["LUMBAR_VERTEBRA"]
    assert old["fused"] == old["predicted"]
    assert old["predicted_by"]
    assert old["roster"] == [
        {"name": "pspnet", "target": zoo.member, "code": "OK", "message": "",
         "model": old["predicted_by"]},
    ]  # fmt: skip
    assert old["default_quorum"] == 3
    # The client of today gets the same of all that the old one knows.
    new = ask(zoo, ROOT / "libs" / "contract" / "src", tmp_path)
    assert "newcomer" in new["roster_fields"]
    for found in (old, new):
        del found["modules"], found["roster_fields"]
    assert new == old


def test_an_old_client_reads_a_roster_with_a_newcomer(
    zoo: Zoo, old_source: Path, tmp_path: Path
) -> None:
    assert shown(zoo).newcomer is None
    # Held, but nobody listens: a newcomer that is refused when its time is over.
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        newcomer = f"127.0.0.1:{nobody.getsockname()[1]}"
        zoo.name_member(newcomer)

        def refused() -> bool:
            news = shown(zoo).newcomer
            return news is not None and news.state is NewcomerState.REFUSED

        wait_for("the newcomer is refused", refused)
        news = shown(zoo).newcomer
        assert news is not None
        assert (news.target, news.state) == (newcomer, NewcomerState.REFUSED)
        assert news.reason
        old = ask(zoo, old_source, tmp_path)
    assert old["members"] == {"pspnet": "OK"}
    (member,) = old["roster"]
    assert (member["target"], member["code"]) == (zoo.member, "OK")
    assert member["message"] == f"newcomer at {newcomer} refused: {news.reason}"


def test_the_protos_break_no_old_client(before: str) -> None:
    proto.find_breaking(Path(sys.executable).parent, before, breaking_ok=False)
