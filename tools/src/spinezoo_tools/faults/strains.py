"""Faults of what parts live on: memory, disk, clients, weights, clock, and being told to stop."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import statistics
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spinezoo_contract.types import EnsembleOptions, PredictOptions

from spinezoo_tools.composition import docker, inspect
from spinezoo_tools.environments import ROOT
from spinezoo_tools.faults.load import RECOVERY_LIMIT_S, Load, Request, Result, ask, sum_up
from spinezoo_tools.faults.row import (
    AWAY,
    NETWORKS,
    REFUSALS,
    SOME_REQUESTS,
    Row,
    add_row,
)
from spinezoo_tools.faults.zoo import CannotMakeError, SlowLine, Zoo
from spinezoo_tools.variables import LIBFAKETIME

ROWS: list[Row] = []
row = functools.partial(add_row, ROWS)

# ------------------------------------------------------------------------------- resources


@row(
    "out-of-memory",
    "a member out of memory",
    "pspnet's memory limit lowered to 64 MiB above its use, 512 MiB asked for in its cgroup",
)
def out_of_memory(zoo: Zoo) -> Result:
    """The kernel kills the largest process of the cgroup, which is the member."""
    container, before = zoo.container("pspnet"), zoo.restarts()
    limit = inspect(container)["HostConfig"]["Memory"]
    code = "import time\nheld = [b'x' * 2**20 for _ in range(512)]\ntime.sleep(5)"
    told = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", container).stdout
    used = _mebibytes(told.split("/")[0])
    began = time.time()
    with zoo.load() as load:
        load.wait(10)
        try:
            _limit_memory(container, int(used + 64) * 2**20)
            fault = time.monotonic()
            docker("exec", container, "python", "-c", code, check=False)
            zoo.wait_restarted("pspnet", before)
        finally:
            _limit_memory(container, limit)
        load.wait_full(fault, SOME_REQUESTS)
    result = sum_up(load.requests, fault, fault, may_miss={"pspnet": AWAY}, must_miss=True)
    kills = zoo.events("oom", container, began)
    result.must(kills >= 1, "the engine saw no out-of-memory event")
    result.raw["used_mib"], result.raw["oom_events"] = used, kills
    return result


def _mebibytes(text: str) -> float:
    for unit, factor in (("GiB", 1024.0), ("MiB", 1.0), ("KiB", 1 / 1024)):
        if text.strip().endswith(unit):
            return float(text.strip().removesuffix(unit)) * factor
    raise CannotMakeError(f"docker stats says {text!r}; give it a unit that is known here")


def _limit_memory(container: str, limit: int) -> None:
    docker("update", "--memory", str(limit), "--memory-swap", str(limit), container)


@row("disk-full", "disk of every member full", "a file in /tmp of all five until ENOSPC")
def disk_full(zoo: Zoo) -> Result:
    """The one place that a member could write to."""
    fill = (
        "import errno, sys\n"
        "with open('/tmp/full', 'ab', buffering=0) as file:\n"
        "    try:\n"
        "        while True: file.write(bytes(2**20) ) if True else None\n"
        "    except OSError as error: sys.exit(0 if error.errno == errno.ENOSPC else 1)\n"
    )
    unhealthy = []
    with zoo.load() as load:
        load.wait(8)
        fault = time.monotonic()
        try:
            for name in NETWORKS:
                done = zoo.python(name, fill)
                assert done.returncode == 0, f"{name}: {done.stderr[-500:]}"
            load.wait_full(time.monotonic(), SOME_REQUESTS)
            for name in NETWORKS:
                check = ("python", "-m", "spinezoo_serving.health")
                if docker("exec", zoo.container(name), *check, check=False).returncode:
                    unhealthy.append(name)
        finally:
            for name in NETWORKS:
                zoo.python(name, "import os; os.unlink('/tmp/full')")
        lifted = time.monotonic()
        load.wait_full(lifted, SOME_REQUESTS)
    result = sum_up(load.requests, fault, lifted)
    result.must(not unhealthy, f"health check fails with a full disk: {', '.join(unhealthy)}")
    return result


# --------------------------------------------------------------------------------- clients


@row(
    "slow-client",
    "slow clients",
    "2 clients on lines of 100 kB/s, 2 that read the stream (with probability maps) with a "
    "pause of 2 s a message; beside them 2 ordinary ones",
)
def slow_client(zoo: Zoo) -> Result:
    """Slow ones get their answer in the end; the others do not wait for them."""
    maps = EnsembleOptions(options=PredictOptions(include_probability_maps=True))
    slow: list[Request] = []

    def ask_slowly(call: Callable[[], Any]) -> None:
        slow.extend(ask(call) for _ in range(2))

    with (
        contextlib.ExitStack() as stack,
        SlowLine(zoo.composition.target, 100_000) as line,
        zoo.load(2) as load,
    ):
        load.wait(6)
        calm = statistics.median(each.ms for each in load.requests)
        calls = [zoo.segmenting(stack, maps, pause_s=2.0) for _ in range(2)]
        calls += [zoo.segmenting(stack, target=line.target) for _ in range(2)]
        fault = time.monotonic()
        threads = [threading.Thread(target=ask_slowly, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(4 * RECOVERY_LIMIT_S)
        lifted = time.monotonic()
        load.wait_full(lifted, SOME_REQUESTS)
    result = sum_up(load.requests, fault, lifted)
    theirs = sum_up(sorted(slow, key=lambda each: each.began), fault, lifted)
    result.problems += [f"slow clients: {each}" for each in theirs.problems]
    result.lost += theirs.lost
    seconds = theirs.median_ms / 1000.0
    result.sees = (
        f"ordinary: {result.sees}; slow: {theirs.raw['full']} of {len(slow)} in full, "
        f"median {seconds:.1f} s"
    )
    result.must(len(slow) == 8, f"{len(slow)} of 8 slow requests ended")
    result.must(seconds > 3.0, "the slow clients were not slow: not met")
    # Nobody waits behind them: that would cost seconds, not a share of the processor.
    result.must(result.median_ms < calm + 3000, "the ordinary clients waited for the slow ones")
    result.raw["slow"], result.raw["calm_median_ms"] = theirs.raw, calm
    return result


@row(
    "fifty-clients",
    "50 clients at once",
    "50 connections, one film each at the same moment; 16 places in the gateway, "
    "8 in pspnet's queue",
)
def fifty_clients(zoo: Zoo) -> Result:
    """What has no place is refused by name and answered when it asks again."""
    before, count = zoo.restarts(), 50
    with contextlib.ExitStack() as stack:
        calls = [zoo.segmenting(stack) for _ in range(count)]
        barrier = threading.Barrier(count, timeout=30.0)
        done: list[Request] = []

        def one(call: Callable[[], Any]) -> None:
            barrier.wait()
            done.append(ask(call))

        threads = [threading.Thread(target=one, args=(call,)) for call in calls]
        fault = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * RECOVERY_LIMIT_S)
        lifted = time.monotonic()
        with zoo.load(2) as load:
            load.wait_full(lifted, 5)
    requests = [*sorted(done, key=lambda each: each.began), *load.requests]
    result = sum_up(
        requests,
        fault,
        lifted,
        may_miss={"pspnet": ("RESOURCE_EXHAUSTED",)},
        may_refuse=("QueueFullError",),
        must_miss=True,
    )
    of_fifty = sum(each.full for each in done)
    result.sees = f"{of_fifty} of {count} in full; {result.sees.partition('; ')[2]}"
    result.must(len(done) == count, f"{count - len(done)} clients never ended")
    result.must(bool(result.raw["refused_at_first"]), "nobody was refused: not met")
    result.must(zoo.restarts() == before, "a container was started again")
    return result


# ------------------------------------------------------------------------- weights and clock


@row(
    "weights-damaged",
    "weights file damaged",
    "pspnet's container made again with 64 bytes of its weights inverted",
)
def weights_damaged(zoo: Zoo) -> Result:
    """The member refuses to start and says why; the rest serves."""
    weights = next((ROOT / "services/pspnet/weights").glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(each ^ 0xFF for each in data[middle : middle + 64])
    damaged = zoo.folder / weights.name
    damaged.write_bytes(data)
    damaged.chmod(0o644)
    mount = f"{damaged}:/app/services/pspnet/weights/{weights.name}:ro"
    other = zoo.with_override("damaged", {"pspnet": {"volumes": [mount]}})
    start = ("up", "-d", "--no-build", "--no-deps", "pspnet")
    with zoo.load() as load:
        load.wait(8)
        fault = time.monotonic()
        try:
            other.compose(*start)
            container = zoo.container("pspnet")
            zoo.wait_restarted("pspnet", {"pspnet": 0})
            told = docker("logs", container)
            log = told.stdout + told.stderr
            had = len(load.requests)
            load.wait(had + SOME_REQUESTS)
        finally:
            zoo.composition.compose(*start)
            lifted = time.monotonic()
        load.wait_full(lifted, SOME_REQUESTS)
    result = sum_up(load.requests, fault, lifted, may_miss={"pspnet": AWAY}, must_miss=True)
    reasons = {
        line.get("error"): line.get("reason")
        for line in map(json.loads, filter(lambda text: text.startswith("{"), log.splitlines()))
        if line.get("error")
    }
    result.must("WeightsError" in reasons, f"the log names {sorted(map(str, reasons))}")
    result.sees += "; log of pspnet: WeightsError"
    result.raw["log"] = reasons
    return result


FAKETIME = "usr/lib/*/faketime/libfaketimeMT.so.1"
"""The build for programs with threads."""


def faketime_library() -> Path:
    """Debian's libfaketime.

    Raises:
        CannotMakeError: It is not there.
    """
    given = LIBFAKETIME.of()
    found = [Path(given)] if given else sorted(Path("/").glob(FAKETIME))
    if not found or not found[0].is_file():
        raise CannotMakeError(
            "no libfaketime: `apt-get install libfaketime` (Debian 12, as in the images), or name "
            "its libfaketimeMT.so.1 in SPINEZOO_LIBFAKETIME"
        )
    return found[0]


@row(
    "clock-jump",
    "the clock jumps",
    "gateway and pspnet under libfaketime: 2 h ahead, then 2 h behind, in the middle of requests",
)
def clock_jump(zoo: Zoo) -> Result:
    """Wall clock only, as when a time server steps it; the machine's own is not touched."""
    folder = zoo.folder / "clock"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    shutil.copyfile(faketime_library(), folder / "libfaketimeMT.so.1")
    now = folder / "now"

    def set_clock(offset: str) -> None:
        partial = folder / "next"
        partial.write_text(offset + "\n", encoding="ascii")
        partial.chmod(0o644)
        partial.replace(now)

    set_clock("+0")
    names = ("gateway", "pspnet")
    # Without its name there is no fake: programs that the health check starts take it too.
    preload = {
        "volumes": [f"{folder}:/faketime:ro"],
        "environment": {
            "LD_PRELOAD": "/faketime/libfaketimeMT.so.1",
            "FAKETIME_TIMESTAMP_FILE": "/faketime/now",
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        },
    }
    other = zoo.with_override("clock", dict.fromkeys(names, preload))
    start = ("up", "-d", "--no-build", "--no-deps", *names)
    seen: dict[str, list[float]] = {name: [] for name in names}
    try:
        other.compose(*start)
        zoo.settle()
        with zoo.load() as load:
            load.wait(8)
            fault = time.monotonic()
            for offset in ("+2h", "-2h"):
                set_clock(offset)
                changed = time.time()
                time.sleep(1.0)
                load.wait(len(load.requests) + SOME_REQUESTS // 2)
                for name in names:
                    seen[name].append(_log_offset_h(zoo.container(name), changed))
            set_clock("+0")
            lifted = time.monotonic()
            load.wait_full(lifted, SOME_REQUESTS)
    finally:
        set_clock("+0")
        zoo.composition.compose(*start)
    result = sum_up(load.requests, fault, lifted)
    met = all([round(hours) for hours in each] == [2, -2] for each in seen.values())
    result.must(met, f"the processes' log lines are off by {seen} h, not 2 and -2: not met")
    result.raw["log_offsets_h"] = seen
    return result


def _log_offset_h(container: str, since: float) -> float:
    """How far the last line of a container's log is from the engine's time, in hours."""
    told = docker("logs", "--since", f"{since:.3f}", "--tail", "1", "--timestamps", container)
    stamp, _, line = (told.stderr or told.stdout).strip().partition(" ")
    engine = datetime.fromisoformat(stamp[:19]).replace(tzinfo=UTC)
    return (datetime.fromisoformat(json.loads(line)["time"]) - engine).total_seconds() / 3600.0


# ------------------------------------------------------------------------------------ SIGTERM


def stop_under_load(zoo: Zoo, load: Load, container: str) -> float:
    """`docker stop` while clients ask; returns when it was sent."""
    load.wait(10)
    began = time.monotonic()
    docker("stop", container)
    state = inspect(container)["State"]
    assert state["ExitCode"] == 0, f"ended with {state['ExitCode']}, not by itself"
    return began


def must_not_break(load: Load, result: Result) -> None:
    """A film that the server had taken is answered: later ones are told so, or find no port."""
    broken = [
        text
        for each in load.requests
        for _, text in each.refused
        if "draining" not in text and not text.startswith("failed to connect")
    ]
    result.must(not broken, f"{len(broken)} were broken off under way: {broken[:1]}")


@row(
    "sigterm-replica",
    "SIGTERM to one of two replicas under load",
    "`--scale pspnet=2`, `docker stop` of one while 2 clients ask",
)
def sigterm_replica(zoo: Zoo) -> Result:
    """Nobody notices."""
    scale = ("up", "-d", "--no-build", "--no-deps", "--scale", "pspnet=2", "pspnet")
    zoo.composition.compose(*scale)
    try:
        zoo.composition.wait_healthy("pspnet")
        zoo.settle()
        container = zoo.container("pspnet")
        with zoo.load() as load:
            fault = stop_under_load(zoo, load, container)
            load.wait_full(time.monotonic(), SOME_REQUESTS)
        log = docker("logs", container)
    finally:
        zoo.composition.compose(*(each.replace("=2", "=1") for each in scale))
    result = sum_up(load.requests, fault, fault)
    served = (log.stdout + log.stderr).count("SegmenterService/Predict")
    result.must(served > 0, "the replica had answered no film: not met")
    result.raw["answered_by_the_replica"] = served
    return result


def stop_and_start(zoo: Zoo, name: str) -> tuple[Load, float, float]:
    """Stops a part under load and starts it again; the load, when it stopped, when it was back."""
    container = zoo.container(name)
    with zoo.load() as load:
        try:
            fault = stop_under_load(zoo, load, container)
        finally:
            docker("start", container)
        lifted = time.monotonic()
        load.wait_full(lifted, SOME_REQUESTS)
    return load, fault, lifted


@row("sigterm-member", "SIGTERM to a member under load", "`docker stop` of pspnet, then start")
def sigterm_member(zoo: Zoo) -> Result:
    """What it has begun it finishes."""
    load, fault, lifted = stop_and_start(zoo, "pspnet")
    return sum_up(load.requests, fault, lifted, may_miss={"pspnet": AWAY}, must_miss=True)


@row("sigterm-gateway", "SIGTERM to the gateway under load", "`docker stop` of it, then start")
def sigterm_gateway(zoo: Zoo) -> Result:
    """Films under way are answered; later ones are refused by name and answered after it."""
    load, fault, lifted = stop_and_start(zoo, "gateway")
    result = sum_up(load.requests, fault, lifted, may_refuse=REFUSALS)
    must_not_break(load, result)
    result.must(bool(result.raw["refused_at_first"]), "nobody was refused: not met")
    return result
