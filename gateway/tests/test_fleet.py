"""Replicas that come and go, and members that are replaced, while films keep coming."""

from __future__ import annotations

import collections
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from bench import Bench
from real_member import digest
from spinezoo.v1 import ensemble_pb2
from spinezoo_contract.types import Film, MemberCode
from spinezoo_gateway.addresses import HostResolver, addresses_target, named_host
from spinezoo_testing.servers import until

MEMBER = Path(__file__).with_name("real_member.py")
OK = ensemble_pb2.MEMBER_CODE_OK


class Fleet:
    """Member processes on addresses of their own but one port, as containers have them."""

    def __init__(self, process: Callable[..., subprocess.Popen[str]]) -> None:
        self._process = process
        self.running: dict[str, subprocess.Popen[str]] = {}
        self.port = 0
        self.known: list[str] = []
        self.fails = False

    def launch(self, address: str, *arguments: str) -> subprocess.Popen[str]:
        """Starts a member; :meth:`await_ready` waits for it."""
        started = self._process(
            MEMBER, "--port", str(self.port), *arguments,
            SPINEZOO_HOST=address, SPINEZOO_DRAIN_S="10",
        )  # fmt: skip
        self.running[address] = started
        return started

    def await_ready(self, *addresses: str) -> None:
        for address in addresses:
            line = self.running[address].stdout.readline()
            assert line.strip().isdigit(), self.running[address].stderr.read()
            self.port = int(line)

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """The name server of this fleet."""
        if self.fails:
            raise OSError("the name server is down")
        return list(self.known)


class Load:
    """Asks without a pause, from several clients at once, and keeps every answer."""

    def __init__(self, bench: Bench, film: Film, clients: int = 3) -> None:
        self.answers: list[tuple[float, ensemble_pb2.SegmentResponse]] = []
        self.failures: list[str] = []
        self._bench, self._film = bench, film
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self._bench.segment(self._film, timeout_s=60.0)
            except grpc.RpcError as error:
                self.failures.append(f"{error.code()}: {error.details()}")
            else:
                for member in answer.members:
                    if member.status.code != OK:
                        self.failures.append(str(member.status))
                self.answers.append((time.monotonic(), answer))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        assert until(lambda: len(self.answers) > 5, 60.0)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int) -> None:
        """Waits for that many more films."""
        wanted = len(self.answers) + count
        assert until(lambda: len(self.answers) >= wanted, 60.0)

    def versions(self, last: int | None = None) -> collections.Counter[str]:
        """How many films each version answered."""
        answers = self.answers[-last:] if last else self.answers
        return collections.Counter(a.members[0].provenance.model_version for _, a in answers)


@pytest.fixture
def fleet(process: Any) -> Iterator[Fleet]:
    made = Fleet(process)
    yield made
    for member in made.running.values():
        if member.poll() is None:
            member.send_signal(signal.SIGTERM)
    for member in made.running.values():
        member.wait(30)


def test_targets_that_the_gateway_looks_up_itself() -> None:
    assert named_host("dns:///pspnet:50053") == ("pspnet", 50053)
    assert named_host("dns:pspnet:50053") == ("pspnet", 50053)
    assert named_host("mask_rcnn.zoo.svc:1") == ("mask_rcnn.zoo.svc", 1)
    for left_to_grpc in (
        "127.0.0.1:1", "[::1]:1", "dns:///127.0.0.1:1", "dns://10.0.0.1/pspnet:1",
        "ipv4:10.0.0.1:5,10.0.0.2:5", "ipv6:[::1]:5", "unix:/a/b",
    ):  # fmt: skip
        assert named_host(left_to_grpc) is None
    assert addresses_target(["10.0.0.2", "10.0.0.1", "fd00::1"], 5) == "ipv4:10.0.0.1:5,10.0.0.2:5"
    assert addresses_target(["fd00::1"], 5) == "ipv6:[fd00::1]:5"


def test_the_systems_resolver(bench: Bench) -> None:
    resolver = HostResolver()
    assert "127.0.0.1" in bench.loop.run(resolver("localhost", 5))
    with pytest.raises(OSError):
        bench.loop.run(resolver("no-such-host.invalid", 5), timeout_s=60)
    with pytest.raises(OSError, match="is no name of a host"):
        bench.loop.run(resolver("x" * 70 + ".invalid", 5))
    resolver.close()


def test_replicas_join_drain_and_die_and_no_film_fails(
    bench: Bench, film: Film, fleet: Fleet
) -> None:
    one, two, three, four = (f"127.0.0.{place}" for place in (2, 3, 4, 5))
    fleet.launch(one, "--version", "1.0.1")
    fleet.await_ready(one)
    for place, address in enumerate((two, three, four), start=2):
        fleet.launch(address, "--version", f"1.0.{place}")
    fleet.await_ready(two, three, four)
    fleet.known = [one, two]
    bench.write_roster({"pspnet": f"dns:///pspnet:{fleet.port}"})
    bench.start(resolve=fleet.resolve)
    with Load(bench, film) as load:
        load.wait_for(20)
        assert set(load.versions()) == {"1.0.1", "1.0.2"}

        # Scaled up: the new one is used although the connections to the others live.
        fleet.known = [one, two, three]
        assert until(lambda: load.versions(30)["1.0.3"] >= 5, 30.0)

        # Scaled down: it drains, its refusals go to the others, then its address goes.
        fleet.running[one].send_signal(signal.SIGTERM)
        assert fleet.running[one].wait(30) == 0
        fleet.known = [two, three]
        load.wait_for(20)
        assert "1.0.1" not in load.versions(15)

        # Killed while films are under way on it, replaced a moment later.
        fleet.running[two].send_signal(signal.SIGKILL)
        load.wait_for(10)
        fleet.known = [three, four]
        assert until(lambda: load.versions(30)["1.0.4"] >= 5, 30.0)

        # The name server fails: what was known stays.
        fleet.fails = True
        load.wait_for(20)
    assert not load.failures
    shares = load.versions(30)
    assert set(shares) == {"1.0.3", "1.0.4"}
    assert min(shares.values()) >= 8  # turn by turn: about half each


def test_a_name_without_an_address_is_a_member_that_is_named(
    bench: Bench, film: Film, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    good = bench.add_member("good")
    fleet.fails = True
    bench.write_roster({"good": good.target, "pspnet": "dns:///pspnet:50053"})
    bench.start(resolve=fleet.resolve, SPINEZOO_QUORUM="1")
    status = bench.segment(film).members[1].status
    assert status.code == ensemble_pb2.MEMBER_CODE_UNAVAILABLE
    assert "dns:///pspnet:50053 has no address" in status.message
    time.sleep(2.5)
    assert sum("has no address" in line for line in caplog.messages) == 1  # once, not each second
    fleet.launch("127.0.0.2")
    fleet.await_ready("127.0.0.2")
    fleet.fails, fleet.known = False, ["127.0.0.2"]
    bench.write_roster({"good": good.target, "pspnet": f"dns:///pspnet:{fleet.port}"})
    assert until(lambda: member(bench, "pspnet").status.code == OK, 60.0)
    assert bench.segment(film).members[1].status.code == OK


def member(bench: Bench, name: str) -> ensemble_pb2.RosterMember:
    answer = bench.stub.ListModels(ensemble_pb2.ListModelsRequest(), timeout=30)
    return next(each for each in answer.members if each.member_name == name)


def test_a_swap_under_load_and_a_bad_newcomer(bench: Bench, film: Film, fleet: Fleet) -> None:
    old, new, bad = "127.0.0.2", "127.0.0.3", "127.0.0.4"
    fleet.launch(old, "--version", "1.0.0")
    fleet.await_ready(old)
    fleet.launch(new, "--version", "2.0.0")
    fleet.launch(bad, "--version", "3.0.0", "--fault", "kind")
    fleet.await_ready(new, bad)
    targets = {address: f"{address}:{fleet.port}" for address in (old, new, bad)}
    bench.write_roster({"pspnet": targets[old]})
    bench.start()
    with Load(bench, film) as load:
        load.wait_for(10)

        bench.write_roster({"pspnet": targets[bad]})
        says = f"newcomer at {targets[bad]} is being checked"
        assert until(lambda: member(bench, "pspnet").status.message == says, 30.0)
        checking = ensemble_pb2.NewcomerStatus(
            target=targets[bad], state=ensemble_pb2.NEWCOMER_STATE_CHECKING
        )
        assert member(bench, "pspnet").newcomer == checking
        assert until(lambda: "refused" in member(bench, "pspnet").status.message, 90.0)
        shown = member(bench, "pspnet")
        assert shown.target == targets[old]
        assert shown.status.code == OK
        refusal = f"newcomer at {targets[bad]} refused: rule C09"
        assert shown.status.message.startswith(refusal)
        assert shown.newcomer.target == targets[bad]
        assert shown.newcomer.state == ensemble_pb2.NEWCOMER_STATE_REFUSED
        said = f"newcomer at {targets[bad]} refused: {shown.newcomer.reason}"
        assert shown.status.message == said
        load.wait_for(10)
        assert set(load.versions()) == {"1.0.0"}
        assert bench.gateway.zoo.roster.members[0].target == targets[bad]

        bench.write_roster({"pspnet": targets[new]})
        assert until(lambda: member(bench, "pspnet").target == targets[new], 90.0)
        # From here on every film goes to the newcomer; the old one may end.
        asked = time.monotonic()
        answer = bench.segment(film)
        assert answer.members[0].provenance.model_version == "2.0.0"
        assert answer.members[0].provenance.weights_sha256 == digest("2.0.0")
        shown = member(bench, "pspnet")
        assert shown.status.message == ""
        assert not shown.HasField("newcomer")
        assert shown.model.weights_sha256 == digest("2.0.0")
        fleet.running[old].send_signal(signal.SIGTERM)
        assert fleet.running[old].wait(30) == 0
        load.wait_for(20)
    assert not load.failures
    assert [*load.versions()] == ["1.0.0", "2.0.0"]
    late = [a for when, a in load.answers if when > asked + 5.0]
    assert {a.members[0].provenance.model_version for a in late} <= {"2.0.0"}


def test_a_newcomer_that_is_not_there_or_hangs_is_refused(
    bench: Bench, film: Film, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    old = bench.add_member("pspnet")
    bench.start(SPINEZOO_NEWCOMER_S="8")
    bench.write_roster({"pspnet": "127.0.0.1:1"})
    assert until(lambda: "refused" in member(bench, "pspnet").status.message, 60.0)
    message = member(bench, "pspnet").status.message
    assert "newcomer at 127.0.0.1:1 refused: 127.0.0.1:1 took no connection within" in message
    assert any("newcomer refused, the old one stays" in line for line in caplog.messages)
    assert bench.segment(film).members[0].status.code == OK

    fleet.launch("127.0.0.2", "--fault", "hangs")
    fleet.await_ready("127.0.0.2")
    hanging = f"127.0.0.2:{fleet.port}"
    bench.write_roster({"pspnet": old.target, "late": hanging})
    assert until(lambda: "late" in bench.gateway.zoo.waiting)
    assert until(lambda: "refused" in member(bench, "late").status.message, 90.0)
    late = member(bench, "late")
    assert (late.target, late.status.code) == (hanging, ensemble_pb2.MEMBER_CODE_UNAVAILABLE)
    assert "the time limit of" in late.status.message
    assert late.newcomer.target == hanging
    assert late.newcomer.state == ensemble_pb2.NEWCOMER_STATE_REFUSED
    assert "the time limit of" in late.newcomer.reason
    assert [m.status.member_name for m in bench.segment(film).members] == ["pspnet"]
    # Put back: nothing is left of them.
    bench.write_roster({"pspnet": old.target})
    assert until(lambda: not bench.gateway.zoo.waiting)
    answer = bench.stub.ListModels(ensemble_pb2.ListModelsRequest(), timeout=30)
    assert [each.member_name for each in answer.members] == ["pspnet"]
    fleet.running["127.0.0.2"].send_signal(signal.SIGKILL)


def test_a_newcomer_that_is_another_member_is_refused(
    bench: Bench, film: Film, fleet: Fleet
) -> None:
    """As with a wrong port in the roster: each network is fit to be a member."""
    other = bench.add_member("unet")
    fleet.launch("127.0.0.2")
    fleet.await_ready("127.0.0.2")
    mine = f"127.0.0.2:{fleet.port}"
    bench.write_roster({"pspnet": mine, "unet": other.target})
    bench.start()
    bench.write_roster({"pspnet": mine, "unet": mine})
    assert until(lambda: "refused" in member(bench, "unet").status.message, 60.0)
    assert "the same network as pspnet" in member(bench, "unet").newcomer.reason
    assert list(bench.segment(film).fused.member_names) == ["pspnet", "unet"]
    # Under another name alone it is taken in.
    bench.write_roster({"other": mine, "unet": other.target})
    assert until(lambda: list(bench.segment(film).fused.member_names) == ["other", "unet"], 60.0)


def test_weight_and_deadline_need_no_check(bench: Bench, film: Film) -> None:
    a = bench.add_member("a")
    bench.start()
    bench.roster.write_text(
        f"members: [{{name: a, target: '{a.target}', weight: 3, deadline_ms: 250}}]"
    )
    assert until(lambda: bench.gateway.zoo.clients[0].member.weight == 3)
    assert member(bench, "a").status.message == ""
    bench.segment(film)
    assert 0 < a.budgets_s[-1] < 0.3


def test_a_line_that_closes_under_an_answer_loses_no_film(bench: Bench, film: Film) -> None:
    """As when replicas come and go: their addresses have a new line while the answer is read."""
    bench.add_member("pspnet")
    bench.start(SPINEZOO_QUORUM="1")
    assert bench.segment(film).members[0].status.code == MemberCode.OK
    (client,) = bench.gateway.zoo.clients
    call, learnt = client._call, dict(client._line.models)
    assert learnt

    async def late(*arguments: Any) -> Any:
        line, answer = await call(*arguments)
        await client.renew()
        await line.close(None)
        line.models.clear()
        return line, answer

    client._call = late
    answer = bench.segment(film)
    assert answer.members[0].status.code == MemberCode.OK, answer.members[0].status.message
    assert client._line.models == learnt  # known there too, without asking again
