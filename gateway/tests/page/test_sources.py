"""The page's own files, without a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import films
import pytest
from spinezoo_tools.node_packages import folder_of

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "src" / "spinezoo_gateway" / "page"
NODE = shutil.which("node")
TSC = folder_of(HERE.parents[2], HERE / "package-lock.json") / "node_modules/typescript/bin/tsc"


@pytest.mark.skipif(not (NODE and shutil.which("npm")), reason="needs node and npm")
def test_types_hold() -> None:
    assert TSC.is_file(), "TypeScript is not installed: `make setup` where npm finds its registry"
    done = subprocess.run(
        [str(NODE), str(TSC), "-p", "."], cwd=HERE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_the_lock_of_npm_names_no_registry() -> None:
    packages = json.loads((HERE / "package-lock.json").read_text())["packages"]
    assert all("resolved" not in each for each in packages.values())
    assert all("integrity" in each for name, each in packages.items() if name)
    # Every module is checked: those that no other imports are named in the settings.
    settings = json.loads((HERE / "tsconfig.json").read_text())
    text = "".join(path.read_text() for path in PAGE.glob("*.js"))
    for path in PAGE.glob("*.js"):
        assert path.read_text().startswith("// @ts-check"), path.name
        listed = any(each.endswith(f"/{path.name}") for each in settings["files"])
        assert listed or f"from './{path.name}'" in text, path.name


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
