"""A swap against a real gateway process and real members; docker only as it is called."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench import Bench
from spinezoo_conformance.ports import free_ports
from spinezoo_contract.types import (
    Film,
    MemberCode,
    MemberStatus,
    NewcomerState,
    NewcomerStatus,
    RosterMember,
)
from spinezoo_gateway import watch
from spinezoo_testing.servers import until
from spinezoo_tools import roster_file
from test_fleet import Fleet, Load, fleet, member  # noqa: F401

SWAP = (sys.executable, "-m", "spinezoo_tools.swap")

ROSTER = """\
# who is in the zoo
members:
  - name: pspnet  # target: not this
    target: "127.0.0.1:1"
    weight: 2
  - {weight: 1, name: unet, target: 'dns:///unet:50054'}
  - target: c:2
    name: unet_two
"""


def test_the_roster_is_edited_in_one_place(tmp_path: Path) -> None:
    assert roster_file.target_of(ROSTER, "pspnet") == "127.0.0.1:1"
    assert roster_file.target_of(ROSTER, "unet") == "dns:///unet:50054"
    assert roster_file.target_of(ROSTER, "unet_two") == "c:2"
    roster = roster_file.RosterFile(tmp_path / "roster.yaml")
    roster.path.write_text(ROSTER)
    roster.path.chmod(0o640)
    roster.point("pspnet", "dns:///new:9")
    assert roster.path.read_text() == ROSTER.replace("127.0.0.1:1", "dns:///new:9")
    assert roster.path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [roster.path]
    with pytest.raises(roster_file.SwapError, match="no member 'yolact'"):
        roster.point("yolact", "x:1")
    with pytest.raises(roster_file.SwapError, match="2 members 'unet'"):
        roster_file.target_of(ROSTER.replace("unet_two", "unet"), "unet")


def test_what_the_gateway_says_is_understood() -> None:
    def said(target: str, newcomer: NewcomerStatus | None, message: str = "") -> RosterMember:
        status = MemberStatus("a", MemberCode.OK, 1.0, message)
        return RosterMember("a", target, status, newcomer=newcomer)

    checking = NewcomerStatus("new:1", NewcomerState.CHECKING)
    assert watch.verdict(None, "new:1") == (False, "")
    assert watch.verdict(said("old:1", None), "new:1") == (False, "")
    assert watch.verdict(said("old:1", checking), "new:1") == (False, "")
    # Its first target is the newcomer's own.
    assert watch.verdict(said("new:1", checking), "new:1") == (False, "")
    refused = said("old:1", NewcomerStatus("new:1", NewcomerState.REFUSED, "rule C06"))
    assert watch.verdict(refused, "new:1") == (False, "rule C06")
    assert watch.verdict(refused, "new:12") == (False, "")  # another one's refusal
    assert watch.verdict(refused, "old:1") == (False, "")  # not put back yet
    assert watch.verdict(said("new:1", None), "new:1") == (True, "")
    # The text for people decides nothing.
    text = "newcomer at new:1 refused: rule C06"
    assert watch.verdict(said("new:1", None, text), "new:1") == (True, "")
    assert watch.verdict(said("old:1", checking, text), "new:1") == (False, "")


def start_swap(bench: Bench, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *SWAP, *arguments, "--roster", str(bench.roster),
            "--gateway", f"127.0.0.1:{bench.gateway.server.port}",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_without_a_gateway_nothing_is_changed_or_waited_for(tmp_path: Path) -> None:
    roster = tmp_path / "roster.yaml"
    roster.write_text(ROSTER)
    done = subprocess.run(
        [*SWAP, "pspnet", "--at", "127.0.0.1:2", "--roster", roster, "--gateway", "127.0.0.1:1"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "nothing was changed" in done.stderr
    assert "undoing" not in done.stderr
    assert roster.read_text() == ROSTER


def test_the_gateway_is_asked_where_make_up_starts_it(tmp_path: Path) -> None:
    roster = tmp_path / "roster.yaml"
    roster.write_text("members:\n  - {name: pspnet, target: '127.0.0.1:1'}\n")
    (port,) = free_ports(1)
    variables = {"SPINEZOO_HOST": "127.0.0.2", "SPINEZOO_GATEWAY_GRPC_PORT": str(port)}
    done = subprocess.run(
        [*SWAP, "pspnet", "--at", "127.0.0.1:2", "--roster", roster],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **variables},
    )  # fmt: skip
    assert done.returncode == 2
    assert f"127.0.0.2:{port}" in done.stderr


def test_a_member_is_swapped_by_hand_under_load(
    bench: Bench,
    film: Film,
    fleet: Fleet,  # noqa: F811
) -> None:
    old, new, bad = "127.0.0.2", "127.0.0.3", "127.0.0.4"
    fleet.launch(old, "--version", "1.0.0")
    fleet.await_ready(old)
    fleet.launch(new, "--version", "2.0.0")
    fleet.launch(bad, "--fault", "kind")
    fleet.await_ready(new, bad)
    bench.roster.write_text(f"members:\n  - name: pspnet\n    target: {old}:{fleet.port}\n")
    before = bench.roster.read_text()
    bench.start()
    with Load(bench, film) as load:
        refused = start_swap(bench, "pspnet", "--at", f"{bad}:{fleet.port}")
        _, errors = refused.communicate(timeout=200)
        assert refused.returncode == 1, errors
        assert "the newcomer is refused, the old one stays: rule C09" in errors
        assert bench.roster.read_text() == before

        # Ctrl-C while the newcomer is checked: everything is as it was.
        stopped = start_swap(bench, "pspnet", "--at", f"{new}:{fleet.port}")
        assert until(lambda: bench.roster.read_text() != before, 60.0)
        stopped.send_signal(signal.SIGINT)
        _, errors = stopped.communicate(timeout=200)
        assert stopped.returncode == 128 + signal.SIGINT, errors
        assert bench.roster.read_text() == before
        load.wait_for(10)
        assert set(load.versions()) == {"1.0.0"}

        taken = start_swap(bench, "pspnet", "--at", f"{new}:{fleet.port}")
        _, errors = taken.communicate(timeout=200)
        assert taken.returncode == 0, errors
        answer = bench.segment(film)
        assert answer.members[0].provenance.model_version == "2.0.0"
        fleet.running[old].send_signal(signal.SIGTERM)
        assert fleet.running[old].wait(30) == 0
        load.wait_for(10)
    assert not load.failures
    assert member(bench, "pspnet").target == f"{new}:{fleet.port}"


# ------------------------------------------------------------- the order of the docker commands

DOCKER = """\
#!{python}
# Writes down how it is called, and the image that compose would use; knows no container.
import json, os, sys
here = {here!r}
arguments = sys.argv[1:]
with open(here + "/calls", "a") as calls:
    image = os.environ.get("SPINEZOO_PSPNET_IMAGE", "")
    calls.write(json.dumps([image, *arguments]) + "\\n")
text = " ".join(arguments)
said = json.loads(open(here + "/behaviour").read())
for words, (code, output) in said.items():
    if words in text:
        print(output)
        sys.exit(code)
if arguments[:1] == ["exec"]:
    roster = open(here + "/deploy/compose/roster/roster.yaml").read()
    target = arguments[arguments.index("--wait-for") + 1]
    assert "target: " + target in roster, roster
newcomer = "spinezoo-pspnet-newcomer"
if "-aq" in arguments:
    calls = open(here + "/calls").read()
    print("n1" if calls.count('"run"') > calls.count('"rm"') else "")
elif "ps" in arguments:
    print({{"gateway": "g1"}}.get(arguments[-1], "p1\\np2\\n" + newcomer))
if "inspect" in arguments:
    print(json.dumps([{{
        "Id": "sha256:1", "Image": "sha256:1", "Name": "/" + arguments[-1], "RestartCount": 0,
        "Config": {{"Image": "old:1", "Labels": {{"com.docker.compose.project": "spinezoo"}}}},
        "State": {{"Status": "running", "Health": {{"Status": "healthy"}}}},
    }}]))
"""


class Containers:
    """A checkout in which ``docker`` is a program that writes down its calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.roster = folder / "deploy/compose/roster/roster.yaml"
        self.roster.parent.mkdir(parents=True)
        self.before = "members:\n  - name: pspnet\n    target: dns:///pspnet:50053\n"
        self.roster.write_text(self.before)
        self.images = folder / "deploy/compose/images.env"
        (folder / "compose.yaml").write_text("services: {}\n")
        (folder / "bin").mkdir()
        program = folder / "bin" / "docker"
        program.write_text(DOCKER.format(python=sys.executable, here=str(folder)))
        program.chmod(0o755)

    def swap(
        self, environment: dict[str, str] | None = None, **behaviour: Any
    ) -> subprocess.CompletedProcess[str]:
        said = {key.replace("__", " "): value for key, value in behaviour.items()}
        (self.folder / "behaviour").write_text(json.dumps(said))
        return subprocess.run(
            [*SWAP, "pspnet", "--image", "new:2", "--root", self.folder],
            capture_output=True, text=True, timeout=120,
            env={"PATH": f"{self.folder / 'bin'}:/usr/bin:/bin", **(environment or {})},
        )  # fmt: skip

    def calls(self) -> list[tuple[str, str]]:
        """Image and arguments of each call that changes something, in order."""
        found = []
        for line in (self.folder / "calls").read_text().splitlines():
            image, *arguments = json.loads(line)
            text = " ".join(arguments)
            for verb in (" run ", " up ", "exec ", "stop ", "rm "):
                if verb in f" {text} ":
                    found.append((image, text[text.index(verb.strip()) :]))
                    break
        return found


@pytest.fixture
def containers(tmp_path: Path) -> Containers:
    return Containers(tmp_path)


RUN = "run -d --no-deps --name spinezoo-pspnet-newcomer pspnet"
UP = "up -d --no-deps --no-build --force-recreate --scale pspnet=2 pspnet"
STOP = "stop -t 40 spinezoo-pspnet-newcomer"
RM = "rm --force spinezoo-pspnet-newcomer"


def asked(target: str) -> str:
    watching = "exec g1 python -m spinezoo_gateway.watch --member pspnet"
    return f"{watching} --wait-for {target} --limit-s 240"


NEWCOMER, OWN = "dns:///spinezoo-pspnet-newcomer:50053", "dns:///pspnet:50053"


def test_an_image_is_swapped_in_this_order(containers: Containers) -> None:
    done = containers.swap()
    assert done.returncode == 0, done.stderr
    calls = containers.calls()
    assert [text for _, text in calls] == [RUN, asked(NEWCOMER), UP, asked(OWN), STOP, RM]
    assert {image for image, text in calls if text in (RUN, UP)} == {"new:2"}
    assert containers.roster.read_text() == containers.before
    assert containers.images.read_text().splitlines()[1:] == ["SPINEZOO_PSPNET_IMAGE=new:2"]


def test_an_image_that_is_refused_leaves_everything_as_it_was(containers: Containers) -> None:
    done = containers.swap(**{f"--wait-for {NEWCOMER}": [1, ""]})
    assert done.returncode == 1, done.stderr
    assert "the newcomer is refused, the old one stays" in done.stderr
    assert [text for _, text in containers.calls()] == [
        RUN, asked(NEWCOMER), asked(OWN), STOP, RM,
    ]  # fmt: skip
    assert containers.roster.read_text() == containers.before
    assert not containers.images.exists()


def test_a_service_that_does_not_come_up_again_is_made_from_the_old_image(
    containers: Containers,
) -> None:
    state = {"Status": "restarting", "Health": {"Status": "unhealthy"}}
    told = json.dumps([{"Name": "/p2", "State": state, "RestartCount": 2}])
    containers.images.write_text("SPINEZOO_UNET_IMAGE=other:1\n")
    done = containers.swap(**{"inspect p2": [0, told], "logs": [0, "weights are missing"]})
    assert done.returncode == 2, done.stderr
    assert "p2 is restarting, unhealthy, started again 2 times" in done.stderr
    assert "weights are missing" in done.stderr
    assert "could not be undone, do it by hand: pspnet from its old image" in done.stderr
    calls = containers.calls()
    assert [text for _, text in calls] == [
        RUN, asked(NEWCOMER), UP, UP, asked(OWN), STOP, RM,
    ]  # fmt: skip
    assert [image for image, text in calls if text == UP] == ["new:2", "old:1"]
    assert containers.roster.read_text() == containers.before
    assert "SPINEZOO_UNET_IMAGE=other:1" in containers.images.read_text()
    assert "PSPNET" not in containers.images.read_text()


def test_two_swaps_do_not_meet(
    containers: Containers,
) -> None:
    with roster_file.RosterFile(containers.roster).held():
        done = containers.swap()
    assert done.returncode == 2, done.stderr
    assert "another swap is under way" in done.stderr
    assert not (containers.folder / "calls").exists()
    assert containers.swap().returncode == 0


def test_the_gateway_is_asked_with_the_token_of_a_file(containers: Containers) -> None:
    token = containers.folder / "token"
    token.write_text("a-token-of-the-tests\n")
    done = containers.swap(environment={"SPINEZOO_TOKEN_FILE": str(token)})
    assert done.returncode == 0, done.stderr
    calls = (containers.folder / "calls").read_text()
    assert '"exec", "-e", "SPINEZOO_TOKEN", "g1"' in calls
    assert "a-token-of-the-tests" not in calls + done.stderr


def test_without_docker_it_says_so(containers: Containers) -> None:
    (containers.folder / "bin" / "docker").unlink()
    done = subprocess.run(
        [*SWAP, "pspnet", "--image", "new:2", "--root", containers.folder],
        capture_output=True, text=True, timeout=60, env={"PATH": str(containers.folder / "bin")},
    )  # fmt: skip
    assert done.returncode == 2
    assert "neither `docker compose` nor `docker-compose` runs here" in done.stderr
