"""Implants are fused in a process of their own; where it fails, without it and with one answer."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from spinezoo_contract.errors import OptionError
from spinezoo_contract.masks import encode_mask
from spinezoo_contract.types import (
    Film,
    FusedAnswer,
    FusedImplant,
    FusionOptions,
    Segment,
    SegmentKind,
    Structure,
)
from spinezoo_gateway import metal
from spinezoo_gateway.members import Vote, vote_of
from spinezoo_gateway.metal import FilmMetal, Handed, ImplantProcess, ImplantProcesses
from spinezoo_gateway.service import fuse_and_name
from spinezoo_spine.column.reader.network import built_in_reader
from spinezoo_testing.servers import until

SIZE = 900, 500


def _segment(structure: Structure, kind: SegmentKind, pixels: NDArray[np.uint8]) -> Segment:
    mask = encode_mask(pixels > 0)
    return Segment(structure, kind, mask, 0.9, mask.box)


def _answers() -> tuple[dict[str, list[Segment]], Film]:
    """Three members that see two rods with a screw in each, as regions and as outlines, and one
    that sees bone only; and a film of it."""
    shown = np.random.default_rng(3).normal(9000.0, 200.0, SIZE)
    bone, screws, rods = (np.zeros(SIZE, np.uint8) for _ in range(3))
    cv2.rectangle(bone, (120, 300), (240, 380), 1, -1)
    drawn = []
    for x in (260, 330):
        rod, screw = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
        cv2.line(rod, (x, 180), (x + 15, 700), 1, 14)
        cv2.line(screw, (x, 330), (x - 110, 320), 1, 12)
        shown += 6000.0 * (rod + screw)
        drawn += [(Structure.ROD, rod), (Structure.SCREW, screw)]
        rods, screws = rods | rod, screws | screw
    rods &= ~screws & 1
    outlines = [_segment(what, SegmentKind.INSTANCE, pixels) for what, pixels in drawn]
    regions = [
        _segment(Structure.LUMBAR_VERTEBRA, SegmentKind.REGION, bone),
        _segment(Structure.SCREW, SegmentKind.REGION, screws),
        _segment(Structure.ROD, SegmentKind.REGION, rods),
    ]
    film = Film(np.clip(shown, 0, 65_535).astype(np.uint16), 0.4, 0.4)
    said = {"a": outlines, "b": regions, "c": [*regions[:1], *outlines], "d": regions[:1]}
    return said, film


ANSWERS, FILM = _answers()


def votes(taking: FilmMetal | None) -> dict[str, Vote]:
    return {name: vote_of(said, *SIZE, taking) for name, said in ANSWERS.items()}


def fused(taking: FilmMetal | None, given: dict[str, Vote] | None = None) -> FusedAnswer:
    given = votes(taking) if given is None else given
    return fuse_and_name(given, FusionOptions(), FILM, built_in_reader(), None, None, metal=taking)


@pytest.fixture(scope="module")
def expected() -> FusedAnswer:
    """What the gateway's threads answer."""
    answer = fused(None)
    kinds = [implant.segment.structure for implant in answer.implants]
    assert kinds.count(Structure.ROD) == kinds.count(Structure.SCREW) == 2
    return answer


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[ImplantProcesses]:
    monkeypatch.setattr(metal, "AGAIN_S", 0.0)
    monkeypatch.setattr(metal, "ANSWER_S", 2.0)
    made = ImplantProcesses(1)
    made.start()
    assert until(lambda: idle(made) is not None, 30.0)
    yield made
    made.stop()


def idle(processes: ImplantProcesses) -> ImplantProcess | None:
    """The process where it is free."""
    process = processes.borrow()
    if process is not None:
        processes.give_back(process)
    return process


def handed(given: dict[str, Vote]) -> list[str]:
    """Members whose implants the process has."""
    return [name for name, vote in given.items() if isinstance(vote.implants.result(), Handed)]


def test_the_process_answers_as_threads_do(
    processes: ImplantProcesses, expected: FusedAnswer
) -> None:
    for _ in range(2):
        taking = FilmMetal(processes)
        given = votes(taking)
        assert handed(given) == ["a", "b", "c"]
        assert fused(taking, given) == expected
        assert idle(processes) is not None


def test_films_beside_are_fused_in_the_gateway(
    processes: ImplantProcesses, expected: FusedAnswer
) -> None:
    first, second = FilmMetal(processes), FilmMetal(processes)
    given, others = votes(first), votes(second)
    assert handed(given)
    assert not handed(others)
    assert fused(second, others) == expected
    assert fused(first, given) == expected


def test_a_film_without_implants_takes_no_process(processes: ImplantProcesses) -> None:
    taking = FilmMetal(processes)
    given = {name: vote_of(ANSWERS["d"], *SIZE, taking) for name in ("a", "b", "c")}
    assert not handed(given)
    assert idle(processes) is not None
    assert fused(taking, given).implants == ()


def _kill(process: ImplantProcess) -> None:
    os.kill(process.pid, signal.SIGKILL)


def _hang(process: ImplantProcess) -> None:
    os.kill(process.pid, signal.SIGSTOP)


@pytest.mark.parametrize("fail", [_kill, _hang])
@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_where_it_fails_the_gateway_answers_and_starts_another(
    processes: ImplantProcesses,
    expected: FusedAnswer,
    caplog: pytest.LogCaptureFixture,
    fail: Callable[[ImplantProcess], None],
    when: str,
) -> None:
    process = idle(processes)
    assert process is not None
    taking = FilmMetal(processes)
    with caplog.at_level(logging.ERROR, "spinezoo.gateway"):
        if when == "before":
            fail(process)
        given = {"a": vote_of(ANSWERS["a"], *SIZE, taking)}
        given["a"].implants.result()
        if when == "between":
            fail(process)
        given |= {
            name: vote_of(said, *SIZE, taking) for name, said in ANSWERS.items() if name > "a"
        }
        handed(given)
        if when == "after":
            fail(process)
        assert fused(taking, given) == expected
    assert "SPINEZOO_IMPLANT_PROCESSES" in caplog.text
    assert until(lambda: idle(processes) is not None, 30.0)
    other = idle(processes)
    assert other is not None
    assert other.pid != process.pid
    assert not process.running
    again = FilmMetal(processes)
    given = votes(again)
    assert handed(given) == ["a", "b", "c"]
    assert fused(again, given) == expected


def test_a_process_that_hangs_with_a_full_connection_is_ended(
    processes: ImplantProcesses, expected: FusedAnswer
) -> None:
    process = idle(processes)
    assert process is not None
    _hang(process)
    taking = FilmMetal(processes)
    for _ in range(60):  # some 10 KB each: more than a connection holds
        taking.take([*ANSWERS["b"] * 8], *SIZE)
    assert fused(taking, votes(taking)) == expected
    assert not process.running


def test_what_nobody_waited_for_is_not_the_next_film_s(
    processes: ImplantProcesses, expected: FusedAnswer
) -> None:
    taking = FilmMetal(processes)
    given = {name: vote_of(ANSWERS["a"], *SIZE, taking) for name in ("a", "b", "c")}
    taken = {name: vote.implants for name, vote in given.items()}
    said = dict.fromkeys(taken, ANSWERS["a"])
    with (
        pytest.raises(RuntimeError, match="naming failed"),
        taking.fused(taken, said, (), FusionOptions(), FILM),
    ):
        raise RuntimeError("naming failed")
    taking = FilmMetal(processes)
    given = votes(taking)
    assert handed(given) == ["a", "b", "c"]
    assert fused(taking, given) == expected


def test_what_fails_in_it_fails_in_the_gateway_as_itself(processes: ImplantProcesses) -> None:
    taking = FilmMetal(processes)
    given = votes(taking)
    taken = {name: vote.implants for name, vote in given.items()}
    options = FusionOptions(weights={"nobody": 1.0})

    def ask() -> tuple[FusedImplant, ...]:
        with taking.fused(taken, ANSWERS, (), options, FILM) as found:
            return found()

    process = taking._process
    with pytest.raises(OptionError, match="nobody"):
        ask()
    assert process is not None
    assert idle(processes) is process


def test_a_film_that_is_given_up_gives_it_back(
    processes: ImplantProcesses, expected: FusedAnswer
) -> None:
    taking = FilmMetal(processes)
    given = votes(taking)
    assert handed(given)
    assert idle(processes) is None
    taking.close()
    assert idle(processes) is not None
    # A member that answers late, and a film that is fused all the same: here.
    late = vote_of(ANSWERS["a"], *SIZE, taking)
    assert not isinstance(late.implants.result(), Handed)
    assert fused(taking, given) == expected


def test_stopping_ends_all_and_starts_no_more(expected: FusedAnswer) -> None:
    made = ImplantProcesses(2)
    made.start()
    assert until(lambda: idle(made) is not None, 30.0)
    taking = FilmMetal(made)
    given = votes(taking)
    assert handed(given)
    process = taking._process
    assert process is not None
    made.stop()
    assert not process.running
    assert fused(taking, given) == expected
    assert idle(made) is None


def test_none_is_used_where_none_is_wanted(expected: FusedAnswer) -> None:
    made = ImplantProcesses(0)
    made.start()
    taking = FilmMetal(made)
    given = votes(taking)
    assert not handed(given)
    assert fused(taking, given) == expected
    made.stop()


def test_it_ends_with_the_gateway() -> None:
    gateway = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time; from spinezoo_gateway.metal import ImplantProcess; "
            "process = ImplantProcess(); print(process.pid, flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert gateway.stdout is not None
    pid = int(gateway.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    gateway.kill()
    gateway.wait()
    gateway.stdout.close()
    assert until(lambda: _has_ended(pid))


def _has_ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    time.sleep(0.02)
    return state == "Z"  # nobody may be there to fetch its end
