"""The contract's ``end_with_reader`` for tools, which run before the contract is installed."""

from __future__ import annotations

import runpy
from pathlib import Path

FILE = Path(__file__).resolve().parents[3] / "libs/contract/src/spinezoo_contract/output.py"


def end_with_reader() -> None:
    """As :func:`spinezoo_contract.output.end_with_reader`, from its file in this checkout."""
    runpy.run_path(str(FILE))["end_with_reader"]()
