"""``python -m spinezoo_evaluator.real_check``: recognition and names on films with corner truth.

::

    python -m spinezoo_evaluator.real_check --data FOLDER --report reports/real-check

The folder holds films and one corner file (``spinezoo_spine.annotations.corners``). Every film goes to the
gateway as it is, mirrored, and scaled by 0.7 and 1.3; every network and the fused ensemble are
measured on L1 to L5: recognition at IoU 0.5 against the four-corner outlines, precision, mean IoU
of what was recognised, and names. Regions are taken apart first (``spinezoo_spine.column.separation``),
vertebrae named by ``spinezoo_spine.column.levels``. What each figure means: ``docs/labelling.md``.

The gateway has to be running. Ends with 0 when every network answered every film, with 1
where one did not, with 2 where it cannot start.
"""

# ruff: noqa: T201 - a command: its table and its messages go to the terminal.
from __future__ import annotations

import argparse
import asyncio
import csv
import dataclasses
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from spinezoo_contract.client import AsyncEnsembleClient
from spinezoo_contract.errors import AnnotationError, FilmError, SpineZooError
from spinezoo_contract.status import error_name
from spinezoo_contract.types import (
    EnsembleOptions,
    Film,
    Labelling,
    Segment,
    UnnamedReason,
)
from spinezoo_spine.annotations.corners import CornerFilm, find_corner_file, read_corners
from spinezoo_spine.films.reader import read_film_file
from tqdm import tqdm

from spinezoo_evaluator.columns import TITLES_OF_VALUES, ColumnCounts, count_column
from spinezoo_evaluator.pictures import Row, Tile, sheet
from spinezoo_evaluator.report import TITLES, Table, markdown_table, ordered_names, text_table
from spinezoo_evaluator.runner import FUSED, columns_of

LEVELS = ("L1", "L2", "L3", "L4", "L5")
"""What is measured; T11, T12 and S1 are on too few films or have no outline."""

VARIANTS = ("plain", "mirrored", "x 0.7", "x 1.3")
"""How a film is sent. All but the first say how much an answer hangs on side and size."""


def measure_column(truth: CornerFilm, column: Labelling) -> ColumnCounts:
    """ColumnCounts one named column against the corner truth of its film."""
    return count_column(
        truth.segments(),
        column,
        LEVELS,
        sacrum_in_view=truth.s1_endplate is not None,
        complete_truth=False,
    )


def variant(film: Film, truth: CornerFilm, name: str) -> tuple[Film, CornerFilm]:
    """A film and its truth as one of :data:`VARIANTS`."""
    if name == "plain":
        return film, truth
    if name == "mirrored":
        return Film(np.ascontiguousarray(film.pixels[:, ::-1])), truth.mirrored()
    factor = float(name.removeprefix("x "))
    height, width = round(film.height * factor), round(film.width * factor)
    kind = cv2.INTER_AREA if factor < 1.0 else cv2.INTER_LINEAR
    resized: Any = cv2.resize(np.asarray(film.pixels), (width, height), interpolation=kind)
    return Film(resized), truth.scaled(height, width)


@dataclass(frozen=True, slots=True)
class FilmResult:
    """One film in one variant.

    Attributes:
        film: Its name.
        variant: One of :data:`VARIANTS`.
        sacrum_in_view: By the truth.
        counts: By model.
        said: By model: sentences about the column as a whole.
        failures: By model: why there is no answer.
    """

    film: str
    variant: str
    sacrum_in_view: bool
    counts: Mapping[str, ColumnCounts]
    said: Mapping[str, str]
    failures: Mapping[str, str]


def say_column(column: Labelling) -> str:
    """What a column says, for a table: its levels from below, gaps, and the lumbar count."""
    levels = [v.segment.level for v in column.vertebrae if v.segment.level is not None]
    withheld = [v.unnamed_reason for v in column.vertebrae if v.unnamed_reason is not None]
    parts = [" ".join(sorted(levels, key=_level_rank)) or "no names"]
    if column.missing_levels:
        parts.append("missed " + " ".join(column.missing_levels))
    for reason in UnnamedReason:
        if reason in withheld:
            parts.append(f"{withheld.count(reason)} {reason.name.lower().replace('_', ' ')}")
    if column.lumbar_count is not None:
        parts.append(f"{column.lumbar_count} lumbar")
    elif column.suspected_lumbar_count is not None:
        parts.append(f"{column.suspected_lumbar_count} lumbar suspected")
    return "; ".join(parts)


def _level_rank(level: str) -> tuple[int, int]:
    return "TLS".index(level[0]), int(level[1:])


async def check_film(
    ensemble: AsyncEnsembleClient,
    film: Film,
    truth: CornerFilm,
    name: str,
    options: EnsembleOptions,
    timeout_s: float,
) -> tuple[FilmResult, dict[str, Labelling | None]]:
    """Asks for one film in one variant and counts every model's answer."""
    sent, expected = variant(film, truth, name)
    sacrum = truth.s1_endplate is not None
    try:
        answer = await ensemble.segment(sent, options, timeout_s=timeout_s)
    except SpineZooError as error:
        failures = {FUSED: f"{error_name(error)}: {error}"}
        failed = {FUSED: ColumnCounts(failed=1)}
        return FilmResult(truth.name, name, sacrum, failed, {}, failures), {}
    columns = await asyncio.to_thread(columns_of, answer)
    failures = {
        member.status.member_name: member.status.code.name.lower()
        for member in answer.members
        if member.prediction is None
    }
    counts = {
        model: ColumnCounts(failed=1) if column is None else measure_column(expected, column)
        for model, column in columns.items()
    }
    said = {model: say_column(column) for model, column in columns.items() if column is not None}
    return FilmResult(truth.name, name, sacrum, counts, said, failures), columns


def picture_of(
    film: Film, truth: CornerFilm, result: FilmResult, columns: Mapping[str, Any]
) -> Any:
    """Outlines and names of the truth, every network and the ensemble on one film."""
    outlines = truth.segments()
    tiles = [Tile("Truth", "corners", outlines, named=True)]
    for model in ordered_names(columns):
        column = columns[model]
        counts = result.counts[model]
        caption = result.failures.get(model, "")
        segments: tuple[Segment, ...] | None = None
        if column is not None:
            segments = tuple(vertebra.segment for vertebra in column.vertebrae)
            caption = (
                f"{counts.recognised} of {counts.true} recognised\n"
                f"{counts.named_right} named right, {counts.named_wrong} wrong"
            )
        tiles.append(Tile(TITLES.get(model, model), caption, segments, named=True))
    row = Row(truth.name, film, outlines, tuple(tiles))
    return sheet([row], tile_height=520, columns=4)


# --- The report ---


def summarise(results: Sequence[FilmResult]) -> dict[str, dict[str, ColumnCounts]]:
    """ColumnCounts by variant and model, added over films."""
    found: dict[str, dict[str, ColumnCounts]] = {}
    for result in results:
        models = found.setdefault(result.variant, {})
        for model, counts in result.counts.items():
            models[model] = models.get(model, ColumnCounts()) + counts
    return found


def build(
    results: Sequence[FilmResult], data: Mapping[str, Any], models: Mapping[str, Any]
) -> dict[str, Any]:
    """The report as plain values."""
    summary = summarise(results)
    return {
        "format": 1,
        "data": dict(data),
        "models": dict(models),
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


def summary_table(report: Mapping[str, Any], name: str) -> Table:
    """One row a model: shares in percent, and the counts behind them."""
    rows = []
    models = report["summary"].get(name, {})
    for model in ordered_names(models):
        counts = models[model]
        withheld = counts["to_name"] - counts["named_right"] - counts["named_wrong"]
        rows.append(
            [
                TITLES.get(model, model),
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


def loss_table(report: Mapping[str, Any]) -> Table:
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
        rows.append([TITLES.get(model, model), *cells])
    header = [
        "points against plain",
        *(f"{name}: {key}" for name in VARIANTS[1:] for key in ("recognised", "named right")),
    ]
    return header, rows


def film_table(report: Mapping[str, Any], name: str) -> Table:
    """One row a film and model."""
    rows = []
    for film in report["films"]:
        if film["variant"] != name:
            continue
        for model in ordered_names(film["models"]):
            counts = film["models"][model]
            rows.append(
                [
                    film["film"],
                    TITLES.get(model, model),
                    f"{counts['recognised']}/{counts['true']}",
                    f"{counts['right']}/{counts['predicted']}",
                    _percent(counts["mean_iou"]),
                    str(counts["said"] or counts["failure"] or ""),
                ]
            )
    header = ["film", "network", "recognised", "precision", "mean IoU", "names, and what has none"]
    return header, rows


def to_markdown(report: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """The report for a reader."""
    data = report["data"]
    lines = [
        f"# Real films: {data['name']}",
        "",
        f"{data['film_count']} films with corner truth (`{data['corners']}`), the sacrum in view "
        f"on {data['with_sacrum']}. Vertebrae L1 to L5, pooled over films. Recognised: one to one "
        "at IoU of at least 0.5. Names count where a vertebra was recognised and the sacrum is in "
        "view; no name is better than a wrong one. A careful outline reaches an IoU of 0.81 to "
        "0.94 against its own four corners.",
        "",
    ]
    for name in report["summary"]:
        lines += [f"## Films {name}", "", markdown_table(summary_table(report, name)), ""]
    if len(report["summary"]) > 1:
        lines += ["## Mirrored and scaled films", "", markdown_table(loss_table(report)), ""]
    for name in report["summary"]:
        lines += [f"## Film by film, {name}", ""]
        lines += [markdown_table(film_table(report, name), numbers=False), ""]
    lines += ["## Pictures", ""]
    lines += [f"![{file_name}]({file_name})\n" for file_name in pictures] or ["None.", ""]
    lines += ["## Networks", ""]
    lines += [
        f"- {TITLES.get(model, model)}: {said['version']}, preset {said['preset']}, weights "
        f"`{said['weights_sha256'][:16]}`"
        for model, said in report["models"].items()
        if said
    ]
    return "\n".join([*lines, ""])


def to_csv(report: Mapping[str, Any]) -> str:
    """One line a variant, film ("all" first) and model."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = [field.name for field in dataclasses.fields(ColumnCounts)]
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


# --- The command ---


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_evaluator.real_check",
        description="Recognition and names of vertebrae on films with corner truth.",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of films and corner file")
    parser.add_argument("--corners", type=Path, help="corner file (default: the one in the folder)")
    parser.add_argument("--report", type=Path, required=True, help="folder of the report")
    parser.add_argument(
        "--gateway",
        default=os.environ.get("SPINEZOO_GATEWAY_TARGET", "127.0.0.1:50050"),
        help="gRPC address of the gateway (default: %(default)s)",
    )
    parser.add_argument("--members", nargs="+", default=[], help="networks to ask (default: all)")
    parser.add_argument("--quorum", type=int, default=1, help="networks that must answer")
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="how films are sent"
    )
    parser.add_argument("--member-deadline-ms", type=int, help="default: the gateway's")
    parser.add_argument("--timeout-s", type=float, default=180.0, help="time a film has, in s")
    parser.add_argument("--no-pictures", action="store_true", help="write no pictures")
    return parser


async def run_check(arguments: argparse.Namespace) -> int:
    """Runs and reports; returns the exit code.

    Raises:
        SpineZooError: The run cannot start.
    """
    path = arguments.corners or find_corner_file(arguments.data)
    truths = read_corners(path)
    if not truths:
        raise AnnotationError(f"{path.name} lists no film; add one")
    missing = [truth.name for truth in truths if not (arguments.data / truth.name).is_file()]
    if missing:
        raise FilmError(f"not in {arguments.data.name!r}: {', '.join(missing)}; add the films")
    options = EnsembleOptions(
        member_names=tuple(arguments.members),
        quorum=arguments.quorum,
        member_deadline_ms=arguments.member_deadline_ms,
    )
    results: list[FilmResult] = []
    pictures: list[str] = []
    arguments.report.mkdir(parents=True, exist_ok=True)
    variants = [name for name in VARIANTS if name in arguments.variants]
    async with AsyncEnsembleClient(arguments.gateway) as ensemble:
        roster = await ensemble.list_models(timeout_s=30.0)
        with tqdm(total=len(truths) * len(variants), unit="film", disable=None) as bar:
            for truth in truths:
                film = await asyncio.to_thread(read_film_file, arguments.data / truth.name)
                if (film.height, film.width) != (truth.height, truth.width):
                    raise AnnotationError(
                        f"{truth.name} is {film.height} x {film.width} pixels, its truth says "
                        f"{truth.height} x {truth.width}; correct the corner file"
                    )
                for name in variants:
                    result, columns = await check_film(
                        ensemble, film, truth, name, options, arguments.timeout_s
                    )
                    results.append(result)
                    bar.update()
                    if name == "plain" and columns and not arguments.no_pictures:
                        file_name = f"film_{Path(truth.name).stem}.png"
                        picture = await asyncio.to_thread(picture_of, film, truth, result, columns)
                        picture.save(arguments.report / file_name)
                        pictures.append(file_name)
    data = {
        "name": arguments.data.resolve().name,
        "corners": path.name,
        "film_count": len(truths),
        "with_sacrum": sum(truth.s1_endplate is not None for truth in truths),
    }
    models = {
        member.member_name: None
        if member.model is None
        else {
            "version": member.model.version,
            "preset": member.model.preset,
            "weights_sha256": member.model.weights_sha256,
        }
        for member in roster.members
        if not arguments.members or member.member_name in arguments.members
    }
    report = build(results, data, models)
    (arguments.report / "report.md").write_text(to_markdown(report, pictures))
    (arguments.report / "report.csv").write_text(to_csv(report))
    (arguments.report / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    for name in variants:
        print(f"\nFilms {name}")
        print(text_table(summary_table(report, name)))
    if len(variants) > 1:
        print()
        print(text_table(loss_table(report)))
    print()
    print(text_table(film_table(report, variants[0])))
    print(f"\nreport: {arguments.report.name}/report.md")
    return int(any(result.failures for result in results))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = make_parser().parse_args(argv)
    try:
        return asyncio.run(run_check(arguments))
    except SpineZooError as error:
        print(f"the check cannot run: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
