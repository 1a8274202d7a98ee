"""Films a second of one service over gRPC, against its predictor called in a bare loop.

In turn, round by round and on the same film: the predictor in this process, alone; then the
network's own process (the command that containers run) asked over gRPC with a few requests in
flight, while this process waits. The ratio of the two does not depend on how fast the machine is.

Run from the repository root in the environment of the network (U-Net: ``.venvs/tensorflow``)::

    .venvs/torch/bin/python benchmarks/service.py --network pspnet [--json FILE]

Ends with 1 when the service gives less than 90 % of the bare loop's films per second.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from spinezoo_conformance.testing import ServiceProcess
from spinezoo_contract.client import SegmenterClient
from spinezoo_contract.types import Film, PredictOptions
from spinezoo_phantom import PhantomSettings, make_film

ROOT = Path(__file__).resolve().parents[1]
WANTED_RATIO = 0.9


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", required=True)
    parser.add_argument("--films", type=int, default=20, help="films a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in-flight", type=int, default=3, help="requests at the same time")
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--json", type=Path, help="write the results here as well")
    arguments = parser.parse_args()

    settings = PhantomSettings(height_px=arguments.height, width_px=arguments.width)
    film = Film(make_film(7, settings).pixels)
    options = PredictOptions()
    folder = ROOT / "services" / arguments.network
    module = importlib.import_module(f"spinezoo_{arguments.network}.predictor")
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
    result = {
        "network": arguments.network,
        "film": f"{arguments.height} x {arguments.width}",
        "rounds": arguments.rounds,
        "bare_films_per_s": round(statistics.median(bare), 2),
        "grpc_films_per_s": round(statistics.median(served), 2),
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_minimum": round(min(ratios), 3),
        "ratio_maximum": round(max(ratios), 3),
    }
    print(json.dumps(result))
    print(
        f"| {result['network']} | {result['bare_films_per_s']} | {result['grpc_films_per_s']} | "
        f"{result['ratio_median']} ({result['ratio_minimum']} to {result['ratio_maximum']}) |"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return int(result["ratio_median"] < WANTED_RATIO)


if __name__ == "__main__":
    sys.exit(main())
