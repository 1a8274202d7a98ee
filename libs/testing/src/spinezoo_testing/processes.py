"""Processes of tests that can be killed and started again; and an Orthanc, each on free ports."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spinezoo_conformance.ports import free_ports

ORTHANC = shutil.which("Orthanc") or (
    "/usr/sbin/Orthanc" if Path("/usr/sbin/Orthanc").exists() else None
)
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def until(condition: Callable[[], Any], limit_s: float = 60.0, every_s: float = 0.1) -> Any:
    """Waits for a condition to be true and gives its value; fails when it does not come."""
    end = time.monotonic() + limit_s
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
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

    def wait(self, limit_s: float = 300.0) -> None:
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
            return self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(10)

    def kill(self) -> None:
        """As by kill -9."""
        self.end(signal.SIGKILL)


class OrthancProcess(Process):
    """An Orthanc with DICOMweb."""

    def __init__(self, folder: Path, modalities: dict[str, Any], **extra: Any) -> None:
        super().__init__(folder, "orthanc")
        self.port, self.http = free_ports(2)
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
