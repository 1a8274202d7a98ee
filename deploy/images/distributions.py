"""Prints the folders of our own distributions that a service needs to serve, its own last.

    python3 distributions.py services/pspnet [EXTRA]

Standard library only: it runs while an image is built. Of extras only the named one of the service
itself counts.
"""

import re
import sys
import tomllib
from pathlib import Path


def needed(folder: Path, found: dict[str, Path], extra: str = "") -> dict[str, Path]:
    """Distributions below a folder's run-time dependencies, by name, deepest first."""
    text = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    sources = text.get("tool", {}).get("uv", {}).get("sources", {})
    project = text["project"]
    more = project.get("optional-dependencies", {}).get(extra, [])
    for dependency in [*project.get("dependencies", []), *more]:
        name = re.split(r"[^A-Za-z0-9._-]", dependency)[0]
        if name in sources and name not in found:
            path = Path(re.sub(r"[^/]+/\.\./", "", (folder / sources[name]["path"]).as_posix()))
            needed(path, found)
            found[name] = path
    return found


if __name__ == "__main__":
    service = Path(sys.argv[1])
    extra = sys.argv[2] if len(sys.argv) > 2 else ""
    for each in [*needed(service.resolve(), {}, extra).values(), service.resolve()]:
        print(each.resolve().relative_to(Path.cwd()))
