"""``python -m spinezoo_evaluator.benchmark.page reports/RUN``: writes a report's page again.

::

    python -m spinezoo_evaluator.benchmark.page reports/phantom-test [--data FOLDER]

Needs no zoo: figures and outlines come from the report's folder, films and truth from the folder
of films. That folder is the one of the run's command unless ``--data`` names it; it has to hold the
same films. The same answers give the same bytes. Ends with 0, or with 2 and says why.
"""

# ruff: noqa: T201 - a command: its messages go to the terminal.
from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spinezoo_contract.errors import ConfigurationError, SpineZooError
from spinezoo_contract.output import end_with_reader
from spinezoo_contract.words import counted
from spinezoo_serving.disk import disk_errors_named
from spinezoo_spine.annotations.corners import read_corner_folder
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.annotations.options import class_map_entry
from spinezoo_spine.annotations.text import shown

from spinezoo_evaluator.benchmark.describe import describe_data, shown_path
from spinezoo_evaluator.report.names import titles_of
from spinezoo_evaluator.report.pictures import write_answer_picture
from spinezoo_evaluator.report.write import write_check_page, write_page
from spinezoo_evaluator.results.records import RunFolder


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_evaluator.benchmark.page",
        description="Writes the page (index.html) of a finished run again.",
    )
    parser.add_argument("report", type=Path, help="folder of the report")
    parser.add_argument("--data", type=Path, help="folder of the films (default: the run's)")
    parser.add_argument("--annotations", type=Path, help="outlines (default: the run's)")
    parser.add_argument("--no-pictures", action="store_true", help="without films and outlines")
    parser.add_argument(
        "--picture", type=Path, help="also write one picture of an answer to this PNG file"
    )
    return parser


def data_folder(run: Mapping[str, Any], asked: Path | None) -> Path:
    """The folder of the films of a run.

    Raises:
        ConfigurationError: It is not known, or is none.
    """
    folder = asked
    if folder is None:
        words = shlex.split(str(run.get("command", "")))
        if "--data" in words[:-1]:
            folder = Path(words[words.index("--data") + 1])
    if folder is None or not folder.is_dir():
        raise ConfigurationError(
            "the folder of the run's films is not here; name it with --data FOLDER"
        )
    return folder


def render_check(
    arguments: argparse.Namespace, report: Mapping[str, Any], folder: RunFolder
) -> Path:
    """Writes the page of a check on films with corner truth; returns its path.

    Raises:
        SpineZooError: The corner file cannot be read, or lacks a film of the report.
    """
    data = data_folder(report, arguments.data)
    path = arguments.annotations or data / report["data"]["corners"]
    truths, _ = read_corner_folder(data, path)
    known = {truth.name for truth in truths}
    missing = sorted({film["film"] for film in report["films"]} - known)
    if missing:
        raise ConfigurationError(
            f"{shown_path(data)} has no corners of {missing[0]!r}; name the right "
            "folder with --data"
        )
    return write_check_page(report, truths, folder, None if arguments.no_pictures else data)


def render(arguments: argparse.Namespace) -> Path:
    """Writes the page; returns its path.

    Raises:
        SpineZooError: The report or its films cannot be read, or are not of each other.
    """
    folder = RunFolder(arguments.report)
    report = folder.read_report()
    try:
        return _render(arguments, report, folder)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{folder.report_path} cannot be shown ({type(error).__name__}: {error}); it was "
            "changed by hand, or is of another version of SpineZoo: run the benchmark again"
        ) from error


def _render(arguments: argparse.Namespace, report: Mapping[str, Any], folder: RunFolder) -> Path:
    """Writes the page of a report that may hold anything."""
    if "summary" in report:
        if arguments.picture is not None:
            raise ConfigurationError("--picture is of a benchmark's report, not of a check's")
        return render_check(arguments, report, folder)
    kept = folder.read_films()
    if not kept:
        raise ConfigurationError(
            "the report's folder holds no films.jsonl; run the benchmark again"
        )
    run = report["run"]
    data = data_folder(run, arguments.data)
    outlines = run.get("options", {}).get("outlines", {})
    films = FilmSet.open(
        data,
        arguments.annotations or data / run["data"]["annotations"],
        class_attribute=outlines.get("class_attribute"),
        skip_bad_regions=outlines.get("skip_bad_regions", False),
        classes=dict(class_map_entry(f"{k}={v}") for k, v in outlines.get("map", {}).items()),
    )
    now = describe_data(films, [])
    for key in ("annotations_sha256", "names_and_sizes_sha256"):
        if now[key] != run["data"][key]:
            raise ConfigurationError(
                f"{shown_path(data)} holds other films or outlines than the run measured; name "
                "the right folder with --data"
            )
    names = films.names[: run["options"]["limit"]]
    gone = [name for name in names if name not in kept]
    if gone:
        raise ConfigurationError(
            f"films.jsonl lacks {counted(len(gone), 'film')} of the report, such as "
            f"{shown(gone[0])!r}; run the benchmark again with --resume"
        )
    records = [kept[name] for name in names]
    if arguments.picture is not None:
        titles = titles_of(run["models"])
        film = write_answer_picture(records, films, folder, titles, arguments.picture)
        path = shown_path(arguments.picture)
        print(f"picture of film {film}: {path}" if film else f"{path} not written: no answers")
    return write_page(report, records, films, folder, pictures=not arguments.no_pictures)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = make_parser().parse_args(argv)
    try:
        with disk_errors_named():
            path = render(arguments)
    except SpineZooError as error:
        print(f"the page cannot be written: {error}", file=sys.stderr)
        return 2
    print(f"page: {shown_path(path)}")
    return 0


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
