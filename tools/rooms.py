"""Environments, locks and tests of every room. Standard library only; run by the Makefile.

A room is a folder with a ``pyproject.toml`` and an environment of its own in ``.venv``. Rooms are
found, not listed: ``protos``, ``libs/*``, ``services/*``, ``gateway``, ``evaluator``, ``tests``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UV = ROOT / ".tools" / "bin" / "uv"
UV_VERSION = "0.13.9"
PYTHON_VERSION = "3.11"


@dataclass(frozen=True)
class Room:
    """One folder with an environment of its own."""

    path: Path

    @property
    def name(self) -> str:
        """Its path below the repository, such as ``libs/spine``."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def project(self) -> dict:
        """Its ``pyproject.toml``."""
        return tomllib.loads((self.path / "pyproject.toml").read_text(encoding="utf-8"))

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return self.path / ".venv" / "bin" / "python"

    @property
    def is_package(self) -> bool:
        """Whether it is a distribution (``tests`` is only an environment)."""
        return "build-system" in self.project

    def local_sources(self) -> dict[str, Path]:
        """Our own distributions that it uses, and theirs, by name."""
        found: dict[str, Path] = {}
        waiting = [self.path]
        while waiting:
            folder = waiting.pop()
            text = (folder / "pyproject.toml").read_text(encoding="utf-8")
            sources = tomllib.loads(text).get("tool", {}).get("uv", {}).get("sources", {})
            for name, source in sources.items():
                target = (folder / source["path"]).resolve()
                if name not in found:
                    found[name] = target
                    waiting.append(target)
        return found


def rooms(only: list[str] | None = None) -> list[Room]:
    """All rooms, or those that are named; libraries first."""
    folders = [*sorted((ROOT / "libs").iterdir()), *sorted((ROOT / "services").iterdir())]
    folders += [ROOT / name for name in ("gateway", "evaluator", "tests")]
    found = [Room(folder) for folder in folders if (folder / "pyproject.toml").is_file()]
    if not only:
        return found
    known = {room.name: room for room in found} | {room.path.name: room for room in found}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise SystemExit(
            f"no room {', '.join(unknown)}; rooms are {', '.join(r.name for r in found)}"
        )
    return [known[name] for name in only]


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def run(command: list[str | Path], **options: object) -> None:
    """Runs a command; a failure ends the program with its exit status."""
    done = subprocess.run([str(part) for part in command], **options)  # type: ignore[call-overload]
    if done.returncode:
        raise SystemExit(f"failed ({done.returncode}): {' '.join(map(str, command))}")


def bootstrap_uv() -> None:
    """Puts uv into ``.tools``: the only thing that pip itself installs."""
    if UV.exists():
        return
    say("tools: installing uv")
    run([sys.executable, "-m", "venv", ROOT / ".tools"])
    run([ROOT / ".tools/bin/python", "-m", "pip", "install", "--quiet", f"uv=={UV_VERSION}"])


def fingerprint(room: Room) -> str:
    """Digest of everything that an environment is made from."""
    digest = hashlib.sha256(PYTHON_VERSION.encode())
    for folder in [room.path, *sorted(room.local_sources().values())]:
        digest.update((folder / "pyproject.toml").read_bytes())
    digest.update((room.path / "requirements-dev.lock").read_bytes())
    return digest.hexdigest()


def setup(only: list[str] | None) -> None:
    """Makes every environment as its lock says; does nothing where that is so already."""
    bootstrap_uv()
    wanted = rooms(only)
    for number, room in enumerate(wanted, start=1):
        stamp = room.path / ".venv" / ".made-from"
        mark = fingerprint(room)
        title = f"[{number}/{len(wanted)}] {room.name}"
        if stamp.is_file() and stamp.read_text() == mark:
            continue
        started = time.monotonic()
        say(f"{title}: setting up")
        if not room.python.exists():
            run([UV, "venv", "--quiet", "--python", sys.executable, room.path / ".venv"])
        run(
            [UV, "pip", "sync", "--python", room.python, room.path / "requirements-dev.lock"],
            cwd=ROOT,
        )
        local = [flag for path in room.local_sources().values() for flag in ("-e", str(path))]
        if room.is_package:
            local += ["-e", str(room.path)]
        run(
            [UV, "pip", "install", "--quiet", "--python", room.python, "--no-deps", *local],
            cwd=ROOT,
        )
        stamp.write_text(mark)
        say(f"{title}: ready in {time.monotonic() - started:.0f} s")


def lock(only: list[str] | None, *, upgrade: bool) -> None:
    """Writes the locks with hashes and without index addresses.

    ``requirements.lock`` is what serves; ``requirements-dev.lock`` adds training and tests and
    agrees with it version by version.
    """
    bootstrap_uv()
    for room in rooms(only):
        say(f"{room.name}: locking")
        ours = [flag for name in room.local_sources() for flag in ("--no-emit-package", name)]
        common: list[str | Path] = [
            UV, "pip", "compile", "pyproject.toml", "--quiet", "--generate-hashes",
            "--no-emit-index-url", "--no-emit-find-links", "--no-annotate",
            "--python-version", PYTHON_VERSION, "--custom-compile-command", "make lock", *ours,
        ]  # fmt: skip
        if upgrade:
            common.append("--upgrade")
        extras = room.project.get("project", {}).get("optional-dependencies", {})
        dev = [flag for extra in sorted(extras) for flag in ("--extra", extra)]
        if room.is_package:
            run([*common, "-o", "requirements.lock"], cwd=room.path)
            dev += ["-c", "requirements.lock"]
        run([*common, *dev, "-o", "requirements-dev.lock"], cwd=room.path)


def test(only: list[str] | None, arguments: list[str]) -> int:
    """Runs every room's tests in its own environment; goes on after a failure."""
    results: list[tuple[str, int, float]] = []
    for room in rooms(only):
        if not (room.path / "tests").is_dir() and room.path.name != "tests":
            continue
        say(f"\n== {room.name}")
        started = time.monotonic()
        environment = os.environ | {"BENTOML_DO_NOT_TRACK": "True", "PYTHONUNBUFFERED": "1"}
        done = subprocess.run(
            [str(room.python), "-m", "pytest", "-q", *arguments], cwd=room.path, env=environment
        )
        results.append((room.name, done.returncode, time.monotonic() - started))
    say("\n== all rooms")
    for name, status, seconds in results:
        verdict = "passed" if status == 0 else "no tests" if status == 5 else f"FAILED ({status})"
        say(f"{name:24s} {verdict:12s} {seconds:6.0f} s")
    return int(any(status not in (0, 5) for _, status, _ in results))


def clean() -> None:
    """Removes every environment and the tools; data and reports stay."""
    for room in rooms():
        shutil.rmtree(room.path / ".venv", ignore_errors=True)
    shutil.rmtree(ROOT / ".tools", ignore_errors=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("list", "setup", "lock", "test", "clean"):
        command = commands.add_parser(name)
        command.add_argument("--room", action="append", help="only this room; may be repeated")
        if name == "lock":
            command.add_argument("--upgrade", action="store_true")
    arguments, rest = parser.parse_known_args()
    if rest and arguments.command != "test":
        parser.error(f"unknown arguments {rest}")
    if arguments.command == "list":
        print("\n".join(room.name for room in rooms(arguments.room)))
    elif arguments.command == "setup":
        setup(arguments.room)
    elif arguments.command == "lock":
        lock(arguments.room, upgrade=arguments.upgrade)
    elif arguments.command == "clean":
        clean()
    else:
        return test(arguments.room, [argument for argument in rest if argument != "--"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
