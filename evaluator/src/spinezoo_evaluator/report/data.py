"""The report of a benchmark as plain values.

A failed film of a member is never dropped in silence. It has no masks, so it has no value of its
own and does not enter the means; it is counted beside them, listed by name, and where any failed
the tables also show the means with each failed film counted as 0.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spinezoo_spine.metrics.registry import METRICS
from spinezoo_spine.metrics.tally import MetricValue, Tally

from spinezoo_evaluator.report.names import STUDY_TABLE, ordered_names, titles_of
from spinezoo_evaluator.results.columns import add_up
from spinezoo_evaluator.results.records import FUSED, FilmRecord, MemberRecord


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """One network, or the fused ensemble, over a run.

    Attributes:
        name: As on the wire.
        title: As in tables.
        tally: Everything counted.
        failed: Names of the films without a measurement.
        times_ms: (median, 95th percentile) by stage.
        provenances: Every distinct provenance that answered; more than one is worth a warning.
    """

    name: str
    title: str
    tally: Tally
    failed: tuple[str, ...]
    times_ms: Mapping[str, tuple[float, float]]
    provenances: tuple[Mapping[str, str], ...]

    @property
    def metrics(self) -> dict[str, MetricValue]:
        """Every metric."""
        return self.tally.metrics()


def _records_of(name: str, records: Iterable[FilmRecord]) -> list[tuple[str, MemberRecord]]:
    found = []
    for record in records:
        member = record.fused if name == FUSED else record.members.get(name)
        if member is not None:
            found.append((record.name, member))
    return found


def summarise(records: Sequence[FilmRecord], titles: Mapping[str, str]) -> list[ModelSummary]:
    """One summary a network that was asked, and one of the fused ensemble last.

    Args:
        records: Films of a run.
        titles: How each network is written; others stand under their own names.
    """
    names = ordered_names([FUSED, *(name for record in records for name in record.members)])
    summaries = []
    for name in names:
        own = _records_of(name, records)
        measured = [member.measurement for _, member in own if member.measurement is not None]
        times: dict[str, list[float]] = {}
        provenances: list[Mapping[str, str]] = []
        for _, member in own:
            if member.measurement is None:
                continue
            for stage, milliseconds in member.stages_ms.items():
                times.setdefault(stage, []).append(milliseconds)
            if member.latency_ms is not None:
                times.setdefault("latency", []).append(member.latency_ms)
            if member.provenance and member.provenance not in provenances:
                provenances.append(member.provenance)
        summaries.append(
            ModelSummary(
                name,
                titles.get(name, name),
                Tally.of(measured),
                tuple(film for film, member in own if member.measurement is None),
                {stage: spread(values) for stage, values in times.items()},
                tuple(provenances),
            )
        )
    return summaries


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Median and 95th percentile (nearest rank) of at least one value."""
    ordered = sorted(values)
    rank = min(len(ordered) - 1, -(-95 * len(ordered) // 100) - 1)
    return statistics.median(ordered), ordered[rank]


def failures(records: Sequence[FilmRecord]) -> list[dict[str, str]]:
    """Every failure: a whole film ("all"), or a member on a film."""
    found = []
    for record in records:
        if record.failure is not None:
            found.append({"film": record.name, "model": "all", **record.failure.to_json()})
        for name in ordered_names(record.members):
            failure = record.members[name].failure
            # What a member has only because the whole film failed stands in the film's line.
            if failure is None or failure == record.failure:
                continue
            if record.failure is not None and failure.reason in (
                record.failure.reason,
                "answer_lost",
            ):
                continue
            found.append({"film": record.name, "model": name, **failure.to_json()})
    return found


def data_fingerprint(records: Sequence[FilmRecord], annotations_sha256: str) -> str:
    """SHA-256 over the names and contents of the films and over the outlines."""
    digest = hashlib.sha256(annotations_sha256.encode())
    for record in sorted(records, key=lambda record: record.name):
        digest.update(f"\n{len(record.name)}:{record.name} {record.sha256}".encode())
    return digest.hexdigest()


def build(run: Mapping[str, Any], records: Sequence[FilmRecord]) -> dict[str, Any]:
    """Everything that is in the report, as plain values.

    Args:
        run: What the run was started with; see ``spinezoo_evaluator.benchmark``.
        records: Its films, in any order.
    """
    records = sorted(records, key=lambda record: record.name)
    models: dict[str, Any] = {}
    for summary in summarise(records, titles_of(run.get("models", {}))):
        values = {}
        for name, value in summary.metrics.items():
            values[name] = {
                "film_mean": value.film_mean,
                "pooled": value.pooled,
                "film_count": value.film_count,
                "film_mean_failed_as_0": summary.tally.film_mean(
                    name, failed_films=len(summary.failed)
                ),
            }
        models[summary.name] = {
            "title": summary.title,
            "films_measured": summary.tally.film_count,
            "films_failed": len(summary.failed),
            "failed": list(summary.failed),
            "metrics": values,
            "time_ms": {
                stage: {"median": median, "p95": p95}
                for stage, (median, p95) in summary.times_ms.items()
            },
            "provenance": [dict(provenance) for provenance in summary.provenances],
            "column": _column_of(summary.name, records),
            "tally": summary.tally.to_json(),
        }
    checks = [record.evaluator for record in records if record.evaluator]
    gateway: dict[str, list[float]] = {}
    for record in records:
        for stage, milliseconds in record.gateway_ms.items():
            gateway.setdefault(stage, []).append(milliseconds)
        if record.elapsed_ms is not None:
            gateway.setdefault("elapsed", []).append(record.elapsed_ms)
    return {
        "format": 1,
        "run": dict(run),
        "films": {
            "asked": len(records),
            "measured": sum(record.failure is None for record in records),
            "complete": sum(record.complete for record in records),
            "failed": [record.name for record in records if record.failure is not None],
            "fingerprint_sha256": data_fingerprint(
                records, run.get("data", {}).get("annotations_sha256", "")
            ),
        },
        "models": models,
        "gateway_ms": {
            stage: dict(zip(("median", "p95"), spread(values), strict=True))
            for stage, values in gateway.items()
        },
        "failures": failures(records),
        "evaluator": {
            "agrees": checks.count("agrees"),
            "differs": [r.name for r in records if r.evaluator.startswith("differs")],
            "no_answer": [r.name for r in records if r.evaluator.startswith("no answer")],
        },
        "study_table_1_percent": {name: dict(values) for name, values in STUDY_TABLE.items()},
        "metrics": {
            name: {
                "title": spec.title,
                "definition": spec.definition,
                "direction": spec.direction.name.lower(),
                "minimum": spec.minimum,
                "maximum": spec.maximum,
                "unit": spec.unit,
                "only_prediction": spec.only_prediction.value,
                "only_truth": spec.only_truth.value,
                "both_empty": spec.both_empty.value,
            }
            for name, spec in METRICS.items()
        },
    }


def _column_of(name: str, records: Sequence[FilmRecord]) -> dict[str, Any] | None:
    """Vertebrae after separation, and names, added over films; None where none was counted."""
    counts = [member.column for _, member in _records_of(name, records) if member.column]
    return add_up(counts).to_json() if counts else None
