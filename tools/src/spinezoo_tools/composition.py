"""Asks the Docker Engine, and runs one composition of its own beside others.

The tests of containers and the faults use it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from spinezoo_contract.client import EnsembleClient, SegmenterClient
from spinezoo_contract.errors import SpineZooError
from spinezoo_contract.types import EnsembleOptions, MemberCode

from spinezoo_tools import engine, images
from spinezoo_tools.checkout import networks_of
from spinezoo_tools.environments import ROOT

_T = TypeVar("_T")

NETWORKS = tuple(networks_of(ROOT))
PROJECT = "spinezootest"

UP_LIMIT_S = 480.0
COMMAND_LIMIT_S = 120.0

GRPC_PORTS = {
    name: int(service["environment"]["SPINEZOO_GRPC_PORT"])
    for name, service in yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].items()
}
"""Ports inside the containers."""


def composition_file(name: str) -> dict[str, Any]:
    """A composition file; YAML's merge keys are resolved, variables are not."""
    return dict(yaml.safe_load((ROOT / name).read_text(encoding="utf-8")))


def why_not() -> str | None:
    """Why nothing can be run in containers here; None where it can."""
    reason = no_engine_or_images()
    if reason:
        return reason
    old = [part.name for part in images.parts() if part.card.is_file() and _is_old(part)]
    if old:
        return f"built from other cards: {', '.join(old)}; run `make images`"
    return None


def no_engine_or_images() -> str | None:
    """Whether the engine or an image is missing, in words; None where all are there."""
    if engine.engine_version() is None:
        return f"no Docker Engine answers: {engine.HOW_TO_INSTALL}"
    missing = [part.image for part in images.parts() if not engine.have_image(part.image)]
    return f"not built: {', '.join(missing)}; run `make images`" if missing else None


def _is_old(part: images.Part) -> bool:
    labels = inspect(part.image)["Config"]["Labels"] or {}
    digest = hashlib.sha256(part.card.read_bytes()).hexdigest()
    return bool(labels.get("spinezoo.card.sha256") != digest)


def inspect(what: str) -> dict[str, Any]:
    """What the engine knows of an image or container."""
    done = docker("inspect", what)
    return dict(json.loads(done.stdout)[0])


def docker(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """One docker command."""
    return _run([engine.docker(), *arguments], check=check)


def _run(
    command: list[str],
    *,
    check: bool = True,
    environment: dict[str, str] | None = None,
    limit_s: float = COMMAND_LIMIT_S,
    cwd: Path = ROOT,
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=limit_s,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if check:
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


def wait_for(what: str, look: Callable[[], _T | None], limit_s: float) -> _T:
    """Asks again and again until there is an answer that is true; fails when time is over."""
    end = time.monotonic() + limit_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"{what}: not within {limit_s:g} s"
        time.sleep(0.2)


def checkout(folder: Path) -> Path:
    """A copy of this checkout, as a clone of it would be: swaps edit the files of their own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60.0,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@dataclass
class Composition:
    """A composition for one purpose: a checkout, a project name and published ports of its own.

    Attributes:
        root: The checkout that it is started from.
        environment: Of every command.
        client: Arguments of a client of its gateway, such as certificates.
    """

    root: Path
    environment: dict[str, str]
    client: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def prepare(cls, folder: Path, project: str = PROJECT, **settings: str) -> Composition:
        """Copies the checkout and chooses ports; starts nothing.

        Args:
            folder: For the copy.
            project: Name of the composition.
            settings: Variables on top.
        """
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("SPINEZOO_", "COMPOSE_"))
        }
        with (
            socket.create_server(("127.0.0.1", 0)) as free,
            socket.create_server(("127.0.0.1", 0)) as other,
        ):
            port, http_port = free.getsockname()[1], other.getsockname()[1]
        return cls(
            checkout(folder),
            {
                **kept,
                "SPINEZOO_DOCKER": engine.docker(),
                "COMPOSE_PROJECT_NAME": project,
                "COMPOSE_FILE": "compose.yaml",
                "SPINEZOO_GATEWAY_GRPC_PORT": str(port),
                "SPINEZOO_GATEWAY_HTTP_PORT": str(http_port),
                **settings,
            },
        )

    @property
    def project(self) -> str:
        """Its name."""
        return self.environment["COMPOSE_PROJECT_NAME"]

    @property
    def target(self) -> str:
        """The gateway's published address."""
        return f"127.0.0.1:{self.environment['SPINEZOO_GATEWAY_GRPC_PORT']}"

    @property
    def page(self) -> str:
        """The published address of the gateway's HTTP port, without the scheme."""
        return f"127.0.0.1:{self.environment['SPINEZOO_GATEWAY_HTTP_PORT']}"

    def gateway(self) -> EnsembleClient:
        """A client of the gateway, through the published port."""
        return EnsembleClient(self.target, **self.client)

    def grpc(self, name: str) -> str:
        """GRPC target of a part for this machine, which alone sees into the members' network."""
        if name == "gateway":
            return self.target
        container = self.containers(name)[0]
        networks = inspect(container)["NetworkSettings"]["Networks"]
        return f"{networks[f'{self.project}_members']['IPAddress']}:{GRPC_PORTS[name]}"

    def member(self, name: str) -> SegmenterClient:
        """A client of a network, at its container's address."""
        return SegmenterClient(self.grpc(name))

    def up(self) -> None:
        """Starts it as `make containers-up` does and waits until all is healthy."""
        self.tool("up")

    def down(self) -> None:
        """Stops it, as `make containers-down` does; fails where anything of it is left."""
        self.tool("down")
        label = f"label=com.docker.compose.project={self.project}"
        for kind in ("container", "network", "volume"):
            every = ("--all",) if kind == "container" else ()
            left = docker(kind, "ls", "--quiet", *every, "--filter", label).stdout.split()
            assert not left, f"{kind}s left behind: {left}"

    def tool(self, what: str) -> None:
        """One command of the checkout's ``spinezoo_tools.containers``."""
        command = [sys.executable, "-m", "spinezoo_tools.containers", what]
        environment = {**self.environment, "PYTHONPATH": str(self.root / "tools/src")}
        _run(command, environment=environment, limit_s=UP_LIMIT_S, cwd=self.root)

    def make(self, *arguments: str, limit_s: float) -> subprocess.CompletedProcess[str]:
        """One `make` of the checkout; may fail."""
        command = ["make", f"PYTHON={sys.executable}", *arguments]
        return _run(
            command, environment=self.environment, limit_s=limit_s, cwd=self.root, check=False
        )

    def compose(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One compose command."""
        return _run(
            [*engine.compose(), *arguments],
            environment=self.environment, check=check, cwd=self.root,
        )  # fmt: skip

    def wait_healthy(self, *services: str) -> None:
        """Waits until every container of these services is healthy."""
        end = time.monotonic() + UP_LIMIT_S
        for service in services:
            for container in self.containers(service):
                while inspect(container)["State"]["Health"]["Status"] != "healthy":
                    assert time.monotonic() < end, docker("logs", container).stderr[-4000:]
                    time.sleep(0.5)

    def containers(self, service: str) -> list[str]:
        """Ids of a service's containers."""
        return self.compose("ps", "-q", service).stdout.split()

    def python(self, service: str, code: str) -> subprocess.CompletedProcess[str]:
        """Runs Python in the first container of a service; may fail."""
        return docker("exec", self.containers(service)[0], "python", "-c", code, check=False)

    def films_answered(self, container: str, service: str) -> int:
        """Films that a network's container has answered since its start, as its metrics say."""
        code = (
            f"import urllib.request as r; print(r.urlopen({self.http(service)!r}).read().decode())"
        )
        text = docker("exec", container, "python", "-c", code).stdout
        counted = re.findall(r"^spinezoo_requests_total\{(.*)\} (\S+)$", text, re.MULTILINE)
        return sum(
            int(float(count))
            for labels, count in counted
            if {'method="Predict"', 'code="OK"'} <= set(labels.split(","))
        )

    @staticmethod
    def http(service: str) -> str:
        """Address of a service's metrics, inside its container."""
        variables = composition_file("compose.yaml")["services"][service]["environment"]
        return f"http://127.0.0.1:{variables['SPINEZOO_HTTP_PORT']}/metrics"


class Load:
    """Clients that ask one after the other through the published port, until they are told to end.

    Each has its own connection. A film counts as failed where the call fails or any member that was
    asked gives no answer.

    Attributes:
        failures: What went wrong, a line each.
        answers: What gave each answer of :attr:`watched`: image, version and weights digest.
    """

    MOST_FILMS = 3000
    PAUSE_S = 0.05

    def __init__(
        self, composition: Composition, film: Path, watched: str, *, members: bool = True
    ) -> None:
        """Starts nothing yet.

        Args:
            composition: Whose gateway is asked.
            film: A film as a file.
            watched: The member whose answers are counted; two clients ask it alone.
            members: Whether a third client asks all members.
        """
        self.watched = watched
        self.failures: list[str] = []
        self.answers: list[tuple[str, str, str]] = []
        self._composition = composition
        self._film = film.read_bytes()
        self._stop = threading.Event()
        asked: list[tuple[str, ...]] = [(watched,), (watched,)]
        asked += [()] if members else []
        self._threads = [threading.Thread(target=self._ask, args=(each,)) for each in asked]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(120.0)
            assert not thread.is_alive(), "a client waits still"

    def _ask(self, names: tuple[str, ...]) -> None:
        options = EnsembleOptions(member_names=names, quorum=1)
        with self._composition.gateway() as gateway:
            while not self._stop.is_set():
                try:
                    answer = gateway.segment(self._film, options, kind="dicom", timeout_s=60.0)
                except SpineZooError as error:
                    self.failures.append(f"{type(error).__name__}: {error}")
                    continue
                for member in answer.members:
                    status = member.status
                    if status.code is not MemberCode.OK or member.prediction is None:
                        self.failures.append(
                            f"{status.member_name} {status.code}: {status.message}"
                        )
                    elif status.member_name == self.watched:
                        told = member.prediction.provenance
                        self.answers.append((told.image, told.model_version, told.weights_sha256))
                if len(self.answers) >= self.MOST_FILMS:
                    self.failures.append("the test lasts too long for a load that is bounded")
                    return
                self._stop.wait(self.PAUSE_S)

    def wait_for(self, more: int, limit_s: float = 120.0) -> None:
        """Waits until so many more answers of the watched member have come."""
        wanted = len(self.answers) + more
        wait_for(f"{more} more answers", lambda: len(self.answers) >= wanted, limit_s)

    def images(self, since: int = 0) -> Counter[str]:
        """How many answers each image gave, from the ``since``-th answer on."""
        return Counter(image for image, _, _ in self.answers[since:])
