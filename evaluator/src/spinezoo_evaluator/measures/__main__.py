"""``python -m spinezoo_evaluator.measures``: errors of measures of a benchmark's films.

::

    python -m spinezoo_evaluator.measures check --run reports/RUN --data FOLDER --out FOLDER
    python -m spinezoo_evaluator.measures fit --run reports/RUN --data FOLDER
    python -m spinezoo_evaluator.measures speed --run reports/RUN --data FOLDER

``check`` writes ``measures.md``, ``measures.csv``, ``measures.json`` and ``bland_altman.png``. The
folder of films holds a phantom's truth, or corner truth. ``fit`` writes the model of shape and the
width of intervals into the package: from phantoms, of other seeds than the tests'. ``speed`` prints
the processor time of all measures of a film on one thread, the members' answers ready.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from spinezoo_contract.errors import ConfigurationError, SpineZooError
from spinezoo_contract.output import end_with_reader
from spinezoo_contract.words import counted
from spinezoo_serving.disk import disk_errors_named
from spinezoo_spine.fusion.touching import placed_in_column
from spinezoo_spine.measures import double_contours, shape, uncertainty, weighing
from spinezoo_spine.measures.film import measure_film
from spinezoo_spine.measures.refiner.network import built_in_refiner

from spinezoo_evaluator.measures import fit
from spinezoo_evaluator.measures.report import write_errors
from spinezoo_evaluator.measures.run import KeptFilm, kept_films
from spinezoo_evaluator.measures.truth import read_truth


def cpu_ms(film: KeptFilm, rounds: int = 5) -> float:
    """Least processor time of measuring a film, in ms."""
    cv2.setNumThreads(1)
    labelling, said = film.truth.named(film.vertebrae), film.said()
    pixels, refiner = film.pixels(), built_in_refiner()
    implants = placed_in_column(film.implants(), labelling)
    spacing = (film.truth.spacing_mm, film.truth.spacing_mm)
    times = []
    for _ in range(rounds):
        began = time.thread_time()
        measure_film(labelling, said, implants, spacing, pixels=pixels, refiner=refiner)
        times.append(time.thread_time() - began)
    return 1000.0 * min(times)


def _run(arguments: argparse.Namespace) -> int:
    """Does what the options ask for; returns the exit code."""
    if len(arguments.run) != len(arguments.data):
        raise ConfigurationError("give as many folders of films as of reports")
    pairs = list(zip(arguments.run, arguments.data, strict=True))
    films = [film for run, data in pairs for film in kept_films(read_truth(data), run, data)]
    if arguments.what == "fit":
        fit.write_fit(fit.fit_all(films))
        written = shape.FILE, weighing.FILE, uncertainty.FILE, double_contours.FILE
        names = ", ".join(file.name for file in written)
        print(f"wrote {names} from {counted(len(films), 'film')}")
    elif arguments.what == "speed":
        times = [cpu_ms(film) for film in films[:30]]
        print(f"median {np.median(times):.1f} ms, slowest {max(times):.1f} ms a film")
    else:
        print(write_errors(arguments.out, films))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m spinezoo_evaluator.measures")
    parser.add_argument("what", choices=("check", "fit", "speed"))
    parser.add_argument(
        "--run", type=Path, nargs="+", required=True, help="report folders of benchmarks"
    )
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="their films with truth, in order"
    )
    parser.add_argument("--out", type=Path, default=Path("reports/measures"))
    arguments = parser.parse_args(argv)
    try:
        with disk_errors_named():
            return _run(arguments)
    except SpineZooError as error:
        print(f"measures cannot be checked: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
