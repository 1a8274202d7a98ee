"""A name for every vertebra: by order and distance from the sacrum, or a reason why there is none.

The study proposes it: overlapping instances are resolved by score, and "the labelling of each
vertebra could be easily performed based on the order and distance from the sacral vertebra". So
numbering starts at S1 and goes up: the vertebra above S1 is L5, and a place that is free in the
column, seen by its width, is counted as a vertebra that was missed.

A wrong name is worse than none. Every name carries a confidence, the product of what it rests on
(is this S1, is each step up to here one vertebra wide), and below :data:`LEAST_CONFIDENCE` the
name is withheld and the reason given. Method, failure modes and how to read names:
``docs/labelling.md``.

Everything works on centres and sizes; no mask is decoded to pixels. The steps: outlines to places
(:mod:`.places`), places to a column (:mod:`.chain`), S1 (:mod:`.sacrum`), positions
(:mod:`.confidence`), the lumbar count (:mod:`.lumbar_count`), names (here).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from spinezoo_contract.types import Segment, UnnamedReason

from spinezoo_spine.column.anatomy import USUAL_LUMBAR
from spinezoo_spine.column.chain import longest_chain
from spinezoo_spine.column.confidence import positions_of
from spinezoo_spine.column.lumbar_count import count_lumbar
from spinezoo_spine.column.places import Place, Places, measure_sizes, places_of
from spinezoo_spine.column.reading import LEAST_CONFIDENCE, ColumnReading, CountReason, LevelName
from spinezoo_spine.column.sacrum import sacral_part, sacrum_confidence

_UPWARDS = ("S1", "L5", "L4", "L3", "L2", "L1", "T12", "T11", "T10")

_DOWNWARDS = ("S1", "S2")


def name_levels(
    segments: Sequence[Segment], height: int, width: int, *, top_is_t12: bool = False
) -> ColumnReading:
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
    film = places_of(segments)
    if not film.nodes:
        return _unnamed(film)
    measure_sizes(film)
    chain = longest_chain(film)
    for node in film.nodes:
        if node not in chain and node.index not in film.names:
            film.names[node.index] = LevelName(node.index, None, 0.0, UnnamedReason.OFF_COLUMN)
    return _number(film, chain, height, width, top_is_t12)


def with_levels(segments: Sequence[Segment], labelling: ColumnReading) -> tuple[Segment, ...]:
    """The segments with their names; what has none has the level None."""
    levels = {name.index: name.level for name in labelling.names}
    return tuple(
        replace(segment, level=levels[index]) if index in levels else segment
        for index, segment in enumerate(segments)
    )


def _number(
    film: Places, chain: list[Place], height: int, width: int, top_is_t12: bool
) -> ColumnReading:
    """Numbers the column from S1 up and decides what may be said."""
    split, margin = sacral_part(chain)
    if split == 0:
        for node in chain:
            film.names[node.index] = LevelName(node.index, None, 0.0, UnnamedReason.NO_SACRUM)
        return _unnamed(film)
    sacrum = sacrum_confidence(chain, split, margin, film.size)
    positions, confidences = positions_of(chain, split, sacrum)
    count, suspected, count_reason = count_lumbar(
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
    return ColumnReading(
        names=_in_order(film),
        sacrum_in_view=True,
        sacrum_confidence=sacrum,
        missing=_missing(chain, split, film, upwards),
        lumbar_count=count,
        suspected_count=suspected,
        count_reason=count_reason,
    )


def _name_of(
    node: Place, position: int, confidence: float, sacrum: float, upwards: Sequence[str]
) -> LevelName:
    level: str | None = None
    if 0 <= position < len(upwards):
        level = upwards[position]
    elif -len(_DOWNWARDS) < position < 0:
        level = _DOWNWARDS[-position]
    reason: UnnamedReason | None = None
    if node.count > 1:
        reason = UnnamedReason.SEVERAL
    elif sacrum < LEAST_CONFIDENCE:
        reason = UnnamedReason.SACRUM_UNSURE
    elif confidence < LEAST_CONFIDENCE:
        reason = UnnamedReason.SPACING
    elif level is None:
        reason = UnnamedReason.BEYOND
    return LevelName(node.index, None if reason else level, confidence, reason, position)


def _missing(
    chain: Sequence[Place], split: int, film: Places, upwards: Sequence[str]
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


def _in_order(film: Places) -> tuple[LevelName, ...]:
    return tuple(film.names[index] for index in sorted(film.names))


def _unnamed(film: Places) -> ColumnReading:
    return ColumnReading(
        names=_in_order(film),
        sacrum_in_view=False,
        sacrum_confidence=0.0,
        missing=(),
        lumbar_count=None,
        suspected_count=None,
        count_reason=CountReason.NO_NAMES,
    )
