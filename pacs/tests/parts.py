"""Processes of the tests: the zoo, the node and Orthanc, each on free ports of 127.0.0.1."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

TESTS = Path(__file__).parent
ORTHANC = shutil.which("Orthanc") or (
    "/usr/sbin/Orthanc" if Path("/usr/sbin/Orthanc").exists() else None
)
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
SEEDS = (3, 5, 6, 11, 14, 16, 18, 20, 21, 22)
"""Phantoms that the zoo of the tests knows."""


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], limit_s: float = 60.0, every_s: float = 0.1) -> Any:
    """Waits for a condition to be true and gives its value; fails when it does not come."""
    end = time.monotonic() + limit_s
    while True:
        with contextlib.suppress(OSError):
            value = condition()
            if value:
                return value
        if time.monotonic() > end:
            raise AssertionError(f"did not come true in {limit_s} s: {condition}")
        time.sleep(every_s)


def get_json(url: str, **headers: str) -> Any:
    """What a web server answers."""
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.loads(reply.read())


class Process:
    """One process that can be killed and started again."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def ready(self) -> bool:
        raise NotImplementedError

    def start(self, wait: bool = True) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, env=self.environment(), cwd=self.folder
            )
        if wait:
            self.wait()

    def wait(self, limit_s: float = 90.0) -> None:
        def up() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text(errors="replace")[-3000:]
            return self.ready()

        until(up, limit_s)

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(10)

    def kill(self) -> None:
        """As by kill -9."""
        self.end(signal.SIGKILL)


class ZooProcess(Process):
    """Three networks and the gateway."""

    def __init__(self, folder: Path, seeds: tuple[int, ...] = SEEDS) -> None:
        super().__init__(folder, "zoo")
        self.port, self.seeds = free_port(), seeds

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


class OrthancProcess(Process):
    """An Orthanc with DICOMweb."""

    def __init__(self, folder: Path, modalities: dict[str, Any], **extra: Any) -> None:
        super().__init__(folder, "orthanc")
        self.port, self.http = free_port(), free_port()
        self.settings: dict[str, Any] = {
            "Name": "test",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "DicomAet": "ORTHANC",
            "DicomPort": self.port,
            "HttpPort": self.http,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomModalities": modalities,
            "DicomAlwaysAllowStore": True,
            "DicomCheckModalityHost": False,
            "UnknownSopClassAccepted": True,
            "OverwriteInstances": True,
            "StableAge": 1,
            "DicomThreadsCount": 8,
            "Plugins": [str(PLUGIN)] if PLUGIN.exists() else [],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            **extra,
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    def command(self) -> list[str]:
        assert ORTHANC is not None
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(self.settings))
        return [ORTHANC, str(path)]

    def ready(self) -> bool:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            return bool(self.get("/system"))
        return False

    def get(self, path: str) -> Any:
        return get_json(self.url + path)

    def post(self, path: str, body: bytes) -> Any:
        request = urllib.request.Request(self.url + path, data=body, method="POST")
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.loads(reply.read())

    def upload(self, content: bytes) -> str:
        """Stores a DICOM file; gives Orthanc's own id."""
        return str(self.post("/instances", content)["ID"])

    def file(self, instance: str) -> bytes:
        url = f"{self.url}/instances/{instance}/file"
        with urllib.request.urlopen(url, timeout=60) as reply:
            return bytes(reply.read())

    def find(self, **query: str) -> list[str]:
        """Orthanc's ids of instances."""
        body = json.dumps({"Level": "Instance", "Query": query}).encode()
        return list(self.post("/tools/find", body))


class NodeProcess(Process):
    """The node under test."""

    def __init__(
        self, folder: Path, gateway: str, peers: list[dict[str, Any]], **more: Any
    ) -> None:
        super().__init__(folder, "node")
        self.port, self.http = free_port(), free_port()
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

    def settled(self, done: int, limit_s: float = 90.0) -> None:
        """Waits until so many films are done."""
        until(lambda: self.films()["done"] >= done, limit_s)
