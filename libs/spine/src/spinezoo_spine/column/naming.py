"""From one source's segments and the film to a named column, in the contract's form.

Outlines say where to look, the reader (:mod:`spinezoo_spine.column.reader`) says what is there. It
weighs all consecutive readings of the column at once; a name is given where its probability
reaches the reader's threshold, and every vertebra carries the whole distribution. Names presume the
likeliest number of lumbar vertebrae; whether that number was read is said beside them.

Where a name of a fused column is unsure, the reader looks along the columns of single networks too,
one after the other until it is sure, and all looks are weighed alike: where networks outline
otherwise, they show it other views. Where it is unsure what the film shows, it looks along all.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import (
    FilmReading,
    FilmView,
    Labelling,
    NamedVertebra,
    ReaderProvenance,
    Segment,
    UnnamedReason,
    structure_of_level,
)

from spinezoo_spine.column.chain import longest_chain
from spinezoo_spine.column.places import Places, measure_sizes, places_of
from spinezoo_spine.column.reader.looking import Spot, blank_input, own_step, reader_input, spots_of
from spinezoo_spine.column.reader.network import ColumnReader
from spinezoo_spine.column.reader.readings import LEVELS, Readings, averaged, level_of, read_column
from spinezoo_spine.column.separation import separate_vertebrae

LEAST_TOLD = 0.001
"""Levels less probable than this are not told."""

SURE = 0.9
"""Where the likeliest name of each outlined vertebra is this probable, no further look is needed.
Of 0.85, 0.9 and 0.95 the one with the least loss on phantoms; one phantom in six is looked at
again."""

SACRUM_READ = 0.8
"""From this probability of a sacrum on, names count from it; below, from above."""

SURE_FROM_ABOVE = 0.95
"""Names counted from above are given from this on: they are wrong more often, most of all where the
film ends within L3 or L4."""

MOST_OTHERS = 3
"""Columns of single networks that are looked at, of one film: three are about as good as five. Each
takes as long as the first look, twice as long where regions are taken apart."""

SAME_PLACE = 0.4
"""Outlines of two looks with centres nearer than this, in usual bodies, are of one vertebra."""

_LATERAL = FilmView.LATERAL - 1  # its place among the reader's views
_LEAST_LIKELY = 1e-9


def named_column(
    segments: Sequence[Segment], pixels: NDArray[Any], reader: ColumnReader
) -> Labelling:
    """The vertebrae of one source, taken apart where they touch, and named.

    Args:
        segments: A network's answer, fused regions or outlines drawn by hand; implants give back
            what they cover.
        pixels: (height, width) film, bright means dense.
        reader: Says what is where.

    Raises:
        MaskError: The run lengths of a mask are broken.
        InvalidOutputError: The reader answered nonsense.
    """
    return named_vertebrae(separate_vertebrae(segments), pixels, reader)


def named_vertebrae(
    apart: Sequence[Segment],
    pixels: NDArray[Any],
    reader: ColumnReader,
    others: Sequence[Sequence[Segment]] = (),
) -> Labelling:
    """Vertebral instances of one source, such as fused ones, named.

    Args:
        apart: Instances; implants are ignored.
        pixels: (height, width) film, bright means dense.
        reader: Says what is where.
        others: What single networks say of the same film, with implants. Their columns are looked
            at too where a name is unsure, the first :data:`MOST_OTHERS` at most, and all of them
            where it is unsure what the film shows.

    Raises:
        MaskError: The run lengths of a mask are broken.
        InvalidOutputError: The reader answered nonsense.
    """
    calibration = reader.calibration
    look = _look(apart, pixels, reader)
    theirs = functools.cache(lambda n: _look(separate_vertebrae(others[n]), pixels, reader))
    views = look.views
    if views.max() < calibration.view_threshold:
        views = _agreed([views, *(theirs(n).views for n in range(len(others)))])
    readings = look.readings
    upright = views[_LATERAL] >= calibration.view_threshold
    more: list[tuple[Readings, list[int | None]]] = []
    for n in range(min(len(others), MOST_OTHERS) if upright else 0):
        if _is_sure(look.spots, readings):
            break
        own = theirs(n)
        if own.views[_LATERAL] >= calibration.view_threshold:
            more.append((own.readings, _partners(look, own)))
            readings = averaged(look.readings, more)
    film, spots = look.film, look.spots
    threshold = calibration.threshold
    if readings.sacrum < SACRUM_READ:
        threshold = max(threshold, SURE_FROM_ABOVE)
    vertebrae = _vertebrae(apart, film, spots, readings, threshold, upright=upright)
    return Labelling(
        vertebrae=vertebrae,
        sacrum_in_view=bool(spots) and upright and readings.sacrum >= 0.5,
        missing_levels=_missing(spots, readings, vertebrae, film) if spots and upright else (),
        film=_film_reading(views, readings.sacrum if spots else 0.0),
        reader=reader_provenance(reader),
        **_count(spots, readings, calibration.count_threshold, upright=upright),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """One look along a column.

    Attributes:
        film: The places of the film.
        spots: Where the reader looked; empty where nothing is outlined.
        readings: All readings, cooled.
        views: (4,) probability of each :class:`FilmView`.
    """

    film: Places
    spots: Sequence[Spot]
    readings: Readings
    views: NDArray[np.float64]


def _look(apart: Sequence[Segment], pixels: NDArray[Any], reader: ColumnReader) -> _Look:
    """Looks along the column of some vertebral instances."""
    film = places_of(apart)
    spots: list[Spot] = []
    if not film.nodes:
        given = blank_input(pixels)
    else:
        measure_sizes(film)
        chain = longest_chain(film)
        in_chain = {place.index for place in chain}
        for node in film.nodes:
            if node.index not in in_chain:
                film.left_out.setdefault(node.index, UnnamedReason.OFF_COLUMN)
        spots = spots_of(chain, film.size)
        given = reader_input(pixels, spots, film.size, own_step(chain))
    said = reader(given)
    cooled = said.evidence.cooled(reader.calibration.temperature)
    return _Look(film, spots, read_column(cooled), said.views)


def _is_sure(spots: Sequence[Spot], readings: Readings) -> bool:
    """Whether the likeliest name of each outlined vertebra reaches :data:`SURE`."""
    rows = [row for row, spot in enumerate(spots) if spot.place is not None]
    return not rows or float(readings.levels[rows].max(axis=1).min()) >= SURE


def _agreed(views: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """(4,) probability of each :class:`FilmView` after several looks: their geometric mean.

    A look that is nearly certain counts more in it than in the plain mean.
    """
    mean = np.exp(np.mean(np.log(np.maximum(views, _LEAST_LIKELY)), axis=0))
    return mean / mean.sum()


def _partners(look: _Look, other: _Look) -> list[int | None]:
    """The outlined spot of another look at the place of each outlined one."""
    theirs = [(row, spot) for row, spot in enumerate(other.spots) if spot.place is not None]
    found: list[int | None] = []
    for spot in look.spots:
        away = [math.dist(spot.centre_xy, each.centre_xy) for _, each in theirs]
        nearest = int(np.argmin(away)) if away else 0
        same = spot.place is not None and away and away[nearest] < SAME_PLACE * look.film.size
        found.append(theirs[nearest][0] if same else None)
    return found


def reader_provenance(reader: ColumnReader) -> ReaderProvenance:
    """Which reader gives names."""
    card = reader.card
    return ReaderProvenance(
        card.name, card.version, card.weights_sha256, reader.calibration.threshold
    )


def _film_reading(views: NDArray[np.float64], sacrum: float) -> FilmReading:
    """What the reader says of the film; the order is that of :class:`FilmView`."""
    lateral, upside_down, turned, none = (min(1.0, float(share)) for share in views)
    return FilmReading(
        FilmView(1 + int(views.argmax())),
        lateral_probability=lateral,
        upside_down_probability=upside_down,
        turned_probability=turned,
        no_lateral_column_probability=none,
        sacrum_not_in_view_probability=1.0 - min(1.0, sacrum),
    )


def _vertebrae(
    apart: Sequence[Segment],
    film: Places,
    spots: Sequence[Spot],
    readings: Readings,
    threshold: float,
    *,
    upright: bool,
) -> tuple[NamedVertebra, ...]:
    """Every vertebral instance in the order given, with its name or the reason for none.

    A name decides whether a vertebra is sacral: on real films networks often take S1 for lumbar.
    """
    found = {
        index: NamedVertebra(replace(apart[index], level=None), 0.0, reason)
        for index, reason in film.left_out.items()
    }
    for row, spot in enumerate(spots):
        if spot.place is None:
            continue
        index = spot.place.index
        levels = np.clip(readings.levels[row], 0.0, 1.0)
        position = readings.best[row]
        level = None if position is None else level_of(position, readings.lumbar_count)
        confidence = 0.0 if level is None else float(levels[LEVELS.index(level)])
        reason = None
        if not upright:
            reason = UnnamedReason.NO_SACRUM
        elif position is None:
            merged = spot.place.count > 1
            reason = UnnamedReason.SEVERAL if merged else UnnamedReason.OFF_COLUMN
        elif level is None:
            reason = UnnamedReason.BEYOND
        elif confidence < threshold:
            reason = UnnamedReason.SACRUM_UNSURE
        segment = apart[index]
        if level is None or reason is not None:
            segment = replace(segment, level=None)
        else:
            segment = replace(segment, level=level, structure=structure_of_level(level))
        found[index] = NamedVertebra(
            segment,
            confidence if upright else 0.0,
            reason,
            {
                name: float(share)
                for name, share in zip(LEVELS, levels, strict=True)
                if share >= LEAST_TOLD
            },
            min(1.0, max(0.0, 1.0 - float(readings.vertebra[row]))),
        )
    return tuple(found[index] for index in sorted(found))


def _missing(
    spots: Sequence[Spot],
    readings: Readings,
    vertebrae: Sequence[NamedVertebra],
    film: Places,
) -> tuple[str, ...]:
    """Levels between named ones that nothing covers, from below."""
    order = sorted([*film.left_out, *(s.place.index for s in spots if s.place is not None)])
    named = {
        index
        for index, vertebra in zip(order, vertebrae, strict=True)
        if vertebra.segment.level is not None
    }
    positions = [
        position
        for spot, position in zip(spots, readings.best, strict=True)
        if position is not None and spot.place is not None and spot.place.index in named
    ]
    if not positions:
        return ()
    free = [p for p in range(min(positions), max(positions)) if p not in positions]
    levels = [level_of(position, readings.lumbar_count) for position in free]
    return tuple(level for level in levels if level is not None)


def _count(
    spots: Sequence[Spot], readings: Readings, threshold: float, *, upright: bool
) -> dict[str, Any]:
    """The number of lumbar vertebrae, or a suspicion, and what it rests on."""
    if not spots or not upright:
        return {"count_reason": "no upright lateral column was read"}
    count = max(readings.counts, key=lambda each: readings.counts[each])
    share = readings.counts[count]
    seen = {position for position in readings.best if position is not None}
    whole = bool(seen & {-1, 0}) and any(p > readings.lumbar_count for p in seen)
    said = f"read with a probability of {share:.2f}"
    if not whole:
        return {
            "count_reason": f"{count} {said}, but not both the sacrum and T12 are in view; names "
            f"presume {count}"
        }
    if share >= threshold:
        return {"lumbar_count": count, "count_reason": f"{said}, sacrum and T12 in view"}
    likeliest = count if count != 5 else None
    return {
        "suspected_lumbar_count": likeliest,
        "count_reason": f"{count} {said}, too little to rely on; names presume {count}",
    }
