"""The ensemble of this checkout against that of another one, in turns within one run.

Both zoos are started by their own ``make up``, beside each other on ports of their own, and are
asked the same phantom films through their gateways: first one client that waits for each answer
(latency), then several (films a second). The other zoo stands still meanwhile, so that the ratio
does not depend on how fast the machine is. The processor time of a film hardly depends even on what
else the machine does::

    .venvs/core/bin/python benchmarks/ensemble.py --other ../before [--rounds 5] [--record]

Both checkouts must be set up (``make setup``). Prints a line a round and the medians; ends with 1
where a mark is missed or an answer lacks a member. Memory is the sum of the proportional set sizes
after the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import record
from memory import processor_s, pss_bytes
from spinezoo.v1 import ensemble_pb2, ensemble_pb2_grpc, image_pb2
from spinezoo_conformance.ports import free_ports
from spinezoo_contract.codec import film_to_proto
from spinezoo_contract.types import Film
from spinezoo_phantom import PhantomSettings, make_film

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 64 << 20
CHANNEL = (("grpc.max_receive_message_length", LIMIT), ("grpc.max_send_message_length", LIMIT))
CALL_S = 120.0
START_S = 600.0


@dataclass
class Side:
    """One checkout's zoo.

    Attributes:
        name: For the output.
        stub: Its gateway.
        target: Its gateway's address.
        pids: Its processes.
        ready_s: What starting it took.
        latencies_ms: Median a round, of one client.
        films_per_s: A round, of several clients.
        processor_ms: A round, of all its processes together, for a film.
    """

    name: str
    stub: ensemble_pb2_grpc.EnsembleServiceStub
    target: str
    pids: list[int]
    ready_s: float
    latencies_ms: list[float] = field(default_factory=list)
    films_per_s: list[float] = field(default_factory=list)
    processor_ms: list[float] = field(default_factory=list)


def own_environment(root: Path, run_folder: str) -> dict[str, str]:
    """The environment in which a checkout's zoo has free ports, so that another may run beside."""
    networks = sorted(path.parent.name for path in (root / "services").glob("*/card.yaml"))
    parts = [*networks, "gateway", "evaluator"]
    ports = iter(free_ports(2 * len(parts)))
    environment = {**os.environ, "SPINEZOO_RUN_DIR": run_folder}
    for part in parts:
        for kind in ("GRPC", "HTTP"):
            environment[f"SPINEZOO_{part.upper()}_{kind}_PORT"] = str(next(ports))
    return environment


@contextlib.contextmanager
def zoo_of(root: Path) -> Iterator[Side]:
    """Starts a checkout's zoo on free ports, as its ``make up`` does, and stops it."""
    with tempfile.TemporaryDirectory() as folder:
        environment = own_environment(root, folder)

        def make(target: str) -> None:
            subprocess.run(
                ["make", "-C", str(root), target],
                env=environment,
                check=True,
                timeout=START_S,
                stdout=subprocess.DEVNULL,
            )

        began = time.monotonic()
        make("up")
        ready_s = time.monotonic() - began
        try:
            state = json.loads(Path(folder, "zoo.json").read_text())
            pids = [int(each["pid"]) for each in _processes(state)]
            target = f"127.0.0.1:{environment['SPINEZOO_GATEWAY_GRPC_PORT']}"
            with grpc.insecure_channel(target, CHANNEL) as channel:
                stub = ensemble_pb2_grpc.EnsembleServiceStub(channel)
                yield Side(root.name, stub, target, pids, ready_s)
        finally:
            make("down")


def _processes(state: object) -> list[dict[str, object]]:
    """Every entry of ``zoo.json`` that has a process number, whatever its layout."""
    if isinstance(state, dict):
        if "pid" in state:
            return [state]
        return [one for value in state.values() for one in _processes(value)]
    if isinstance(state, list):
        return [one for value in state for one in _processes(value)]
    return []


def ask(side: Side, image: image_pb2.Image) -> float:
    """Asks once; what it took, in ms."""
    began = time.perf_counter()
    answer = side.stub.Segment(ensemble_pb2.SegmentRequest(image=image), timeout=CALL_S)
    took = (time.perf_counter() - began) * 1000.0
    failed = [str(m.status) for m in answer.members if m.status.message]
    if failed:
        raise SystemExit(f"{side.name}: members failed: {failed}")
    return took


def one_round(side: Side, images: list[image_pb2.Image], clients: int) -> None:
    """One client, then several, over the same films."""
    before_s = sum(map(processor_s, side.pids))
    side.latencies_ms.append(statistics.median(ask(side, image) for image in images))
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda image: ask(side, image), images))
    side.films_per_s.append(len(images) / (time.perf_counter() - began))
    used_s = sum(map(processor_s, side.pids)) - before_s
    side.processor_ms.append(used_s * 1000.0 / (2 * len(images)))


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--other", type=Path, required=True, help="the checkout to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--films", type=int, default=12, help="films a round")
    parser.add_argument("--clients", type=int, default=4, help="clients at the same time")
    parser.add_argument("--height", type=int, default=1100)
    parser.add_argument("--width", type=int, default=900)
    record.add_option(parser)
    options = parser.parse_args()
    # A time limit's end leaves no zoo behind: the `with` blocks stop them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    size = PhantomSettings(height_px=options.height, width_px=options.width)
    images = [film_to_proto(Film(make_film(seed, size).pixels)) for seed in range(options.films)]
    with zoo_of(options.other.resolve()) as other, zoo_of(ROOT) as this:
        for side in (other, this):  # the first films warm up
            for image in images[:3]:
                ask(side, image)
        for number in range(options.rounds):
            for side in (other, this):
                one_round(side, images, options.clients)
            print(
                f"round {number + 1}: latency {other.latencies_ms[-1]:.0f} to "
                f"{this.latencies_ms[-1]:.0f} ms, {other.films_per_s[-1]:.1f} to "
                f"{this.films_per_s[-1]:.1f} films/s, "
                f"{other.processor_ms[-1]:.0f} to {this.processor_ms[-1]:.0f} ms of a core a film",
                flush=True,
            )
        memory = [sum(map(pss_bytes, side.pids)) / (1 << 20) for side in (other, this)]
    latency = [b / a for a, b in zip(other.latencies_ms, this.latencies_ms, strict=True)]
    films = [b / a for a, b in zip(other.films_per_s, this.films_per_s, strict=True)]
    result = {
        "film": f"{options.height} x {options.width}",
        "rounds": options.rounds,
        "other_latency_ms": round(statistics.median(other.latencies_ms), 1),
        "latency_ms": round(statistics.median(this.latencies_ms), 1),
        "latency_ratio": round(statistics.median(latency), 3),
        "other_films_per_s": round(statistics.median(other.films_per_s), 2),
        "films_per_s": round(statistics.median(this.films_per_s), 2),
        "films_ratio": round(statistics.median(films), 3),
        "other_processor_ms": round(statistics.median(other.processor_ms)),
        "processor_ms": round(statistics.median(this.processor_ms)),
        "other_memory_mib": round(memory[0]),
        "memory_mib": round(memory[1]),
    }
    return record.finish("ensemble", result, options)


if __name__ == "__main__":
    sys.exit(main())
