"""Faults of parts that break: killed, hung, cut off, gone or restarted during a benchmark."""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from spinezoo_contract.types import EnsembleOptions

from spinezoo_tools.composition import docker
from spinezoo_tools.faults.load import RECOVERY_LIMIT_S, Result, ask, sum_up
from spinezoo_tools.faults.row import (
    AWAY,
    DEADLINE_MS,
    FAULT_S,
    HUNG,
    KILL_REQUESTS,
    MOST_WAIT,
    NETWORKS,
    PAUSE_S,
    REFUSALS,
    SOME_REQUESTS,
    Row,
    add_row,
)
from spinezoo_tools.faults.zoo import BENCHMARK_LIMIT_S, Zoo

ROWS: list[Row] = []
row = functools.partial(add_row, ROWS)

# ------------------------------------------------------------------------------------ kill -9


def kill(zoo: Zoo, *services: str, requests: int = KILL_REQUESTS) -> Result:
    """Kills first processes in the middle of requests; the restart policy brings them back."""
    before = zoo.restarts()
    with zoo.load(evaluator=services == ("evaluator",)) as load:
        load.wait(10)
        fault = zoo.signal(signal.SIGKILL, *services)
        load.wait_full(fault, requests)
    networks = [each for each in services if each in NETWORKS]
    result = sum_up(
        load.requests,
        fault,
        fault,
        may_miss=dict.fromkeys(networks, AWAY),
        may_refuse=() if networks else REFUSALS,
        must_miss=True,
    )
    for service in services:
        zoo.wait_restarted(service, before)
    if not networks:
        result.must(bool(result.raw["refused_at_first"]), "nobody was refused: not met")
    return result


def _kill_one(name: str, zoo: Zoo) -> Result:
    return kill(zoo, name)


def _add_kills() -> None:
    for name in (*NETWORKS, "gateway", "evaluator"):
        asked = "the evaluator (Fuse)" if name == "evaluator" else "the gateway"
        made = f"SIGKILL to its first process while 2 clients ask {asked}"
        row(f"kill-{name}", f"kill -9 of {name}", made)(functools.partial(_kill_one, name))


_add_kills()


@row("kill-two", "kill -9 of two networks at once", "SIGKILL to mask_rcnn and unet together")
def kill_two(zoo: Zoo) -> Result:
    """Three are left: the quorum."""
    return kill(zoo, "mask_rcnn", "unet")


# ---------------------------------------------------------------------------- hanging, cut off


@row(
    "paused",
    "a member paused past its deadline",
    f"SIGSTOP to pspnet for {PAUSE_S:g} s, SIGCONT; members get {DEADLINE_MS} ms",
)
def paused(zoo: Zoo) -> Result:
    """The member is there and says nothing: two films wait for it, then it is set aside."""
    with zoo.load(options=EnsembleOptions(member_deadline_ms=DEADLINE_MS)) as load:
        load.wait(8)
        fault = zoo.signal(signal.SIGSTOP, "pspnet")
        try:
            time.sleep(PAUSE_S)
        finally:
            lifted = zoo.signal(signal.SIGCONT, "pspnet")
        load.wait_full(lifted, SOME_REQUESTS)
    result = sum_up(load.requests, fault, lifted, may_miss={"pspnet": HUNG}, must_miss=True)
    waited = sum(request.ms > 0.9 * DEADLINE_MS for request in load.requests)
    result.sees += f"; {waited} waited for it"
    result.raw["waited"] = waited
    result.must(waited <= MOST_WAIT, f"{waited} films waited for the member, not {MOST_WAIT}")
    result.must(result.max_ms < DEADLINE_MS + 5000, "an answer came long after the deadline")
    return result


@row(
    "cut",
    "a member cut from the network",
    f"`docker network disconnect` of pspnet for {FAULT_S:g} s, then connect; members get "
    f"{DEADLINE_MS} ms",
)
def cut(zoo: Zoo) -> Result:
    """No packet says that the member has gone."""
    network = f"{zoo.composition.environment['COMPOSE_PROJECT_NAME']}_members"
    with zoo.load(options=EnsembleOptions(member_deadline_ms=DEADLINE_MS)) as load:
        load.wait(8)
        container = zoo.container("pspnet")
        docker("network", "disconnect", network, container)
        fault = time.monotonic()
        try:
            time.sleep(FAULT_S)
        finally:
            docker("network", "connect", "--alias", "pspnet", network, container)
            lifted = time.monotonic()
        load.wait_full(lifted, SOME_REQUESTS)
    return sum_up(load.requests, fault, lifted, may_miss={"pspnet": HUNG}, must_miss=True)


# ------------------------------------------------------------------------ around the benchmark


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Leaves no benchmark behind."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def report_of(zoo: Zoo, report: str) -> dict[str, Any]:
    """What a benchmark wrote in the end; empty where it wrote none."""
    path = zoo.folder / report / "report.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@row(
    "evaluator-gone",
    "the evaluator gone",
    "`docker stop` while a benchmark of 12 films and 2 clients of the gateway run",
)
def evaluator_gone(zoo: Zoo) -> Result:
    """The gateway fuses by itself; the benchmark measures on."""
    name = f"evaluator-gone-{time.time_ns()}"
    container = zoo.container("evaluator")
    with zoo.load() as load, ended(zoo.benchmark(name, 12)) as process:
        zoo.wait_records(name, 1, process)
        docker("stop", container)
        fault = time.monotonic()
        try:
            code = process.wait(BENCHMARK_LIMIT_S)
        finally:
            docker("start", container)
            lifted = time.monotonic()
        with contextlib.ExitStack() as stack:
            again = ask(zoo.fusing(stack))
        load.wait_full(lifted, SOME_REQUESTS)
    result = sum_up(load.requests, fault, lifted)
    report = report_of(zoo, name)
    told = report.get("evaluator", {})
    measured = report.get("films", {}).get("measured")
    result.sees += f"; benchmark: {measured} of 12 films measured"
    result.recovery_s = again.ended - lifted
    result.must(code == 0 and measured == 12, f"the benchmark ended with {code}")
    result.must(not told.get("differs"), "the evaluator differs")
    result.must(not again.lost, f"the evaluator did not come back: {again.lost}")
    result.raw["benchmark"] = {"exit": code, "measured": measured}
    return result


@row(
    "gateway-in-benchmark",
    "the gateway restarted in the middle of a benchmark",
    "30 films: `docker restart` after 3; after 6 more Ctrl-C, another restart, same command",
)
def gateway_in_benchmark(zoo: Zoo) -> Result:
    """The runner waits for a gateway that is away, and a run that was stopped is resumed."""
    name, films = f"gateway-{time.time_ns()}", 30
    gateway = zoo.container("gateway")
    with ended(zoo.benchmark(name, films)) as process:
        zoo.wait_records(name, 3, process)
        docker("restart", gateway)
        lifted = time.monotonic()
        had = len(zoo.records(name))
        zoo.wait_records(name, had + 1, process)
        recovery = time.monotonic() - lifted
        zoo.wait_records(name, had + 6, process)
        process.send_signal(signal.SIGINT)
        first = process.wait(BENCHMARK_LIMIT_S)
    before = zoo.records(name)
    docker("restart", gateway)
    with ended(zoo.benchmark(name, films)) as process:
        second = process.wait(BENCHMARK_LIMIT_S)
    after, report = zoo.records(name), report_of(zoo, name)
    failed = [each["film"] for each in after if each["failure"] is not None]
    times = [each["elapsed_ms"] for each in after if each["elapsed_ms"]] or [0.0]
    agrees = report.get("evaluator", {}).get("agrees")
    result = Result(
        f"{films - len(failed)} of {films} films measured, evaluator agrees on {agrees}; "
        f"stopped at {len(before)}, resumed there",
        films,
        statistics.median(times),
        max(times),
        films - len({each["film"] for each in after if each["failure"] is None}),
        recovery,
        [],
        {"exits": [first, second], "before": len(before), "agrees": agrees, "failed": failed},
    )
    result.must((first, second) == (130, 0), f"exit codes {first}, {second}, not 130, 0")
    result.must(len(before) < films and after[: len(before)] == before, "not resumed")
    result.must(len(after) == films, f"{len(after)} records")
    result.must(result.lost == 0, f"failed: {', '.join(failed)}")
    result.must(agrees == 1, f"the evaluator agrees on {agrees}, not on the one it is asked for")
    result.must(recovery <= RECOVERY_LIMIT_S, "the run did not go on in time")
    return result
