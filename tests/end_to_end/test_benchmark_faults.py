"""A benchmark goes on when networks die, and goes on where it was when it was stopped itself.

The zoos here are the tests' own, started as ``make benchmark`` starts one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from spinezoo_phantom import write_film_set

from end_to_end.support import (
    NETWORKS,
    SMALL,
    START_LIMIT_S,
    STOP_LIMIT_S,
    Zoo,
    room_python,
    started,
    wait_for,
)

FILMS = 8
RUN_LIMIT_S = 300.0
FIRST_KILLED = ("mask_rcnn", "unet")
THEN_KILLED = "pspnet"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small phantom test set."""
    folder = tmp_path_factory.mktemp("films") / "small"
    write_film_set(folder, count=FILMS, seed=7, settings=SMALL)
    return folder


def benchmark(films: Path, report: Path) -> list[str]:
    """The command that ``make benchmark`` runs beside the zoo."""
    return [
        room_python("evaluator"),
        "-m",
        "spinezoo_evaluator.benchmark",
        "--data",
        str(films),
        "--report",
        str(report),
        "--concurrency",
        "1",
    ]


def lines_of(report: Path) -> list[dict[str, Any]]:
    """What the run has recorded so far, a film a line."""
    try:
        text = (report / "films.jsonl").read_text()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@dataclass(frozen=True)
class Ended:
    """What two benchmarks in one zoo, five networks first and three killed on the way, left."""

    code: int
    output: str
    left: list[str]
    two_killed: Path
    three_killed: Path


@pytest.fixture(scope="module")
def ended(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Two runs one after the other; networks are killed by number in the middle of each."""
    folder = tmp_path_factory.mktemp("faults")
    zoo = Zoo.prepare(folder, SPINEZOO_QUORUM="3", SPINEZOO_DRAIN_S="5")
    two, three = folder / "two-killed", folder / "three-killed"
    both = "\n".join(
        [
            "set -e",
            " ".join(f"'{word}'" for word in benchmark(films, two)),
            " ".join(f"'{word}'" for word in benchmark(films, three)),
        ]
    )
    log = folder / "output.txt"
    command = zoo.command("--timeout-s", str(START_LIMIT_S), "run", "--", "bash", "-c", both)

    def recorded(report: Path, count: int) -> bool:
        assert process.poll() is None, log.read_text()
        return len(lines_of(report)) >= count

    with started(command, log, env=zoo.environment) as process:
        wait_for("two films", lambda: recorded(two, 2), START_LIMIT_S + RUN_LIMIT_S)
        pids = zoo.remember()
        for name in FIRST_KILLED:
            os.kill(pids[name], signal.SIGKILL)
        wait_for("a film of the second run", lambda: recorded(three, 1), RUN_LIMIT_S)
        zoo.remember()
        os.kill(pids[THEN_KILLED], signal.SIGKILL)
        code = process.wait(RUN_LIMIT_S + STOP_LIMIT_S)
    return Ended(code, log.read_text(), zoo.watch.left(), two, three)


def test_with_two_killed_every_film_is_answered_and_the_two_are_named(ended: Ended) -> None:
    records = {each["film"]: each for each in lines_of(ended.two_killed)}
    assert len(records) == FILMS
    assert all(each["failure"] is None for each in records.values())
    assert all(each["fused"]["measurement"] is not None for each in records.values())
    report = json.loads((ended.two_killed / "report.json").read_text())
    assert report["films"]["asked"] == report["films"]["measured"] == FILMS
    assert report["models"]["fused ensemble"]["films_measured"] == FILMS
    for name in NETWORKS:
        model = report["models"][name]
        assert model["films_measured"] + model["films_failed"] == FILMS, "no film is dropped"
        if name in FIRST_KILLED:
            assert FILMS - 3 <= model["films_failed"] <= FILMS - 2, name
        else:
            assert model["films_failed"] == 0, name
    assert {failure["model"] for failure in report["failures"]} == set(FIRST_KILLED)
    assert {failure["reason"] for failure in report["failures"]} == {"unavailable"}
    text = (ended.two_killed / "report.md").read_text()
    for failure in report["failures"]:
        assert failure["film"] in text
    for title in ("U-Net", "Mask R-CNN"):
        assert title in text


def test_with_three_killed_films_fail_by_name_and_the_report_is_there(ended: Ended) -> None:
    report = json.loads((ended.three_killed / "report.json").read_text())
    assert report["films"]["asked"] == FILMS
    assert 1 <= report["films"]["measured"] <= 2
    failed = report["films"]["failed"]
    assert len(failed) == FILMS - report["films"]["measured"]
    text = (ended.three_killed / "report.md").read_text()
    of_films = {f["film"]: f for f in report["failures"] if f["model"] == "all"}
    assert sorted(of_films) == sorted(failed)
    for name, failure in of_films.items():
        assert failure["reason"] == "QuorumError"
        for member in (*FIRST_KILLED, THEN_KILLED):
            assert member in failure["message"], name
        assert name in text
    for name in NETWORKS:
        model = report["models"][name]
        assert model["films_measured"] + model["films_failed"] == FILMS


def test_the_runs_end_well_and_leave_no_process(ended: Ended) -> None:
    assert ended.code == 0, ended.output
    assert ended.left == []
    for name in (*FIRST_KILLED, THEN_KILLED):
        assert f"{name} was ended by SIGKILL" in ended.output
    assert "the zoo is stopped" in ended.output
    assert ended.output.count("report.md") == 2


def test_ctrl_c_stops_all_and_the_same_command_goes_on(
    zoo: Zoo, films: Path, tmp_path: Path
) -> None:
    """The stopped run has a zoo of its own; it is continued in the shared one."""
    report = tmp_path / "report"
    log = tmp_path / "output.txt"
    own = Zoo.prepare(tmp_path / "own", SPINEZOO_DRAIN_S="5")
    command = own.command("--timeout-s", str(START_LIMIT_S), "run", "--", *benchmark(films, report))

    def recorded() -> bool:
        assert process.poll() is None, log.read_text()
        return len(lines_of(report)) >= 2

    with started(command, log, env=own.environment) as process:
        wait_for("two films", recorded, START_LIMIT_S + RUN_LIMIT_S)
        own.remember()
        process.send_signal(signal.SIGINT)
        code = process.wait(STOP_LIMIT_S)
    assert code == 130, log.read_text()
    assert "the same command goes on from there" in log.read_text()
    assert own.watch.left() == []
    before = lines_of(report)
    assert 2 <= len(before) < FILMS
    assert not (report / "report.json").exists()

    targets = {
        "SPINEZOO_GATEWAY_TARGET": zoo.grpc("gateway"),
        "SPINEZOO_EVALUATOR_TARGET": zoo.grpc("evaluator"),
    }
    done = subprocess.run(
        benchmark(films, report),
        env={**zoo.environment, **targets},
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    after = lines_of(report)
    assert after[: len(before)] == before
    names = [each["film"] for each in after]
    assert len(names) == len(set(names)) == FILMS
    written = json.loads((report / "report.json").read_text())
    assert written["films"]["measured"] == written["films"]["complete"] == FILMS
    assert written["evaluator"]["agrees"] == 1
    assert len(written["run"]["resumed"]) == 1
