"""Films a second of each network's service here against another checkout's, such as an older one.

In turn, round by round and on the same film: this checkout's process of the network, then the other
checkout's, each asked over gRPC by a few callers while the other one waits. The ratio of the two
does not depend on how fast the machine is. The processor time of a film is given too: its ratio
does not even depend on what else the machine does.

Run from the repository root::

    .venvs/core/bin/python benchmarks/engines.py --other ../old-checkout [--json FILE]

``SPINEZOO_ENGINE`` and ``SPINEZOO_PRECISION`` hold for this checkout's processes, so
``SPINEZOO_PRECISION=float32`` gives the ratio without bfloat16. Each network is served with the
environment that its checkout serves it in.
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

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "libs" / room / "src") for room in ("conformance", "phantom")]

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


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--other", type=Path, required=True, help="the other checkout, set up")
    parser.add_argument("--network", action="append", help="only this one; may be repeated")
    parser.add_argument("--films", type=int, default=12, help="films a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--callers", type=int, default=2)
    parser.add_argument("--height", type=int, default=1100)
    parser.add_argument("--width", type=int, default=900)
    parser.add_argument("--json", type=Path, help="write the results here as well")
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
        with ExitStack() as stack:
            clients, pids = [], []
            for checkout in (ROOT, options.other.resolve()):
                folder = checkout / "services" / name
                # An older checkout shared the processors among the networks; alone it has all.
                process = ServiceProcess(
                    folder,
                    command=command(checkout, name),
                    environment={"SPINEZOO_THREADS": os.environ.get("SPINEZOO_THREADS", "0")},
                )
                stack.enter_context(process)
                pids.append(process.pid)
                client = SegmenterClient(process.target)
                clients.append(stack.enter_context(client))
            for client in clients:
                films_a_second(client, film, 4, options.callers)
            rounds, used_s = [], [0.0, 0.0]
            for _ in range(options.rounds):
                speeds = []
                for side, client in enumerate(clients):
                    before_s = processor_s(pids[side])
                    speeds.append(films_a_second(client, film, options.films, options.callers))
                    used_s[side] += processor_s(pids[side]) - before_s
                rounds.append(speeds)
            here_ms, other_ms = (s * 1000.0 / options.films / options.rounds for s in used_s)
            said = clients[0].predict(film).provenance
        ratios = [here / other for here, other in rounds]
        results.append(
            {
                "network": name,
                "engine": said.engine,
                "precision": said.precision,
                "films_per_s": round(statistics.median(here for here, _ in rounds), 2),
                "other_films_per_s": round(statistics.median(other for _, other in rounds), 2),
                "processor_ms": round(here_ms, 1),
                "other_processor_ms": round(other_ms, 1),
                "processor_ratio": round(other_ms / here_ms, 2),
                "ratio_median": round(statistics.median(ratios), 2),
                "ratio_minimum": round(min(ratios), 2),
                "ratio_maximum": round(max(ratios), 2),
            }
        )
        print(json.dumps(results[-1]), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
