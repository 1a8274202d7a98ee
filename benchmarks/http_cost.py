"""What HTTP costs beside gRPC: the same film, the same gateway, in turn.

    .venvs/core/bin/python benchmarks/http_cost.py [--films 60] [--record]

Members answer at once, so that the difference is the gateway's own. Gives the medians and their
difference, in ms: of the time on the clock, and of the processor's, which says more on a busy
machine (client, gateway and members are one process).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "gateway" / "tests"))

import record
from bench import NAMES, Bench
from spinezoo.v1 import image_pb2
from spinezoo_testing.servers import Loop


def main() -> int:
    """Asks both ways in turn; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=60)
    parser.add_argument("--height", type=int, default=2048)
    parser.add_argument("--width", type=int, default=1024)
    record.add_option(parser)
    options = parser.parse_args()
    levels = np.random.default_rng(5).integers(0, 4095, (options.height, options.width))
    film = cv2.imencode(".png", levels.astype(np.uint16), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    data = film.tobytes()
    loop = Loop()
    bench = Bench(loop, Path(tempfile.mkdtemp()))
    for name in NAMES:
        bench.add_member(name)
    bench.start()
    times: dict[str, list[float]] = {"grpc": [], "http": [], "http polygons": []}
    worked: dict[str, list[float]] = {name: [] for name in times}
    with httpx.Client(base_url=bench.start_http(), timeout=60.0, trust_env=False) as client:

        def over_http(**fields: str) -> None:
            answer = client.post("/v1/segment", files={"film": data}, data=fields)
            answer.raise_for_status()
            answer.json()

        ways = {
            "grpc": lambda: bench.segment(image_pb2.Image(encoded=data)),
            "http": over_http,
            "http polygons": lambda: over_http(masks="polygons"),
        }
        for turn in range(options.films + 5):
            for name, ask in ways.items():
                began, busy = time.perf_counter(), time.process_time()
                ask()
                if turn >= 5:
                    worked[name].append((time.process_time() - busy) * 1000.0)
                    times[name].append((time.perf_counter() - began) * 1000.0)
    bench.close()
    loop.close()
    middle = statistics.median
    result: dict[str, Any] = {
        name: {
            "median_ms": round(middle(times[name]), 2),
            "processor_ms": round(middle(worked[name]), 2),
        }
        for name in ways
    }
    for key, figures in (("http_minus_grpc_ms", times), ("http_minus_grpc_processor_ms", worked)):
        result[key] = round(middle(figures["http"]) - middle(figures["grpc"]), 2)
    return record.finish("http_cost", result, options)


if __name__ == "__main__":
    sys.exit(main())
