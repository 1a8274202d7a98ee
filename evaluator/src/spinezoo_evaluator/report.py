"""From a run's records to its report: Markdown, CSV, JSON and pictures.

A failed film of a member is never dropped in silence. It has no masks, so it has no value of its
own and does not enter the means; it is counted beside them, listed by name, and where any failed
the tables also show the means with each failed film counted as 0.
"""

from __future__ import annotations

import csv
import hashlib
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinezoo_contract.errors import SpineZooError
from spinezoo_contract.types import VERTEBRAE, Segment, Structure
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.annotations.raster import segments_from_regions
from spinezoo_spine.column.naming import named_column
from spinezoo_spine.metrics.film import FilmMeasurement
from spinezoo_spine.metrics.registry import METRICS, STUDY_METRICS
from spinezoo_spine.metrics.tally import MetricValue, Tally

from spinezoo_evaluator.columns import TITLES_OF_VALUES, add_up
from spinezoo_evaluator.pictures import Row, Tile, sheet
from spinezoo_evaluator.records import FilmRecord, MemberRecord, RunFolder
from spinezoo_evaluator.runner import FUSED, NAMED

STUDY_TABLE: Mapping[str, Mapping[str, float]] = {
    "unet": {
        "pixel_accuracy": 98.17,
        "mean_iou": 88.64,
        "mean_accuracy": 92.65,
        "frequency_weighted_iou": 96.48,
    },
    "mask_rcnn": {
        "pixel_accuracy": 96.58,
        "mean_iou": 86.78,
        "mean_accuracy": 90.25,
        "frequency_weighted_iou": 93.47,
    },
    "pspnet": {
        "pixel_accuracy": 97.88,
        "mean_iou": 86.50,
        "mean_accuracy": 90.91,
        "frequency_weighted_iou": 95.93,
    },
    "deeplabv3": {
        "pixel_accuracy": 98.00,
        "mean_iou": 88.14,
        "mean_accuracy": 92.25,
        "frequency_weighted_iou": 96.16,
    },
    "yolact": {
        "pixel_accuracy": 97.84,
        "mean_iou": 91.64,
        "mean_accuracy": 94.43,
        "frequency_weighted_iou": 95.84,
    },
}
"""The study's Table 1, in percent: its own test set of 100 clinical films, its own weights."""

TITLES: Mapping[str, str] = {
    "unet": "U-Net",
    "mask_rcnn": "Mask R-CNN",
    "pspnet": "PSPNet",
    "deeplabv3": "DeepLabV3",
    "yolact": "YOLACT",
    FUSED: "Fused ensemble",
}
"""How networks are written; the order is the study's. Others stand under their own names."""

RECOGNITION_METRICS = (
    "vertebra_recognition_rate",
    "vertebra_precision",
    "vertebra_f1",
    "vertebra_segmentation_quality",
    "vertebra_panoptic_quality",
)

_MESSAGE_CHARACTERS = 300
"""Of a failure's message in the Markdown report."""

STAGES = ("queue", "prepare", "infer", "finish", "latency")
"""Times of a member in the report, in ms: its own stages, and the answer as the gateway saw it."""

_STRUCTURES = tuple(structure.name.lower() for structure in Structure)


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


def ordered_names(names: Iterable[str]) -> list[str]:
    """The study's five in the study's order, others by name, the fused ensemble last."""
    order = {name: place for place, name in enumerate(TITLES)}
    last = len(order)
    return sorted(set(names), key=lambda n: (n == FUSED, order.get(n, last), n))


def summarise(records: Sequence[FilmRecord]) -> list[ModelSummary]:
    """One summary a network that was asked, and one of the fused ensemble last."""
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
                TITLES.get(name, name),
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


# --- The report as data ---


def build(run: Mapping[str, Any], records: Sequence[FilmRecord]) -> dict[str, Any]:
    """Everything that is in the report, as plain values.

    Args:
        run: What the run was started with; see ``spinezoo_evaluator.benchmark``.
        records: Its films, in any order.
    """
    records = sorted(records, key=lambda record: record.name)
    models: dict[str, Any] = {}
    for summary in summarise(records):
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


# --- Tables ---

Table = tuple[list[str], list[list[str]]]
"""A header and rows of cells."""


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100.0 * value:.2f}"


def _milliseconds(entry: Mapping[str, float] | None) -> str:
    return "–" if entry is None else f"{entry['median']:.0f}"


def metric_table(
    report: Mapping[str, Any],
    names: Sequence[str],
    which: str,
    *,
    study: bool = False,
) -> Table:
    """Metrics by network in percent; the best of each row of networks is marked with ``**``.

    Args:
        report: From :func:`build`.
        names: Metrics, a row each.
        which: ``film_mean``, ``pooled`` or ``film_mean_failed_as_0``.
        study: Whether the study's own figures stand below each row.
    """
    models = report["models"]
    header = ["", *(model["title"] for model in models.values())]
    rows = []
    for name in names:
        values = {model: entry["metrics"][name][which] for model, entry in models.items()}
        best = max((v for v in values.values() if v is not None), default=None)
        cells = []
        for value in values.values():
            text = _percent(value)
            cells.append(f"**{text}**" if value is not None and value == best else text)
        rows.append([METRICS[name].title, *cells])
        if study:
            theirs = [report["study_table_1_percent"].get(model, {}).get(name) for model in models]
            rows.append(
                ["the study's", *("–" if figure is None else f"{figure:.2f}" for figure in theirs)]
            )
    return header, rows


def column_table(report: Mapping[str, Any]) -> Table:
    """Vertebrae after separation and their names by network, pooled, in percent."""
    models = report["models"]
    rows = []
    titles = {
        **TITLES_OF_VALUES,
        "named_right_of_five_share": "named right on films of five lumbar vertebrae",
    }
    for key, title in titles.items():
        values = [(model["column"] or {}).get(key) for model in models.values()]
        rows.append([title[0].upper() + title[1:], *map(_percent, values)])
    asked = [(model["column"] or {}).get("to_name", 0) for model in models.values()]
    rows.append(["Vertebrae that names were asked for", *map(str, asked)])
    return ["", *(model["title"] for model in models.values())], rows


def film_count_table(report: Mapping[str, Any]) -> Table:
    """Films measured and failed by network."""
    models = report["models"]
    return (
        ["", *(model["title"] for model in models.values())],
        [
            ["Films measured", *(str(model["films_measured"]) for model in models.values())],
            ["Films failed", *(str(model["films_failed"]) for model in models.values())],
        ],
    )


def time_table(report: Mapping[str, Any]) -> Table:
    """Median times by network, in ms."""
    models = {name: model for name, model in report["models"].items() if name != FUSED}
    titles = {
        "queue": "Waiting for the network",
        "prepare": "Preparing the film",
        "infer": "The network",
        "finish": "From output to outlines",
        "latency": "Answer, as the gateway saw it",
    }
    return (
        ["median, in ms", *(model["title"] for model in models.values())],
        [
            [titles[stage], *(_milliseconds(m["time_ms"].get(stage)) for m in models.values())]
            for stage in STAGES
        ],
    )


def failure_table(report: Mapping[str, Any]) -> Table:
    """Failures of one network for one reason in one row, every film named.

    Messages are shortened here; ``report.json`` has each whole.
    """
    groups: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for failure in report["failures"]:
        groups.setdefault((failure["model"], failure["reason"]), []).append(failure)
    rows = []
    for (model, reason), group in groups.items():
        message = group[0]["message"]
        if len(message) > _MESSAGE_CHARACTERS:
            message = message[:_MESSAGE_CHARACTERS] + "..."
        films = ", ".join(failure["film"] for failure in group)
        rows.append([TITLES.get(model, model), reason, str(len(group)), films, message])
    return ["network", "reason", "films", "which", "message of the first"], rows


def markdown_table(table: Table, *, numbers: bool = True) -> str:
    """A table in Markdown; with numbers all columns but the first stand to the right."""
    header, rows = table
    lines = [header, ["---"] + ["---:" if numbers else "---"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def text_table(table: Table) -> str:
    """A table for a terminal, columns aligned."""
    header, rows = table
    lines = [[cell.replace("**", "") for cell in line] for line in (header, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def table_1(report: Mapping[str, Any]) -> str:
    """What is printed at the end of a run."""
    header, rows = metric_table(report, STUDY_METRICS, "film_mean", study=True)
    rows += metric_table(report, RECOGNITION_METRICS[:2], "film_mean")[1]
    rows += film_count_table(report)[1]
    return text_table((header, rows))


def to_markdown(report: Mapping[str, Any], pictures: Sequence[tuple[str, str]] = ()) -> str:
    """The report for a reader.

    Args:
        report: From :func:`build`.
        pictures: (file name, what it shows).
    """
    run, films = report["run"], report["films"]
    data = run["data"]
    failed_any = any(model["films_failed"] for model in report["models"].values())
    fusion = run["options"]["fusion"].replace("_", " ")
    lines = [
        f"# Benchmark of {data['name']}",
        "",
        f"{films['asked']} films asked, {films['measured']} with an answer, {films['complete']} "
        f"answered by every network. Fusion: {fusion}.",
        "",
        "## Table 1",
        "",
        "Merged binary mask (all structures of a prediction against all structures of the truth), "
        "**mean over films** of each film's own value, in percent, higher is better. Bold: the "
        "best of the row.",
        "",
        markdown_table(metric_table(report, STUDY_METRICS, "film_mean", study=True)),
        "",
        "The study's figures are of its own 100 clinical films and its own weights; they stand "
        "here for orientation and are no measurement of these films. The merged mask of the fused "
        "ensemble is fused from the networks' merged masks.",
        "",
        markdown_table(film_count_table(report)),
        "",
    ]
    if failed_any:
        lines += [
            "Films that failed have no value and are not in the means above. With each failed "
            "film counted as 0:",
            "",
            markdown_table(
                metric_table(
                    report,
                    (*STUDY_METRICS, "vertebra_recognition_rate"),
                    "film_mean_failed_as_0",
                )
            ),
            "",
        ]
    else:
        lines += ["No film failed.", ""]
    lines += [
        "The same **pooled**: one confusion matrix over all films.",
        "",
        markdown_table(metric_table(report, STUDY_METRICS, "pooled")),
        "",
        "## Vertebrae",
        "",
        "The merged mask cannot see fused vertebrae. Here vertebrae (lumbar or sacral) are matched "
        "one to one at IoU of at least 0.5; the outlines of semantic networks and of the fused "
        "ensemble are cut into connected components first. Mean over films, in percent.",
        "",
        markdown_table(metric_table(report, RECOGNITION_METRICS, "film_mean")),
        "",
        "Pooled over all vertebrae:",
        "",
        markdown_table(metric_table(report, RECOGNITION_METRICS, "pooled")),
        "",
        "## Vertebrae after separation, and their names",
        "",
        "Here the touching vertebrae of regions are taken apart along the column first, and every "
        "vertebra is named by order and distance from the sacrum, or left without a name "
        "(docs/labelling.md). Names count for recognised vertebrae on films that show S1 and "
        "whose outlines have levels. On films of four or six lumbar vertebrae names still count up "
        "from S1 with L5 first: all are one off (*off by the count*), and the answer says which "
        "number is suspected. Pooled over all vertebrae, in percent:",
        "",
        markdown_table(column_table(report)),
        "",
        "## Structures",
        "",
        "Mean over the films on which the metric is defined, in percent: IoU where truth or "
        "prediction has the structure, recognition rate (same structure, IoU of at least 0.5, one "
        "to one) where the truth has it.",
        "",
        markdown_table(
            metric_table(report, [f"iou_{structure}" for structure in _STRUCTURES], "film_mean")
        ),
        "",
        markdown_table(
            metric_table(
                report, [f"recognition_rate_{structure}" for structure in _STRUCTURES], "film_mean"
            )
        ),
        "",
        "## Time",
        "",
        f"{run['options']['concurrency']} films under way at the same time.",
        "",
        markdown_table(time_table(report)),
        "",
    ]
    if report["gateway_ms"]:
        gateway = report["gateway_ms"]
        lines += [
            "The gateway's own median times, in ms: "
            + ", ".join(
                f"{title} {gateway[stage]['median']:.1f}"
                for stage, title in (
                    ("decode", "reading the film"),
                    ("fan_out", "waiting for the networks"),
                    ("fuse", "fusing"),
                    ("total", "in all"),
                )
                if stage in gateway
            )
            + ".",
            "",
        ]
    lines += ["## Failures", ""]
    if report["failures"]:
        lines.append(markdown_table(failure_table(report), numbers=False))
    else:
        lines.append("None.")
    lines += ["", "## Pictures", ""]
    for file_name, text in pictures:
        lines += [f"![{text}]({file_name})", "", text, ""]
    if not pictures:
        lines += ["None.", ""]
    lines += ["## To repeat it", "", *_repeat_lines(report), ""]
    return "\n".join(lines)


def _repeat_lines(report: Mapping[str, Any]) -> list[str]:
    run, films = report["run"], report["films"]
    data = run["data"]
    check = report["evaluator"]
    lines = [
        f"- Command: `{run['command']}`",
        f"- Started {run['started']}, report written {run['finished']}",
        f"- Data: {data['name']}, {films['asked']} films, outlines `{data['annotations']}`; "
        f"fingerprint of films and outlines `{films['fingerprint_sha256']}`",
    ]
    if data.get("phantom"):
        phantom = data["phantom"]
        lines.append(
            f"- Phantom films: seed {phantom['seed']}, {phantom['count']} films, generator "
            f"{phantom['generator']}, {phantom['file_format']}"
        )
    lines += [
        f"- Evaluator service: measured the same on {check['agrees']} films"
        + (f", **differs on {', '.join(check['differs'])}**" if check["differs"] else "")
        + (f", gave no answer on {', '.join(check['no_answer'])}" if check["no_answer"] else ""),
        "- Versions: "
        + ", ".join(f"{name} {version}" for name, version in run["versions"].items()),
        f"- Machine: {run['machine']}",
        "",
        markdown_table(
            (
                [
                    "network",
                    "version",
                    "preset",
                    "device",
                    "weights sha256",
                    "card sha256",
                    "image",
                ],
                _provenance_rows(report),
            ),
            numbers=False,
        ),
    ]
    for model in report["models"].values():
        if len(model["provenance"]) > 1:
            lines += [
                "",
                f"**Warning:** {model['title']} changed during the run: "
                f"{len(model['provenance'])} different provenances answered.",
            ]
    return lines


def _provenance_rows(report: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    cards = report["run"].get("models", {})
    for name, model in report["models"].items():
        if name == FUSED:
            continue
        card_sha256 = (cards.get(name) or {}).get("card_sha256", "")
        for provenance in model["provenance"] or [{}]:
            rows.append(
                [
                    model["title"],
                    provenance.get("model_version", "–"),
                    provenance.get("preset", "–"),
                    provenance.get("device", "–"),
                    f"`{provenance.get('weights_sha256', '–')[:16]}`",
                    f"`{card_sha256[:16] or '–'}`",
                    provenance.get("image") or "–",
                ]
            )
    return rows


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


# --- Pictures ---


def film_score(record: FilmRecord) -> float:
    """Mean over the networks of the film's mean IoU on the merged mask."""
    values = [
        member.measurement.values()["mean_iou"] or 0.0
        for member in record.members.values()
        if member.measurement is not None
    ]
    return statistics.fmean(values)


def choose_films(records: Sequence[FilmRecord]) -> dict[str, FilmRecord]:
    """The best, the worst and the most disputed film, as far as there are so many.

    Of the films with the most answers: best and worst by the mean IoU averaged over the networks,
    most disputed by the disagreement between the networks' merged masks. No film is chosen twice.
    """
    answered = [
        (sum(m.measurement is not None for m in record.members.values()), record)
        for record in sorted(records, key=lambda record: record.name)
        if record.failure is None
    ]
    most = max((count for count, _ in answered), default=0)
    if most == 0:
        return {}
    left = [record for count, record in answered if count == most]
    chosen: dict[str, FilmRecord] = {}
    for which, key in (
        ("best", film_score),
        ("worst", lambda record: -film_score(record)),
        ("disputed", lambda record: record.disagreement or 0.0),
    ):
        if left:
            chosen[which] = max(left, key=key)
            left = [record for record in left if record is not chosen[which]]
    return chosen


_HEADINGS = {"best": "Best film", "worst": "Worst film", "disputed": "Most disputed film"}


def _caption(measurement: FilmMeasurement | None) -> str:
    if measurement is None:
        return "failed"
    values = measurement.values()
    vertebrae = measurement.vertebrae
    found = len(vertebrae.matched_ious)
    false = vertebrae.predicted_count - found
    text = f"mean IoU {values['mean_iou']:.3f}\n{found} of {vertebrae.true_count} vertebrae"
    return f"{text}, {false} false" if false else text


def picture_row(which: str, record: FilmRecord, films: FilmSet, folder: RunFolder) -> Row:
    """The tiles of one film: truth, every network, the fused ensemble.

    Raises:
        SpineZooError: The film, its truth or its answers cannot be read.
    """
    film = films.film(record.name)
    truth = segments_from_regions(
        films.annotation(record.name).regions, record.height, record.width
    )
    answers = folder.read_answer(record.name)
    names = ordered_names([*record.members, FUSED])
    measurements = {
        name: None if member is None else member.measurement
        for name, member in ((n, record.fused if n == FUSED else record.members[n]) for n in names)
    }
    counts = next((m for m in measurements.values() if m is not None), None)
    true_count = 0 if counts is None else counts.vertebrae.true_count
    tiles = [Tile("Truth", f"as annotated\n{true_count} vertebrae", truth)]
    for name in names:
        failure = None if name == FUSED else record.members[name].failure
        caption = failure.reason.replace("_", " ") if failure else _caption(measurements[name])
        tiles.append(Tile(TITLES.get(name, name), caption, answers.get(name)))
    heading = (
        f"{_HEADINGS[which]}: {record.name}    mean IoU averaged over the networks "
        f"{film_score(record):.3f}"
    )
    if record.disagreement is not None:
        heading += f", disagreement {record.disagreement:.3f}"
    return Row(heading, film, truth, tuple(tiles))


def write_pictures(
    records: Sequence[FilmRecord], films: FilmSet, folder: RunFolder
) -> list[tuple[str, str]]:
    """Writes the picture sheet and one overlay a film; returns (file name, what it shows)."""
    rows = {
        which: picture_row(which, record, films, folder)
        for which, record in choose_films(records).items()
    }
    if not rows:
        return []
    written = []
    name = "sheet.png"
    sheet(list(rows.values())).save(folder.path / name)
    written.append((name, "Truth and every network on the best, worst and most disputed film"))
    for which, row in rows.items():
        name = f"overlay_{which}.png"
        sheet([row], tile_height=760, columns=4).save(folder.path / name)
        written.append((name, f"{_HEADINGS[which]}, larger"))
    return written


def named_row(record: FilmRecord, films: FilmSet, folder: RunFolder) -> Row:
    """The film, its truth and every answer with vertebrae taken apart and named.

    Raises:
        SpineZooError: The film, its truth or its answers cannot be read.
    """
    row = picture_row("best", record, films, folder)
    answers = folder.read_answer(record.name)
    tiles = [Tile("Film", "as it comes", plain=True)]
    truth = row.tiles[0]
    tiles.append(Tile(truth.title, truth.caption, truth.segments, named=True))
    names = ordered_names([*record.members, FUSED])
    for name, tile in zip(names, row.tiles[1:], strict=True):
        member = record.fused if name == FUSED else record.members[name]
        if tile.segments is None or member is None or member.column is None:
            tiles.append(tile)
            continue
        counts = member.column
        caption = (
            f"{counts.recognised} of {counts.true} vertebrae, "
            f"{counts.predicted - counts.right} false\n"
            f"{counts.named_right} named right, {counts.named_wrong} wrong"
        )
        vertebrae: Sequence[Segment] = (
            answers.get(NAMED, ())
            if name == FUSED
            else [
                vertebra.segment
                for vertebra in named_column(tile.segments, record.height, record.width).vertebrae
            ]
        )
        implants = (s for s in tile.segments if s.structure not in VERTEBRAE)
        tiles.append(Tile(tile.title, caption, (*vertebrae, *implants), named=True))
    return Row("", row.film, row.truth, tuple(tiles))


def write_answer_picture(
    records: Sequence[FilmRecord], films: FilmSet, folder: RunFolder, path: Path
) -> str | None:
    """Writes one picture of an answer, for a README: the film, its truth, every network, names.

    Takes the film whose score is nearest to the median of the best half: typical of what works. As
    far as there are such films, one with implants on which the ensemble names vertebrae, and none
    wrong. Returns the film's name, or None where no film was measured.
    """
    measured = [record for record in records if record.failure is None and record.fused is not None]
    measured = [r for r in measured if any(m.measurement for m in r.members.values())]
    if not measured:
        return None

    def has_screws(record: FilmRecord) -> bool:
        measurement = record.fused.measurement if record.fused else None
        return measurement is not None and measurement.objects["screw"].true_count > 0

    def is_named(record: FilmRecord) -> bool:
        column = record.fused.column if record.fused else None
        return column is not None and column.named_right > 0 and column.named_wrong == 0

    chosen = measured
    for wanted in (lambda record: record.complete, has_screws, is_named):
        chosen = [record for record in chosen if wanted(record)] or chosen
    ranked = sorted(chosen, key=lambda record: (-film_score(record), record.name))
    record = ranked[len(ranked) // 4]
    row = named_row(record, films, folder)
    picture = sheet([row], tile_height=520, columns=-(-len(row.tiles) // 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return record.name


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
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        pictures = write_pictures(records, films, folder) if draw else []
        report["pictures"] = {name: text for name, text in pictures}
    except SpineZooError as error:
        pictures = []
        report["pictures"] = {"error": str(error)}
    (folder.path / "report.md").write_text(to_markdown(report, pictures))
    (folder.path / "report.csv").write_text(to_csv(report))
    (folder.path / "films.csv").write_text(films_to_csv(records))
    folder.write_json(folder.report_path, report)
    return report
