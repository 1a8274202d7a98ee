"""All speed measurements, one after the other: what ``make speed`` runs. Standard library only.

Each is a program of its own in the environment of its room and can be run alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def python_of(room: str) -> str:
    """The interpreter of a room's environment."""
    command = [sys.executable, "-m", "spinezoo_tools.environments", "python", "--room", room]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tools" / "src")}
    return subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


def main() -> int:
    """Runs them; ends with the number of those that missed their mark."""
    networks = sorted(card.parent.name for card in (ROOT / "services").glob("*/card.yaml"))
    commands = [
        [python_of("evaluator"), "benchmarks/metrics.py"],
        [python_of("gateway"), "benchmarks/gateway.py"],
        *(
            [python_of(f"services/{name}"), "benchmarks/service.py", "--network", name]
            for name in networks
        ),
    ]
    missed = 0
    for command in commands:
        print(f"\n$ {' '.join(command)}", flush=True)
        missed += int(subprocess.run(command, cwd=ROOT).returncode != 0)
    return missed


if __name__ == "__main__":
    sys.exit(main())
