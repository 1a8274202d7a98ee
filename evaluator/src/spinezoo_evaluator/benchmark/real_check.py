"""``python -m spinezoo_evaluator.benchmark.real_check``: names on films with corner truth.

::

    python -m spinezoo_evaluator.benchmark.real_check --data FOLDER --report reports/real-check

The folder holds films and one corner file (``spinezoo_spine.annotations.corners``). Every film
goes to the gateway as it is, mirrored, and scaled by 0.7 and 1.3; every network and the fused
ensemble are measured on L1 to L5: recognition at IoU 0.5 against the four-corner outlines,
precision, mean IoU of what was recognised, and names. Regions are taken apart first
(``spinezoo_spine.column.separation``), vertebrae named by ``spinezoo_spine.column.naming``. What
each figure means: ``docs/labelling.md``.

The gateway has to be running. Ends with 0 when every network answered every film, with 1
where one did not, with 2 where it cannot start or the gateway hangs, and with 130 when stopped.
``--check`` looks at films, corner file and options without any service: it ends with 0, or with 2
and says why.
"""

# ruff: noqa: T201 - a command: its table and its messages go to the terminal.
from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from spinezoo_contract.client import AsyncEnsembleClient
from spinezoo_contract.errors import (
    AnnotationError,
    FilmError,
    SpineZooError,
)
from spinezoo_contract.output import end_with_reader
from spinezoo_contract.status import error_name
from spinezoo_contract.tls import client_settings
from spinezoo_contract.types import (
    EnsembleOptions,
    Film,
    Labelling,
    Segment,
    UnnamedReason,
)
from spinezoo_serving.disk import alone_in, disk_errors_named, replace_file
from spinezoo_spine.annotations.corners import (
    CornerFilm,
    find_corner_file,
    read_corner_folder,
)
from spinezoo_spine.annotations.text import shown
from spinezoo_spine.column.reader.network import built_in_reader
from spinezoo_spine.films.reader import read_film_file, read_film_file_size
from tqdm import tqdm

from spinezoo_evaluator.benchmark.describe import describe_models, describe_reader
from spinezoo_evaluator.benchmark.measuring import columns_of
from spinezoo_evaluator.benchmark.options import (
    add_common_options,
    check_report_folder,
    positive,
)
from spinezoo_evaluator.benchmark.zoo import Patience, asked_networks, wait_for_gateway
from spinezoo_evaluator.measures.report import write_errors
from spinezoo_evaluator.measures.run import KeptFilm
from spinezoo_evaluator.measures.truth import of_corner_film
from spinezoo_evaluator.report.drawing import Row, Tile, sheet
from spinezoo_evaluator.report.names import ordered_names, titles_of
from spinezoo_evaluator.report.real_check import (
    build,
    film_table,
    loss_table,
    summary_table,
    to_csv,
    to_markdown,
    worst_films,
)
from spinezoo_evaluator.report.reliability import NAMES_FILE, names_picture
from spinezoo_evaluator.report.tables import text_table
from spinezoo_evaluator.report.write import plots_are_there, write_check_page
from spinezoo_evaluator.results.columns import ColumnCounts, count_column
from spinezoo_evaluator.results.corner_films import VARIANTS, FilmResult
from spinezoo_evaluator.results.records import FUSED, RunFolder, named

LEVELS = ("L1", "L2", "L3", "L4", "L5")
"""What is measured; T11, T12 and S1 are on too few films or have no outline."""


def measure_column(truth: CornerFilm, column: Labelling) -> ColumnCounts:
    """Counts one named column against the corner truth of its film."""
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
    patience: Patience,
    kept: list[KeptFilm] | None = None,
    folder: Path | None = None,
) -> tuple[FilmResult, dict[str, Labelling | None]]:
    """Asks for one film in one variant and counts every model's answer.

    An answer about a film as it is, which lies in ``folder``, goes into ``kept``, for its measures.
    """
    sent, expected = variant(film, truth, name)
    sacrum = truth.s1_endplate is not None
    try:
        answer = await ensemble.segment(sent, options, timeout_s=patience.timeout_s)
    except SpineZooError as error:
        patience.heard(error)
        failures = {FUSED: f"{error_name(error)}: {error}"}
        failed = {FUSED: ColumnCounts(failed=1)}
        return FilmResult(truth.name, name, sacrum, failed, {}, failures), {}
    patience.heard(None)
    if kept is not None and folder is not None and name == "plain":
        kept.append(KeptFilm.answered(of_corner_film(truth), answer, folder / truth.name))
    columns = await asyncio.to_thread(columns_of, answer, sent.pixels, built_in_reader())
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


def outlines_of(columns: Mapping[str, Labelling | None]) -> dict[str, tuple[Segment, ...]]:
    """The named vertebrae of every model that answered, to be kept beside the answers."""
    return {
        named(model): tuple(vertebra.segment for vertebra in column.vertebrae)
        for model, column in columns.items()
        if column is not None
    }


def picture_of(
    film: Film,
    truth: CornerFilm,
    result: FilmResult,
    columns: Mapping[str, Labelling | None],
    titles: Mapping[str, str],
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
        tiles.append(Tile(titles.get(model, model), caption, segments, named=True))
    row = Row(truth.name, film, outlines, tuple(tiles), complete_truth=False)
    return sheet([row], tile_height=520, columns=4)


def names_of_pictures(films: Sequence[str]) -> dict[str, str]:
    """The picture's file of each film, by the films' names: a film's own, whatever its ending."""
    stems = {name: Path(name).stem for name in films}
    counts = Counter(stems.values())
    return {
        name: f"film_{stem if counts[stem] == 1 else name.replace('/', '_')}.png"
        for name, stem in stems.items()
    }


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_evaluator.benchmark.real_check",
        description="Recognition and names of vertebrae on films with corner truth.",
    )
    add_common_options(parser, data="folder of films and corner file")
    parser.add_argument("--corners", type=Path, help="corner file (default: the one in the folder)")
    parser.add_argument("--quorum", type=positive, default=1, help="networks that must answer")
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="how films are sent"
    )
    return parser


def open_films(arguments: argparse.Namespace) -> tuple[Path, tuple[CornerFilm, ...]]:
    """The corner file, and the truth of every film to check.

    Raises:
        AnnotationError: No or a wrong corner file, or one that lists no film or a wrong size.
        FilmError: A film is missing or cannot be read.
        TooLargeError: A film is over a limit.
    """
    if not arguments.data.is_dir():
        raise FilmError(f"{arguments.data} is not a folder; give the folder that holds the films")
    path = arguments.corners or find_corner_file(arguments.data)
    truths, missing = read_corner_folder(arguments.data, path)
    if not truths:
        raise AnnotationError(f"{path.name} lists no film; add one")
    if missing:
        told = "; ".join(f"film {shown(name)!r} {why}" for name, why in missing.items())
        raise FilmError(f"{path.name}: {told}")
    truths = truths[: arguments.limit]
    for truth in truths:
        height, width = read_film_file_size(arguments.data / truth.name)
        if (height, width) != (truth.height, truth.width):
            raise AnnotationError(
                f"{truth.name} is {height} x {width} pixels, its truth says "
                f"{truth.height} x {truth.width}; correct the corner file"
            )
    return path, truths


async def run_check(arguments: argparse.Namespace) -> int:
    """Runs and reports; returns the exit code.

    Raises:
        SpineZooError: The run cannot start.
    """
    path, truths = open_films(arguments)
    with alone_in(arguments.report, "another run"):
        return await _check_films(arguments, path, truths)


async def _check_films(
    arguments: argparse.Namespace, path: Path, truths: tuple[CornerFilm, ...]
) -> int:
    """Asks for every film and reports; returns the exit code."""
    options = EnsembleOptions(
        member_names=tuple(arguments.networks),
        quorum=arguments.quorum,
        member_deadline_ms=arguments.member_deadline_ms,
    )
    results: list[FilmResult] = []
    pictures: list[str] = []
    kept: list[KeptFilm] = []
    folder = RunFolder(arguments.report)
    variants = [name for name in VARIANTS if name in arguments.variants]
    patience = Patience("gateway", arguments.timeout_s)
    async with AsyncEnsembleClient(arguments.gateway, **client_settings()) as ensemble:
        roster = await wait_for_gateway(ensemble, arguments.wait_s)
        networks = asked_networks(roster, arguments.networks)
        titles = titles_of(describe_models(roster))
        folder.clear()
        picture_names = names_of_pictures([truth.name for truth in truths])
        with tqdm(total=len(truths) * len(variants), unit="film", disable=None) as bar:
            for truth in truths:
                film = await asyncio.to_thread(read_film_file, arguments.data / truth.name)
                for name in variants:
                    result, columns = await check_film(
                        ensemble, film, truth, name, options, patience, kept,
                        arguments.data,
                    )  # fmt: skip
                    results.append(result)
                    bar.update()
                    patience.check()
                    if name == "plain":  # members too: measures can be checked again
                        members = kept[-1].members.items() if columns else ()
                        said = {member: tuple(segments) for member, segments in members}
                        folder.write_answer(truth.name, said | outlines_of(columns))
                    if name == "plain" and columns and not arguments.no_pictures:
                        file_name = picture_names[truth.name]
                        picture = await asyncio.to_thread(
                            picture_of, film, truth, result, columns, titles
                        )
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
            "architecture": member.model.architecture,
            "preset": member.model.preset,
            "weights_sha256": member.model.weights_sha256,
        }
        for member in roster.members
        if member.member_name in networks
    }
    report = build(results, data, models, describe_reader(roster))
    order = [picture_names[name] for name in worst_films(report)]
    pictures.sort(key=order.index)
    if not arguments.no_pictures:
        names_picture(report["summary"][variants[0]], titles).save(arguments.report / NAMES_FILE)
        pictures.insert(0, NAMES_FILE)
    replace_file(arguments.report / "report.md", to_markdown(report, pictures, titles))
    replace_file(arguments.report / "report.csv", to_csv(report))
    write_errors(arguments.report, kept)
    folder.write_json(folder.report_path, report)
    if plots_are_there():
        drawn = None if arguments.no_pictures else arguments.data
        write_check_page(report, truths, folder, drawn)
    for name in variants:
        print(f"\nFilms {name}")
        print(text_table(summary_table(report, name, titles)))
    if len(variants) > 1:
        print()
        print(text_table(loss_table(report, titles)))
    print()
    print(text_table(film_table(report, variants[0], titles)))
    print(f"\nreport: {arguments.report.name}/report.md and, to look at, index.html")
    return int(any(result.failures for result in results))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = make_parser().parse_args(argv)
    try:
        with disk_errors_named():
            if arguments.check:
                open_films(arguments)
                check_report_folder(arguments.report)
                return 0
            return asyncio.run(run_check(arguments))
    except SpineZooError as error:
        print(f"the check cannot run: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the next check begins anew", file=sys.stderr)
        return 130


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
