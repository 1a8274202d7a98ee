"""The page's own files, without a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import films
import pytest

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "src" / "spinezoo_gateway" / "page"
TSC = shutil.which("tsc")


@pytest.mark.skipif(TSC is None, reason="TypeScript is not installed: npm install -g typescript")
def test_types_hold() -> None:
    done = subprocess.run([str(TSC), "-p", "."], cwd=HERE, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_example_films_are_those_of_the_command(tmp_path: Path) -> None:
    assert films.main([str(tmp_path)]) == 0
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_bytes() for path in (PAGE / "phantoms").iterdir()}
    assert made == kept
    assert max(map(len, kept.values())) < 1 << 20


def test_nothing_is_inline_from_elsewhere_or_markup() -> None:
    for path in PAGE.glob("*"):
        if path.suffix not in (".js", ".html", ".css", ".svg"):
            continue
        text = path.read_text()
        assert len(text.splitlines()) <= 600, path.name
        hosts = set(re.findall(r"https?://[^'\"\s)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not hosts, path.name
        for banned in ("innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "@import"):
            assert banned not in text, (path.name, banned)
