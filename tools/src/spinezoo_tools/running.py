"""The processes of a start, as they are kept in ``run/zoo.json``. Standard library only."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MARKER = "SPINEZOO_ZOO_ID"
"""Environment variable that every process of one start carries, also one that has left the process
group of its parent (as the workers of `bentoml serve` do)."""

LOG_TAIL_LINES = 25


@dataclass(frozen=True)
class Part:
    """One process of the zoo: what to start, where, and on which ports."""

    name: str
    folder: Path
    command: tuple[str, ...]
    grpc_port: int
    http_port: int
    environment: Mapping[str, str]


@dataclass
class Running:
    """One started process, as it is kept in ``run/zoo.json``.

    Attributes:
        name: The part's.
        pid: Of the process.
        start_ticks: Its start time in clock ticks since boot; 0 where it cannot be known.
        grpc_port: Where it serves gRPC.
        http_port: Where it serves HTTP.
        drain_s: Time that it gives requests in flight after SIGTERM.
        log: Path of its log.
        process: The process, where we are its parent.
    """

    name: str
    pid: int
    start_ticks: int
    grpc_port: int
    http_port: int
    drain_s: float
    log: str
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        """Looks at what came from a file: signals go to this number.

        Raises:
            ValueError: It is no number of one process.
        """
        if not isinstance(self.pid, int) or self.pid < 1:
            raise ValueError(f"{self.pid!r} is no number of a process")

    def alive(self) -> bool:
        """Whether exactly this process still runs (its number may have been given to another)."""
        if self.process is not None:
            return self.process.poll() is None
        return _alive(self.pid) and self.start_ticks in (0, start_ticks(self.pid))

    def exit_text(self) -> str:
        """How it ended, where we are its parent."""
        code = self.process.poll() if self.process is not None else None
        if code is None:
            return "has ended"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"


def _process_fields(pid: int) -> list[str]:
    """``/proc/<pid>/stat`` from the state on; empty where there is no such process or no /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return (_process_fields(pid) or ["?"])[0] not in ("Z", "X")


def start_ticks(pid: int) -> int:
    """Start time of a process in clock ticks since boot; 0 where it cannot be known."""
    fields = _process_fields(pid)
    return int(fields[19]) if len(fields) > 19 else 0


def marked_processes(zoo_id: str) -> list[int]:
    """Numbers of all living processes that carry this start's marker, wherever they moved to."""
    wanted = f"{MARKER}={zoo_id}".encode()
    found = []
    with contextlib.suppress(OSError):
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                environment = Path(entry.path, "environ").read_bytes()
                if wanted in environment.split(b"\0") and _alive(int(entry.name)):
                    found.append(int(entry.name))
    return sorted(found)


def log_tail(one: Running) -> str:
    """The last lines of a process's log, as a block of text."""
    try:
        lines = Path(one.log).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return f"\n--- {one.log}: {error.strerror}"
    shown = lines[-LOG_TAIL_LINES:] or ["(empty)"]
    return f"\n--- {one.name}: last lines of {one.log}\n" + "\n".join(f"  {x}" for x in shown)
