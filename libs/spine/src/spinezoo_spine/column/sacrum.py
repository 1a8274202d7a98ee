"""Which place is S1, and how sure that is."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from spinezoo_spine.column.anatomy import MOST_LUMBAR, MOST_SACRAL, USUAL_LUMBAR
from spinezoo_spine.column.chain import steps_between
from spinezoo_spine.column.confidence import ramp
from spinezoo_spine.column.places import Place


def sacral_part(chain: Sequence[Place]) -> tuple[int, float]:
    """How many of the chain's lowest places are sacral, and by how much that is the best reading.

    Sacral outlines below, lumbar ones above: the cut is put where the outlines of the other class
    weigh least, by score. So one outline of the wrong class does not move it. More outlines than
    a column has on either side count against a cut too: on a film of low contrast S1 can look like
    a lumbar vertebra to every network, and then all names are one off. They can make the cut
    doubtful (a negative margin), but no outline becomes S1 that nobody calls sacral.
    """
    cuts = range(min(3, len(chain) - 1) + 1)
    by_class = [
        sum(node.lumbar for node in chain[:cut]) + sum(node.sacral for node in chain[cut:])
        for cut in cuts
    ]
    costs = [
        cost
        + 0.5 * max(0, cut - MOST_SACRAL)
        + max(0, sum(node.count for node in chain[cut:]) - MOST_LUMBAR)
        for cut, cost in enumerate(by_class)
    ]
    best = min(cuts, key=lambda cut: (costs[cut], cut))
    if not best or chain[best - 1].sacral == 0.0:
        best = min(cuts, key=lambda cut: (by_class[cut], cut))
    if best and chain[best - 1].sacral == 0.0:
        return 0, 0.0
    others = [cost for cut, cost in enumerate(costs) if cut != best]
    return best, (min(others) - costs[best] if others else 0.0)


def sacrum_confidence(chain: Sequence[Place], split: int, margin: float, usual: float) -> float:
    """Confidence that the uppermost sacral place is S1."""
    first = chain[split - 1]
    confidence = 0.3 + 0.7 * min(1.0, max(0.0, margin) / 0.5)
    steps = steps_between(first, chain[split])
    bodies = [node.shape.size_px for node in chain[split:] if node.count == 1] or [usual]
    ratio = first.shape.size_px / statistics.median(bodies)
    if split == 1 and first.count == 1:
        # S2 is a fifth smaller than L5, S1 is not: a small outline alone may be S2, with S1 missed
        # or outlined as lumbar. Of one that the film's border cuts off, nothing is known either.
        # With S1 missed the step is long; with S1 outlined as lumbar there is mostly one more
        # above than T12 and five.
        above = sum(node.count for node in chain[split:])
        doubtful = steps > 1.5 or above > USUAL_LUMBAR + 1
        confidence *= ramp(ratio, 0.84, 0.94, 0.35 if doubtful else 0.6)
        if steps > 1.5:
            confidence *= ramp(ratio, 0.88, 0.96, 0.4)
    return confidence
