"""All speed measurements, one after the other: what ``make speed`` runs. Standard library only.

Each is a program of its own in the environment of its room and can be run alone. Without another
checkout those that measure beside it are left out::

    make speed [CHECKOUT=../old-checkout] [ARGS="--record gateway metrics"]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from spinezoo_tools.environments import python_of
from spinezoo_tools.speed import BENCHMARKS, ROOT


def main() -> int:
    """Runs them; ends with the number of those that failed or missed a mark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    names = [each.name for each in BENCHMARKS]
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"only these of {', '.join(names)}"
    )
    parser.add_argument("--other", type=Path, help="another checkout, set up")
    parser.add_argument("--record", action="store_true", help="keep results in benchmarks/results")
    options = parser.parse_args()
    if unknown := set(options.names) - set(names):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    chosen = [each for each in BENCHMARKS if each.name in (options.names or names)]
    told = []
    for each in chosen:
        if each.needs_checkout and options.other is None:
            told.append(f"{each.name}: left out, it needs CHECKOUT=folder")
            continue
        words = [str(options.other) if w == "CHECKOUT" else w for w in each.command.split()]
        command = [str(python_of(ROOT, ROOT / each.room)), *words]
        if options.record:
            command.append("--record")
        print(f"\n$ {' '.join(command)}", flush=True)
        began = time.monotonic()
        code = subprocess.run(command, cwd=ROOT).returncode
        how = {0: "met", 1: "failed, or a mark is missed"}.get(code, f"failed ({code})")
        told.append(f"{each.name}: {how}, {time.monotonic() - began:.0f} s")
    print("\n" + "\n".join(told))
    return sum("failed" in line for line in told)


if __name__ == "__main__":
    sys.exit(main())
