"""The Docker Engine: whether one answers, Debian's where one is wanted, and how both are asked.

Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from spinezoo_tools.checkout import ToolError
from spinezoo_tools.environments import ROOT
from spinezoo_tools.variables import DOCKER

ENGINE_PID = ROOT / "run" / "dockerd.pid"
"""Process id of the engine that this checkout has started."""

ENGINE_PACKAGES = ("docker.io", "docker-compose", "debootstrap", "iptables", "ca-certificates")

TEST_PACKAGES = ("dcmtk",)
"""What the containers' tests run on this machine: ``storescu``."""

HOW_TO_INSTALL = "PYTHONPATH=tools/src python3 -m spinezoo_tools.containers engine --install"
"""What to type where there is no engine."""

ENGINE_START_S = 60.0
ENGINE_STOP_S = 60.0
APT_LIMIT_S = 900.0
APT_PAUSE_S = 15.0


class ContainersError(ToolError):
    """Something the user has to know, worded for the user."""


class NoEngineError(ContainersError):
    """No Docker Engine answers, and none could be made."""


class NoRoomError(ContainersError):
    """The engine's disk has too little room for what is to be built."""


def say(text: str) -> None:
    """One line of progress, at once."""
    print(text, file=sys.stderr, flush=True)


def run(
    command: Sequence[str | Path],
    *,
    limit_s: float | None = None,
    environment: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
) -> None:
    """Runs a command whose output the user sees.

    Raises:
        ContainersError: It failed or took longer than ``limit_s``.
    """
    shown = " ".join(map(str, command[:4]))
    try:
        done = subprocess.run(
            [str(part) for part in command], cwd=cwd, env=environment, timeout=limit_s
        )
    except OSError as error:
        raise ContainersError(f"cannot run {command[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise ContainersError(f"no end after {limit_s:g} s: {shown}") from None
    if done.returncode:
        raise ContainersError(f"failed ({done.returncode}): {shown} ...")


def ask(
    command: Sequence[str | Path],
    limit_s: float = 60.0,
    environment: Mapping[str, str] | None = None,
) -> str | None:
    """What a command prints; None where it cannot be run, fails or takes too long."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit_s,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def docker() -> str:
    """The docker client; one that can build with BuildKit is preferred.

    Raises:
        ContainersError: There is none.
    """
    named = [DOCKER.of(), shutil.which("docker"), "/usr/bin/docker"]
    there = [path for path in named if path and os.access(path, os.X_OK)]
    for path in there:
        # From 23 on the client builds with BuildKit through its plug-in only.
        version = ask([path, "--version"]) or ""
        major = re.search(r"version (\d+)\.", version)
        if (major and int(major[1]) < 23) or ask([path, "buildx", "version"]) is not None:
            return path
    if there:
        return there[0]
    raise ContainersError("there is no docker client; install Docker, or give --install on Debian")


def engine_version() -> str | None:
    """Version of the engine that answers; None where none does."""
    try:
        return ask([docker(), "version", "--format", "{{.Server.Version}}"])
    except ContainersError:
        return None


def need_engine(*, install: bool = False) -> None:
    """Makes sure that an engine answers.

    Args:
        install: Whether to install what is missing (Debian, as root) and to start an engine.

    Raises:
        NoEngineError: None does, and we were not told to install one or could not.
    """
    version = engine_version()
    if install:
        _install_missing(engine=version is None)
        if version is None:
            _start_engine()
            version = engine_version()
    if version is None:
        raise NoEngineError(
            "no Docker Engine answers. Start yours, set DOCKER_HOST to where it is, or let this "
            f"program install and start Debian's: {HOW_TO_INSTALL}"
        )
    say(f"Docker Engine {version}")


def need_room(least_gib: int) -> None:
    """Makes sure that the engine's disk has room, where that is a disk of this machine.

    Args:
        least_gib: What has to be free.

    Raises:
        NoRoomError: Less is.
    """
    told = ask([docker(), "info", "--format", "{{.DockerRootDir}}"])
    folder = Path(told) if told else None
    if folder is None or not folder.exists():
        return
    free_gib = shutil.disk_usage(folder).free / 2**30
    if free_gib < least_gib:
        raise NoRoomError(
            f"{free_gib:.0f} GiB are free where the Docker Engine keeps images, {least_gib} "
            "are needed; `docker system prune` removes what nobody uses"
        )


def _install_missing(*, engine: bool) -> None:
    """Installs Debian's packages of which something is missing here."""
    try:
        compose()
        missing = shutil.which("debootstrap") is None or shutil.which("storescu") is None
    except ContainersError:
        missing = True
    if not missing and not (engine and shutil.which("dockerd") is None):
        return
    # Beside an engine of another origin, Debian's own is left out.
    engine_packages = (name for name in ENGINE_PACKAGES if engine or name != "docker.io")
    packages = [*engine_packages, *TEST_PACKAGES]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        if not engine:
            return
        raise NoEngineError("--install needs root on Debian; install Docker Engine yourself")
    say(f"installing {', '.join(packages)}")
    end = time.monotonic() + APT_LIMIT_S
    _apt(["update", "-qq"], end)
    _apt(["install", "-y", "-qq", "--no-install-recommends", *packages], end)


def _apt(arguments: Sequence[str], end: float) -> None:
    """One apt-get command, again and again until the end: somebody else may hold its locks."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=120", *arguments]
    while True:
        try:
            limit_s = max(1.0, end - time.monotonic())
            run(command, environment=environment, limit_s=limit_s)
            return
        except ContainersError as error:
            if time.monotonic() + APT_PAUSE_S >= end:
                raise NoEngineError(f"Debian's packages cannot be had: {error}") from None
            say(f"{error}; trying again in {APT_PAUSE_S:g} s")
            time.sleep(APT_PAUSE_S)


def _start_engine() -> None:
    """Starts Debian's engine; its log is ``run/dockerd.log``.

    Raises:
        NoEngineError: It does not come up.
    """
    log = ROOT / "run" / "dockerd.log"
    log.parent.mkdir(exist_ok=True)
    say(f"starting dockerd; log: {log.relative_to(ROOT)}")
    with log.open("wb") as handle:
        daemon = subprocess.Popen(
            ["dockerd"], stdin=subprocess.DEVNULL, stdout=handle, stderr=handle,
            start_new_session=True,
        )  # fmt: skip
    ENGINE_PID.write_text(str(daemon.pid), encoding="utf-8")
    end = time.monotonic() + ENGINE_START_S
    while time.monotonic() < end and daemon.poll() is None:
        if engine_version() is not None:
            return
        time.sleep(0.5)
    tail = log.read_text(errors="replace").splitlines()[-10:]
    stop_engine()
    raise NoEngineError("dockerd does not start:\n  " + "\n  ".join(tail))


def stop_engine() -> None:
    """Stops the engine that this checkout has started, with its containers; no other.

    Raises:
        ContainersError: It does not end.
    """
    try:
        pid = int(ENGINE_PID.read_text(encoding="utf-8"))
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except (OSError, ValueError):
        pid, command = 0, b""
    if Path(os.fsdecode(command)).name == "dockerd":
        say("stopping dockerd")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + ENGINE_STOP_S
        while Path(f"/proc/{pid}/exe").exists():
            if time.monotonic() >= end:
                raise ContainersError(f"dockerd ({pid}) does not end; read run/dockerd.log")
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.2)
    ENGINE_PID.unlink(missing_ok=True)


def have_image(image: str) -> bool:
    """Whether the engine has an image."""
    return ask([docker(), "image", "inspect", "--format", "{{.Id}}", image]) is not None


def compose() -> list[str]:
    """How compose is called here.

    Raises:
        ContainersError: There is none.
    """
    if ask([docker(), "compose", "version"]) is not None:
        return [docker(), "compose"]
    if ask(["docker-compose", "version"]) is not None:
        return ["docker-compose"]
    raise ContainersError("neither `docker compose` nor `docker-compose` runs here; install one")
