"""Whether a zoo's memory stays: many films of mixed sizes through a running gateway.

Phantom films of several sizes, in an order by chance, go through the gateway, two at a time. The
proportional set sizes of all the zoo's processes are added up after each tenth of the films; the
first fifth warms up (buffers grow to the largest film). Start the zoo first::

    make up
    .venvs/core/bin/python benchmarks/steady.py [--films 1000] [--json FILE]

Ends with 1 where the last fifth holds 3 % more than the second, on average. Linux only.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from pathlib import Path

import numpy as np
from memory import pss_bytes
from spinezoo_contract.client import DEFAULT_GATEWAY, EnsembleClient
from spinezoo_contract.types import Film
from spinezoo_phantom import PhantomSettings, make_film

ROOT = Path(__file__).resolve().parents[1]
SIZES = ((700, 500), (1100, 900), (1400, 800), (2048, 1024), (2400, 1800))
"""Rows and columns of the films: smaller and larger than the networks' canvas, 8 and 16 bit."""

MOST_GROWTH = 0.03


def films() -> list[Film]:
    """One film of each size and depth."""
    made = []
    for seed, (height, width) in enumerate(SIZES):
        grey = make_film(seed, PhantomSettings(height_px=height, width_px=width)).pixels
        low = grey >> 8 if grey.dtype == np.uint16 else grey
        made += [Film(low.astype(np.uint8)), Film(low.astype(np.uint16) * 257)]
    return made


def processes(folder: Path) -> list[tuple[str, int]]:
    """Name and number of every process of the zoo that ``make up`` started."""
    state = json.loads((folder / "zoo.json").read_text())
    found = state if isinstance(state, list) else state["processes"]
    return [(str(each["name"]), int(each["pid"])) for each in found]


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--target", default=DEFAULT_GATEWAY, help="the gateway")
    parser.add_argument("--run-folder", type=Path, default=ROOT / "run", help="of `make up`")
    parser.add_argument("--films", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="write the results here as well")
    options = parser.parse_args()
    zoo = processes(options.run_folder)
    made, order = films(), random.Random(0)
    sums: list[float] = []
    each: list[dict[str, int]] = []
    with EnsembleClient(options.target) as client:
        for tenth in range(10):
            chosen = [order.choice(made) for _ in range(options.films // 10)]
            for outcome in client.segment_many(chosen, at_once=2):
                failed = [m.status for m in outcome.get().members if m.status.message]
                if failed:
                    raise SystemExit(f"members failed: {failed}")
            each.append({name: pss_bytes(pid) >> 20 for name, pid in zoo})
            sums.append(float(sum(each[-1].values())))
            print(f"{(tenth + 1) * options.films // 10} films: {sums[-1]:.0f} MiB", flush=True)
    growth = statistics.mean(sums[8:]) / statistics.mean(sums[2:4]) - 1.0
    result = {
        "benchmark": "steady",
        "films": options.films,
        "mib": sums,
        "growth": round(growth, 4),
        "mib_by_process": {name: [row[name] for row in each] for name in each[0]},
    }
    print(json.dumps(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return int(growth >= MOST_GROWTH)


if __name__ == "__main__":
    sys.exit(main())
