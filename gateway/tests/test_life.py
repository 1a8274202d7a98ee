"""The gateway as a process, and a roster that changes under it."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest
from bench import CHANNEL, Bench
from fake_member import FakeMember
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from spinezoo.v1 import ensemble_pb2, ensemble_pb2_grpc
from spinezoo_contract.codec import film_to_proto
from spinezoo_contract.errors import NotServingError
from spinezoo_contract.types import Film
from spinezoo_gateway.settings import GatewaySettings
from spinezoo_gateway.zoo import Zoo
from spinezoo_testing.servers import Loop, until


def names(bench: Bench) -> list[str]:
    answer = bench.stub.ListModels(ensemble_pb2.ListModelsRequest(), timeout=10)
    return [member.member_name for member in answer.members]


def test_members_come_and_go_without_a_restart(
    bench: Bench, film: Film, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = bench.add_member("a"), bench.add_member("b")
    bench.write_roster({"a": a.target})
    bench.start(SPINEZOO_CHECK_NEWCOMERS="0")  # strangers that keep less than the contract
    assert names(bench) == ["a"]

    bench.write_roster({"a": a.target, "b": b.target})
    assert until(lambda: names(bench) == ["a", "b"])
    assert list(bench.segment(film).fused.member_names) == ["a", "b"]

    old = bench.roster.read_text()
    bench.roster.write_text(old + "  - {name: a, target: 'x:1'}\n")
    assert until(lambda: any("roster refused" in line for line in caplog.messages))
    message = next(line for line in caplog.messages if "roster refused" in line)
    assert ":4: member 'a' stands twice, first at line 2" in message
    time.sleep(2.2)
    assert sum("roster refused" in line for line in caplog.messages) == 1  # once, not each second
    assert names(bench) == ["a", "b"]
    assert list(bench.segment(film).fused.member_names) == ["a", "b"]

    bench.roster.unlink()  # as some editors do for a moment
    time.sleep(1.2)
    assert names(bench) == ["a", "b"]

    bench.write_roster({"b": b.target})
    assert until(lambda: names(bench) == ["b"])
    asked = len(a.seen)
    assert list(bench.segment(film).fused.member_names) == ["b"]
    assert len(a.seen) == asked


def test_a_roster_that_is_half_written_takes_no_member_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spinezoo_gateway.zoo.ROSTER_POLL_S", 600.0)  # it looks when told to
    bench.add_member("a")
    bench.add_member("b")
    bench.start()

    async def look() -> bool:
        return bench.gateway.zoo.refresh()

    whole = bench.roster.read_text()
    half = "".join(whole.splitlines(keepends=True)[:-1])
    for text in (half, whole, half):
        bench.roster.write_text(text)
        assert not bench.loop.run(look())
        assert names(bench) == ["a", "b"]
    assert bench.loop.run(look())
    assert names(bench) == ["a"]


def test_a_member_that_leaves_finishes_the_film_under_way(bench: Bench, film: Film) -> None:
    a, b = bench.add_member("a", delay_s=2.5), bench.add_member("b")
    bench.start()
    request = ensemble_pb2.SegmentRequest(image=film_to_proto(film))
    call = bench.stub.Segment.future(request, timeout=20)
    assert until(lambda: bool(a.seen))
    bench.write_roster({"b": b.target})
    assert until(lambda: names(bench) == ["b"])
    assert not call.done()
    assert [m.status.code for m in call.result().members] == [ensemble_pb2.MEMBER_CODE_OK] * 2


def test_a_member_that_moves_is_followed(bench: Bench, film: Film) -> None:
    a, b = bench.add_member("a"), bench.add_member("b")
    bench.write_roster({"one": a.target})
    bench.start(SPINEZOO_CHECK_NEWCOMERS="0")
    bench.segment(film)
    bench.write_roster({"one": b.target})
    assert until(lambda: bench.segment(film) and bool(b.seen))


class Process:
    """A gateway process with two members, and channels to it."""

    def __init__(self, bench: Bench, process: Any, **environment: str) -> None:
        self.a, self.b = bench.add_member("a"), bench.add_member("b")
        bench.write_roster()
        self.process = process(
            "-m", "spinezoo_gateway.serve", SPINEZOO_ROSTER=str(bench.roster), **environment
        )
        self.lines: list[dict[str, Any]] = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        assert until(lambda: self.said("phase", phase="serving"), 120)
        self.grpc_port = self.said("listening", endpoint="grpc")["port"]
        self.http_port = self.said("listening", endpoint="http")["port"]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}", CHANNEL)

    def read(self) -> None:
        for line in self.process.stderr:
            self.lines.append(json.loads(line))  # every line is JSON, or this ends

    def said(self, message: str, **fields: Any) -> dict[str, Any]:
        for line in self.lines:
            if line["message"] == message and fields.items() <= line.items():
                return line
        return {}

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


def test_a_zoo_that_has_not_started_is_not_an_empty_one(bench: Bench) -> None:
    bench.add_member("a")
    bench.write_roster()
    zoo = Zoo(GatewaySettings(roster=bench.roster), {}, 1 << 26)
    with pytest.raises(NotServingError, match="starting"):
        zoo.select(())
    with pytest.raises(NotServingError, match="starting"):
        asyncio.run(zoo.statuses())


def test_the_process_serves_drains_and_ends(bench: Bench, film: Film, process: Any) -> None:
    gateway = Process(bench, process)
    stub = ensemble_pb2_grpc.EnsembleServiceStub(gateway.channel)
    health = health_pb2_grpc.HealthStub(gateway.channel)
    request = ensemble_pb2.SegmentRequest(image=film_to_proto(film))
    assert len(stub.Segment(request, timeout=20).members) == 2

    for service in ("", "spinezoo.v1.EnsembleService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(gateway.channel)
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    listed = next(iter(reflection.ServerReflectionInfo(iter([question]))))
    services = [each.name for each in listed.list_services_response.service]
    assert "spinezoo.v1.EnsembleService" in services

    assert gateway.get("/livez")[0] == gateway.get("/readyz")[0] == 200
    metrics = gateway.get("/metrics")[1]
    assert 'spinezoo_member_answers_total{code="ok",member="a"} 1.0' in metrics
    assert 'spinezoo_requests_total{code="OK",method="Segment"} 1.0' in metrics

    # SIGTERM while a film is under way: it is answered, new ones are not taken, the process ends.
    gateway.a.delay_s = 2.0
    call = stub.Segment.future(request, timeout=20)
    assert until(lambda: len(gateway.a.seen) == 2)
    gateway.process.send_signal(signal.SIGTERM)
    assert until(lambda: gateway.get("/readyz")[0] == 503)
    time.sleep(0.4)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Segment(request, timeout=5)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert len(call.result().members) == 2
    assert gateway.process.wait(10) == 0
    gateway.reader.join()
    gateway.channel.close()
    # What it logged names films by request id, and holds nothing of them.
    calls = [line for line in gateway.lines if line["message"] == "call"]
    assert all(line["request_id"] for line in calls)
    assert [line["code"] for line in calls] == ["OK", "UNAVAILABLE", "OK"]


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"SPINEZOO_ROSTER": "/absent/roster.yaml"}, "/absent/roster.yaml cannot be read"),
        ({"SPINEZOO_ROSTER_UNET": "nowhere"}, "SPINEZOO_ROSTER_UNET"),
        ({"SPINEZOO_QUORUM": "many"}, "SPINEZOO_QUORUM"),
    ],
)
def test_a_wrong_setting_ends_the_start_with_its_name(
    process: Any, tmp_path: Path, environment: dict[str, str], says: str
) -> None:
    roster = tmp_path / "roster.yaml"
    roster.write_text("members: [{name: a, target: '127.0.0.1:1'}]")
    started = process(
        "-m", "spinezoo_gateway.serve", **{"SPINEZOO_ROSTER": str(roster), **environment}
    )
    _, errors = started.communicate(timeout=120)
    assert started.returncode == 1
    assert says in json.loads(errors.splitlines()[-1])["message"]


def test_the_gateway_serves_before_its_members_do(loop: Loop, bench: Bench, film: Film) -> None:
    late = FakeMember(name="late")
    loop.run(late.start())
    port = late.port
    loop.run(late.stop())
    bench.write_roster({"late": f"127.0.0.1:{port}"})
    bench.start()
    with pytest.raises(grpc.RpcError) as caught:
        bench.segment(film)
    assert "late unavailable" in caught.value.details()
    again = FakeMember(name="late")
    loop.run(again.start(port))

    def answers() -> bool:
        try:
            return len(bench.segment(film).members) == 1
        except grpc.RpcError:
            return False

    assert until(answers)
    loop.run(again.stop())
