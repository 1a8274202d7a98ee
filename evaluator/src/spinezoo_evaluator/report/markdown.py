"""Markdown from templates; figures come in as tables of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from spinezoo_contract.words import counted
from spinezoo_spine.metrics.registry import STUDY_METRICS

from spinezoo_evaluator.report import tables
from spinezoo_evaluator.report.reliability import calibration_table, curve_table
from spinezoo_evaluator.report.tables import Table


def cell(text: str) -> str:
    """A text that stands in one cell of a Markdown table."""
    return " ".join(text.replace("|", "\\|").split())


def markdown_table(table: Table, *, numbers: bool = True) -> str:
    """A table in Markdown; with numbers all columns but the first stand to the right."""
    header, rows = table
    lines = [header, ["---"] + ["---:" if numbers else "---"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(cell(text) for text in line) + " |" for line in lines)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("spinezoo_evaluator.report"),
        undefined=StrictUndefined,
        # Markdown is no HTML; cells are escaped by the filter `table`.
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["counted"] = counted
    environment.filters["table"] = markdown_table
    return environment


def render(template: str, **values: Any) -> str:
    """A template of this package filled in; a value that is missing is an error."""
    return _environment().get_template(template).render(**values)


GATEWAY_STAGES: Mapping[str, str] = {
    "decode": "reading the film",
    "fan_out": "waiting for the networks",
    "fuse": "fusing",
    "total": "in all",
}
"""The gateway's times that the report tells, and how it calls them."""

FINDINGS: Mapping[str, str] = {
    "skipped": "skipped, because an outline or entry is wrong",
    "left_out": "left out, and not measured",
    "warnings": "measured, with a warning",
}
"""What is told of films and outlines, in this order."""


def to_markdown(report: Mapping[str, Any], pictures: Sequence[tuple[str, str]] = ()) -> str:
    """The report of a benchmark for a reader.

    Args:
        report: From :func:`~spinezoo_evaluator.report.data.build`.
        pictures: (file name, what it shows).
    """

    def metrics(names: Sequence[str], which: str, *, study: bool = False) -> Table:
        return tables.metric_table(report, names, which, study=study)

    counted = {n: model["column"] for n, model in report["models"].items() if model["column"]}
    titles = {name: model["title"] for name, model in report["models"].items()}
    return render(
        "benchmark.md.j2",
        report=report,
        run=report["run"],
        films=report["films"],
        data=report["run"]["data"],
        check=report["evaluator"],
        models=report["models"].values(),
        pictures=pictures,
        metrics=metrics,
        study=STUDY_METRICS,
        recognition=tables.RECOGNITION_METRICS,
        structure_iou=[f"iou_{structure}" for structure in tables.STRUCTURES],
        structure_recognition=[f"recognition_rate_{structure}" for structure in tables.STRUCTURES],
        film_counts=tables.film_count_table(report),
        columns=tables.column_table(report),
        curve=curve_table(counted, titles),
        calibration=calibration_table(counted, titles),
        times=tables.time_table(report),
        gateway_times=[
            f"{title} {report['gateway_ms'][stage]['median']:.1f}"
            for stage, title in GATEWAY_STAGES.items()
            if stage in report["gateway_ms"]
        ],
        failures=tables.failure_table(report),
        findings={
            title: tables.finding_table(report["run"]["data"].get(kind, []))
            for kind, title in FINDINGS.items()
        },
        provenance=tables.provenance_table(report),
    )
