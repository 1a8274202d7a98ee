"""ONNX Runtime tells nobody what it runs: it keeps no number of the machine, and no reports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TELL_IT_TOO = ("ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI", "XDG_CACHE_HOME")


@pytest.mark.parametrize(
    "code",
    [
        "from spinezoo_spine.column.reader.network import built_in_reader as open_it; open_it()",
        "import spinezoo_spine.inference.engines.onnxruntime",
    ],
)
def test_nothing_is_kept_for_its_maker(tmp_path: Path, code: str) -> None:
    kept = {key: value for key, value in os.environ.items() if key not in TELL_IT_TOO}
    environment = kept | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
