"""``python -m spinezoo_evaluator.measures``: errors of measures of a benchmark's films.

::

    python -m spinezoo_evaluator.measures check --run reports/RUN --data FOLDER --out FOLDER
    python -m spinezoo_evaluator.measures fit --run reports/RUN --data FOLDER

``check`` writes ``measures.md``, ``measures.csv``, ``measures.json`` and ``bland_altman.png``. The
folder of films holds a phantom's truth, or corner truth. ``fit`` writes the model of shape and the
width of intervals into the package; only phantoms of other seeds than the tests' may be fitted to.
"""


from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from spinezoo_contract.errors import SpineZooError
from spinezoo_spine.measures import shape, uncertainty

from spinezoo_evaluator.measures import fit
from spinezoo_evaluator.measures.report import write_errors
from spinezoo_evaluator.measures.run import kept_films
from spinezoo_evaluator.measures.truth import read_truth


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m spinezoo_evaluator.measures")
    parser.add_argument("what", choices=("check", "fit"))
    parser.add_argument(
        "--run", type=Path, nargs="+", required=True, help="report folders of benchmarks"
    )
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="their films with truth, in order"
    )
    parser.add_argument("--out", type=Path, default=Path("reports/measures"))
    arguments = parser.parse_args(argv)
    try:
        pairs = list(zip(arguments.run, arguments.data, strict=False))
        films = [film for run, data in pairs for film in kept_films(read_truth(data), run)]
        if arguments.what == "fit":
            fit.write_fit(fit.fit_shape(films), {})
            shape.coefficients.cache_clear()
            fit.write_fit({}, fit.fit_intervals(films))
            print(f"wrote {shape.FILE.name} and {uncertainty.FILE.name} from {len(films)} films")
            return 0
    except SpineZooError as error:
        print(f"measures cannot be checked: {error}", file=sys.stderr)
        return 2
    print(write_errors(arguments.out, films))
    return 0


if __name__ == "__main__":
    sys.exit(main())
