"""Tables of a report: cells as text, and how a terminal shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spinezoo_contract.types import Structure
from spinezoo_spine.metrics.registry import METRICS, STUDY_METRICS

from spinezoo_evaluator.results.columns import TITLES_OF_VALUES
from spinezoo_evaluator.results.records import FUSED

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

STRUCTURES = tuple(structure.name.lower() for structure in Structure)

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
        "named_right_of_others_share": "named right on films of four or six",
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
        title = report["models"][model]["title"] if model in report["models"] else model
        rows.append([title, reason, str(len(group)), films, message])
    return ["network", "reason", "films", "which", "message of the first"], rows


def finding_table(findings: Sequence[Mapping[str, str]]) -> Table:
    """Films and outlines that a reader of the figures must know of, and why."""
    return ["film", "why"], [[entry["place"], entry["why"]] for entry in findings]


def provenance_table(report: Mapping[str, Any]) -> Table:
    """Version, weights and image of every network that answered."""
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
    header = ["network", "version", "preset", "device", "weights sha256", "card sha256", "image"]
    return header, rows


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
