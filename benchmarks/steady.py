"""Whether a zoo's memory stays: many films of mixed sizes through its gateway.

A zoo of its own is started as by ``make up``. Phantom films of several sizes, in an order by
chance, go through its gateway, two at a time. The proportional set sizes of all its processes are
added up after each tenth of the films; the first fifth warms up (buffers grow to the largest
film)::

    .venvs/core/bin/python benchmarks/steady.py [--films 1000] [--record]

Growth is from the second fifth to the last, on average. Ends with 1 where a mark is missed. Linux
only.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import sys

import numpy as np
import record
from ensemble import ROOT, zoo_of
from memory import pss_bytes
from spinezoo_contract.client import EnsembleClient
from spinezoo_contract.types import Film
from spinezoo_phantom import PhantomSettings, make_film

SIZES = ((700, 500), (1100, 900), (1400, 800), (2048, 1024), (2400, 1800))
"""Rows and columns of the films: smaller and larger than the networks' canvas, 8 and 16 bit."""


def films() -> list[Film]:
    """One film of each size and depth."""
    made = []
    for seed, (height, width) in enumerate(SIZES):
        grey = make_film(seed, PhantomSettings(height_px=height, width_px=width)).pixels
        low = grey >> 8 if grey.dtype == np.uint16 else grey
        made += [Film(low.astype(np.uint8)), Film(low.astype(np.uint16) * 257)]
    return made


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--films", type=int, default=1000)
    record.add_option(parser)
    options = parser.parse_args()
    # A time limit's end leaves no zoo behind: the `with` block stops it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    made, order = films(), random.Random(0)
    sums: list[int] = []
    with zoo_of(ROOT) as zoo, EnsembleClient(zoo.target) as client:
        for tenth in range(10):
            chosen = [order.choice(made) for _ in range(options.films // 10)]
            for outcome in client.segment_many(chosen, at_once=2):
                failed = [m.status for m in outcome.get().members if m.status.message]
                if failed:
                    raise SystemExit(f"members failed: {failed}")
            sums.append(sum(map(pss_bytes, zoo.pids)) >> 20)
            print(f"{(tenth + 1) * options.films // 10} films: {sums[-1]} MiB", flush=True)
    result = {
        "films": options.films,
        "ready_s": round(zoo.ready_s, 1),
        "mib": sums,
        "growth": round(statistics.mean(sums[8:]) / statistics.mean(sums[2:4]) - 1.0, 4),
    }
    return record.finish("steady", result, options)


if __name__ == "__main__":
    sys.exit(main())
