"""Starts coverage-guided fuzzing in processes of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROUND_S = 120
"""Longest one process runs: the fuzzer itself grows by some 2 KB an input, and is told from what it
tests by nothing but its limit of memory."""


def guided_by_coverage(script: str, corpus: Path, seconds: int) -> int:
    """Runs a script of this folder in rounds that go on with one corpus; skips without atheris.

    Args:
        script: Its name; it takes ``CORPUS SECONDS``, see :mod:`guided`.
        corpus: Folder of the inputs to begin with; what the fuzzer finds is added.
        seconds: In all.

    Returns:
        How many inputs were looked at.
    """
    pytest.importorskip(
        "atheris",
        reason="atheris is not installed: .tools/bin/uv pip install --python "
        ".venvs/tests/bin/python atheris (Linux on x86-64)",
    )
    count = 0
    for start in range(0, seconds, ROUND_S):
        length = min(ROUND_S, seconds - start)
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name(script)), str(corpus), str(length)],
            capture_output=True, text=True, errors="replace", timeout=length + 120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        (looked_at,) = re.findall(r"number_of_executed_units: *(\d+)", done.stderr)
        count += int(looked_at)
    return count
