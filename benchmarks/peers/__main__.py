"""Our services against the same networks behind LitServe, MLServer, Ray Serve and BentoML.

Each peer runs in an environment of its own, made here from ``requirements/`` when it is absent.
All serve the same weights with the same engine, preparation and outlines (``work.py``), with a
worker a core; the same film goes in as the bytes of its DICOM file. Closed loop: some clients ask
again as soon as they are answered. Repeats are interleaved: server after server, then again.

Two networks are measured, and then the five through the gateway against five calls one after the
other. Run from the repository root, after ``make setup``::

    .venvs/core/bin/python benchmarks/peers [--network pspnet] [--repeats 3] [--record]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [
    str(ROOT / "benchmarks"),
    *(str(ROOT / "libs" / room / "src") for room in ("conformance", "phantom")),
]

import record  # noqa: E402
from ensemble import own_environment  # noqa: E402
from memory import family, processor_s, pss_bytes  # noqa: E402
from servers import NAMES, PEERS, Ask, make_environments, our_service, peer  # noqa: E402
from spinezoo_phantom import PhantomSettings, make_film, write_dicom  # noqa: E402

NETWORKS = ("pspnet", "yolact")
CLIENTS = (1, 8)


@dataclass
class Server:
    """One server under test.

    Attributes:
        name: For the table.
        ask: Sends the film and takes the answer; one such function a client.
        pid: Its first process.
        latencies_ms: Of every request, by clients.
        films_per_s: A repeat, by clients.
        processor_ms: Of a film, a repeat, by clients: what is left when the machine is busy.
    """

    name: str
    ask: Callable[[], Ask]
    pid: int
    latencies_ms: dict[int, list[float]] = field(default_factory=dict)
    films_per_s: dict[int, list[float]] = field(default_factory=dict)
    processor_ms: dict[int, list[float]] = field(default_factory=dict)

    def memory_mib(self) -> float:
        """Proportional set sizes of all its processes."""
        return sum(pss_bytes(pid) for pid in family(self.pid)) / 2**20


def closed_loop(server: Server, clients: int, seconds: float) -> tuple[float, list[float]]:
    """Films a second of some clients that always wait for an answer, and each one's time in ms."""
    taken: list[list[float]] = [[] for _ in range(clients)]
    errors: list[BaseException] = []
    asks = [server.ask() for _ in range(clients)]
    start = threading.Barrier(clients + 1)

    def client(number: int) -> None:
        start.wait()
        ends = time.perf_counter() + seconds
        try:
            while (began := time.perf_counter()) < ends:
                asks[number]()
                taken[number].append((time.perf_counter() - began) * 1000.0)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    wall_s = time.perf_counter() - began
    if errors:
        raise RuntimeError(f"{server.name} failed: {errors[0]}")
    all_taken = [each for one in taken for each in one]
    return len(all_taken) / wall_s, all_taken


def measure(network: str, options: argparse.Namespace) -> dict[str, Any]:
    """All servers of one network, in turns."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        film = Path(folder) / "film.dcm"
        settings = PhantomSettings(height_px=options.height, width_px=options.width)
        write_dicom(make_film(7, settings), film)
        servers, absent = [], []
        for name in ("", *(options.peer or PEERS)):
            each = peer(name) if name else our_service
            try:
                started = stack.enter_context(each(network, film, options.workers))
            except RuntimeError as error:
                # A peer that does not start is said in the table, and costs the others nothing.
                print(f"{network} behind {name}: {error}", flush=True)
                absent.append(NAMES[name])
                continue
            called, ask, pid, said = started
            print(f"{network} behind {called}: {said}", flush=True)
            servers.append(Server(called, ask, pid))
        for server in servers:
            closed_loop(server, 8, 1.5)
        for _ in range(options.repeats):
            for clients in CLIENTS:
                for server in servers:
                    before_s = processor_s(server.pid)
                    speed, taken = closed_loop(server, clients, options.seconds)
                    used_ms = (processor_s(server.pid) - before_s) * 1000.0 / len(taken)
                    server.processor_ms.setdefault(clients, []).append(used_ms)
                    server.films_per_s.setdefault(clients, []).append(speed)
                    server.latencies_ms.setdefault(clients, []).extend(taken)
        rows = [
            {
                "server": server.name,
                "clients": clients,
                "films_per_s": round(statistics.median(server.films_per_s[clients]), 2),
                "median_ms": round(statistics.median(server.latencies_ms[clients]), 1),
                "p99_ms": round(percentile(server.latencies_ms[clients], 0.99), 1),
                "processor_ms": round(statistics.median(server.processor_ms[clients]), 1),
                "memory_mib": round(server.memory_mib()),
                "requests": len(server.latencies_ms[clients]),
            }
            for server in servers
            for clients in CLIENTS
        ]
    return {"network": network, "rows": rows, "did_not_start": absent}


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def ensemble(repeats: int) -> list[dict[str, Any]]:
    """The five together through the gateway and one after the other, on a zoo of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "spinezoo_tools.processes", "run", "--"]
        result = Path(folder, "five.json")
        subprocess.run(
            [*command, sys.executable, HERE / "five_at_once.py", result, str(repeats)],
            cwd=ROOT,
            env=own_environment(ROOT, folder),
            check=True,
        )
        rows: list[dict[str, Any]] = json.loads(result.read_text())
    return rows


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--network", choices=NETWORKS, action="append", help="only this one")
    parser.add_argument("--seconds", type=float, default=4.0, help="a server, repeat and load")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer", action="append", choices=PEERS, help="only these beside ours")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="of each peer")
    parser.add_argument("--height", type=int, default=1100)
    parser.add_argument("--width", type=int, default=900)
    record.add_option(parser)
    options = parser.parse_args()
    # A time limit's end leaves no server behind: the `with` blocks stop them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    make_environments()
    result = {
        "networks": [measure(network, options) for network in options.network or NETWORKS],
        "five": ensemble(options.repeats),
    }
    return record.finish("peers", result, options)


if __name__ == "__main__":
    sys.exit(main())
