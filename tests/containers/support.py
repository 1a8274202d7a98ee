"""Asks the Docker Engine, and runs one composition of the tests' own."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from spinezoo_contract.client import EnsembleClient

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = tuple(sorted(card.parent.name for card in ROOT.glob("services/*/card.yaml")))
FRONT = ("evaluator", "gateway")
PROJECT = "spinezootest"
REQUIRED = os.environ.get("SPINEZOO_REQUIRE_DOCKER") == "1"

UP_LIMIT_S = 480.0
COMMAND_LIMIT_S = 120.0


@functools.cache
def tool() -> ModuleType:
    """``tools/containers.py`` as a module."""
    spec = importlib.util.spec_from_file_location("containers_tool", ROOT / "tools/containers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def composition_file(name: str) -> dict[str, Any]:
    """A composition file; YAML's merge keys are resolved, variables are not."""
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def why_not() -> str | None:
    """Why nothing can be run in containers here; None where it can."""
    if tool().engine_version() is None:
        return "no Docker Engine answers: python3 tools/containers.py engine --install"
    missing = [part.image for part in tool().parts() if not tool().have_image(part.image)]
    if missing:
        return f"not built: {', '.join(missing)}; run `make images`"
    old = [part.name for part in tool().parts() if part.card.is_file() and _is_old(part)]
    if old:
        return f"built from other cards: {', '.join(old)}; run `make images`"
    return None


def _is_old(part: Any) -> bool:
    labels = inspect(part.image)["Config"]["Labels"] or {}
    digest = hashlib.sha256(part.card.read_bytes()).hexdigest()
    return labels.get("spinezoo.card.sha256") != digest


@functools.cache
def need_images() -> None:
    """Skips where there is no engine or an image is missing; fails where one was demanded."""
    reason = why_not()
    if reason and REQUIRED:
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


def inspect(what: str) -> dict[str, Any]:
    """What the engine knows of an image or container."""
    done = docker("inspect", what)
    return json.loads(done.stdout)[0]


def docker(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """One docker command."""
    return _run([tool().docker(), *arguments], check=check)


def _run(
    command: list[str],
    *,
    check: bool = True,
    environment: dict[str, str] | None = None,
    limit_s: float = COMMAND_LIMIT_S,
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit_s
    )
    if check:
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


@dataclass
class Composition:
    """The composition that the tests share: a project name and a published port of its own."""

    environment: dict[str, str]

    @classmethod
    def prepare(cls, project: str = PROJECT, **settings: str) -> Composition:
        """Chooses a port; starts nothing.

        Args:
            project: Name of the composition.
            settings: Variables on top.
        """
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SPINEZOO_")}
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        return cls(
            {
                **kept,
                "COMPOSE_PROJECT_NAME": project,
                "COMPOSE_FILE": "compose.yaml",
                "SPINEZOO_GATEWAY_GRPC_PORT": str(port),
                **settings,
            }
        )

    @property
    def target(self) -> str:
        """The gateway's published address."""
        return f"127.0.0.1:{self.environment['SPINEZOO_GATEWAY_GRPC_PORT']}"

    def gateway(self) -> EnsembleClient:
        """A client of the gateway, through the published port."""
        return EnsembleClient(self.target)

    def up(self) -> None:
        """Starts it as `make containers-up` does and waits until all is healthy."""
        self._tool("up")

    def down(self) -> None:
        """Stops it, as `make containers-down` does."""
        self._tool("down")

    def _tool(self, what: str) -> None:
        command = [sys.executable, str(ROOT / "tools/containers.py"), what]
        _run(command, environment=self.environment, limit_s=UP_LIMIT_S)

    def compose(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One compose command."""
        return _run([*tool().compose(), *arguments], environment=self.environment, check=check)

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
