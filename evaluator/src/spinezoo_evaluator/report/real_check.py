"""The report of the check on real films: data, tables, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from spinezoo_evaluator.report.markdown import render
from spinezoo_evaluator.report.names import ordered_names
from spinezoo_evaluator.report.reliability import calibration_table, curve_table
from spinezoo_evaluator.report.tables import Table
from spinezoo_evaluator.results.columns import COUNTS, TITLES_OF_VALUES, ColumnCounts
from spinezoo_evaluator.results.corner_films import VARIANTS, FilmResult


def summarise(results: Sequence[FilmResult]) -> dict[str, dict[str, ColumnCounts]]:
    """Counts by variant and model, added over films."""
    found: dict[str, dict[str, ColumnCounts]] = {}
    for result in results:
        models = found.setdefault(result.variant, {})
        for model, counts in result.counts.items():
            models[model] = models.get(model, ColumnCounts()) + counts
    return found


def build(
    results: Sequence[FilmResult],
    data: Mapping[str, Any],
    models: Mapping[str, Any],
    reader: Mapping[str, Any],
) -> dict[str, Any]:
    """The report as plain values.

    Args:
        results: Of every film in every variant.
        data: What the films are.
        models: By network: version, preset and digest.
        reader: Of the reader that named them: name, version, digest and threshold.
    """
    summary = summarise(results)
    return {
        "format": 1,
        "data": dict(data),
        "models": dict(models),
        "reader": dict(reader),
        "summary": {
            name: {model: counts.to_json() for model, counts in of_variant.items()}
            for name, of_variant in summary.items()
        },
        "films": [
            {
                "film": result.film,
                "variant": result.variant,
                "sacrum_in_view": result.sacrum_in_view,
                "models": {
                    model: {
                        **counts.to_json(),
                        "said": result.said.get(model, ""),
                        "failure": result.failures.get(model),
                    }
                    for model, counts in result.counts.items()
                },
            }
            for result in results
        ],
    }


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100.0 * value:.1f}"


def summary_table(report: Mapping[str, Any], name: str, titles: Mapping[str, str]) -> Table:
    """One row a model: shares in percent, and the counts behind them."""
    rows = []
    models = report["summary"].get(name, {})
    for model in ordered_names(models):
        counts = models[model]
        withheld = counts["to_name"] - counts["named_right"] - counts["named_wrong"]
        rows.append(
            [
                titles.get(model, model),
                f"{_percent(counts['recognition'])} ({counts['recognised']}/{counts['true']})",
                f"{_percent(counts['precision'])} ({counts['right']}/{counts['predicted']})",
                _percent(counts["mean_iou"]),
                f"{_percent(counts['named_right_share'])} "
                f"({counts['named_right']}/{counts['to_name']})",
                _percent(counts["named_wrong_share"]),
                _percent(counts["named_off_by_count_share"]),
                str(withheld),
                str(counts["failed"]),
            ]
        )
    header = ["in percent", *TITLES_OF_VALUES.values(), "no name given", "films failed"]
    return header, rows


def loss_table(report: Mapping[str, Any], titles: Mapping[str, str]) -> Table:
    """What each variant loses against the plain films, in percentage points."""
    plain = report["summary"].get("plain", {})
    rows = []
    for model in ordered_names(plain):
        cells = []
        for name in VARIANTS[1:]:
            other = report["summary"].get(name, {}).get(model)
            for key in ("recognition", "named_right_share"):
                before = plain[model][key]
                after = None if other is None else other[key]
                cells.append(
                    "–" if before is None or after is None else f"{100 * (after - before):+.1f}"
                )
        rows.append([titles.get(model, model), *cells])
    header = [
        "points against plain",
        *(f"{name}: {key}" for name in VARIANTS[1:] for key in ("recognised", "named right")),
    ]
    return header, rows


def film_table(report: Mapping[str, Any], name: str, titles: Mapping[str, str]) -> Table:
    """One row a film and model; films with wrong names first, then those with withheld ones."""
    rows = []
    for film in sorted(report["films"], key=_badness):
        if film["variant"] != name:
            continue
        for model in ordered_names(film["models"]):
            counts = film["models"][model]
            rows.append(
                [
                    film["film"],
                    titles.get(model, model),
                    f"{counts['recognised']}/{counts['true']}",
                    f"{counts['right']}/{counts['predicted']}",
                    _percent(counts["mean_iou"]),
                    str(counts["said"] or counts["failure"] or ""),
                ]
            )
    header = ["film", "network", "recognised", "precision", "mean IoU", "names, and what has none"]
    return header, rows


def _badness(film: Mapping[str, Any]) -> tuple[int, int]:
    """For sorting: many wrong names first, then many withheld ones."""
    counts = film["models"].values()
    wrong = sum(each["named_wrong"] for each in counts)
    return -wrong, sum(each["named_right"] - each["to_name"] for each in counts)


def worst_films(report: Mapping[str, Any]) -> list[str]:
    """Names of the plain films, those with wrong names first."""
    plain = [film for film in report["films"] if film["variant"] == "plain"]
    return [film["film"] for film in sorted(plain, key=_badness)]


def to_markdown(
    report: Mapping[str, Any], pictures: Sequence[str], titles: Mapping[str, str]
) -> str:
    """The report for a reader.

    Args:
        report: From :func:`build`.
        pictures: File names.
        titles: How each network is written.
    """
    return render(
        "real_check.md.j2",
        data=report["data"],
        variants=list(report["summary"]),
        summary=lambda name: summary_table(report, name, titles),
        losses=loss_table(report, titles),
        curve=lambda name: curve_table(report["summary"][name], titles),
        calibration=lambda name: calibration_table(report["summary"][name], titles),
        reader=report["reader"],
        film_by_film=lambda name: film_table(report, name, titles),
        pictures=pictures,
        models={name: said for name, said in report["models"].items() if said},
        titles=titles,
    )


def to_csv(report: Mapping[str, Any]) -> str:
    """One line a variant, film ("all" first) and model."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = list(COUNTS)
    shares = list(TITLES_OF_VALUES)
    writer.writerow(["variant", "film", "model", *columns, *shares, "said", "failure"])

    def write(name: str, film: str, model: str, counts: Mapping[str, Any]) -> None:
        cells = [counts[key] for key in (*columns, *shares)]
        writer.writerow(
            [
                name,
                film,
                model,
                *("" if cell is None else cell for cell in cells),
                counts.get("said", ""),
                counts.get("failure") or "",
            ]
        )

    for name, models in report["summary"].items():
        for model in ordered_names(models):
            write(name, "all", model, models[model])
    for film in report["films"]:
        for model in ordered_names(film["models"]):
            write(film["variant"], film["film"], model, film["models"][model])
    return buffer.getvalue()
