"""Films a second of one service over gRPC, against its predictor called in a bare loop.

In turn, round by round and on the same film: the predictor in this process, alone; then the
network's own process (the command that containers run) asked over gRPC with a few requests in
flight, while this process waits. The ratio of the two does not depend on how fast the machine is.

Every network is measured in its own environment, or one with ``--network``. Run from the repository
root::

    .venvs/core/bin/python benchmarks/service.py [--network pspnet] [--record]

Ends with 1 when a mark is missed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import record
from spinezoo_conformance.testing import ServiceProcess
from spinezoo_contract.client import SegmenterClient
from spinezoo_contract.types import Film, PredictOptions
from spinezoo_phantom import PhantomSettings, make_film
from spinezoo_tools.environments import python_of

ROOT = Path(__file__).resolve().parents[1]
INSIDE = "SPINEZOO_SERVICE_BENCHMARK"
"""Set where this runs in a network's environment, to measure that network."""


def measured(network: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One network's figures; in its own environment."""
    settings = PhantomSettings(height_px=arguments.height, width_px=arguments.width)
    film = Film(make_film(7, settings).pixels)
    options = PredictOptions()
    folder = ROOT / "services" / network
    module = importlib.import_module(f"spinezoo_{network}.predictor")
    predictor = module.load_predictor(folder / "card.yaml")

    bare, served = [], []
    with (
        ServiceProcess(folder) as process,
        SegmenterClient(process.target) as client,
        ThreadPoolExecutor(arguments.in_flight) as pool,
    ):

        def ask(_: int) -> None:
            client.predict(film, options)

        for index in range(-1, arguments.rounds):  # round -1 warms both up
            started = time.perf_counter()
            for _ in range(arguments.films):
                predictor.predict(film, options)
            between = time.perf_counter()
            list(pool.map(ask, range(arguments.films)))
            ended = time.perf_counter()
            if index >= 0:
                bare.append(arguments.films / (between - started))
                served.append(arguments.films / (ended - between))
    ratios = [over / alone for over, alone in zip(served, bare, strict=True)]
    return {
        "network": network,
        "film": f"{arguments.height} x {arguments.width}",
        "rounds": arguments.rounds,
        "bare_films_per_s": round(statistics.median(bare), 2),
        "grpc_films_per_s": round(statistics.median(served), 2),
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_minimum": round(min(ratios), 3),
        "ratio_maximum": round(max(ratios), 3),
    }


def in_its_environment(network: str) -> dict[str, Any]:
    """One network's figures, measured by this program in the network's environment."""
    command = [python_of(ROOT, ROOT / "services" / network), *sys.argv]
    done = subprocess.run(
        [str(word) for word in command if word != "--record"],
        env={**os.environ, INSIDE: network},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(row), flush=True)
    return row


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", action="append", help="only this one; may be repeated")
    parser.add_argument("--films", type=int, default=20, help="films a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in-flight", type=int, default=3, help="requests at the same time")
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--width", type=int, default=768)
    record.add_option(parser)
    arguments = parser.parse_args()
    if INSIDE in os.environ:
        print(json.dumps(measured(os.environ[INSIDE], arguments)))
        return 0
    names = arguments.network or sorted(p.parent.name for p in ROOT.glob("services/*/card.yaml"))
    return record.finish("service", [in_its_environment(name) for name in names], arguments)


if __name__ == "__main__":
    sys.exit(main())
