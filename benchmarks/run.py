"""All speed measurements, one after the other: what ``make speed`` runs. Standard library only.

Each is a program of its own in the environment of its room and can be run alone.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Runs them; ends with the number of those that missed their mark."""
    networks = sorted(card.parent.name for card in (ROOT / "services").glob("*/card.yaml"))
    commands = [
        ["evaluator/.venv/bin/python", "benchmarks/metrics.py"],
        ["gateway/.venv/bin/python", "benchmarks/gateway.py"],
        *(
            [f"services/{name}/.venv/bin/python", "benchmarks/service.py", "--network", name]
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
