"""From places to a column: the chain of places from below that is worth most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from spinezoo_spine.column.anatomy import USUAL_STEP
from spinezoo_spine.column.places import Place, Places

_LONGEST_STEP = 4.6
"""Longest distance of two neighbours in a chain, in usual steps: three missed in a row."""


@dataclass(slots=True, eq=False)
class _Edge:
    low: int
    high: int
    angle_deg: float
    cost: float
    best: float = 0.0
    before: int = -1  # edge that this one goes on from


def longest_chain(film: Places) -> list[Place]:
    """The column from below: the chain of places that is worth most.

    A chain pays for turns, for steps that are not a whole number of vertebrae and for places left
    out, so that a blob beside the column costs more than it brings.
    """
    nodes = [node for node in film.nodes if node.index not in film.left_out]
    nodes.sort(key=lambda node: -node.shape.centre_xy[1])
    if len(nodes) < 2:
        return nodes
    edges: list[_Edge] = []
    ending: list[list[int]] = [[] for _ in nodes]
    for high, upper in enumerate(nodes):
        for low in range(high):
            cost = _step_cost(nodes[low], upper)
            if cost is None:
                continue
            angle = _angle_deg(nodes[low].upper_xy, upper.lower_xy)
            edge = _Edge(low, high, angle, cost)
            # A chain may start here: with the lower node alone.
            edge.best = nodes[low].worth + upper.worth - cost - _lean_cost(angle)
            for number in ending[low]:
                before = edges[number]
                turn = _turn_cost(before, edge, nodes)
                if turn is None:
                    continue
                total = before.best + upper.worth - cost - turn
                if total > edge.best:
                    edge.best, edge.before = total, number
            ending[high].append(len(edges))
            edges.append(edge)
    alone = max(nodes, key=lambda node: node.worth)
    if not edges:
        return [alone]
    last = max(range(len(edges)), key=lambda number: edges[number].best)
    if edges[last].best < alone.worth:
        return [alone]
    chain = [nodes[edges[last].high]]
    while last >= 0:
        chain.append(nodes[edges[last].low])
        last = edges[last].before
    return chain[::-1]


def _angle_deg(low_xy: tuple[float, float], high_xy: tuple[float, float]) -> float:
    """Direction of a step: 0 is straight up, positive to the right."""
    return math.degrees(math.atan2(high_xy[0] - low_xy[0], low_xy[1] - high_xy[1]))


def steps_between(low: Place, high: Place, step: float = USUAL_STEP) -> float:
    """Distance of two neighbours, in usual steps."""
    dx = high.lower_xy[0] - low.upper_xy[0]
    dy = high.lower_xy[1] - low.upper_xy[1]
    return math.hypot(dx, dy) / (step * (low.size + high.size) / 2.0)


def _step_cost(low: Place, high: Place) -> float | None:
    """What it costs to go from one place to the next one up; None where it cannot be."""
    steps = steps_between(low, high)
    if not 0.45 <= steps <= _LONGEST_STEP:
        return None
    whole = max(1, round(steps))
    size = abs(math.log(low.shape.size_px / high.shape.size_px)) if low.count == high.count else 0.0
    return 0.5 * (whole - 1) + 0.5 * abs(steps - whole) + 0.25 * size


def _lean_cost(angle_deg: float) -> float:
    """A first step leans as the sacrum does, rarely more."""
    return 0.02 * max(0.0, abs(angle_deg) - 50.0)


def _turn_cost(before: _Edge, after: _Edge, nodes: Sequence[Place]) -> float | None:
    """What a turn costs; the column bends most at L5 to S1."""
    turn = abs(after.angle_deg - before.angle_deg)
    low = nodes[before.low]
    free, most = (35.0, 85.0) if low.sacral > 0.0 else (22.0, 55.0)
    if low.sacral > 0.0 and low.cut_off:
        free = 70.0  # what the film shows of it is not its middle
    if turn > most:
        return None
    return 0.02 * max(0.0, turn - free)
