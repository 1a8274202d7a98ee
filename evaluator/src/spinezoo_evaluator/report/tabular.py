"""A benchmark's figures as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from spinezoo_spine.metrics.registry import METRICS

from spinezoo_evaluator.report.names import ordered_names
from spinezoo_evaluator.results.records import FUSED, FilmRecord


def to_csv(report: Mapping[str, Any]) -> str:
    """One line a network and metric."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        (
            "model",
            "metric",
            "film_mean",
            "pooled",
            "film_count",
            "film_mean_failed_as_0",
            "films_measured",
            "films_failed",
            "study_percent",
        )
    )
    for name, model in report["models"].items():
        for metric, value in model["metrics"].items():
            cells = [
                value["film_mean"],
                value["pooled"],
                value["film_count"],
                value["film_mean_failed_as_0"],
                model["films_measured"],
                model["films_failed"],
                report["study_table_1_percent"].get(name, {}).get(metric),
            ]
            writer.writerow([name, metric, *("" if cell is None else cell for cell in cells)])
    return buffer.getvalue()


def films_to_csv(records: Sequence[FilmRecord]) -> str:
    """One line a film and network, with every metric."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    times = ("queue", "infer", "latency")
    writer.writerow(
        ("film", "model", "failure", *METRICS, *(f"{stage}_ms" for stage in times), "disagreement")
    )
    for record in sorted(records, key=lambda record: record.name):
        for name in ordered_names([*record.members, FUSED]):
            member = record.fused if name == FUSED else record.members[name]
            if member is None:
                continue
            values: Mapping[str, float | None] = (
                {} if member.measurement is None else member.measurement.values()
            )
            cells: list[float | None] = [
                *(values.get(metric) for metric in METRICS),
                member.stages_ms.get("queue"),
                member.stages_ms.get("infer"),
                member.latency_ms,
                record.disagreement,
            ]
            writer.writerow(
                [
                    record.name,
                    name,
                    "" if member.failure is None else member.failure.reason,
                    *("" if cell is None else cell for cell in cells),
                ]
            )
    return buffer.getvalue()
