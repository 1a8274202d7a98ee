"""What benchmarks end with: the result is printed, judged and, with ``--record``, kept.

Records lie in ``benchmarks/results``, a file each; ``make figures`` writes ``docs/performance.md``
from them. They name the machine by its processor alone.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from spinezoo_tools.speed import BASE, judged

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
INSTRUCTIONS = {
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "BF16": ("avx512_bf16",),
    "AMX": ("amx_tile",),
}
"""What networks compute faster with, by the flags of ``/proc/cpuinfo``."""

_BEGAN = time.monotonic()


def add_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--record``."""
    parser.add_argument(
        "--record", action="store_true", help="keep the result in benchmarks/results"
    )


def machine() -> dict[str, Any]:
    """The processor's name and instructions, its cores and the memory in GiB."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(said.get("flags", "").split())
    return {
        "processor": said.get("model name", "unknown"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "instructions": [name for name, any_of in INSTRUCTIONS.items() if flags & set(any_of)],
    }


def _is_base(checkout: Path) -> bool:
    """Whether a checkout is the one that promises are made against."""
    commit = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout
    return commit.startswith(BASE)


def _command(other: Path | None) -> str:
    """How this benchmark was called, without folders of this machine."""
    program = Path(sys.argv[0]).resolve().relative_to(ROOT).as_posix().removesuffix("/__main__.py")
    words = ["CHECKOUT" if Path(word) == other else word for word in sys.argv[1:]]
    return shlex.join([program, *(word for word in words if word != "--record")])


def middle_and_high(values: list[float]) -> list[float]:
    """Median and 90th percentile, to a tenth."""
    high = sorted(values)[int(0.9 * len(values))]
    return [round(statistics.median(values), 1), round(high, 1)]


def finish(name: str, result: Any, options: argparse.Namespace) -> int:
    """Prints the result and how it stands to its marks, and keeps it where it is asked to.

    Returns:
        For the exit code: 1 where a mark is missed, 2 where it is not kept because it was measured
        beside another checkout than promises are made against.
    """
    print(json.dumps(result))
    marks = judged(name, result)
    for promise, is_met in marks:
        mark = promise.shown.format(promise.mark)
        print(f"{'met' if is_met else 'NOT MET'}: {promise.what}, {mark}: {promise.said(result)}")
    other = getattr(options, "other", None)
    if options.record and other is not None and not _is_base(other):
        print(f"not recorded: records are made beside a checkout of {BASE}, {other} is another")
        return 2
    if options.record:
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        record = {
            "date": today,
            "command": _command(other),
            "machine": machine(),
            "seconds": round(time.monotonic() - _BEGAN),
            "result": result,
        }
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    return int(not all(is_met for _, is_met in marks))
