"""Processes of the tests: the zoo and the node, each on free ports of 127.0.0.1."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import urllib.error
from pathlib import Path
from typing import Any

import yaml
from spinezoo_conformance.ports import free_ports
from spinezoo_testing.processes import (
    ORTHANC,
    OrthancProcess,
    Process,
    get_json,
    until,
)

__all__ = [
    "ORTHANC", "NodeProcess", "OrthancProcess", "Process", "ZooProcess", "get_json",
    "until",
]  # fmt: skip

TESTS = Path(__file__).parent
SEEDS = (3, 5, 6, 11, 14, 16, 18, 20, 21, 22)
"""Phantoms that the zoo of the tests knows."""


class ZooProcess(Process):
    """Three networks and the gateway."""

    def __init__(self, folder: Path, seeds: tuple[int, ...] = SEEDS) -> None:
        super().__init__(folder, "zoo")
        self.port, self.seeds = free_ports(1)[0], seeds

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        seeds = [str(seed) for seed in self.seeds]
        return [
            sys.executable, str(TESTS / "zoo_process.py"), "--port", str(self.port),
            "--seeds", *seeds,
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(TESTS)}

    def ready(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 1):
            return True


class NodeProcess(Process):
    """The node under test."""

    def __init__(
        self, folder: Path, gateway: str, peers: list[dict[str, Any]], **more: Any
    ) -> None:
        super().__init__(folder, "node")
        self.port, self.http = free_ports(2)
        self.settings: dict[str, Any] = {
            "port": self.port,
            "http_port": self.http,
            "spool": str(folder / "spool"),
            "gateway": gateway,
            "peers": peers,
            "limits": {"disk_free_mib": 1},
            "retry": {"first_s": 0.2, "most_s": 1.0},
            **more,
        }

    def command(self) -> list[str]:
        path = self.folder / "node.yaml"
        path.write_text(yaml.safe_dump(self.settings))
        return [sys.executable, "-m", "spinezoo_pacs.node.serve", str(path)]

    def ready(self) -> bool:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            return bool(self.status())
        return False

    def status(self) -> Any:
        return get_json(f"http://127.0.0.1:{self.http}/status.json")

    def films(self) -> dict[str, int]:
        return dict(self.status()["films"])

    def settled(self, done: int, limit_s: float = 300.0) -> None:
        """Waits until so many films are done."""
        until(lambda: self.films()["done"] >= done, limit_s)
