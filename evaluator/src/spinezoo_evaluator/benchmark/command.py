"""``python -m spinezoo_evaluator.benchmark``: a set of films through the zoo, and the report.

::

    python -m spinezoo_evaluator.benchmark --data FOLDER --report reports/RUN

The folder holds films (DICOM, PNG, JPEG, TIFF) and one annotation file (VIA or COCO). Gateway and
evaluator have to be running. The outlines are checked first: an error stops, unless
``--skip-bad-regions`` goes on without what is wrong and names it. A run that was stopped is
continued by the same command; films that are done are not measured again. A finished run is
measured anew, unless ``--resume`` asks for what is missing. Ends with 0 when at least one film was
measured and the evaluator service agrees with every figure, with 1 otherwise, with 2 where it
cannot start or a service hangs, and with 130 when stopped. ``--check`` looks at films, outlines and
options only, before anything is started: 0, or 2 and why.
"""

# ruff: noqa: T201 - a command: its table and its messages go to the terminal.
from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import multiprocessing
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spinezoo_contract.client import AsyncEnsembleClient, AsyncEvaluationClient
from spinezoo_contract.errors import (
    BadInputError,
    ConfigurationError,
    DeadlineError,
    SpineZooError,
)
from spinezoo_contract.tls import client_settings
from spinezoo_contract.types import EnsembleOptions, FusionOptions, FusionRule, Roster
from spinezoo_contract.words import are, counted
from spinezoo_serving.disk import alone_in, disk_errors_named
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.annotations.options import add_outline_options, outline_options
from tqdm import tqdm

from spinezoo_evaluator.benchmark.describe import (
    describe_data,
    describe_findings,
    describe_machine,
    describe_models,
    describe_reader,
    shown_command,
    shown_path,
    versions,
    why_another,
)
from spinezoo_evaluator.benchmark.options import (
    add_common_options,
    check_report_folder,
    positive,
    settings_for,
)
from spinezoo_evaluator.benchmark.runner import Runner
from spinezoo_evaluator.benchmark.zoo import asked_networks, wait_for_evaluator, wait_for_gateway
from spinezoo_evaluator.measures.report import write_measures
from spinezoo_evaluator.report.page.render import PAGE_FILE
from spinezoo_evaluator.report.tables import table_1
from spinezoo_evaluator.report.write import write_report
from spinezoo_evaluator.results.records import FilmRecord, RunFolder

log = logging.getLogger("spinezoo.benchmark")

MOST_PRINTED = 20
"""Findings of a kind that the console shows; the report holds all."""


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_evaluator.benchmark",
        description="Measures the zoo on a folder of films with outlines and writes a report.",
    )
    add_common_options(parser, data="folder of films and outlines")
    parser.add_argument(
        "--annotations", type=Path, help="VIA or COCO file (default: the one in the folder)"
    )
    add_outline_options(parser)
    parser.add_argument(
        "--evaluator",
        default=settings_for(parser).evaluator_target,
        help="gRPC address of the evaluator (default: %(default)s)",
    )
    parser.add_argument(
        "--concurrency", type=positive, default=2, help="films under way at the same time"
    )
    parser.add_argument(
        "--fusion",
        choices=[rule.name.lower() for rule in FusionRule],
        default=FusionRule.MAJORITY.name.lower(),
    )
    parser.add_argument("--quorum", type=positive, help="default: the gateway's")
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in the report's folder, finished or not; measures what is missing",
    )
    again.add_argument("--fresh", action="store_true", help="forget what the folder holds")
    parser.add_argument(
        "--retry-failed", action="store_true", help="with --resume: films with a failure as well"
    )
    return parser


def prepare_folder(
    folder: RunFolder, run: dict[str, Any], arguments: argparse.Namespace
) -> dict[str, FilmRecord]:
    """Decides whether the run in the folder is continued, and readies the folder.

    Returns:
        Films that are done, by name.

    Raises:
        ConfigurationError: ``--resume`` asks to continue another run.
    """
    old = folder.read_run() if not arguments.fresh else None
    if old is not None:
        reason = why_another(old, run)
        finished = folder.report_path.is_file()
        if arguments.resume and reason:
            raise ConfigurationError(
                f"the run in {shown_path(folder.path)} cannot be continued: {reason}; give "
                "--fresh, or another --report"
            )
        if arguments.resume or (not finished and reason is None):
            run["started"] = old.get("started", run["started"])
            run["resumed"] = [*old.get("resumed", []), _now()]
            # What a member said first counts: a member that is away now has said it then.
            known = {name: model for name, model in old.get("models", {}).items() if model}
            run["models"] = {**run["models"], **known}
            folder.report_path.unlink(missing_ok=True)
            folder.write_json(folder.run_path, run)
            return folder.read_films()
        if not finished:
            log.warning("the unfinished run in the folder is dropped: %s", reason)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.clear()
    folder.write_json(folder.run_path, run)
    return {}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def open_films(arguments: argparse.Namespace) -> tuple[FilmSet, list[str]]:
    """The films and outlines of a run, and the names of those to measure.

    Raises:
        SpineZooError: There are none, or something about them is wrong.
    """
    options = outline_options(arguments)
    films = FilmSet.open(
        arguments.data,
        arguments.annotations,
        class_attribute=options.class_attribute,
        classes=options.classes,
        skip_bad_regions=options.skip_bad_regions,
    )
    names = list(films.names)[: arguments.limit]
    if not names:
        raise BadInputError("no film has outlines; annotate at least one")
    if not any(films.annotation(name).regions for name in names):
        raise BadInputError(
            f"of {counted(len(names), 'film')} to measure none has a region, so there is no "
            "truth; check that it is the right annotation file, and that it was saved with its "
            "outlines"
        )
    return films, names


def print_findings(films: FilmSet, names: Sequence[str]) -> None:
    """Prints what is wrong with outlines and goes on all the same, and the films left out."""
    described = describe_findings(films, names)
    for title, found in (
        ("skipped regions and films", described["skipped"]),
        ("warnings on outlines", described["warnings"]),
        ("films left out", described["left_out"]),
    ):
        if found:
            print(f"{title}: {len(found)}", file=sys.stderr)
        for entry in found[:MOST_PRINTED]:
            print(f"  {entry['place']}: {entry['why']}", file=sys.stderr)
        if len(found) > MOST_PRINTED:
            print(f"  and {len(found) - MOST_PRINTED} more, all in the report", file=sys.stderr)


def check(arguments: argparse.Namespace) -> int:
    """Refuses, without any service, what a run would refuse.

    Raises:
        SpineZooError: The run could not start.
    """
    films, names = open_films(arguments)
    print_findings(films, names)
    check_report_folder(arguments.report)
    folder = RunFolder(arguments.report)
    if not arguments.fresh:
        folder.read_run()
    if arguments.resume:
        folder.read_films()
    return 0


async def run_benchmark(
    arguments: argparse.Namespace, argv: Sequence[str], held: contextlib.ExitStack
) -> int:
    """Runs and reports; see the module's text for the exit codes.

    Args:
        arguments: The command line.
        argv: The same, as it was given.
        held: Holds the report's folder once the run can start.

    Raises:
        SpineZooError: The run cannot start.
    """
    films, names = open_films(arguments)
    folder = RunFolder(arguments.report)
    access = client_settings()
    async with (
        AsyncEnsembleClient(arguments.gateway, **access) as ensemble,
        AsyncEvaluationClient(arguments.evaluator, **access) as evaluation,
    ):
        end = time.monotonic() + arguments.wait_s
        roster = await wait_for_gateway(ensemble, arguments.wait_s)
        await wait_for_evaluator(
            arguments.evaluator, max(0.0, end - time.monotonic()), access["security"]
        )
        networks = asked_networks(roster, arguments.networks)
        run = _describe_run(arguments, argv, films, names, networks, roster)
        held.enter_context(alone_in(arguments.report, "another run"))
        done = prepare_folder(folder, run, arguments)
        if arguments.retry_failed:
            done = {name: record for name, record in done.items() if record.complete}
        records = {name: done[name] for name in names if name in done}
        runner = Runner(
            films,
            folder,
            ensemble,
            evaluation,
            options=EnsembleOptions(
                member_names=tuple(arguments.networks),
                fusion=FusionOptions(FusionRule[arguments.fusion.upper()]),
                quorum=arguments.quorum,
                member_deadline_ms=arguments.member_deadline_ms,
            ),
            timeout_s=arguments.timeout_s,
            checked=any(r.evaluator.startswith(("agrees", "differs")) for r in records.values()),
        )
        await _measure(runner, names, networks, records, arguments.concurrency, arguments.fresh)
    run["finished"] = _now()
    # Nothing is awaited any more that could be cancelled.
    for number in _STOPS:
        asyncio.get_running_loop().remove_signal_handler(number)
    return report_run(run, [records[name] for name in names], films, folder, arguments)


def _describe_run(
    arguments: argparse.Namespace,
    argv: Sequence[str],
    films: FilmSet,
    names: Sequence[str],
    networks: Sequence[str],
    roster: Roster,
) -> dict[str, Any]:
    """What a run is: all that it takes to repeat it, JSON-ready."""
    return {
        "command": shown_command(argv),
        "started": _now(),
        "data": describe_data(films, names),
        "options": {
            "outlines": outline_options(arguments).to_json(),
            "limit": arguments.limit,
            "concurrency": arguments.concurrency,
            "fusion": arguments.fusion,
            "members": list(networks),
            "quorum": arguments.quorum or roster.default_quorum,
            "member_deadline_ms": (
                arguments.member_deadline_ms or roster.default_member_deadline_ms
            ),
        },
        "models": {k: v for k, v in describe_models(roster).items() if k in networks},
        "reader": describe_reader(roster),
        "versions": versions(),
        "machine": describe_machine(),
    }


async def _measure(
    runner: Runner,
    names: Sequence[str],
    networks: Sequence[str],
    records: dict[str, FilmRecord],
    concurrency: int,
    fresh: bool,
) -> None:
    """Measures the films that have no record yet, and shows how far it is.

    Args:
        runner: Measures films.
        names: Of all films.
        networks: Names of those asked.
        records: Of the films that are done; the others' are added.
        concurrency: Films under way at the same time.
        fresh: Whether the command forgets a run that was stopped.
    """
    failed = sum(not record.complete for record in records.values())
    waiting = [name for name in names if name not in records]
    with tqdm(
        total=len(names), initial=len(records), unit="film", desc="benchmark", disable=None
    ) as bar:

        def count(record: FilmRecord) -> None:
            nonlocal failed
            records[record.name] = record
            failed += not record.complete
            bar.update()
            if failed:
                bar.set_postfix_str(f"{failed} with a failure")

        try:
            await runner.run(waiting, networks, concurrency=concurrency, done=count)
        except DeadlineError as error:
            raise DeadlineError(
                f"{error}; then --resume --retry-failed goes on from there"
            ) from error
        except asyncio.CancelledError:
            bar.close()
            print(
                f"\nstopped: {len(records)} of {counted(len(names), 'film')} {are(len(names))} "
                f"done; {_how_on(fresh)}",
                file=sys.stderr,
            )
            raise


def report_run(
    run: Mapping[str, Any],
    records: Sequence[FilmRecord],
    films: FilmSet,
    folder: RunFolder,
    arguments: argparse.Namespace,
) -> int:
    """Writes the report, prints the table and where the report is; returns the exit code."""
    with ThreadPoolExecutor(1) as beside:
        # Other processes measure while this one draws.
        measures = beside.submit(write_measures, arguments.data, folder.path)
        try:
            report = write_report(run, records, films, folder, draw=not arguments.no_pictures)
            measures.result()
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    asked, measured = report["films"]["asked"], report["films"]["measured"]
    print("\nMerged binary mask, mean over films, in percent; below each row the study's figure")
    print(table_1(report))
    print()
    if report["failures"]:
        print(
            f"{counted(len(report['failures']), 'failure')}, all named in the report; films "
            f"without an answer: {asked - measured} of {asked}"
        )
    print_findings(films, [record.name for record in records])
    check = report["evaluator"]
    if check["differs"]:
        print(f"THE EVALUATOR SERVICE DIFFERS on: {', '.join(check['differs'])}")
    if check["no_answer"]:
        print(f"the evaluator service gave no answer on {counted(len(check['no_answer']), 'film')}")
    if measured == 0:
        print("no film was measured; see the failures in the report")
    print(f"report: {shown_path(folder.path / 'report.md')} and, to look at, {PAGE_FILE}")
    return 1 if measured == 0 or check["differs"] else 0


def _how_on(fresh: bool) -> str:
    """How a run that was stopped goes on; ``--fresh`` would forget it."""
    return f"the same command{', without --fresh,' if fresh else ''} goes on from there"


_STOPS = (signal.SIGTERM, signal.SIGINT)


class _BarHandler(logging.Handler):
    """Writes log lines above the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):
            tqdm.write(self.format(record), file=sys.stderr)


async def _until_stopped(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    with contextlib.ExitStack() as held:
        task = asyncio.create_task(run_benchmark(arguments, argv, held))
        loop = asyncio.get_running_loop()
        for number in _STOPS:
            loop.add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.retry_failed and not arguments.resume:
        parser.error("--retry-failed needs --resume")
    handler = _BarHandler(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger("spinezoo").addHandler(handler)
    try:
        with disk_errors_named():
            if arguments.check:
                return check(arguments)
            return asyncio.run(_until_stopped(arguments, argv))
    except SpineZooError as error:
        print(f"the benchmark cannot run: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; {_how_on(arguments.fresh)}", file=sys.stderr)
        return 130
