"""Writes the report of a benchmark into its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spinezoo_contract.errors import SpineZooError
from spinezoo_spine.annotations.film_set import FilmSet

from spinezoo_evaluator.report.data import build
from spinezoo_evaluator.report.markdown import to_markdown
from spinezoo_evaluator.report.names import titles_of
from spinezoo_evaluator.report.pictures import write_pictures
from spinezoo_evaluator.report.reliability import NAMES_FILE, names_picture
from spinezoo_evaluator.report.tabular import films_to_csv, to_csv
from spinezoo_evaluator.results.records import FilmRecord, RunFolder


def write_report(
    run: Mapping[str, Any],
    records: Sequence[FilmRecord],
    films: FilmSet,
    folder: RunFolder,
    *,
    draw: bool = True,
) -> dict[str, Any]:
    """Writes ``report.md``, ``report.csv``, ``films.csv``, pictures, and ``report.json`` last.

    Pictures that cannot be drawn are named in the report instead of failing it.

    Returns:
        The report as data.
    """
    report = build(run, records)
    titles = titles_of(run.get("models", {}))
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        pictures = write_pictures(records, films, folder, titles) if draw else []
        counted = {n: m["column"] for n, m in report["models"].items() if m["column"]}
        if draw and counted:
            names_picture(counted, titles).save(folder.path / NAMES_FILE)
            pictures.append((NAMES_FILE, "Right against wrong names, and confidence against both"))
        report["pictures"] = {name: text for name, text in pictures}
    except SpineZooError as error:
        pictures = []
        report["pictures"] = {"error": str(error)}
    (folder.path / "report.md").write_text(to_markdown(report, pictures))
    (folder.path / "report.csv").write_text(to_csv(report))
    (folder.path / "films.csv").write_text(films_to_csv(records))
    folder.write_json(folder.report_path, report)
    return report
