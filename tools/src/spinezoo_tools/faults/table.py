"""The table in ``docs/reliability.md``: written between two markers, the text around it by hand."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spinezoo_tools.faults.load import Result
from spinezoo_tools.faults.row import Row

BEGIN = "<!-- begin: make faults -->"
END = "<!-- end: make faults -->"
HEAD = (
    "fault", "how it is made", "what clients see", "median / longest wait during it", "lost",
    "whole again after", "holds",
)  # fmt: skip


def line(row: Row, result: Result) -> str:
    """One row of the table."""
    recovery = result.recovery_s
    whole = "never" if recovery is None else f"{recovery:.1f} s" if recovery else "nobody noticed"
    wait = f"{result.median_ms / 1000.0:.2f} s / {result.max_ms / 1000.0:.1f} s"
    holds = "yes" if not result.problems else "NO: " + "; ".join(result.problems)
    cells = [row.fault, row.made, result.sees, wait, str(result.lost), whole, holds]
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"


def table(measured: Sequence[tuple[Row, Result]]) -> str:
    """The table, with its head."""
    head = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    return "\n".join([*head, *(line(row, result) for row, result in measured)])


def write(path: Path, text: str) -> None:
    """Puts text between the markers of a page.

    Raises:
        ValueError: The page has not both markers, once each.
    """
    page = path.read_text(encoding="utf-8")
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"{path.name} must hold {BEGIN} and {END} once each; put them back")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def faults_of(path: Path) -> list[tuple[str, str]]:
    """The first two cells of the page's rows: the fault, and how it is made."""
    page = path.read_text(encoding="utf-8")
    between = page.partition(BEGIN)[2].partition(END)[0]
    rows = [each for each in between.splitlines() if each.startswith("| ")]
    cells = [[cell.strip() for cell in each.strip("| ").split(" | ")] for each in rows[1:]]
    return [(each[0], each[1]) for each in cells]


def machine() -> dict[str, Any]:
    """What the figures were measured on, without the machine's name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }
