"""Time and memory of a command with everything it starts; what other benchmarks measure with.

Twice a second the proportional set sizes (PSS: pages that several processes share are counted
once) of the command and all its descendants are added up. Linux only; standard library only::

    python3 benchmarks/memory.py [--json FILE] -- make benchmark

Ends with the command's exit code. The command must not leave its processes to somebody else: one
that has lost its parent is no longer seen.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

INTERVAL_S = 0.5


def parents() -> dict[int, int]:
    """The parent of every process."""
    found = {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            found[int(folder.name)] = int(
                (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
            )
    return found


def family(root: int) -> Iterator[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += children.get(pid, [])


def pss_bytes(pid: int) -> int:
    """Proportional set size of a process in bytes; 0 where it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def processor_s(pid: int) -> float:
    """Processor time that a process and all it started have used, in s."""
    ticks = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            fields = (
                Path(f"/proc/{each}/stat").read_text(errors="replace").rpartition(")")[2].split()
            )
            ticks += int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """The command line."""
    given = sys.argv[1:]
    if "--" not in given or given[-1] == "--":
        sys.exit("say what to run: memory.py -- COMMAND...")
    cut = given.index("--")
    parser = argparse.ArgumentParser(prog="memory.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args(given[:cut])
    command = given[cut + 1 :]
    began = time.monotonic()
    most, processes, at_s = 0, 0, 0.0
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            sizes = [pss_bytes(pid) for pid in family(process.pid)]
            if sum(sizes) > most:
                most, processes, at_s = sum(sizes), len(sizes), time.monotonic() - began
            time.sleep(INTERVAL_S)
    figures = {
        "command": " ".join(command),
        "exit_code": process.returncode,
        "minutes": round((time.monotonic() - began) / 60.0, 2),
        "most_pss_gib": round(most / 2**30, 3),
        "processes_then": processes,
        "after_s": round(at_s, 1),
    }
    print(json.dumps(figures))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
