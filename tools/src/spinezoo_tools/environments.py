"""Environments, locks and tests. Standard library only: it runs before any environment is there.

A *room* is a folder with a ``pyproject.toml``: ``libs/*``, ``services/*``, ``gateway``,
``evaluator``, ``tools`` and ``tests``. Rooms are found, not listed. Each names the *environment* it
runs in (``[tool.spinezoo] environment``); an environment is made from two locks:

- ``locks/<name>.lock``: what the services of the environment need to serve; images install it.
- ``locks/<name>-dev.lock``: what training and tests need beside it, at versions that agree.

A network also names the environment that it is *served* in without its framework (``serving``). Its
extra ``framework`` is what its own environment has more, to train and to serve on a GPU; the extra
``gpu``, where there is one, what only an image for GPUs has (``locks/<name>-gpu.lock``).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinezoo_tools import node_packages
from spinezoo_tools.output import end_with_reader

ROOT = Path(__file__).resolve().parents[3]
LOCKS = ROOT / "locks"
UV = ROOT / ".tools" / "bin" / "uv"
UV_VERSION = "0.13.9"
PYTHON_VERSION = "3.11"
LEFT_OUT = ("openvino-telemetry",)
"""Packages that our dependencies ask for and run without: nothing may call home."""
MADE_FROM = ".made-from"
"""Stands in an environment's folder with the digest of what it was made from, last of all."""
GPU_NODE = Path("/dev/nvidia0")
"""Is there where NVIDIA's driver shows a GPU."""


@dataclass(frozen=True)
class Room:
    """One folder with code and tests of its own."""

    path: Path

    @property
    def name(self) -> str:
        """Its path below the repository, such as ``libs/spine``."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def project(self) -> dict[str, Any]:
        """Its ``pyproject.toml``."""
        return tomllib.loads((self.path / "pyproject.toml").read_text(encoding="utf-8"))

    @property
    def environment(self) -> Environment:
        """The environment that it names.

        Raises:
            SystemExit: It names none.
        """
        name = self.project.get("tool", {}).get("spinezoo", {}).get("environment")
        if not name:
            raise SystemExit(
                f"{self.path}/pyproject.toml names no environment; "
                'add [tool.spinezoo] environment = "torch" or another name'
            )
        return Environment(name)

    @property
    def serving_environment(self) -> Environment:
        """The environment that it serves in where no GPU is used."""
        name = self.project.get("tool", {}).get("spinezoo", {}).get("serving")
        return Environment(name) if name else self.environment

    @property
    def extras(self) -> frozenset[str]:
        """Its optional parts."""
        return frozenset(self.project["project"].get("optional-dependencies", {}))

    @property
    def is_package(self) -> bool:
        """Whether it is a distribution (``tests`` is only a folder of tests)."""
        return "build-system" in self.project

    @property
    def serves(self) -> bool:
        """Whether an image is made of it."""
        return self.path.parent.name == "services" or self.name in ("gateway", "evaluator", "pacs")

    @property
    def is_tests(self) -> bool:
        """Whether it is ``tests``, which is a folder of tests itself."""
        return self.path.name == "tests"

    def serving_sources(self) -> dict[str, Path]:
        """Our own distributions that it needs to serve, by name."""
        found: dict[str, Path] = {}
        waiting = [self.path]
        while waiting:
            folder = waiting.pop()
            document = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
            sources = document.get("tool", {}).get("uv", {}).get("sources", {})
            for text in document["project"].get("dependencies", []):
                name = re.split(r"[^A-Za-z0-9._-]", text)[0]
                if name in sources and name not in found:
                    found[name] = (folder / sources[name]["path"]).resolve()
                    waiting.append(found[name])
        return found

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


@dataclass(frozen=True, order=True)
class Environment:
    """One set of installed packages, shared by the rooms that name it."""

    name: str

    @property
    def folder(self) -> Path:
        """Where it is installed."""
        return ROOT / ".venvs" / self.name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def lock(self) -> Path:
        """What serving needs."""
        return LOCKS / f"{self.name}.lock"

    @property
    def dev_lock(self) -> Path:
        """What training and tests need beside that."""
        return LOCKS / f"{self.name}-dev.lock"

    @property
    def gpu_lock(self) -> Path:
        """What an image for GPUs installs: a lock of its own, or that of serving."""
        own = LOCKS / f"{self.name}-gpu.lock"
        return own if own.is_file() else self.lock

    @property
    def locks(self) -> list[Path]:
        """Those of its locks that there are: an environment without services has one."""
        return [path for path in (self.lock, self.dev_lock) if path.is_file()]

    @property
    def rooms(self) -> list[Room]:
        """The rooms that name it."""
        return [room for room in rooms() if room.environment == self]

    @property
    def served_rooms(self) -> list[Room]:
        """The networks of other environments that are served in it."""
        return [
            room
            for room in rooms()
            if room.serving_environment == self and room.environment != self
        ]

    def local_packages(self) -> dict[str, Path]:
        """Our own distributions that are installed in it, by name."""
        found: dict[str, Path] = {}
        for room in self.rooms:
            found |= room.local_sources()
            if room.is_package:
                found[room.project["project"]["name"]] = room.path
        for room in self.served_rooms:
            found |= room.serving_sources()
            found[room.project["project"]["name"]] = room.path
        return dict(sorted(found.items()))

    def fingerprint(self) -> str:
        """Digest of everything that it is made from."""
        digest = hashlib.sha256(PYTHON_VERSION.encode())
        for folder in self.local_packages().values():
            digest.update((folder / "pyproject.toml").read_bytes())
        for path in self.locks:
            digest.update(path.read_bytes())
        return digest.hexdigest()


def rooms(only: Sequence[str] | None = None) -> list[Room]:
    """All rooms, or those that are named; libraries first.

    Raises:
        SystemExit: A name is unknown.
    """
    folders = [*sorted((ROOT / "libs").iterdir()), *sorted((ROOT / "services").iterdir())]
    names = ("gateway", "evaluator", "pacs", "namer", "refiner", "tools", "tests")
    folders += [ROOT / name for name in names]
    found = [Room(folder) for folder in folders if (folder / "pyproject.toml").is_file()]
    if not only:
        return found
    known = {room.name: room for room in found} | {room.path.name: room for room in found}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise SystemExit(
            f"no room {', '.join(unknown)}; rooms are {', '.join(room.name for room in found)}"
        )
    return [known[name] for name in only]


def environments(only: Sequence[str] | None = None, *, serving: bool = False) -> list[Environment]:
    """All environments, or those of the rooms that are named.

    Args:
        only: Names of rooms.
        serving: Only those that the zoo is served, measured and fed with.
    """
    found = {room.environment for room in rooms(only)} | {
        room.serving_environment for room in rooms(only)
    }
    if serving:
        found = {room.serving_environment for room in rooms(only) if room.serves}
    elif only:
        found = {room.environment for room in rooms(only)}
    return sorted(found)


def python_of(root: Path, folder: Path) -> Path:
    """The interpreter of the room in a folder of a checkout; it may not be set up yet.

    Raises:
        SystemExit: The room names no environment.
    """
    return root / ".venvs" / Room(folder).environment.name / "bin" / "python"


def serving_python_of(root: Path, folder: Path, settings: Mapping[str, str]) -> Path:
    """The interpreter that serves a room: its framework's where the settings ask for that.

    Args:
        root: The checkout.
        folder: The room's.
        settings: Variables, of which SPINEZOO_ENGINE and SPINEZOO_DEVICE count.

    Raises:
        SystemExit: The room names no environment.
    """
    room = Room(folder)
    own = python_of(root, folder)
    engine = settings.get("SPINEZOO_ENGINE", "").strip() or "auto"
    device = settings.get("SPINEZOO_DEVICE", "").strip().lower() or "auto"
    if room.environment == room.serving_environment or engine == room.environment.name:
        return own
    finds_gpu = device == "auto" and GPU_NODE.exists() and own.exists()
    if engine == "auto" and (device.startswith("cuda") or finds_gpu):
        return own
    return root / ".venvs" / room.serving_environment.name / "bin" / "python"


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def run(command: Sequence[str | Path], cwd: Path = ROOT) -> None:
    """Runs a command; a failure ends the program with its exit status."""
    done = subprocess.run([str(part) for part in command], cwd=cwd)
    if done.returncode:
        raise SystemExit(f"failed ({done.returncode}): {' '.join(map(str, command))}")


def bootstrap_uv() -> None:
    """Puts uv into ``.tools``: the only thing that pip itself installs."""
    if UV.exists():
        return
    say("tools: installing uv")
    folder = ROOT / ".tools"
    python = folder / "bin" / "python"
    # The pip that is there installs into an environment without one: giving it its own takes 3 s.
    own = importlib.util.find_spec("pip") is None
    run([sys.executable, "-m", "venv", *([] if own else ["--without-pip"]), folder])
    pip: list[str | Path] = [python, "-m", "pip"]
    if not own:
        pip = [sys.executable, "-m", "pip", "--python", python]
    run([*pip, "install", "--quiet", f"uv=={UV_VERSION}"])


def setup(only: Sequence[str] | None, *, serving: bool = False) -> None:
    """Makes environments as their locks say; does nothing where that is so already."""
    bootstrap_uv()
    wanted = environments(only, serving=serving)
    for number, environment in enumerate(wanted, start=1):
        stamp = environment.folder / MADE_FROM
        mark = environment.fingerprint()
        title = f"[{number}/{len(wanted)}] {environment.name}"
        if stamp.is_file() and stamp.read_text() == mark:
            continue
        started = time.monotonic()
        say(f"{title}: setting up")
        python = environment.python
        if not python.exists():
            run([UV, "venv", "--quiet", "--python", sys.executable, environment.folder])
        run([UV, "pip", "sync", "--python", python, *environment.locks])
        local = [part for path in environment.local_packages().values() for part in ("-e", path)]
        run([UV, "pip", "install", "--quiet", "--python", python, "--no-deps", *local])
        stamp.write_text(mark)
        say(f"{title}: ready in {time.monotonic() - started:.0f} s")
    for room in [] if serving else rooms(only):
        node_packages.setup(ROOT, room.path, say)


def packages_of(lock: Path) -> list[str]:
    """Names of the packages in a lock."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    return [line.partition("==")[0].strip() for line in lines if line[:1].isalnum()]


def lock(only: Sequence[str] | None, *, upgrade: bool) -> None:
    """Writes the locks with hashes and without index addresses."""
    bootstrap_uv()
    LOCKS.mkdir(exist_ok=True)
    for environment in environments(only):
        say(f"{environment.name}: locking")
        members = environment.rooms
        ours = [
            part
            for name in (*environment.local_packages(), *LEFT_OUT)
            for part in ("--no-emit-package", name)
        ]
        common: list[str | Path] = [
            UV, "pip", "compile", "--quiet", "--generate-hashes", "--no-emit-index-url",
            "--no-emit-find-links", "--no-annotate", "--python-version", PYTHON_VERSION,
            "--custom-compile-command", "make lock", *ours,
        ]  # fmt: skip
        if upgrade:
            common.append("--upgrade")
        serving = [room for room in [*members, *environment.served_rooms] if room.serves]
        beside: list[str | Path] = []
        framework = any("framework" in room.extras for room in members)
        with_framework = ["--extra", "framework"] if framework else []
        if serving:
            projects = [room.path / "pyproject.toml" for room in serving]
            run([*common, *with_framework, *projects, "-o", environment.lock])
            beside = ["-c", environment.lock]
            for name in packages_of(environment.lock):
                beside += ["--no-emit-package", name]
        for_gpus = [room.path / "pyproject.toml" for room in members if "gpu" in room.extras]
        if for_gpus:
            run([
                *common, "-c", environment.lock, *with_framework, "--extra", "gpu", *for_gpus,
                "-o", LOCKS / f"{environment.name}-gpu.lock",
            ])  # fmt: skip
        if not members:
            continue
        everything = [room.path / "pyproject.toml" for room in members]
        has_dev = any(
            "dev" in room.project["project"].get("optional-dependencies", {}) for room in members
        )
        extra = ["--extra", "dev"] if has_dev else []
        run([*common, *beside, *with_framework, *extra, *everything, "-o", environment.dev_lock])


def test(only: Sequence[str] | None, arguments: Sequence[str], jobs: int) -> int:
    """Runs every room's tests in its environment; goes on after a failure.

    Rooms run beside each other, each with its share of the processors; what a room says is shown
    when it is done. A room alone shows it at once.
    """
    wanted = [room for room in rooms(only) if (room.path / "tests").is_dir() or room.is_tests]
    # The longest first, so that it does not run on alone at the end.
    wanted.sort(key=lambda room: not room.is_tests)
    jobs = max(1, min(jobs, len(wanted)))
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    variables = {
        **os.environ,
        "BENTOML_DO_NOT_TRACK": "True",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": threads,
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": threads,
    }
    if jobs > 1:
        say(f"rooms: {len(wanted)}, {jobs} at a time; each is shown when it is done")

    def run_room(room: Room) -> tuple[str, int, float]:
        if jobs == 1:
            say(f"\n== {room.name}")
        started = time.monotonic()
        done = subprocess.run(
            [str(room.environment.python), "-m", "pytest", "-q", *arguments],
            cwd=room.path, env=variables,
            stdout=subprocess.PIPE if jobs > 1 else None,
            stderr=subprocess.STDOUT if jobs > 1 else None,
        )  # fmt: skip
        if jobs > 1:
            say(f"\n== {room.name}\n{done.stdout.decode(errors='replace').rstrip()}")
        return room.name, done.returncode, time.monotonic() - started

    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(run_room, wanted))
    say("\n== all rooms")
    for name, status, seconds in sorted(results):
        verdict = "passed" if status == 0 else "no tests" if status == 5 else f"FAILED ({status})"
        say(f"{name:24s} {verdict:12s} {seconds:6.0f} s")
    return int(any(status not in (0, 5) for _, status, _ in results))


def clean() -> None:
    """Removes every environment and the tools; data and reports stay."""
    for folder in (".venvs", ".tools"):
        shutil.rmtree(ROOT / folder, ignore_errors=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("list", "setup", "lock", "test", "python", "clean"):
        command = commands.add_parser(name)
        command.add_argument("--room", action="append", help="only this room; may be repeated")
        if name == "test":
            command.add_argument("--jobs", type=int, default=2, help="rooms at a time (default 2)")
        if name == "setup":
            command.add_argument(
                "--serving", action="store_true", help="only what the zoo is served with"
            )
        if name == "lock":
            command.add_argument("--upgrade", action="store_true")
    arguments, rest = parser.parse_known_args()
    if rest and arguments.command != "test":
        parser.error(f"unknown arguments {rest}")
    if arguments.command == "list":
        print("\n".join(f"{room.name} ({room.environment.name})" for room in rooms(arguments.room)))
    elif arguments.command == "setup":
        setup(arguments.room, serving=arguments.serving)
    elif arguments.command == "lock":
        lock(arguments.room, upgrade=arguments.upgrade)
    elif arguments.command == "python":
        print(*(room.environment.python for room in rooms(arguments.room)), sep="\n")
    elif arguments.command == "clean":
        clean()
    else:
        return test(
            arguments.room, [argument for argument in rest if argument != "--"], arguments.jobs
        )
    return 0


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
