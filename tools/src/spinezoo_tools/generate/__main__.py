"""Writes every file that lists the networks, from the folders of ``services/`` and ``.env``.

::

    make generate                  write them
    make generate ARGS=--check     write nothing; exit 1 and name what differs

A network is a folder ``services/*/`` with a ``card.yaml``. One that has no ports in ``.env`` gets
the next free ones, and its lines there. What else stands in ``.env`` is yours.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from spinezoo_tools.checkout import ToolError
from spinezoo_tools.environments import ROOT
from spinezoo_tools.generate.files import differences, write
from spinezoo_tools.output import end_with_reader


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m spinezoo_tools.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if different")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout")
    arguments = parser.parse_args()
    root: Path = arguments.root.resolve()
    try:
        if not arguments.check:
            write(root)
        found = differences(root)
    except ToolError as error:
        print(f"generate: {error}", file=sys.stderr)
        return 1
    for line in found:
        print(line, file=sys.stderr)
    if found:
        print("run `make generate` and commit what it writes", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    end_with_reader()
    raise SystemExit(main())
