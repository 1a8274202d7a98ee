"""From one source's segments and the film to a named column, in the contract's form.

Outlines say where to look, the reader (:mod:`spinezoo_spine.column.reader`) says what is there. It
weighs all consecutive readings of the column at once; a name is given where its probability
reaches the reader's threshold, and every vertebra carries the whole distribution. Names presume the
likeliest number of lumbar vertebrae; whether that number was read is said beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import (
    VERTEBRAE,
    FilmReading,
    FilmView,
    Labelling,
    NamedVertebra,
    ReaderProvenance,
    Segment,
    UnnamedReason,
)

from spinezoo_spine.column.chain import longest_chain
from spinezoo_spine.column.places import Places, measure_sizes, places_of
from spinezoo_spine.column.reader.looking import Spot, blank_input, own_step, reader_input, spots_of
from spinezoo_spine.column.reader.network import ColumnReader
from spinezoo_spine.column.reader.readings import LEVELS, Readings, level_of, read_column
from spinezoo_spine.column.separation import separate

LEAST_TOLD = 0.001
"""Levels less probable than this are not told."""


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
    apart = [part for part in separate(segments) if part.structure in VERTEBRAE]
    return named_vertebrae(apart, pixels, reader)


def named_vertebrae(
    apart: Sequence[Segment], pixels: NDArray[Any], reader: ColumnReader
) -> Labelling:
    """Vertebral instances of one source, such as fused ones, named.

    Args:
        apart: Instances; implants are ignored.
        pixels: (height, width) film, bright means dense.
        reader: Says what is where.

    Raises:
        MaskError: The run lengths of a mask are broken.
        InvalidOutputError: The reader answered nonsense.
    """
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
    calibration = reader.calibration
    readings = read_column(said.evidence.cooled(calibration.temperature))
    view = _film_reading(said.views, readings.sacrum if spots else 0.0)
    upright = view.lateral_probability >= calibration.view_threshold
    vertebrae = _vertebrae(apart, film, spots, readings, calibration.threshold, upright=upright)
    return Labelling(
        vertebrae=vertebrae,
        sacrum_in_view=bool(spots) and upright and readings.sacrum >= 0.5,
        missing_levels=_missing(spots, readings, vertebrae, film) if spots and upright else (),
        film=view,
        reader=reader_provenance(reader),
        **_count(spots, readings, calibration.count_threshold, upright=upright),
    )


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
    """Every vertebral instance in the order given, with its name or the reason for none."""
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
        found[index] = NamedVertebra(
            replace(apart[index], level=level if reason is None else None),
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
