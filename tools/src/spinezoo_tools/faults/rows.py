"""The faults, in the order of the table: each is made, looked at as a client does, and mended."""

from __future__ import annotations

from spinezoo_tools.composition import COMMAND_LIMIT_S
from spinezoo_tools.faults import breaks, strains
from spinezoo_tools.faults.zoo import BENCHMARK_LIMIT_S

ROWS = [*breaks.ROWS, *strains.ROWS]

assert len({each.name for each in ROWS}) == len(ROWS)
assert BENCHMARK_LIMIT_S > COMMAND_LIMIT_S
