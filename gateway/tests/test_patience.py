"""A member that hangs: at most some films wait for it, and it comes back by itself."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bench import NAMES, Bench, FakeMember
from spinezoo.v1 import ensemble_pb2
from spinezoo_contract.types import Film
from spinezoo_gateway.patience import GivenUpError, Patience, PatienceSettings
from spinezoo_testing.servers import until

OK = ensemble_pb2.MEMBER_CODE_OK
LATE = ensemble_pb2.MEMBER_CODE_DEADLINE_EXCEEDED
UNAVAILABLE = ensemble_pb2.MEMBER_CODE_UNAVAILABLE

FAR_S = 300.0
"""A member that takes this long hangs: no test waits for it."""


@pytest.fixture
def zoo(bench: Bench) -> Callable[..., Bench]:
    """Five good members behind a gateway with some settings."""

    def start(**settings: str) -> Bench:
        for name in NAMES:
            bench.add_member(name)
        bench.start(**{f"SPINEZOO_{name.upper()}": value for name, value in settings.items()})
        return bench

    return start


def status(answer: ensemble_pb2.SegmentResponse, name: str) -> ensemble_pb2.MemberStatus:
    return next(m.status for m in answer.members if m.status.member_name == name)


def hanging(bench: Bench, film: Film) -> FakeMember:
    """PSPNet, which has answered a film and hangs from now on."""
    bench.segment(film)
    hung = bench.members["pspnet"]
    hung.delay_s = FAR_S
    return hung


def set_aside(bench: Bench, film: Film) -> FakeMember:
    """The same, once the gateway has set it aside."""
    hung = hanging(bench, film)
    assert until(lambda: status(bench.segment(film), "pspnet").code == UNAVAILABLE)
    return hung


def test_two_films_wait_for_a_member_that_hangs_and_no_more(
    zoo: Callable[..., Bench], film: Film
) -> None:
    bench = zoo(member_deadline_ms="400", member_retry_ms="100")
    hanging(bench, film)
    seen = [status(bench.segment(film), "pspnet") for _ in range(12)]
    assert [each.code for each in seen] == [LATE, LATE] + [UNAVAILABLE] * 10
    assert all("set aside after 2 time-outs in a row" in each.message for each in seen[2:])
    # It is one of those that failed: the others fuse without it, and the client reads why.
    answer = bench.segment(film)
    assert list(answer.fused.member_names) == [name for name in NAMES if name != "pspnet"]
    # The roster says the same.
    listed = bench.stub.ListModels(ensemble_pb2.ListModelsRequest(), timeout=10)
    (told,) = [m.status for m in listed.members if m.member_name == "pspnet"]
    assert told.code == UNAVAILABLE
    assert "set aside" in told.message


def test_it_is_asked_beside_other_films_and_taken_back(
    zoo: Callable[..., Bench], film: Film
) -> None:
    bench = zoo(member_deadline_ms="400", member_retry_ms="100")
    hung = set_aside(bench, film)
    before = len(hung.seen)
    # Trials go on while films flow, one at a time.
    assert until(lambda: bench.segment(film) is not None and len(hung.seen) >= before + 2)
    hung.delay_s = 0.0
    assert until(lambda: status(bench.segment(film), "pspnet").code == OK)
    assert all(status(bench.segment(film), name).code == OK for name in NAMES)


def test_a_trial_that_answers_before_the_others_counts(
    zoo: Callable[..., Bench], film: Film
) -> None:
    bench = zoo(member_deadline_ms="400", member_retry_ms="1")
    hung = set_aside(bench, film)
    hung.delay_s = 0.0
    bench.members["unet"].delay_s = 0.2
    patience = bench.gateway.zoo.select(["pspnet"])[0].patience
    assert until(lambda: patience.trial_due or not patience.set_aside)
    answer = bench.segment(film)
    assert status(answer, "pspnet").code == OK
    assert "pspnet" in answer.fused.member_names


def test_films_under_way_stop_waiting_too(zoo: Callable[..., Bench], film: Film) -> None:
    bench = zoo(member_deadline_ms="1500", member_retry_ms="100000")
    hanging(bench, film)
    with ThreadPoolExecutor(6) as clients:
        answers = list(clients.map(lambda _: bench.segment(film), range(6)))
    codes = Counter(status(answer, "pspnet").code for answer in answers)
    assert codes[LATE] >= 2
    assert set(codes) <= {LATE, UNAVAILABLE}
    assert status(bench.segment(film), "pspnet").code == UNAVAILABLE


def test_a_caller_in_a_hurry_sets_nobody_aside(zoo: Callable[..., Bench], film: Film) -> None:
    bench = zoo()  # members have 60 s
    bench.segment(film)
    bench.members["pspnet"].delay_s = 2.0
    for _ in range(4):
        # Time enough for the others on a busy machine.
        answer = bench.segment(film, member_deadline_ms=500)
        assert status(answer, "pspnet").code == LATE
    assert status(bench.segment(film), "pspnet").code == OK


def test_an_answer_between_two_time_outs_starts_the_count_anew(
    zoo: Callable[..., Bench], film: Film
) -> None:
    bench = zoo(member_deadline_ms="400")
    bench.segment(film)
    slow = bench.members["pspnet"]
    for _ in range(3):
        slow.delay_s = FAR_S
        assert status(bench.segment(film), "pspnet").code == LATE
        slow.delay_s = 0.0
        assert status(bench.segment(film), "pspnet").code == OK


def test_members_are_waited_for_where_the_quorum_needs_them(
    zoo: Callable[..., Bench], film: Film
) -> None:
    """As after a stop of the gateway itself: everybody was late, and nobody hangs."""
    bench = zoo(member_deadline_ms="400", member_retry_ms="100000")
    bench.segment(film)
    for name in NAMES[:3]:
        bench.members[name].delay_s = FAR_S
    for _ in range(2):
        assert status(bench.segment(film, quorum=1), NAMES[0]).code == LATE
    assert status(bench.segment(film, quorum=1), NAMES[0]).code == UNAVAILABLE
    for name in NAMES[:3]:
        bench.members[name].delay_s = 0.1
    answer = bench.segment(film, quorum=3)
    assert {member.status.code for member in answer.members} == {OK}


def test_nobody_is_set_aside_where_the_setting_says_so(
    zoo: Callable[..., Bench], film: Film
) -> None:
    bench = zoo(member_deadline_ms="500", member_timeouts="0")
    bench.segment(film)
    bench.members["pspnet"].delay_s = FAR_S
    codes = {status(bench.segment(film), "pspnet").code for _ in range(4)}
    assert codes == {LATE}


def test_a_stopped_process_costs_two_films_and_comes_back(
    bench: Bench, film: Film, process: Callable[..., subprocess.Popen[str]]
) -> None:
    """The real thing: SIGSTOP, as in `make faults`."""
    path = Path(__file__).with_name("fake_member.py")
    stopped = process(path, "0", "ok", "0")
    for name in ("a", "b", "c"):
        bench.add_member(name)
    targets = {name: member.target for name, member in bench.members.items()}
    assert stopped.stdout is not None
    targets["stopped"] = f"127.0.0.1:{int(stopped.stdout.readline())}"
    bench.write_roster(targets)
    bench.start(SPINEZOO_MEMBER_DEADLINE_MS="500", SPINEZOO_MEMBER_RETRY_MS="100")
    assert until(lambda: status(bench.segment(film), "stopped").code == OK)
    stopped.send_signal(signal.SIGSTOP)
    codes = [status(bench.segment(film), "stopped").code for _ in range(30)]
    assert codes.count(LATE) == 2
    assert codes[2:] == [UNAVAILABLE] * 28
    stopped.send_signal(signal.SIGCONT)
    assert until(lambda: status(bench.segment(film), "stopped").code == OK, 30)


def test_a_gateway_that_stops_does_not_wait_for_a_trial(
    zoo: Callable[..., Bench], film: Film
) -> None:
    bench = zoo(member_deadline_ms="400", member_retry_ms="1")
    hung = set_aside(bench, film)
    asked = len(hung.seen)
    assert until(lambda: bench.segment(film) is not None and len(hung.seen) > asked)
    bench.loop.run(bench.gateway.zoo.stop(), 10.0)


def test_what_a_fair_time_is() -> None:
    patience = Patience("a", PatienceSettings(deadline_s=60.0))
    assert patience.fair_s(None) == 60.0  # nothing is known of it yet
    for _ in range(100):
        patience.answered(100.0)
    assert patience.fair_s(None) == 5.0
    assert patience.fair_s(800) == 0.8
    for _ in range(100):
        patience.answered(1000.0)
    assert patience.fair_s(None) == pytest.approx(10.0, rel=1e-3)


def test_whoever_waits_is_told_why() -> None:
    async def wait() -> str:
        patience = Patience("a", PatienceSettings(timeouts=1, deadline_s=1.0))

        async def film() -> None:
            async with patience.waiting():
                await asyncio.sleep(FAR_S)

        task = asyncio.create_task(film())
        await asyncio.sleep(0.01)
        patience.timed_out(1.0, None)
        with pytest.raises(GivenUpError) as failure:
            await task
        return str(failure.value)

    assert "set aside after 1 time-outs in a row" in asyncio.run(wait())
