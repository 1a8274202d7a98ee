"""Films a second of each network's service here against another checkout's, such as an older one.

In turn, round by round and on the same film: this checkout's processes of the network, one for each
precision, then the other checkout's, each asked over gRPC by a few callers while the others wait.
Ratios do not depend on how fast the machine is. The processor time of a film is given too: its
ratio does not even depend on what else the machine does.

Run from the repository root::

    .venvs/core/bin/python benchmarks/engines.py --other ../old-checkout [--record]

``SPINEZOO_ENGINE`` holds for this checkout's processes. Each network is served with the environment
that its checkout serves it in. Ends with 1 when a mark is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "libs" / room / "src") for room in ("conformance", "phantom")]

import record  # noqa: E402
from memory import processor_s  # noqa: E402
from spinezoo_conformance.testing import ServiceProcess  # noqa: E402
from spinezoo_contract.client import SegmenterClient  # noqa: E402
from spinezoo_contract.types import Film  # noqa: E402
from spinezoo_phantom import PhantomSettings, make_film  # noqa: E402


def command(checkout: Path, network: str) -> list[str]:
    """The command that serves a network of a checkout.

    An older checkout has an environment in each service's folder, and its server in the contract.
    """
    folder = checkout / "services" / network
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    said = project.get("tool", {}).get("spinezoo")
    if said is None:
        python = folder / ".venv" / "bin" / "python"
    else:
        named = said.get("serving", said["environment"])
        python = checkout / ".venvs" / named / "bin" / "python"
    server = "serving" if (checkout / "libs" / "serving").is_dir() else "contract"
    return [str(python), "-m", f"spinezoo_{server}.bento", str(folder)]


def films_a_second(client: SegmenterClient, film: Film, count: int, callers: int) -> float:
    """Films a second of a service that a few callers ask at the same time."""
    with ThreadPoolExecutor(callers) as pool:
        started = time.perf_counter()
        list(pool.map(lambda _: client.predict(film), range(count)))
        return count / (time.perf_counter() - started)


def measured(name: str, film: Film, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One network: a row a precision, each against the other checkout."""
    asked = options.precision or ["auto", "float32"]
    other = options.other.resolve()
    with ExitStack() as stack:
        clients, pids = [], []
        for checkout, precision in [*((ROOT, each) for each in asked), (other, "auto")]:
            process = ServiceProcess(
                checkout / "services" / name,
                command=command(checkout, name),
                # An older checkout shared the processors among the networks; alone it has all.
                environment={
                    "SPINEZOO_THREADS": os.environ.get("SPINEZOO_THREADS", "0"),
                    "SPINEZOO_PRECISION": precision,
                },
            )
            stack.enter_context(process)
            pids.append(process.pid)
            clients.append(stack.enter_context(SegmenterClient(process.target)))
        for client in clients:
            films_a_second(client, film, 4, options.callers)
        rounds, used_s = [], [0.0] * len(clients)
        for _ in range(options.rounds):
            speeds = []
            for side, client in enumerate(clients):
                before_s = processor_s(pids[side])
                speeds.append(films_a_second(client, film, options.films, options.callers))
                used_s[side] += processor_s(pids[side]) - before_s
            rounds.append(speeds)
        said = [client.predict(film).provenance for client in clients[:-1]]
    *here_ms, other_ms = (s * 1000.0 / options.films / options.rounds for s in used_s)
    rows = []
    for side, precision in enumerate(asked):
        ratios = [speeds[side] / speeds[-1] for speeds in rounds]
        rows.append(
            {
                "network": name,
                "engine": said[side].engine,
                "asked": precision,
                "precision": said[side].precision,
                "films_per_s": round(statistics.median(speeds[side] for speeds in rounds), 2),
                "other_films_per_s": round(statistics.median(speeds[-1] for speeds in rounds), 2),
                "processor_ms": round(here_ms[side], 1),
                "other_processor_ms": round(other_ms, 1),
                "processor_ratio": round(other_ms / here_ms[side], 2),
                "ratio_median": round(statistics.median(ratios), 2),
                "ratio_minimum": round(min(ratios), 2),
                "ratio_maximum": round(max(ratios), 2),
            }
        )
    return rows


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--other", type=Path, required=True, help="the other checkout, set up")
    parser.add_argument("--network", action="append", help="only this one; may be repeated")
    parser.add_argument("--films", type=int, default=12, help="films a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--callers", type=int, default=2)
    parser.add_argument("--precision", action="append", help="of this checkout; auto and float32")
    parser.add_argument("--height", type=int, default=1100)
    parser.add_argument("--width", type=int, default=900)
    record.add_option(parser)
    options = parser.parse_args()
    # A time limit's end leaves no service behind: the `with` blocks stop them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    settings = PhantomSettings(height_px=options.height, width_px=options.width)
    film = Film(make_film(7, settings).pixels)
    names = options.network or sorted(
        card.parent.name for card in ROOT.glob("services/*/card.yaml")
    )
    results = []
    for name in names:
        results += measured(name, film, options)
        print(json.dumps(results[-1]), flush=True)
    return record.finish("engines", results, options)


if __name__ == "__main__":
    sys.exit(main())
