"""The generated code is that of the sources, and the package asks for what it needs."""

from __future__ import annotations

import hashlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOM = Path(__file__).resolve().parents[1]
ROOT = ROOM.parents[1]
PROTOS = ROOT / "protos"
GENERATED = ROOM / "src" / "spinezoo" / "v1"
TESTS_PYTHON = ROOT / ".venvs" / "tests" / "bin" / "python"


def test_sources_are_those_that_were_generated_from() -> None:
    recorded = dict(
        reversed(line.split("  "))
        for line in (GENERATED / "sources.sha256").read_text(encoding="utf-8").splitlines()
    )
    present = {
        path.relative_to(PROTOS).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in PROTOS.glob("spinezoo/v1/*.proto")
    }
    assert present == recorded, "run `make proto` and commit what it writes"


@pytest.mark.skipif(
    not (ROOT / ".venvs" / "tests" / "bin" / "buf").is_file(),
    reason="buf and protoc are not installed; `make setup` installs them",
)
def test_regeneration_leaves_the_tree_clean() -> None:
    result = subprocess.run(
        [str(TESTS_PYTHON), "-m", "spinezoo_tools.proto", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_package_asks_for_runtimes_that_the_generated_code_takes() -> None:
    project = tomllib.loads((ROOM / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert len(project["dependencies"]) == 4, "a stranger installs at most four dependencies"
    floors = dict(item.split(">=") for item in project["dependencies"])
    generated = (GENERATED / "segmenter_pb2_grpc.py").read_text(encoding="utf-8")
    needed = re.search(r"GRPC_GENERATED_VERSION = '([\d.]+)'", generated)
    assert needed is not None
    assert _version(floors["grpcio"]) >= _version(needed.group(1))
    messages = (GENERATED / "segmenter_pb2.py").read_text(encoding="utf-8")
    needed = re.search(r"Protobuf Python Version: ([\d.]+)", messages)
    assert needed is not None
    assert _version(floors["protobuf"]) >= _version(needed.group(1))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",")[0].split("."))
