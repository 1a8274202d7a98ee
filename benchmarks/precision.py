"""What int8 costs: the benchmark's four figures and names against float32's.

``make benchmark`` runs once in each precision on the phantom test set, on ports of its own, and
leaves ``reports/precision-float32`` and ``reports/precision-int8``::

    .venvs/core/bin/python benchmarks/precision.py [--precision int8] [--limit 10] [--record]

A fused vertebra of float32 is named the same where the other precision outlines it (as
``spinezoo_spine.metrics.matching`` matches) with the same name, or both give none. Ends with 1 when
a mark is missed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from typing import Any

import record
from ensemble import ROOT, own_environment
from spinezoo_contract.types import Structure
from spinezoo_evaluator.results.records import FUSED, RunFolder, named
from spinezoo_spine.metrics.matching import matched_pairs

FIGURES = ("pixel_accuracy", "mean_iou", "mean_accuracy", "frequency_weighted_iou")
VERTEBRAE = (Structure.LUMBAR_VERTEBRA, Structure.SACRAL_VERTEBRA)


def measured(precision: str, limit: int | None) -> RunFolder:
    """The report of a run in a precision."""
    run = f"precision-{precision}"
    some = f" --limit {limit}" if limit else ""
    with tempfile.TemporaryDirectory() as folder:
        environment = own_environment(ROOT, folder) | {"SPINEZOO_PRECISION": precision}
        subprocess.run(
            ["make", "benchmark", f"RUN={run}", f"ARGS=--fresh --no-pictures{some}"],
            cwd=ROOT,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return RunFolder(ROOT / "reports" / run)


def named_alike(one: RunFolder, other: RunFolder) -> dict[str, int]:
    """Fused vertebrae of the first, and what the other calls them."""
    counts = {"vertebrae": 0, "same_names": 0, "other_names": 0}
    for film in one.read_films():
        columns = [
            [each for each in folder.read_answer(film)[named(FUSED)] if each.structure in VERTEBRAE]
            for folder in (one, other)
        ]
        counts["vertebrae"] += len(columns[0])
        for first, second, _ in matched_pairs(*columns):
            levels = columns[0][first].level, columns[1][second].level
            counts["same_names"] += levels[0] == levels[1]
            counts["other_names"] += None not in levels and levels[0] != levels[1]
    return counts


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--precision", default="int8", choices=("int8", "bfloat16"))
    parser.add_argument("--limit", type=int, help="only the first films of the set")
    record.add_option(parser)
    options = parser.parse_args()
    folders = [measured(each, options.limit) for each in ("float32", options.precision)]
    before, after = (folder.read_report()["models"] for folder in folders)

    def points(model: dict[str, Any], figure: str) -> float:
        return 100.0 * float(model["metrics"][figure]["film_mean"])

    result = {
        "precision": options.precision,
        "moves": {
            name: [
                round(points(after[name], each) - points(before[name], each), 4) for each in FIGURES
            ]
            for name in before
        },
        **named_alike(*folders),
    }
    return record.finish("precision", result, options)


if __name__ == "__main__":
    sys.exit(main())
