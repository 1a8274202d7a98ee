"""``make faults``: makes every fault in a composition of its own and writes the table.

Ends with 0 when every row holds, with 1 when one does not, with 2 where it cannot start. The table
of docs/reliability.md is written when all rows were asked for, the JSON file always.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spinezoo_tools.composition import docker, no_engine_or_images
from spinezoo_tools.environments import ROOT
from spinezoo_tools.faults.load import Result, sum_up
from spinezoo_tools.faults.row import Row
from spinezoo_tools.faults.rows import ROWS
from spinezoo_tools.faults.table import machine, table, write
from spinezoo_tools.faults.zoo import CannotMakeError, Zoo
from spinezoo_tools.output import end_with_reader

LIMIT_S = 40 * 60
"""Time for all rows together, in s; starting and taking down have limits of their own."""

PAGE = ROOT / "docs" / "reliability.md"


class OutOfTimeError(BaseException):
    """The limit is reached. No Exception, so that no row can take it for its own."""


def measure(row: Row, zoo: Zoo) -> Result:
    """One row; what goes wrong in it is its problem."""
    try:
        zoo.settle()
        return row.run(zoo)
    except CannotMakeError as error:
        problem = f"not made: {error}"
    except Exception as error:
        traceback.print_exc()
        problem = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return Result("not measured", 0, 0.0, 0.0, 0, None, [problem])


def calm(zoo: Zoo) -> Result:
    """What clients wait when nothing is amiss: 40 requests of 2 clients."""
    zoo.settle()
    began = time.monotonic()
    with zoo.load() as load:
        load.wait(40)
    return sum_up(load.requests, began, began)


def run(rows: Sequence[Row], zoo: Zoo) -> tuple[Result, list[tuple[Row, Result]]]:
    """All rows, one after the other, within the limit."""

    def over(*_: Any) -> None:
        raise OutOfTimeError(f"not done after {LIMIT_S / 60:g} min")

    signal.signal(signal.SIGALRM, over)
    signal.alarm(LIMIT_S)
    try:
        quiet = calm(zoo)
        measured = []
        for number, row in enumerate(rows, start=1):
            began = time.monotonic()
            result = measure(row, zoo)
            result.raw["row_s"] = round(time.monotonic() - began, 1)
            measured.append((row, result))
            said = "holds" if not result.problems else "DOES NOT HOLD: " + str(result.problems)
            print(f"[{number}/{len(rows)}] {row.name}: {said} ({result.raw['row_s']} s)")
            print(f"    {result.sees}; {result.raw}", flush=True)
        return quiet, measured
    finally:
        signal.alarm(0)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m spinezoo_tools.faults", description=__doc__)
    parser.add_argument("--only", help="rows, with commas: " + ", ".join(r.name for r in ROWS))
    parser.add_argument("--keep", action="store_true", help="leave the composition running")
    arguments = parser.parse_args(argv)
    wanted = arguments.only.split(",") if arguments.only else [row.name for row in ROWS]
    unknown = sorted(set(wanted) - {row.name for row in ROWS})
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; see --help")
    reason = no_engine_or_images()
    if reason:
        print(f"faults: {reason}", file=sys.stderr)
        return 2
    rows = [row for row in ROWS if row.name in wanted]
    # So that what was started is taken down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began = time.monotonic()
    reports = ROOT / "reports"
    reports.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="faults-", dir=reports) as name:
        zoo = Zoo.prepare(Path(name))
        try:
            zoo.composition.up()
            quiet, measured = run(rows, zoo)
        except OutOfTimeError as error:
            print(f"faults: {error}; no table is written", file=sys.stderr)
            return 1
        finally:
            if not arguments.keep:
                zoo.composition.down()
    minutes = (time.monotonic() - began) / 60.0
    engine = docker("version", "--format", "{{.Server.Version}}").stdout.strip()
    here = machine()
    facts = (
        f"`make faults` on {datetime.now(UTC):%Y-%m-%d}: {minutes:.1f} min in all, {here['cores']} "
        f"cores, {here['memory_gib']} GiB, {here['system']}, Docker {engine}. "
        f"With nothing amiss 2 clients waited {quiet.median_ms / 1000.0:.2f} s a film (median), at "
        f"most {quiet.max_ms / 1000.0:.1f} s."
    )
    text = f"{facts}\n\n{table(measured)}"
    print(text)
    raw = {
        "facts": facts, "machine": here, "minutes": minutes, "calm": dataclasses.asdict(quiet),
        "rows": {row.name: dataclasses.asdict(result) for row, result in measured},
    }  # fmt: skip
    path = reports / ("faults.json" if len(rows) == len(ROWS) else "faults-some.json")
    path.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    if len(rows) == len(ROWS):
        write(PAGE, text)
    broken = [row.name for row, result in measured if result.problems]
    if broken:
        print(f"faults: does not hold: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
