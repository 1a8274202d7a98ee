"""Packages of npm for tests: installed once, said and left out where that is not possible."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from spinezoo_tools import node_packages


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A room with a lock, and programs that only count their calls."""
    folder = tmp_path / "gateway" / "tests" / "page"
    folder.mkdir(parents=True)
    for name in node_packages.FILES:
        (folder / name).write_text("{}")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    program(tmp_path / "bin", "node", "true")
    program(tmp_path / "bin", "npm", f'echo "$PWD $*" >> {tmp_path}/calls')
    return tmp_path / "gateway"


def test_they_are_installed_once_and_again_after_a_change(room: Path, tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        node_packages.setup(tmp_path, room, said.append)
    assert said == ["node-page: setting up"]
    (call,) = (tmp_path / "calls").read_text().splitlines()
    installed = {path.name for path in (tmp_path / ".venvs" / "node-page").iterdir()}
    assert installed == {*node_packages.FILES, ".made-from"}
    assert call.startswith(f"{tmp_path}/.venvs/node-page ci --ignore-scripts")
    lock = room / "tests" / "page" / "package-lock.json"
    assert node_packages.folder_of(tmp_path, lock) == tmp_path / ".venvs" / "node-page"
    lock.write_text('{"lockfileVersion": 3}')
    node_packages.setup(tmp_path, room, said.append)
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


def test_a_failure_is_said_and_tried_again(room: Path, tmp_path: Path) -> None:
    program(tmp_path / "bin", "npm", "echo no registry >&2; exit 1")
    said: list[str] = []
    for _ in range(2):
        node_packages.setup(tmp_path, room, said.append)
    assert said[1] == said[3] != said[0]
    assert "npm failed (no registry)" in said[1]


@pytest.mark.parametrize("there", [(), ("node",), ("npm",)])
def test_without_npm_it_is_left_out(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...]
) -> None:
    """Debian's package of node is without npm."""
    (tmp_path / "some").mkdir()
    for name in there:
        program(tmp_path / "some", name, "true")
    monkeypatch.setenv("PATH", str(tmp_path / "some"))
    said: list[str] = []
    node_packages.setup(tmp_path, room, said.append)
    assert len(said) == 1
    assert "apt-get install npm" in said[0]
    assert not (tmp_path / ".venvs").exists()
