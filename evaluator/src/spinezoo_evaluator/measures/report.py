"""Errors of measures as tables and a Bland-Altman picture."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from spinezoo_contract.errors import SpineZooError
from spinezoo_serving.disk import replace_file

from spinezoo_evaluator.measures import paired
from spinezoo_evaluator.measures.errors import Errors
from spinezoo_evaluator.measures.run import KeptFilm, errors_of, kept_films
from spinezoo_evaluator.measures.truth import read_truth
from spinezoo_evaluator.results.records import FUSED

log = logging.getLogger("spinezoo.benchmark")

COLUMNS = ("asked", "coverage", "bias", "median", "p90", "limits", "icc", "inside")

PANEL_PX = (420, 300)
"""Width and height of one measure's plot."""

SHOWN = (
    "lordosis L1-S1",
    "lordosis L1-L5",
    "sacral_slope",
    "disc_height_middle",
    "body_height_anterior",
    "slip_percent",
)
"""Measures that the picture shows."""


def write_errors(folder: Path, films: Iterable[KeptFilm]) -> str:
    """Writes ``measures.md``, ``.csv``, ``.json`` and ``bland_altman.png``; returns the first.

    Args:
        folder: Where to; made if missing.
        films: At least one.
    """
    compared = errors_of(films)
    by_model, by_trait = compared.by_model, compared.by_trait
    if FUSED not in by_model:
        return ""
    tests = compared.tests()
    text = to_markdown(by_model, by_trait)
    if tests:
        text += "\n" + paired.to_markdown(tests)
    replace_file(folder / "measures.md", text)
    replace_file(folder / "measures.csv", to_csv(by_model))
    plain: dict[str, Any] = {
        name: errors.summary() for name, errors in [*by_model.items(), *by_trait.items()]
    }
    if tests:
        plain["paired tests"] = [asdict(test) for test in tests]
    replace_file(folder / "measures.json", json.dumps(plain, indent=1) + "\n")
    bland_altman(by_model[FUSED]).save(folder / "bland_altman.png")
    return text


def write_measures(data: Path, run: Path) -> None:
    """Errors of measures of a benchmark's films, where their truth tells any; else nothing."""
    try:
        films = list(kept_films(read_truth(data), run, data))
    except SpineZooError as error:
        if (data / "truth.json").is_file():  # most sets have no truth of measures
            log.warning("no measures are written: %s", error)
        return
    write_errors(run, films)


def measures_table(summary: Mapping[str, Any]) -> str:
    """Markdown: a line a measure."""
    lines = [
        "| measure | asked | answered | bias | median error | 90th percentile "
        "| limits of agreement | ICC | truth in 90 % interval |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for title, row in summary["measures"].items():
        if "bias" not in row:
            lines.append(f"| {title} | {row['asked']} | 0 % | | | | | | |")
            continue
        low, high = row["limits"]
        icc = "" if row["icc"] is None else f"{row['icc']:.2f}"
        inside = "" if row["inside"] is None else f"{100 * row['inside']:.0f} %"
        lines.append(
            f"| {title} | {row['asked']} | {100 * row['coverage']:.0f} % | {row['bias']:.2f} "
            f"| {row['median']:.2f} | {row['p90']:.2f} | {low:.1f} to {high:.1f} | {icc} "
            f"| {inside} |"
        )
    return "\n".join(lines)


def landmarks_text(summary: Mapping[str, Any]) -> str:
    """Corners, endplates, grades and osteophytes as a few lines."""
    corners, plates, spurs = (
        summary["corners"],
        summary["endplates_deg"],
        summary["osteophytes"],
    )
    lines = []
    if corners["count"]:
        lines.append(
            f"- corners: median {100 * corners['median']:.1f} % of the depth, 90th percentile "
            f"{100 * corners['p90']:.1f} %, within the stated radius "
            f"{100 * corners['inside']:.0f} %"
        )
        lines.append(
            f"- endplates: median {plates['median']:.2f} degrees, 90th percentile "
            f"{plates['p90']:.2f}"
        )
    for kind, grade in summary["grades_right"].items():
        lines.append(
            f"- grade of {kind.lower()}: right on {100 * grade['share']:.1f} % of {grade['count']}"
        )
    if spurs["true"]:
        precision = spurs["precision"]
        said = "none said" if precision is None else f"precision {100 * precision:.0f} %"
        lines.append(f"- osteophytes over 3 mm: recall {100 * spurs['recall']:.0f} %, {said}")
    rods = summary["rod_breaks"]
    if rods["true"] or rods["said"]:
        lines.append(
            f"- breaks of rods: {rods['found']} of {rods['true']} found, of {rods['open']} that "
            f"other implants cover by less than half {rods['open_found']}; {rods['right']} of "
            f"{rods['said']} told are right, {rods['levels_right']} at their levels"
        )
    return "\n".join(lines)


def to_markdown(by_model: Mapping[str, Errors], by_trait: Mapping[str, Errors]) -> str:
    """The whole report."""
    fused = by_model[FUSED].summary()
    parts = ["# Errors of measures", "", "## Fused ensemble", "", measures_table(fused), ""]
    parts += [landmarks_text(fused), "", "## By network and kind of film", ""]
    parts += [
        "| | corners, median % | endplates, median deg | lordosis L1-S1, median deg |",
        "|---|---:|---:|---:|",
    ]
    for name, errors in [*by_model.items(), *sorted(by_trait.items())]:
        said = errors.summary()
        lordosis = said["measures"].get("lordosis L1-S1", {}).get("median")
        corners, plates = said["corners"].get("median"), said["endplates_deg"].get("median")
        cells = [
            "" if corners is None else f"{100 * corners:.1f}",
            "" if plates is None else f"{plates:.2f}",
            "" if lordosis is None else f"{lordosis:.2f}",
        ]
        parts.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(parts) + "\n"


def to_csv(by_model: Mapping[str, Errors]) -> str:
    """One line a measure and model."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("model", "measure", *COLUMNS))
    for model, errors in by_model.items():
        for title, row in errors.summary()["measures"].items():
            cells = [row.get(column, "") for column in COLUMNS]
            writer.writerow((model, title, *cells))
    return text.getvalue()


def bland_altman(errors: Errors) -> Image.Image:
    """Error against the mean of measure and truth, with bias and limits of agreement."""
    titles = [title for title in SHOWN if errors.rows.get(title)]
    width, height = PANEL_PX
    rows = max(1, -(-len(titles) // 3))
    picture = Image.new("RGB", (3 * width, rows * height), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for place, title in enumerate(titles):
        pairs = np.array([(m, t) for _, m, t, _ in errors.rows[title] if m is not None])
        left, top = (place % 3) * width, (place // 3) * height
        pen.text((left + 40, top + 6), title.replace("_", " "), fill="black", font=font)
        if len(pairs) < 2:
            continue
        error, mean = pairs[:, 0] - pairs[:, 1], pairs.mean(axis=1)
        bias, spread = float(error.mean()), float(error.std(ddof=1))
        reach = max(float(np.percentile(np.abs(error), 98)), 1.96 * spread + abs(bias), 1e-6) * 1.15
        low, high = float(mean.min()), float(max(mean.max(), mean.min() + 1e-6))

        def at(
            x: float, y: float, *, left: int = left, top: int = top, low: float = low,
            high: float = high, reach: float = reach,
        ) -> tuple[float, float]:  # fmt: skip
            across = left + 45 + (x - low) / (high - low) * (width - 65)
            return across, top + height / 2 + 8 - y / reach * (height / 2 - 30)

        for level, colour in (
            (0.0, "#bbbbbb"),
            (bias, "#0072b2"),
            (bias - 1.96 * spread, "#d55e00"),
            (bias + 1.96 * spread, "#d55e00"),
        ):
            pen.line([at(low, level), at(high, level)], fill=colour, width=2)
            if level:
                x, y = at(low, level)
                pen.text((left + 4, y - 7), f"{level:.1f}", fill=colour, font=font)
        for x, y in zip(mean.tolist(), error.tolist(), strict=True):
            across, down = at(x, float(np.clip(y, -reach, reach)))
            pen.ellipse([across - 2, down - 2, across + 2, down + 2], fill="#333333")
    return picture
