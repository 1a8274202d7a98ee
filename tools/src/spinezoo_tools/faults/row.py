"""One row of the table of faults, and what the rows share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spinezoo_tools.checkout import networks_of
from spinezoo_tools.environments import ROOT
from spinezoo_tools.faults.load import Result
from spinezoo_tools.faults.zoo import Zoo

NETWORKS = tuple(networks_of(ROOT))
KILL_REQUESTS = 200
SOME_REQUESTS = 40
DEADLINE_MS = 5000
"""Member deadline that clients ask for where a member hangs."""

FAULT_S = 20.0
"""How long a member is cut off, in s: several deadlines."""

PAUSE_S = 60.0
"""How long a member hangs, in s: long after it has been set aside."""

MOST_WAIT = 2
"""Most films that may wait for a member that hangs."""

AWAY = ("UNAVAILABLE",)
HUNG = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
REFUSALS = ("NotServingError",)


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        name: For the command line.
        fault: The fault, for the table.
        made: How it is made, for the table.
        run: Makes it and mends it.
    """

    name: str
    fault: str
    made: str
    run: Callable[[Zoo], Result]


def add_row(
    rows: list[Row], name: str, fault: str, made: str
) -> Callable[[Callable[[Zoo], Result]], Callable[[Zoo], Result]]:
    """Puts a function into a list of rows."""

    def add(run: Callable[[Zoo], Result]) -> Callable[[Zoo], Result]:
        rows.append(Row(name, fault, made, run))
        return run

    return add
