"""Processes for the tests, ended with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from parts import ORTHANC, NodeProcess, OrthancProcess, Process, ZooProcess


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooProcess]:
    made = ZooProcess(tmp_path_factory.mktemp("zoo"))
    made.start()
    yield made
    made.kill()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Process], Any]]:
    """Starts processes that end with the test."""
    started: list[Process] = []

    def begin(process: Process, wait: bool = True) -> Process:
        if isinstance(process, OrthancProcess) and ORTHANC is None:
            pytest.skip("Orthanc is not installed (Debian: orthanc, orthanc-dicomweb)")
        started.append(process)
        process.start(wait)
        return process

    yield begin
    for process in reversed(started):
        process.kill()


@pytest.fixture
def orthanc(tmp_path: Path, start: Callable[[Process], Any]) -> OrthancProcess:
    made = OrthancProcess(tmp_path / "orthanc", {})
    start(made)
    return made


@pytest.fixture
def node(
    tmp_path: Path, start: Callable[[Process], Any], zoo: ZooProcess, orthanc: OrthancProcess
) -> NodeProcess:
    """A node between a sender STORESCU, the zoo and Orthanc."""
    made = NodeProcess(tmp_path / "node", zoo.target, peers(orthanc))
    start(made)
    return made


def peers(orthanc: OrthancProcess) -> list[dict[str, Any]]:
    return [
        {"ae_title": "STORESCU", "host": "127.0.0.1", "answers_to": ["ORTHANC"]},
        {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.port},
    ]
