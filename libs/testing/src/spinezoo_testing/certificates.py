"""Certificates for tests: real ones, made by the tool that makes those for development."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from spinezoo_tools import certs


def certs_tool() -> ModuleType:
    """The commands for certificates."""
    return certs


@pytest.fixture
def tool() -> ModuleType:
    """The commands for certificates."""
    return certs_tool()


@dataclass
class Certificates:
    """A folder of certificates: ``ca`` signed ``server`` and ``client``, and whatever is added."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name

    def authority(self, name: str, **options: Any) -> None:
        tool = certs_tool()
        tool.save(self.folder, name, *tool.make_authority(f"authority {name}", **options))

    def add(
        self,
        name: str,
        *,
        names: tuple[str, ...] = ("localhost", "127.0.0.1"),
        by: str = "ca",
        begins_in_days: float = 0.0,
        days: float = 30.0,
        into: Path | None = None,
    ) -> None:
        tool = certs_tool()
        authority = tool.load(self.folder, by)
        begins = datetime.now(UTC) - timedelta(minutes=5) + timedelta(days=begins_in_days)
        pair = tool.make_certificate(name, names, *authority, begins=begins, days=days)
        tool.save(into or self.folder, name, *pair)

    def server(self, mode: str = "server", name: str = "server", ca: str = "ca") -> dict[str, str]:
        """Environment of a server."""
        return {
            "SPINEZOO_TLS": mode,
            "SPINEZOO_TLS_CERT": str(self.path(f"{name}.crt")),
            "SPINEZOO_TLS_KEY": str(self.path(f"{name}.key")),
            "SPINEZOO_TLS_CA": str(self.path(f"{ca}.crt")),
        }

    def client(self, mode: str = "server", name: str = "client", ca: str = "ca") -> dict[str, str]:
        """Environment of a client."""
        return {
            key.replace("_TLS", "_CLIENT_TLS"): value
            for key, value in self.server(mode, name, ca).items()
        }


@pytest.fixture(scope="session")
def shared_certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    found = Certificates(tmp_path_factory.mktemp("certificates"))
    found.authority("ca")
    found.authority("stranger")
    found.add("server", names=("localhost", "127.0.0.1", "pspnet"))
    found.add("client", names=("client",))
    found.add("alien", by="stranger", names=("localhost", "127.0.0.1"))
    found.add("old", begins_in_days=-10, days=5)
    found.add("early", begins_in_days=5)
    return found


@pytest.fixture
def certificates(shared_certificates: Certificates, tmp_path: Path) -> Certificates:
    """A copy that a test may change."""
    folder = tmp_path / "certs"
    folder.mkdir()
    for path in shared_certificates.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return Certificates(folder)
