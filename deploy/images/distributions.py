"""Prints the folders of our own distributions that a service needs to serve, its own last.

    python3 distributions.py services/pspnet

Standard library only: it runs while an image is built. Development extras do not count.
"""

import re
import sys
import tomllib
from pathlib import Path


def needed(folder: Path, found: dict[str, Path]) -> dict[str, Path]:
    """Distributions below a folder's run-time dependencies, by name, deepest first."""
    text = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    sources = text.get("tool", {}).get("uv", {}).get("sources", {})
    for dependency in text["project"].get("dependencies", []):
        name = re.split(r"[^A-Za-z0-9._-]", dependency)[0]
        if name in sources and name not in found:
            path = Path(re.sub(r"[^/]+/\.\./", "", (folder / sources[name]["path"]).as_posix()))
            needed(path, found)
            found[name] = path
    return found


if __name__ == "__main__":
    service = Path(sys.argv[1])
    for each in [*needed(service.resolve(), {}).values(), service.resolve()]:
        print(each.resolve().relative_to(Path.cwd()))
