"""What tests need of npm, such as the type checker of the page. Standard library only.

A room may hold ``tests/*/package-lock.json``, with digests and without index addresses. What it
names is installed into ``.venvs`` where npm is there; elsewhere the tests that need it are skipped.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

FILES = ("package.json", "package-lock.json", ".npmrc")
"""What says what is installed."""


def folder_of(root: Path, lock: Path) -> Path:
    """Where the packages of a lock are installed.

    Args:
        root: The checkout.
        lock: A ``package-lock.json``.
    """
    return root / ".venvs" / f"node-{lock.parent.name}"


def setup(root: Path, room: Path, say: Callable[[str], None]) -> None:
    """Installs what the locks of a room name; does nothing where that is so already.

    A failure is said and ends nothing: only a test needs the packages, and fails by itself.

    Args:
        root: The checkout.
        room: Folder of the room.
        say: Called with lines of progress.
    """
    for lock in sorted(room.glob("tests/*/package-lock.json")):
        sources = [lock.parent / name for name in FILES]
        mark = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
        target = folder_of(root, lock)
        stamp = target / ".made-from"
        if stamp.is_file() and stamp.read_text() == mark:
            continue
        npm = shutil.which("npm")
        if npm is None or shutil.which("node") is None:
            say(f"{target.name}: left out, npm is not installed (apt-get install npm)")
            continue
        say(f"{target.name}: setting up")
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for path in sources:
            shutil.copy(path, target)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(command, cwd=target, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word from npm"])[-1][:300]
            say(f"{target.name}: npm failed ({last}); the test that needs it will fail")
            continue
        stamp.write_text(mark)
