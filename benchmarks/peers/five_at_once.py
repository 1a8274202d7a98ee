"""An ensemble of five through the gateway against five calls one after the other; zoo running.

The calls of the second are those of a caller without a gateway: it asks each network in turn and
gets five answers, unfused and without names. ``benchmarks/peers`` starts the zoo for it, with the
file for the result and the number of repeats as arguments.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from spinezoo_contract.client import EnsembleClient, SegmenterClient
from spinezoo_contract.types import Film
from spinezoo_phantom import PhantomSettings, make_film

ROOT = Path(__file__).resolve().parents[2]
FILMS = 8
CLIENTS = (1, 8)


def films_a_second(ask: Callable[[Film], object], film: Film, clients: int) -> tuple[float, float]:
    """Films a second, and the median time of one in ms."""
    taken: list[float] = []

    def timed(_: int) -> None:
        began = time.perf_counter()
        ask(film)
        taken.append((time.perf_counter() - began) * 1000.0)

    with ThreadPoolExecutor(clients) as pool:
        began = time.perf_counter()
        list(pool.map(timed, range(FILMS * (1 if clients == 1 else 2))))
        wall_s = time.perf_counter() - began
    return len(taken) / wall_s, statistics.median(taken)


def main() -> None:
    """Measures both in turns and writes the result."""
    file, repeats = Path(sys.argv[1]), int(sys.argv[2])
    film = Film(make_film(7, PhantomSettings(height_px=1100, width_px=900)).pixels)
    settings = dict(
        line.split("=", 1)
        for line in (ROOT / ".env").read_text(encoding="utf-8").splitlines()
        if "=" in line and not line.startswith("#")
    ) | dict(os.environ)

    def port(name: str) -> str:
        return f"127.0.0.1:{settings[f'SPINEZOO_{name.upper()}_GRPC_PORT']}"

    networks = sorted(card.parent.name for card in (ROOT / "services").glob("*/card.yaml"))
    with ExitStack() as stack:
        gateway = stack.enter_context(EnsembleClient(port("gateway")))
        members = [stack.enter_context(SegmenterClient(port(name))) for name in networks]

        def one_after_the_other(film: Film) -> None:
            for member in members:
                member.predict(film)

        ways = {"ensemble": gateway.segment, "sequential": one_after_the_other}
        rows = []
        for clients in CLIENTS:
            for ask in ways.values():
                films_a_second(ask, film, clients)
            found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
            for _ in range(repeats):
                for way, ask in ways.items():
                    found[way].append(films_a_second(ask, film, clients))
            rows += [
                {
                    "way": way,
                    "clients": clients,
                    "films_per_s": round(statistics.median(f for f, _ in each), 2),
                    "median_ms": round(statistics.median(ms for _, ms in each), 1),
                }
                for way, each in found.items()
            ]
    file.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
