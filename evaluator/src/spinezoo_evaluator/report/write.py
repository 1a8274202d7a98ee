"""Writes the report of a benchmark into its folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spinezoo_contract.errors import ConfigurationError, SpineZooError
from spinezoo_serving.disk import replace_file
from spinezoo_spine.annotations.corners import CornerFilm
from spinezoo_spine.annotations.film_set import FilmSet

from spinezoo_evaluator.report.data import build
from spinezoo_evaluator.report.markdown import to_markdown
from spinezoo_evaluator.report.names import titles_of
from spinezoo_evaluator.report.page.content import Page
from spinezoo_evaluator.report.page.render import PAGE_FILE, to_html
from spinezoo_evaluator.report.pictures import write_pictures
from spinezoo_evaluator.report.reliability import NAMES_FILE, names_picture
from spinezoo_evaluator.report.tabular import films_to_csv, to_csv
from spinezoo_evaluator.results.records import FilmRecord, RunFolder

log = logging.getLogger("spinezoo.benchmark")


def save_page(page: Page, folder: Path) -> Path:
    """Writes a page into a report's folder; returns its path. Nobody sees half a file."""
    path = folder / PAGE_FILE
    # A name that is no text in any encoding stands as a character reference.
    replace_file(path, to_html(page).encode("utf-8", "xmlcharrefreplace"))
    return path


def plots_are_there() -> bool:
    """Whether Matplotlib can be imported; says what to do where it cannot."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        log.warning("%s is not written; install spinezoo-evaluator[report]", PAGE_FILE)
        return False
    return True


def write_page(
    report: Mapping[str, Any],
    records: Sequence[FilmRecord],
    films: FilmSet,
    folder: RunFolder,
    *,
    pictures: bool = True,
) -> Path:
    """Writes the page of a benchmark, ``index.html``.

    Args:
        report: From :func:`~spinezoo_evaluator.report.data.build`.
        records: Its films.
        films: The films and outlines.
        folder: Of the report.
        pictures: Whether films and outlines are drawn.

    Raises:
        ConfigurationError: Matplotlib is not installed.
    """
    if not plots_are_there():
        raise ConfigurationError("the page needs Matplotlib; install spinezoo-evaluator[report]")
    from spinezoo_evaluator.report.page.benchmark import make_page

    return save_page(make_page(report, records, films, folder, pictures=pictures), folder.path)


def write_check_page(
    report: Mapping[str, Any], truths: Sequence[CornerFilm], folder: RunFolder, data: Path | None
) -> Path:
    """Writes the page of a check on films with corner truth, ``index.html``.

    Args:
        report: From :func:`~spinezoo_evaluator.report.real_check.build`.
        truths: Corners of its films.
        folder: Of the report.
        data: The films' folder, or None to draw none.

    Raises:
        ConfigurationError: Matplotlib is not installed.
    """
    if not plots_are_there():
        raise ConfigurationError("the page needs Matplotlib; install spinezoo-evaluator[report]")
    from spinezoo_evaluator.report.page.real_check import make_page

    return save_page(make_page(report, truths, folder, data), folder.path)


def write_report(
    run: Mapping[str, Any],
    records: Sequence[FilmRecord],
    films: FilmSet,
    folder: RunFolder,
    *,
    draw: bool = True,
) -> dict[str, Any]:
    """Writes the page, ``report.md``, the tables, pictures, and ``report.json`` last.

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
    replace_file(folder.path / "report.md", to_markdown(report, pictures))
    replace_file(folder.path / "report.csv", to_csv(report))
    replace_file(folder.path / "films.csv", films_to_csv(records))
    if plots_are_there():
        write_page(report, records, films, folder, pictures=draw)
    folder.write_json(folder.report_path, report)
    return report
