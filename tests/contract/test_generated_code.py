"""The committed Python of the contract is what today's protoc makes of the committed protos."""

from __future__ import annotations

import sys
from pathlib import Path

from spinezoo_tools import proto

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
"""Where this environment has buf and, in its Python, protoc."""


def test_generating_again_changes_nothing(tmp_path: Path) -> None:
    fresh = proto.generate(BIN, tmp_path)
    assert len(list(fresh.glob("*_pb2.py"))) == len(list(ROOT.glob("protos/spinezoo/v1/*.proto")))
    assert proto.differences(fresh, proto.GENERATED) == [], "run `make proto` and commit"


def test_lint_and_format_are_clean() -> None:
    proto.lint(BIN)


def test_the_contract_has_one_copy() -> None:
    rooms = [ROOT, *(path for path in ROOT.iterdir() if path.name[0] != ".")]
    rooms += [path for name in ("libs", "services") for path in (ROOT / name).iterdir()]
    found = {
        path.relative_to(ROOT).as_posix()
        for room in rooms
        if room.is_dir()
        for pattern in ("*.proto", "src/**/*.proto", "spinezoo/**/*.proto")
        for path in room.glob(pattern)
    }
    assert found
    assert all(name.startswith("protos/") for name in found), found
