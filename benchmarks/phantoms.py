"""Phantom films per second on one core, by form; nothing is asserted.

    .venvs/core/bin/python benchmarks/phantoms.py [--processor-s 10] [--record]

Processor time is counted, not the clock, so a busy machine disturbs little; one thread.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import cv2
import record
from spinezoo_phantom import make_film
from spinezoo_training.phantom_films import training_films


def rate(make: Callable[[int], int], seconds: float) -> float:
    """Films per second of processor time; `make(index)` makes some and returns how many."""
    make(0)
    count, index = 0, 0
    started = time.process_time()
    while time.process_time() - started < seconds:
        index += 1
        count += make(index)
    return count / (time.process_time() - started)


def full(index: int) -> int:
    """Makes a full film of 1024 x 768."""
    make_film(index)
    return 1


def small(height: int, width: int) -> Callable[[int], int]:
    """Makes training films, three looks a patient."""
    return lambda index: len(training_films(1, index, height, width))


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processor-s", type=float, default=10, help="of each line, in s")
    record.add_option(parser)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    forms = {
        "films, 1024 x 768": full,
        "training films, 320 x 256": small(320, 256),
        "training films, 256 x 192": small(256, 192),
        "training films, 512 x 512": small(512, 512),
    }
    result = {name: round(rate(make, options.processor_s), 1) for name, make in forms.items()}
    return record.finish("phantoms", result, options)


if __name__ == "__main__":
    sys.exit(main())
