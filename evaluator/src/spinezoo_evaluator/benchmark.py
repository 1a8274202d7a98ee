"""``python -m spinezoo_evaluator.benchmark``: a set of films through the zoo, and the report.

::

    python -m spinezoo_evaluator.benchmark --data FOLDER --report reports/RUN

The folder holds films (DICOM, PNG, JPEG, TIFF) and one annotation file (VIA or COCO). Gateway and
evaluator have to be running. A run that was stopped is continued by the same command; films that
are done are not measured again. A finished run is measured anew, unless ``--resume`` asks for what
is missing. Ends with 0 when at least one film was measured and the evaluator service agrees with
every figure, with 1 otherwise, with 2 where it cannot start, and with 130 when stopped.
"""

# ruff: noqa: T201 - a command: its table and its messages go to the terminal.
from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from spinezoo_contract.client import AsyncEnsembleClient, AsyncEvaluationClient
from spinezoo_contract.errors import (
    AccessError,
    BadInputError,
    ConfigurationError,
    NotServingError,
    OptionError,
    SpineZooError,
)
from spinezoo_contract.tls import ClientSecurity, client_settings
from spinezoo_contract.types import EnsembleOptions, FusionOptions, FusionRule, Roster
from spinezoo_spine.annotations.film_set import FilmSet
from tqdm import tqdm

from spinezoo_evaluator.records import FilmRecord, RunFolder
from spinezoo_evaluator.report import table_1, write_answer_picture, write_report
from spinezoo_evaluator.runner import FUSED, Runner

log = logging.getLogger("spinezoo.benchmark")

VERSIONED = (
    "spinezoo-contract",
    "spinezoo-spine",
    "spinezoo-evaluator",
    "numpy",
    "scipy",
    "opencv-python-headless",
    "pillow",
    "pycocotools",
    "pydicom",
    "grpcio",
    "protobuf",
)
"""Distributions whose versions a report names."""


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    default_host = "127.0.0.1"
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_evaluator.benchmark",
        description="Measures the zoo on a folder of films with outlines and writes a report.",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of films and outlines")
    parser.add_argument(
        "--annotations", type=Path, help="VIA or COCO file (default: the one in the folder)"
    )
    parser.add_argument("--report", type=Path, required=True, help="folder of the report")
    parser.add_argument(
        "--gateway",
        default=os.environ.get("SPINEZOO_GATEWAY_TARGET", f"{default_host}:50050"),
        help="gRPC address of the gateway (default: %(default)s)",
    )
    parser.add_argument(
        "--evaluator",
        default=os.environ.get("SPINEZOO_EVALUATOR_TARGET", f"{default_host}:50060"),
        help="gRPC address of the evaluator (default: %(default)s)",
    )
    parser.add_argument("--limit", type=_positive, help="measure only the first N films by name")
    parser.add_argument(
        "--concurrency", type=_positive, default=2, help="films under way at the same time"
    )
    parser.add_argument(
        "--fusion",
        choices=[rule.name.lower() for rule in FusionRule],
        default=FusionRule.MAJORITY.name.lower(),
    )
    parser.add_argument("--members", nargs="+", default=[], help="networks to ask (default: all)")
    parser.add_argument("--quorum", type=_positive, help="default: the gateway's")
    parser.add_argument("--member-deadline-ms", type=_positive, help="default: the gateway's")
    parser.add_argument("--timeout-s", type=float, default=180.0, help="time a film has, in s")
    parser.add_argument(
        "--wait-s", type=float, default=30.0, help="wait so long for gateway and evaluator, in s"
    )
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
    parser.add_argument("--no-pictures", action="store_true", help="write no picture sheet")
    parser.add_argument(
        "--picture", type=Path, help="also write one picture of an answer to this PNG file"
    )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("give 1 or more")
    return value


# --- What a run is ---


def file_sha256(path: Path) -> str:
    """Lower-case hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shown_path(path: Path) -> str:
    """A path as a report may name it: relative to where the command ran, or its last part."""
    with contextlib.suppress(ValueError):
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix()
    return path.name


def shown_command(argv: Sequence[str]) -> str:
    """The command line without absolute paths."""
    words = ["python", "-m", "spinezoo_evaluator.benchmark"]
    for word in argv:
        option, equals, value = word.partition("=")
        if equals and option.startswith("--") and Path(value).is_absolute():
            word = f"{option}={shown_path(Path(value))}"
        elif Path(word).is_absolute():
            word = shown_path(Path(word))
        words.append(word)
    return shlex.join(words)


def describe_data(films: FilmSet) -> dict[str, Any]:
    """The films of a run: enough to know the same ones again."""
    assert films.annotations_path is not None
    names = "\n".join(f"{name} {films.path(name).stat().st_size}" for name in films.names)
    described: dict[str, Any] = {
        "name": films.folder.resolve().name,
        "annotations": films.annotations_path.name,
        "annotations_sha256": file_sha256(films.annotations_path),
        "film_count": len(films.names),
        "names_and_sizes_sha256": hashlib.sha256(names.encode()).hexdigest(),
        "unannotated": list(films.unannotated),
    }
    phantom = films.folder / "phantom.json"
    if phantom.is_file():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            record = json.loads(phantom.read_text())
            described["phantom"] = {
                key: record[key] for key in ("generator", "seed", "count", "file_format")
            }
    return described


def describe_models(roster: Roster) -> dict[str, Any]:
    """What each member says of itself; None where it has not been reached."""
    return {
        member.member_name: None
        if member.model is None
        else {
            "version": member.model.version,
            "architecture": member.model.architecture,
            "family": member.model.family.name.lower(),
            "preset": member.model.preset,
            "weights_sha256": member.model.weights_sha256,
            "card_sha256": member.model.card_sha256,
        }
        for member in roster.members
    }


def describe_machine() -> str:
    """Processor architecture, number of processors and system, without the machine's name."""
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors, "
        f"Python {platform.python_version()}"
    )


def versions() -> dict[str, str]:
    """Versions of what measures."""
    found = {}
    for name in VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def why_another(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Why a run cannot be continued as another, or None where it can."""
    for key in ("annotations_sha256", "names_and_sizes_sha256"):
        if old.get("data", {}).get(key) != new["data"][key]:
            return "the films or their outlines are others"
    for key in ("fusion", "members", "quorum", "member_deadline_ms"):
        if old.get("options", {}).get(key) != new["options"][key]:
            return f"--{key.replace('_', '-')} is another"
    for name, model in new["models"].items():
        before = old.get("models", {}).get(name)
        if before and model and before["weights_sha256"] != model["weights_sha256"]:
            return f"{name} has other weights"
    return None


# --- The run ---


async def wait_for_services(
    ensemble: AsyncEnsembleClient,
    evaluator: str,
    wait_s: float,
    security: ClientSecurity = ClientSecurity(),
) -> Roster:
    """Waits until gateway and evaluator answer.

    Raises:
        NotServingError: One of them did not in time.
        AccessError: The gateway asks for a token, and there is none or not the right one.
    """
    end = time.monotonic() + wait_s
    while True:
        try:
            roster = await ensemble.list_models(timeout_s=10.0)
            break
        except AccessError as error:
            raise AccessError(
                f"the gateway at {ensemble.target} lets nobody in without a token ({error}); set "
                "SPINEZOO_TOKEN_FILE"
            ) from error
        except SpineZooError as error:
            if time.monotonic() >= end:
                raise NotServingError(
                    f"the gateway at {ensemble.target} does not answer ({error}); start the zoo "
                    "with `make up`, or give --gateway"
                ) from error
            await asyncio.sleep(0.5)
    async with security.aio_channel(evaluator) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while True:
            try:
                answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=5.0)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return roster
                problem = "it is not serving"
            except grpc.aio.AioRpcError as error:
                problem = error.code().name
            if time.monotonic() >= end:
                raise NotServingError(
                    f"the evaluator at {evaluator} does not answer ({problem}); start the zoo "
                    "with `make up`, or give --evaluator"
                )
            await asyncio.sleep(0.5)


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


async def run_benchmark(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Runs and reports; see the module's text for the exit codes.

    Raises:
        SpineZooError: The run cannot start.
    """
    films = FilmSet.open(arguments.data, arguments.annotations)
    names = list(films.names)[: arguments.limit]
    if not names:
        raise BadInputError("no film has outlines; annotate at least one")
    folder = RunFolder(arguments.report)
    access = client_settings(os.environ)
    async with (
        AsyncEnsembleClient(arguments.gateway, **access) as ensemble,
        AsyncEvaluationClient(arguments.evaluator, **access) as evaluation,
    ):
        roster = await wait_for_services(
            ensemble, arguments.evaluator, arguments.wait_s, access["security"]
        )
        members = _asked_members(roster, arguments.members)
        run: dict[str, Any] = {
            "command": shown_command(argv),
            "started": _now(),
            "data": describe_data(films),
            "options": {
                "limit": arguments.limit,
                "concurrency": arguments.concurrency,
                "fusion": arguments.fusion,
                "members": members,
                "quorum": arguments.quorum or roster.default_quorum,
                "member_deadline_ms": (
                    arguments.member_deadline_ms or roster.default_member_deadline_ms
                ),
            },
            "models": {k: v for k, v in describe_models(roster).items() if k in members},
            "versions": versions(),
            "machine": describe_machine(),
        }
        done = prepare_folder(folder, run, arguments)
        if arguments.retry_failed:
            done = {name: record for name, record in done.items() if record.complete}
        waiting = [name for name in names if name not in done]
        records = {name: done[name] for name in names if name in done}
        runner = Runner(
            films,
            folder,
            ensemble,
            evaluation,
            options=EnsembleOptions(
                member_names=tuple(arguments.members),
                fusion=FusionOptions(FusionRule[arguments.fusion.upper()]),
                quorum=arguments.quorum,
                member_deadline_ms=arguments.member_deadline_ms,
            ),
            timeout_s=arguments.timeout_s,
        )
        failed = sum(not record.complete for record in records.values())
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
                await runner.run(waiting, members, concurrency=arguments.concurrency, done=count)
            except asyncio.CancelledError:
                bar.close()
                print(
                    f"\nstopped: {len(records)} of {len(names)} films are done; "
                    "the same command goes on from there",
                    file=sys.stderr,
                )
                raise
    run["finished"] = _now()
    return report_run(run, [records[name] for name in names], films, folder, arguments)


def _asked_members(roster: Roster, wanted: Sequence[str]) -> list[str]:
    known = [member.member_name for member in roster.members]
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise OptionError(
            f"no network {', '.join(unknown)} in the roster; there are: {', '.join(known)}"
        )
    if not known:
        raise ConfigurationError("the gateway's roster is empty; start the networks first")
    if FUSED in known:
        raise ConfigurationError(f"a member is called {FUSED!r}; give it another name")
    return sorted(wanted) if wanted else known


def report_run(
    run: Mapping[str, Any],
    records: Sequence[FilmRecord],
    films: FilmSet,
    folder: RunFolder,
    arguments: argparse.Namespace,
) -> int:
    """Writes the report, prints the table and where the report is; returns the exit code."""
    report = write_report(run, records, films, folder, draw=not arguments.no_pictures)
    if arguments.picture is not None:
        film = write_answer_picture(records, films, folder, arguments.picture)
        shown = shown_path(arguments.picture)
        print(f"picture of film {film}: {shown}" if film else f"{shown} not written: no answers")
    asked, measured = report["films"]["asked"], report["films"]["measured"]
    print("\nMerged binary mask, mean over films, in percent; below each row the study's figure")
    print(table_1(report))
    print()
    if report["failures"]:
        print(
            f"{len(report['failures'])} failures, all named in the report; films without an "
            f"answer: {asked - measured} of {asked}"
        )
    check = report["evaluator"]
    if check["differs"]:
        print(f"THE EVALUATOR SERVICE DIFFERS on: {', '.join(check['differs'])}")
    if check["no_answer"]:
        print(f"the evaluator service gave no answer on {len(check['no_answer'])} films")
    if measured == 0:
        print("no film was measured; see the failures in the report")
    print(f"report: {shown_path(folder.path / 'report.md')}")
    return 1 if measured == 0 or check["differs"] else 0


class _BarHandler(logging.Handler):
    """Writes log lines above the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):
            tqdm.write(self.format(record), file=sys.stderr)


async def _until_stopped(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    task = asyncio.create_task(run_benchmark(arguments, argv))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
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
        return asyncio.run(_until_stopped(arguments, argv))
    except SpineZooError as error:
        print(f"the benchmark cannot run: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
