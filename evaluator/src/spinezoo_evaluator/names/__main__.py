"""``python -m spinezoo_evaluator.names``: calibrates the reader's names.

::

    python -m spinezoo_evaluator.names --run reports/RUN --data FOLDER

Writes the reader's record, and prints what other thresholds would spare and cost; see
:mod:`spinezoo_evaluator.names.calibrate`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
from spinezoo_contract.errors import ConfigurationError, SpineZooError
from spinezoo_contract.output import end_with_reader
from spinezoo_contract.words import counted
from spinezoo_serving.disk import disk_errors_named
from spinezoo_spine.built_in import load_built_in_card
from spinezoo_spine.column.reader.card import READER

from spinezoo_evaluator.names.calibrate import (
    TEMPERATURES,
    RememberingReader,
    curve,
    fit_names,
    kept_columns,
    write_fit,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m spinezoo_evaluator.names")
    parser.add_argument("--run", type=Path, nargs="+", required=True, help="report folders")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="their phantoms, in the same order"
    )
    parser.add_argument(
        "--card", type=Path, default=READER.folder, help="folder of the reader's card"
    )
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    try:
        if len(arguments.run) != len(arguments.data):
            raise ConfigurationError("give as many folders of films as of reports")
        reader = RememberingReader(load_built_in_card(READER, arguments.card))
        five: dict[float, list[tuple[float, bool]]] = {each: [] for each in TEMPERATURES}
        others: dict[float, list[tuple[float, bool]]] = {each: [] for each in TEMPERATURES}
        films = 0
        for run, data in zip(arguments.run, arguments.data, strict=True):
            for column in kept_columns(run, data):
                films += 1
                found = reader.counts(column, TEMPERATURES)
                for each, counts in zip(TEMPERATURES, found, strict=True):
                    (five if counts.to_name_of_five else others)[each] += counts.names
        fitted = fit_names(dict(five))
        with disk_errors_named():
            write_fit(fitted, films, arguments.card)
    except SpineZooError as error:
        print(f"names cannot be calibrated: {error}", file=sys.stderr)
        return 2
    print(
        f"temperature {fitted.temperature:g}, names from {fitted.threshold:g} on: of "
        f"{counted(fitted.vertebrae, 'vertebra')} on {counted(films, 'film')} "
        f"{100 * fitted.right:.1f} % right, {100 * fitted.wrong:.1f} % wrong"
    )
    print(*curve(five[fitted.temperature], others[fitted.temperature]), sep="\n")
    return 0


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
