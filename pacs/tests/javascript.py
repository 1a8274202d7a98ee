"""Programs of ``viewers/`` that run in Node: their libraries are fetched once, from the lock."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

VIEWERS = Path(__file__).resolve().parents[1] / "viewers"


def installed(name: str) -> Path:
    """A folder of ``viewers/`` with its libraries as the lock has them; skips without Node.

    A registry that cannot be reached is a failure, not a reason to skip.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node is not installed: dcmjs cannot read the results (Debian: nodejs, npm)")
    folder = VIEWERS / name
    lock, done = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    with (folder / "package.json").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not done.exists() or done.stat().st_mtime < lock.stat().st_mtime:
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            made = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
            assert made.returncode == 0, made.stderr[-2000:]
            done.touch()
    return folder


def read_by_dcmjs(film: Path, *results: Path) -> list[dict[str, Any]]:
    """What dcmjs and cornerstone's adapters see in results of a film."""
    command = ["node", "read.mjs", str(film), *map(str, results)]
    done = subprocess.run(
        command, cwd=installed("dcmjs"), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return list(json.loads(done.stdout))
