"""A name for every vertebra: by order and distance from the sacrum, or a reason why there is none.

The study proposes it: overlapping instances are resolved by score, and "the labelling of each
vertebra could be easily performed based on the order and distance from the sacral vertebra". So
numbering starts at S1 and goes up: the vertebra above S1 is L5, and a place that is free in the
column, seen by its width, is counted as a vertebra that was missed.

A wrong name is worse than none. Every name carries a confidence, the product of what it rests on
(is this S1, is each step up to here one vertebra wide), and below :data:`LEAST_CONFIDENCE` the
name is withheld and the reason given. Method, failure modes and how to read names:
``docs/labelling.md``.

Everything works on centres and sizes; no mask is decoded to pixels.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from spinezoo_contract.types import VERTEBRAE, Segment, SegmentKind, Structure

from spinezoo_spine.column.bodies import Shape, shape_of
from spinezoo_spine.instances import DUPLICATE_SHARE, overlaps, spans_two

LEAST_CONFIDENCE = 0.5
"""Below this a name is withheld."""

MOST_OUTLINES = 48
"""Vertebral outlines that are looked at, by score times area: no film shows half as many."""

DUPLICATE_IOU = 0.35
"""Two outlines that overlap this much are of one vertebra. Neighbours that touch reach 0.1. So are
two of which one lies in the other by ``DUPLICATE_SHARE``."""

USUAL_STEP = 1.2
"""Distance of neighbouring centres over the side of the square of a body's area.

Of 39 pairs of the development films' corner truth (T12 to L5) the ratio lies between 1.01 and 1.38,
with medians by pair of 1.13 to 1.28; of the phantom test set, much of it diseased, between 0.82 and
1.85, with medians of 1.13 to 1.26. Each column's own steps correct it; see :func:`_own_step`.
"""

USUAL_BODY_HEIGHT = 0.85
"""Height of a body over the side of the square of its area."""

_LONGEST_STEP = 4.6
"""Longest distance of two neighbours in a chain, in usual steps: three missed in a row."""

_UPWARDS = ("S1", "L5", "L4", "L3", "L2", "L1", "T12", "T11", "T10")
_DOWNWARDS = ("S1", "S2")

USUAL_LUMBAR = 5
"""Lumbar vertebrae of most people."""

MOST_LUMBAR = 7
MOST_SACRAL = 2
"""T12 and six lumbar vertebrae, S1 and S2: nothing above and below is outlined. One more above a
cut speaks as strongly against it as an outline of the wrong class. One more below half as much:
networks outline S3 more often than T10."""


class Reason(StrEnum):
    """Why a vertebral outline has no name. The values are for people."""

    NO_SACRUM = "the sacrum is not in view, or no network has seen it"
    SACRUM_UNSURE = "which outline is S1 cannot be said"
    SPACING = "the spacing below it does not say how many vertebrae lie between"
    DUPLICATE = "another outline of the same vertebra has a higher score"
    OFF_COLUMN = "it does not lie on the column"
    FRAGMENT = "it is too small or too large for a vertebra of this film"
    SEVERAL = "it covers more than one vertebra"
    BEYOND = "it lies beyond the levels that are named (T10 to S2)"


class CountReason(StrEnum):
    """What the number of lumbar vertebrae rests on, or why it cannot be said."""

    FIVE = "six vertebrae above S1, free film above them: T12 and five lumbar vertebrae"
    SIX = "seven vertebrae above S1, free film above them: six lumbar ones, or T11 was outlined too"
    FOUR = "five vertebrae above S1, free film above them: four lumbar ones, or T12 was missed"
    TOLD = "counted from S1 to T12, which the caller says is the uppermost outline"
    NO_NAMES = "the column is not numbered"
    TOP_CUT = "the film ends above the uppermost outline, so T12 cannot be told from the others"
    OTHER = "neither five, six nor seven vertebrae are outlined above S1"
    GAP = "a vertebra was missed, or the spacing is not clear"


@dataclass(frozen=True, slots=True)
class LevelName:
    """What is said of one vertebral outline.

    Attributes:
        index: Its place among the segments that were given.
        level: ``"T10"`` to ``"S2"``, or None: withheld.
        confidence: That the name is right, given that the outline is one vertebra; 0 to 1. Of a
            withheld name too, 0 where there is none to withhold.
        reason: Why there is no name; None where there is one.
        position: Vertebrae up from S1 (S1 is 0, S2 is -1), also of a withheld name; None where the
            outline is not in the column.
        same_as: For a duplicate: index of the outline that stands for the vertebra.
    """

    index: int
    level: str | None
    confidence: float
    reason: Reason | None
    position: int | None = None
    same_as: int | None = None


@dataclass(frozen=True, slots=True)
class Labelling:
    """What is said of a film's column.

    Attributes:
        names: One a vertebral instance, in the order given. Whole-class regions have none.
        sacrum_in_view: Whether S1 was found in the column.
        sacrum_confidence: That the outline taken for S1 is S1; 0 where none is.
        missing: Levels between named ones that no outline covers, from below.
        lumbar_count: Number of lumbar vertebrae, or None: cannot say.
        suspected_count: 4 or 6 where the outlines look so; None else. See ``docs/labelling.md``.
        count_reason: What ``lumbar_count`` rests on, or why it is None.
        column_xy: (N, 2) centres of the column's outlines from below; for drawing.
    """

    names: tuple[LevelName, ...]
    sacrum_in_view: bool
    sacrum_confidence: float
    missing: tuple[str, ...]
    lumbar_count: int | None
    suspected_count: int | None
    count_reason: CountReason
    column_xy: tuple[tuple[float, float], ...] = ()

    @property
    def cannot_say(self) -> Reason | None:
        """Why the film as a whole has no name, or None where any outline has one."""
        if any(name.level is not None for name in self.names):
            return None
        reasons = [name.reason for name in self.names if name.position is not None]
        if reasons and reasons[0] is not None and self.sacrum_in_view:
            return reasons[0]
        return Reason.SACRUM_UNSURE if self.sacrum_in_view else Reason.NO_SACRUM


@dataclass(slots=True, eq=False)
class _Node:
    """One place in the film that holds a vertebra: an outline and its duplicates."""

    index: int
    shape: Shape
    lumbar: float  # best score of a lumbar outline here, 0: none
    sacral: float
    score: float
    count: int = 1  # vertebrae that it covers
    lower_xy: tuple[float, float] = (0.0, 0.0)  # centre of its lowest vertebra
    upper_xy: tuple[float, float] = (0.0, 0.0)
    worth: float = 0.0
    size: float = 0.0
    cut_off: bool = False  # by the film's border


@dataclass(slots=True, eq=False)
class _Film:
    nodes: list[_Node]
    names: dict[int, LevelName] = field(default_factory=dict)
    size: float = 0.0


def name_levels(
    segments: Sequence[Segment], height: int, width: int, *, top_is_t12: bool = False
) -> Labelling:
    """Names the vertebral instances of one film.

    The film has to be upright (the sacrum at the bottom); facing left or right makes no
    difference, nor do size and a tilt of some 20 degrees. Whole-class regions are left alone: cut
    them into vertebrae first (:mod:`spinezoo_spine.column.separation`).

    Args:
        segments: Segments of one source; implants are ignored.
        height: Rows of the film, in pixels.
        width: Columns of the film, in pixels.
        top_is_t12: The uppermost outline is known to be T12 where the film goes on above it, as in
            outlines drawn by the study's rule. Only then are columns of four and six lumbar
            vertebrae numbered as such; without it they are suspected at most.

    Raises:
        MaskError: The run lengths of a mask are broken.
    """
    film = _nodes_of(segments)
    if not film.nodes:
        return _unnamed(film)
    _measure_sizes(film)
    chain = _longest_chain(film)
    for node in film.nodes:
        if node not in chain and node.index not in film.names:
            film.names[node.index] = LevelName(node.index, None, 0.0, Reason.OFF_COLUMN)
    return _number(film, chain, height, width, top_is_t12)


def with_levels(segments: Sequence[Segment], labelling: Labelling) -> tuple[Segment, ...]:
    """The segments with their names; what has none has the level None."""
    levels = {name.index: name.level for name in labelling.names}
    return tuple(
        replace(segment, level=levels[index]) if index in levels else segment
        for index, segment in enumerate(segments)
    )


# --- Outlines to places ---


def _nodes_of(segments: Sequence[Segment]) -> _Film:
    """Vertebral instances without duplicates; duplicates are named as such."""
    found: list[tuple[int, Segment, Shape]] = []
    for index, segment in enumerate(segments):
        if segment.structure in VERTEBRAE and segment.kind is SegmentKind.INSTANCE:
            shape = shape_of(segment.mask)
            if shape is not None:
                found.append((index, segment, shape))
    film = _Film([])
    found.sort(key=lambda item: (-item[1].score, -item[2].area_px, item[0]))
    if len(found) > MOST_OUTLINES:
        ranked = sorted(found, key=lambda item: -item[1].score * item[2].area_px)
        for index, _, _ in ranked[MOST_OUTLINES:]:
            film.names[index] = LevelName(index, None, 0.0, Reason.FRAGMENT)
        found = [item for item in found if item[0] not in film.names]
    if not found:
        return film
    outlines = [segment for _, segment, _ in found]
    overlap, share = overlaps(outlines, outlines)
    areas = np.array([shape.area_px for _, _, shape in found])
    spanning = [spans_two(whole, overlap, share, areas) for whole in range(len(found))]
    kept: list[int] = []
    nodes: dict[int, _Node] = {}
    for place, (index, segment, shape) in enumerate(found):
        if spanning[place]:
            film.names[index] = LevelName(index, None, 0.0, Reason.SEVERAL)
            continue
        rival = next(
            (
                other
                for other in kept
                if overlap[place, other] >= DUPLICATE_IOU
                or max(share[place, other], share[other, place]) >= DUPLICATE_SHARE
            ),
            None,
        )
        lumbar = segment.score if segment.structure is Structure.LUMBAR_VERTEBRA else 0.0
        sacral = segment.score if segment.structure is Structure.SACRAL_VERTEBRA else 0.0
        if rival is None:
            kept.append(place)
            node = _Node(index, shape, lumbar, sacral, segment.score)
            node.cut_off = _at_border(segment)
            nodes[place] = node
        else:
            node = nodes[rival]
            node.lumbar, node.sacral = max(node.lumbar, lumbar), max(node.sacral, sacral)
            film.names[index] = LevelName(index, None, 0.0, Reason.DUPLICATE, same_as=node.index)
    film.nodes = list(nodes.values())
    return film


def _at_border(segment: Segment) -> bool:
    """Whether the film's border cuts an outline off."""
    box, mask = segment.box, segment.mask
    return (
        box.x < 1.0
        or box.y < 1.0
        or box.x + box.width > mask.width - 1.0
        or box.y + box.height > mask.height - 1.0
    )


def _measure_sizes(film: _Film) -> None:
    """The film's usual body, what each outline is worth by it, and how many bodies it covers."""
    sizes = [node.shape.size_px for node in film.nodes]
    weights = [max(node.score, 0.01) * size for node, size in zip(film.nodes, sizes, strict=True)]
    usual = _weighted_median(sizes, weights)
    film.size = usual
    for node in film.nodes:
        shape = node.shape
        node.lower_xy = node.upper_xy = shape.centre_xy
        ratio = shape.size_px / usual
        upright = abs(shape.direction_xy[1]) > 0.5
        if ratio > 1.22 and upright and shape.length_px > 1.35 * shape.breadth_px:
            body = USUAL_BODY_HEIGHT * usual
            node.count = max(1, round((shape.length_px - body) / (USUAL_STEP * usual) + 1.0))
        if node.count > 1:
            reach = max(0.0, (shape.length_px - USUAL_BODY_HEIGHT * usual) / 2.0)
            dx, dy = shape.direction_xy[0] * reach, shape.direction_xy[1] * reach
            x, y = shape.centre_xy
            node.lower_xy, node.upper_xy = (x - dx, y - dy), (x + dx, y + dy)
            ratio = shape.breadth_px / usual
        fit = math.exp(-((math.log(ratio) / 0.4) ** 2))
        if node.cut_off and ratio < 1.0:
            fit = max(fit, 0.5)
        node.worth = (0.4 + 0.6 * node.score) * fit * (1.0 + 0.8 * (node.count - 1))
        # A partial outline must not make its neighbours look far away.
        node.size = min(max(shape.size_px, 0.85 * usual), 1.15 * usual)
    for node in film.nodes:
        if node.worth < 0.12:
            film.names[node.index] = LevelName(node.index, None, 0.0, Reason.FRAGMENT)


def _weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    order = np.argsort(values)
    running = np.cumsum(np.asarray(weights)[order])
    place = int(np.searchsorted(running, running[-1] / 2.0))
    return float(values[order[place]])


# --- Places to a column ---


@dataclass(slots=True, eq=False)
class _Edge:
    low: int
    high: int
    angle_deg: float
    cost: float
    best: float = 0.0
    before: int = -1  # edge that this one goes on from


def _longest_chain(film: _Film) -> list[_Node]:
    """The column from below: the chain of places that is worth most.

    A chain pays for turns, for steps that are not a whole number of vertebrae and for places left
    out, so that a blob beside the column costs more than it brings.
    """
    nodes = [node for node in film.nodes if node.index not in film.names]
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


def _steps_between(low: _Node, high: _Node, step: float = USUAL_STEP) -> float:
    """Distance of two neighbours, in usual steps."""
    dx = high.lower_xy[0] - low.upper_xy[0]
    dy = high.lower_xy[1] - low.upper_xy[1]
    return math.hypot(dx, dy) / (step * (low.size + high.size) / 2.0)


def _step_cost(low: _Node, high: _Node) -> float | None:
    """What it costs to go from one place to the next one up; None where it cannot be."""
    steps = _steps_between(low, high)
    if not 0.45 <= steps <= _LONGEST_STEP:
        return None
    whole = max(1, round(steps))
    size = abs(math.log(low.shape.size_px / high.shape.size_px)) if low.count == high.count else 0.0
    return 0.5 * (whole - 1) + 0.5 * abs(steps - whole) + 0.25 * size


def _lean_cost(angle_deg: float) -> float:
    """A first step leans as the sacrum does, rarely more."""
    return 0.02 * max(0.0, abs(angle_deg) - 50.0)


def _turn_cost(before: _Edge, after: _Edge, nodes: Sequence[_Node]) -> float | None:
    """What a turn costs; the column bends most at L5 to S1."""
    turn = abs(after.angle_deg - before.angle_deg)
    low = nodes[before.low]
    free, most = (35.0, 85.0) if low.sacral > 0.0 else (22.0, 55.0)
    if low.sacral > 0.0 and low.cut_off:
        free = 70.0  # what the film shows of it is not its middle
    if turn > most:
        return None
    return 0.02 * max(0.0, turn - free)


# --- A column to names ---


def _number(
    film: _Film, chain: list[_Node], height: int, width: int, top_is_t12: bool
) -> Labelling:
    """Numbers the column from S1 up and decides what may be said."""
    split, margin = _sacral_part(chain)
    if split == 0:
        for node in chain:
            film.names[node.index] = LevelName(node.index, None, 0.0, Reason.NO_SACRUM)
        return _unnamed(film, chain)
    sacrum = _sacrum_confidence(chain, split, margin, film.size)
    positions, confidences = _positions(chain, split, sacrum)
    count, suspected, count_reason = _lumbar_count(
        chain, split, positions, confidences, height, width, top_is_t12
    )
    upwards: tuple[str, ...] = _UPWARDS
    if count is not None and count != USUAL_LUMBAR:
        lumbar = [f"L{number}" for number in range(count, 0, -1)]
        upwards = ("S1", *lumbar, "T12", "T11", "T10")
    for node, position, confidence in zip(chain, positions, confidences, strict=True):
        # With four or six lumbar vertebrae suspected, the lumbar names hold only by convention.
        if suspected is not None and position > 0:
            confidence *= 0.85
        film.names[node.index] = _name_of(node, position, confidence, sacrum, upwards)
    return Labelling(
        names=_in_order(film),
        sacrum_in_view=True,
        sacrum_confidence=sacrum,
        missing=_missing(chain, split, film, upwards),
        lumbar_count=count,
        suspected_count=suspected,
        count_reason=count_reason,
        column_xy=tuple(node.shape.centre_xy for node in chain),
    )


def _sacral_part(chain: Sequence[_Node]) -> tuple[int, float]:
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


def _sacrum_confidence(chain: Sequence[_Node], split: int, margin: float, usual: float) -> float:
    """Confidence that the uppermost sacral place is S1."""
    first = chain[split - 1]
    confidence = 0.3 + 0.7 * min(1.0, max(0.0, margin) / 0.5)
    steps = _steps_between(first, chain[split])
    bodies = [node.shape.size_px for node in chain[split:] if node.count == 1] or [usual]
    ratio = first.shape.size_px / statistics.median(bodies)
    if split == 1 and first.count == 1:
        # S2 is a fifth smaller than L5, S1 is not: a small outline alone may be S2, with S1 missed
        # or outlined as lumbar. Of one that the film's border cuts off, nothing is known either.
        # With S1 missed the step is long; with S1 outlined as lumbar there is mostly one more
        # above than T12 and five.
        above = sum(node.count for node in chain[split:])
        doubtful = steps > 1.5 or above > USUAL_LUMBAR + 1
        confidence *= _ramp(ratio, 0.84, 0.94, 0.35 if doubtful else 0.6)
        if steps > 1.5:
            confidence *= _ramp(ratio, 0.88, 0.96, 0.4)
    return confidence


def _ramp(value: float, low: float, high: float, least: float) -> float:
    """``least`` up to ``low``, 1 from ``high`` on, a line between."""
    return least + (1.0 - least) * min(1.0, max(0.0, (value - low) / (high - low)))


def _own_step(chain: Sequence[_Node], split: int) -> float:
    """The column's own step, in body sizes: the median of its single steps with the usual one.

    A flat column of narrow discs is told from a column with gaps by its other steps; the usual
    step counts as two further ones, so that a few outlines cannot carry it far.
    """
    steps = [
        _steps_between(low, high, 1.0)
        for low, high in zip(chain[split:], chain[split + 1 :], strict=False)
    ]
    single = [step for step in steps if 0.8 <= step <= 1.6]
    return statistics.median([*single, USUAL_STEP, USUAL_STEP])


def _positions(chain: Sequence[_Node], split: int, sacrum: float) -> tuple[list[int], list[float]]:
    """Position of each place up from S1 (of its lowest vertebra), and the confidence in it."""
    step = _own_step(chain, split)
    positions = [0] * len(chain)
    confidences = [sacrum] * len(chain)
    first = split - 1
    above, confidence = chain[first].count - 1, sacrum
    # S1 may be one with S2: then its upper vertebra is S1.
    positions[first] = -above
    above = 0
    before = math.inf
    for place in range(split, len(chain)):
        low, high = chain[place - 1], chain[place]
        exact = _steps_between(low, high, step)
        steps, clear = count_steps(exact, _steps_between(low, high))
        # Bodies lie near each other where one disc has collapsed; two such steps in a row are
        # rather a body cut in two, or a filled disc between two bodies, taken for one.
        confidence *= clear * _apart(low, high) * _ramp(before + exact, 1.4, 1.6, 0.6)
        before = exact
        positions[place] = above + steps
        above = positions[place] + high.count - 1
        confidences[place] = confidence
    below, confidence = positions[first], sacrum
    for place in range(first - 1, -1, -1):
        steps, clear = count_steps(_steps_between(chain[place], chain[place + 1]))
        confidence *= clear
        positions[place] = below - steps - (chain[place].count - 1)
        below = positions[place]
        confidences[place] = confidence
    return positions, confidences


def _apart(low: _Node, high: _Node) -> float:
    """How sure it is that two neighbours are two vertebrae and not pieces of others.

    Between bodies lies a disc. Outlines without any room between them come from a region whose
    discs are filled; there the cuts, and so their number, are a guess. One such pair may be a disc
    that has collapsed, several in a row are a column that nobody can count.
    """
    if low.count > 1 or high.count > 1:
        return 1.0
    dx = high.shape.centre_xy[0] - low.shape.centre_xy[0]
    dy = high.shape.centre_xy[1] - low.shape.centre_xy[1]
    distance = math.hypot(dx, dy)
    along = (dx / distance, dy / distance)
    filled = (low.shape.extent_px(along) + high.shape.extent_px(along)) / 2.0
    return _ramp((distance - filled) / ((low.size + high.size) / 2.0), 0.0, 0.1, 0.8)


def count_steps(steps: float, usual_steps: float | None = None) -> tuple[int, float]:
    """From a distance to a number of vertebrae, and how clear it is.

    Half-way between two whole numbers lies the question of a missed vertebra; there the answer is
    not clear. Nor is it where the column's own step and the usual one answer differently: a
    vertebra missed between two narrow discs of a column that is wide elsewhere.

    Args:
        steps: Distance of two centres in steps of their own column, above 0.
        usual_steps: The same in usual steps; None: the same number.

    Returns:
        Vertebrae from one to the next, 1 or more, and the clearness, 0 to 1.
    """
    whole = max(1, round(steps))
    if whole == 1:
        # Overlapping or partial outlines lie nearer than bodies can.
        clear = _ramp(steps, 0.55, 0.75, 0.5) * _ramp(-steps, -1.5, -1.34, 0.3)
    else:
        clear = _ramp(-abs(steps - whole), -0.45, -0.25, 0.2)
        # Each missed one may have been a fractured one, or none and a wide disc beside it.
        clear *= 0.93 ** (whole - 1)
    if usual_steps is not None and max(1, round(usual_steps)) != whole:
        clear *= 0.6
    return whole, clear


def _name_of(
    node: _Node, position: int, confidence: float, sacrum: float, upwards: Sequence[str]
) -> LevelName:
    level: str | None = None
    if 0 <= position < len(upwards):
        level = upwards[position]
    elif -len(_DOWNWARDS) < position < 0:
        level = _DOWNWARDS[-position]
    reason: Reason | None = None
    if node.count > 1:
        reason = Reason.SEVERAL
    elif sacrum < LEAST_CONFIDENCE:
        reason = Reason.SACRUM_UNSURE
    elif confidence < LEAST_CONFIDENCE:
        reason = Reason.SPACING
    elif level is None:
        reason = Reason.BEYOND
    return LevelName(node.index, None if reason else level, confidence, reason, position)


def _lumbar_count(
    chain: Sequence[_Node],
    split: int,
    positions: Sequence[int],
    confidences: Sequence[float],
    height: int,
    width: int,
    top_is_t12: bool,
) -> tuple[int | None, int | None, CountReason]:
    """Number of lumbar vertebrae, the suspected number, and what it rests on.

    Ribs are no class, so T12 is known only by the rule of the study's outlines: nothing above T12
    is outlined. That says something only where the film goes on above the uppermost outline.
    """
    top = chain[-1]
    if confidences[-1] < LEAST_CONFIDENCE:
        return None, None, CountReason.NO_NAMES
    above = positions[-1] + top.count - 1
    if not _room_above(chain, height, width):
        return None, None, CountReason.TOP_CUT
    if above not in (5, 6, 7):
        return None, None, CountReason.OTHER
    if top_is_t12:
        return above - 1, None, CountReason.TOLD
    single = all(node.count == 1 for node in chain[split:])
    if not single or above != len(chain) - split:
        return None, None, CountReason.GAP
    if above == 6:
        return USUAL_LUMBAR, None, CountReason.FIVE
    return None, above - 1, CountReason.SIX if above == 7 else CountReason.FOUR


def _room_above(chain: Sequence[_Node], height: int, width: int) -> bool:
    """Whether one more vertebra would be on the film whole, above the uppermost place."""
    top = chain[-1]
    x, y = top.upper_xy
    below_x, below_y = chain[-2].upper_xy if len(chain) > 1 else (x, y + 1.0)
    length = math.hypot(x - below_x, y - below_y) or 1.0
    reach = USUAL_STEP * top.size
    x, y = x + (x - below_x) / length * reach, y + (y - below_y) / length * reach
    half = 0.5 * top.size
    return half <= x <= width - half and half <= y <= height - half


def _missing(
    chain: Sequence[_Node], split: int, film: _Film, upwards: Sequence[str]
) -> tuple[str, ...]:
    """Levels between named ones that nothing covers."""
    taken: set[int] = set()
    highest = 0
    for node in chain[split - 1 :]:
        name = film.names[node.index]
        if name.position is None or name.confidence < LEAST_CONFIDENCE:
            break
        taken.update(range(name.position, name.position + node.count))
        highest = max(highest, name.position + node.count - 1)
    free = [position for position in range(highest) if position not in taken]
    return tuple(upwards[position] for position in free if 0 < position < len(upwards))


def _in_order(film: _Film) -> tuple[LevelName, ...]:
    return tuple(film.names[index] for index in sorted(film.names))


def _unnamed(film: _Film, chain: Sequence[_Node] = ()) -> Labelling:
    return Labelling(
        names=_in_order(film),
        sacrum_in_view=False,
        sacrum_confidence=0.0,
        missing=(),
        lumbar_count=None,
        suspected_count=None,
        count_reason=CountReason.NO_NAMES,
        column_xy=tuple(node.shape.centre_xy for node in chain),
    )
