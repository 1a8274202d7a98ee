"""Compares two reports figure by figure, times aside: ``make compare A=folder B=folder``.

A report's folder holds ``report.json`` and, from the benchmark, ``films.jsonl`` and
``answers/*.json.gz``. Every value that differs is printed with its place. Ends with 0 where there
is none, with 1 where there is one, with 2 where a report cannot be read. Standard library only.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from spinezoo_tools.output import end_with_reader

NOT_COMPARED = frozenset(
    {"started", "command", "finished", "seconds", "machine", "memory", "versions", "request_id"}
)
"""Keys that say when, where and by which words a run was made."""

TIME_ENDINGS = ("_ms", "_s", "_seconds", "_mib")
"""Endings of keys that hold times and sizes of processes."""

NAMES_BELOW = frozenset({"models", "members"})
"""Keys below which the names of networks stand: all of these are compared."""


class UnreadableError(Exception):
    """A report is absent or is not what it should be; the message says which file."""


def is_compared(key: str) -> bool:
    """Whether a key of a report holds a figure that has to be the same in every run."""
    return key not in NOT_COMPARED and not key.endswith(TIME_ENDINGS)


def differences(a: Any, b: Any, place: str = "", *, named: bool = False) -> Iterator[str]:
    """A line for every value that is not the same in both, numbers to the last bit.

    Args:
        a: Of the first report.
        b: Of the second.
        place: Where both stand.
        named: Whether their keys are names of films or networks, whatever they end with.
    """
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            if not (named or is_compared(key)):
                continue
            where = f"{place}/{key}"
            if key not in b:
                yield f"{where}: only in the first"
            elif key not in a:
                yield f"{where}: only in the second"
            else:
                yield from differences(a[key], b[key], where, named=key in NAMES_BELOW)
    elif isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            yield f"{place}: length {len(a)}, then {len(b)}"
        for index, (one, other) in enumerate(zip(a, b, strict=False)):
            yield from differences(one, other, f"{place}[{index}]")
    elif type(a) is not type(b) or a != b:
        yield f"{place}: {a!r}, then {b!r}"


def read(path: Path) -> Any:
    """The values of a JSON file, or of a file of JSON lines by film.

    Raises:
        UnreadableError: The file is absent or damaged.
    """
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
        if path.suffix != ".jsonl":
            return json.loads(text)
        films = [json.loads(line) for line in text.splitlines()]
        return {film["film"]: film for film in films}
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise UnreadableError(f"{path} is no report's file ({type(error).__name__})") from error


def files_of(folder: Path) -> list[str]:
    """Names of the files of figures in a report's folder.

    Raises:
        UnreadableError: There is no report.
    """
    if not (folder / "report.json").is_file():
        raise UnreadableError(f"{folder} holds no report.json; name the folder of a report")
    found = [folder / "report.json", *folder.glob("films.jsonl"), *folder.glob("answers/*.json.gz")]
    return sorted(path.relative_to(folder).as_posix() for path in found)


def compare(first: Path, second: Path) -> list[str]:
    """What differs between the reports of two folders.

    Raises:
        UnreadableError: One of them is no report.
    """
    names, others = files_of(first), files_of(second)
    lines = [f"{name}: only in the first" for name in names if name not in others]
    lines += [f"{name}: only in the second" for name in others if name not in names]
    for name in (name for name in names if name in others):
        one, other = read(first / name), read(second / name)
        found = differences(one, other, named=name != "report.json")
        lines += [f"{name}: {line}" for line in found]
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("first", type=Path, help="folder of a report")
    parser.add_argument("second", type=Path, help="folder of another report of the same films")
    options = parser.parse_args(argv)
    try:
        lines = compare(options.first, options.second)
        names = files_of(options.first)
    except UnreadableError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    for line in lines:
        print(line)
    print(f"differences: {len(lines)}, files: {len(names)}, times aside")
    return int(bool(lines))


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
