"""All measures of one film, from its fused answer and what the members said."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import (
    BodyLandmarks,
    Facing,
    FilmMeasures,
    FilmView,
    FusedImplant,
    Labelling,
    Measure,
    MeasureKind,
    MeasureOptions,
    MeasurePlane,
    MeasureUnit,
    RefinerProvenance,
    Segment,
    WithheldReason,
)

from spinezoo_spine.column.consensus import Vertebrae
from spinezoo_spine.instances import overlaps
from spinezoo_spine.measures import formulas
from spinezoo_spine.measures.bodies import SAMPLES, Bodies, measured_bodies, shaped
from spinezoo_spine.measures.column import Array, Column, Levels
from spinezoo_spine.measures.double_contours import contour_measures
from spinezoo_spine.measures.evidence import LEAST_SIZE_PX, MIRROR, MemberStrokes, strokes_of
from spinezoo_spine.measures.facing import (
    LEAST_PROBABILITY,
    facing_log_odds,
    facing_signs,
    probability_of,
)
from spinezoo_spine.measures.implants import implant_measures
from spinezoo_spine.measures.landmarks import body_landmarks
from spinezoo_spine.measures.refine import facing_odds, refined_bodies
from spinezoo_spine.measures.refiner.network import LandmarkRefiner
from spinezoo_spine.measures.rod_measures import rod_measures
from spinezoo_spine.measures.uncertainty import calibration
from spinezoo_spine.measures.usual import USUAL_HEIGHT, usual_wedge
from spinezoo_spine.measures.weighing import Weighing

SAMPLES_BESIDE_REFINER = 16
"""Of the bootstrap where the refiner looks too: they tell only where the outlines are unsure."""

LEAST_AGREEMENT = 0.65
"""S1's outline is not trusted where :func:`agreement` is less: members then outline different
things, and its endplate is sought (:mod:`spinezoo_spine.measures.sacrum`) or not measured. Of
400 development phantoms it is less on four; S1's slope was off by 12 and 13 degrees on the two that
were measured, beyond its interval. Of other bodies it does not tell how far they are off."""

AT_DETECTOR = MeasureOptions()
"""Lengths are those at the detector."""

_GLOBAL: tuple[tuple[MeasureKind, Levels], ...] = (
    (MeasureKind.LORDOSIS, ("L1", "S1")),
    (MeasureKind.LORDOSIS, ("L1", "L5")),
    (MeasureKind.LORDOSIS, ("L4", "S1")),
    (MeasureKind.SACRAL_SLOPE, ("S1",)),
    (MeasureKind.PELVIC_INCIDENCE, ("S1",)),
    (MeasureKind.PELVIC_TILT, ("S1",)),
)
"""Measures that every film is asked for."""

DEGREE, MILLIMETRE = MeasureUnit.DEGREE, MeasureUnit.MILLIMETRE
PERCENT, RATIO = MeasureUnit.PERCENT, MeasureUnit.RATIO


def rank(level: str) -> int:
    """Order of a level from the head down."""
    return {"C": 0, "T": 100, "L": 200, "S": 300}[level[0]] + int(level[1:])


def measure_film(
    labelling: Labelling,
    members: Mapping[str, Vertebrae],
    implants: Sequence[FusedImplant] = (),
    spacing_mm: tuple[float | None, float | None] = (None, None),
    options: MeasureOptions = AT_DETECTOR,
    *,
    plane: MeasurePlane = MeasurePlane.DETECTOR,
    pixels: NDArray[Any] | None = None,
    refiner: LandmarkRefiner | None = None,
    model: dict[str, Array] | None = None,
    weighing: Weighing | None = None,
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> FilmMeasures:
    """Corners, angles, heights and slips of a film.

    Args:
        labelling: Its named column.
        members: What each member says of the vertebrae; none: the outlines alone.
        implants: Its fused implants.
        spacing_mm: Distance of rows and of columns in ``plane``; None: not known.
        options: How to measure.
        plane: Where the spacing holds.
        pixels: (height, width) film, bright means dense; None: the outlines alone are measured.
        refiner: Looks for endplates on the film; None: the outlines alone are measured.
        model: Of shape, see :mod:`spinezoo_spine.measures.shape`; None: the one shipped.
        weighing: How outlines and refiner are weighed; None: as shipped.
        intervals: How wide intervals are, see :mod:`spinezoo_spine.measures.uncertainty`; None:
            as shipped.

    Returns:
        Every measure of the named levels and the discs between them, with value or reason.

    Raises:
        MaskError: The run lengths of a mask are broken.
        InvalidOutputError: The refiner answered nonsense.
    """
    lengths = _lengths(spacing_mm, options, plane)
    spacing, scale = lengths.spacing_mm, lengths.scale
    column = Column(scaled=lengths.known)
    segments = _chosen(labelling, column)
    unfit = column.overall if column.overall is WithheldReason.NOT_UPRIGHT_LATERAL else None
    rods, breaks = rod_measures(labelling, implants, pixels, spacing_mm, scale, unfit)
    if not segments:
        nothing = contour_measures(column, (), np.zeros((0, 4, 2)), None, spacing, scale, ())
        every = (*_measures(column), *nothing, *rods)
        return FilmMeasures(None, 0.0, lengths.plane, (), every, rod_breaks=breaks)
    doubted = "S1" in segments and members and agreement(segments["S1"], members) < LEAST_AGREEMENT
    strokes = {name: strokes_of(said) for name, said in members.items()}
    looks = pixels is not None and refiner is not None
    samples = SAMPLES_BESIDE_REFINER if looks else SAMPLES
    bodies, centres = _bodies(segments, strokes, spacing, samples)
    metal = [each.segment for each in implants]
    right = _looks_right(segments, bodies, centres, metal, spacing, pixels, refiner)
    probability = max(right, 1.0 - right)
    facing: Facing | None = Facing.RIGHT if right >= 0.5 else Facing.LEFT
    if probability < LEAST_PROBABILITY:
        facing = None
        column.overall = column.overall or WithheldReason.FACING_UNSURE
    bodies = shaped(bodies, mirrored=right < 0.5, model=model)
    provenance, used, spurs = None, np.zeros((len(segments), 2), np.bool_), None
    alone_mm = bodies.corners_mm[0]
    if pixels is not None and refiner is not None and facing is not None:
        refined = refined_bodies(
            bodies, list(segments), pixels, spacing, refiner,
            mirrored=right < 0.5, weighing=weighing, sacrum_doubted=bool(doubted),
        )  # fmt: skip
        doubted = doubted and not refined.sacrum_sought
        bodies, used, spurs = refined.bodies, refined.used, refined.spurs
        alone_mm = refined.alone_mm
        provenance = refiner_provenance(refiner)
    if doubted:
        column.missing["S1"] = WithheldReason.TOO_UNSURE
    column.intervals = calibration(refined=provenance is not None)
    if intervals is not None:
        column.intervals = intervals
    _fill(column, segments, bodies, alone_mm, scale, mirrored=right < 0.5)
    measures = _measures(column)
    named_mm = bodies.corners_mm[0][:, MIRROR] if column.mirrored else bodies.corners_mm[0]
    quads = named_mm / (spacing[1], spacing[0])
    measures += contour_measures(column, list(segments), quads, pixels, spacing, scale, metal)
    if facing is not None and column.overall is None:
        measures += implant_measures(column, implants, spacing, scale)
    landmarks: tuple[BodyLandmarks, ...] = ()
    if facing is not None:
        known = lengths.known
        landmarks = body_landmarks(
            column, segments, bodies, used, spurs, spacing, scale, known=known
        )
    every = (*measures, *rods)
    return FilmMeasures(facing, probability, lengths.plane, landmarks, every, provenance, breaks)


@dataclass(frozen=True, slots=True)
class _Lengths:
    """What lengths of a film are in.

    Attributes:
        known: Whether the film states the distance of its pixels.
        spacing_mm: Distance of rows and of columns; (1, 1) where it does not.
        scale: What lengths are divided by.
        plane: Where they are measured; None: there are none.
    """

    known: bool
    spacing_mm: tuple[float, float]
    scale: float
    plane: MeasurePlane | None


def _lengths(
    spacing_mm: tuple[float | None, float | None], options: MeasureOptions, plane: MeasurePlane
) -> _Lengths:
    row_mm, column_mm = spacing_mm
    if row_mm is None or column_mm is None:
        return _Lengths(False, (1.0, 1.0), 1.0, None)
    if options.magnification is None or plane is MeasurePlane.PATIENT:
        return _Lengths(True, (row_mm, column_mm), 1.0, plane)
    return _Lengths(True, (row_mm, column_mm), options.magnification, MeasurePlane.PATIENT)


def _looks_right(
    segments: Mapping[str, Segment],
    bodies: Bodies,
    centres: Array,
    metal: Sequence[Segment],
    spacing: tuple[float, float],
    pixels: NDArray[Any] | None,
    refiner: LandmarkRefiner | None,
) -> float:
    """Probability that the patient looks to the film's right.

    The refiner is asked only where outlines and metal do not tell.
    """
    odds = facing_log_odds(film_signs(segments, bodies, centres, metal, spacing))
    right = probability_of(odds)
    if pixels is None or refiner is None or max(right, 1.0 - right) >= LEAST_PROBABILITY:
        return right
    return probability_of(odds + facing_odds(bodies, list(segments), pixels, spacing, refiner))


def refiner_provenance(refiner: LandmarkRefiner) -> RefinerProvenance:
    """Which refiner looks for endplates."""
    card = refiner.card
    return RefinerProvenance(card.name, card.version, card.weights_sha256)


def _chosen(labelling: Labelling, column: Column) -> dict[str, Segment]:
    """The outlines that are measured by level, from above; why others are not is noted."""
    view = labelling.film.view if labelling.film is not None else FilmView.LATERAL
    if view is not FilmView.LATERAL:
        column.overall = WithheldReason.NOT_UPRIGHT_LATERAL
        return {}
    found: dict[str, list[int]] = {}
    for index, vertebra in enumerate(labelling.vertebrae):
        level = vertebra.segment.level
        if level is not None and level[0] in "TLS":
            found.setdefault(level, []).append(index)
    chosen: dict[str, Segment] = {}
    for level in sorted(found, key=rank):
        indices = found[level]
        column.index[level] = indices[0]
        segment = labelling.vertebrae[indices[0]].segment
        box = segment.mask.box
        if len(indices) > 1:
            column.missing[level] = WithheldReason.DUPLICATE
        elif segment.mask.area < LEAST_SIZE_PX**2 or min(box.width, box.height) < LEAST_SIZE_PX / 2:
            column.missing[level] = WithheldReason.TOO_LITTLE_BORDER
        else:
            chosen[level] = segment
    middles = [segment.box.y + segment.box.height / 2.0 for segment in chosen.values()]
    lumbar = [y for y, level in zip(middles, chosen, strict=True) if level[0] != "S"]
    if any(below <= above for above, below in itertools.pairwise(lumbar)):
        column.overall = WithheldReason.DISORDER
        return {}
    if lumbar and "S1" in chosen and middles[list(chosen).index("S1")] <= lumbar[-1]:
        column.overall = WithheldReason.DISORDER
        return {}
    return chosen


def _bodies(
    segments: Mapping[str, Segment],
    strokes: Mapping[str, MemberStrokes],
    spacing: tuple[float, float],
    samples: int,
) -> tuple[Bodies, Array]:
    bodies = list(segments.values())
    ups = directions_up(bodies, spacing)
    measured = measured_bodies(bodies, strokes, ups, spacing, samples=samples)
    return measured, centres_of(bodies, spacing)


def centres_of(segments: Sequence[Segment], spacing: tuple[float, float]) -> Array:
    """(J, 2) middles of the boxes, in mm."""
    row_mm, column_mm = spacing
    boxes = [segment.box for segment in segments]
    return np.array(
        [((b.x + b.width / 2) * column_mm, (b.y + b.height / 2) * row_mm) for b in boxes]
    )


def agreement(segment: Segment, members: Mapping[str, Vertebrae]) -> float:
    """How much half of the members, at least, have in common with a fused vertebra, 0 to 1.

    Args:
        segment: The vertebra.
        members: What each member says, at least one. Of outlines the greatest IoU counts, of
            regions the share of the vertebra that one covers; nothing said counts 0.
    """
    shares = []
    for said in members.values():
        iou, _ = overlaps([segment], said.outlines)
        _, covered = overlaps([segment], said.regions)
        shares.append(max(iou.max(initial=0.0), covered.max(initial=0.0)))
    return float(np.median(shares))


def directions_up(segments: Sequence[Segment], spacing: tuple[float, float]) -> Array:
    """(J, 2) unit vectors along the column towards the head, of bodies from above to below."""
    centres = centres_of(segments, spacing)
    steps = np.zeros_like(centres)
    steps[:-1] += centres[:-1] - centres[1:]
    steps[1:] += centres[:-1] - centres[1:]
    lengths = np.hypot(steps[:, 0], steps[:, 1])
    return np.where((lengths > 0)[:, None], steps / np.maximum(lengths, 1e-9)[:, None], (0.0, -1.0))


def film_signs(
    segments: Mapping[str, Segment],
    bodies: Bodies,
    centres: Array,
    metal: Sequence[Segment],
    spacing: tuple[float, float],
) -> Array:
    """What speaks for the patient's looking to the film's right; see :mod:`facing`."""
    levels = list(segments)
    slopes: list[float] = []
    for place, level in enumerate(levels):
        corners = bodies.corners_mm[0, place]
        if level == "S2":
            continue
        slopes.append(float(formulas.slope_deg(corners[1] - corners[0])))
        if level[0] != "S":
            slopes.append(float(formulas.slope_deg(corners[2] - corners[3])))
    above = [place for place, level in enumerate(levels) if level[0] != "S"]
    size = median(bodies.frames.half_mm.tolist())
    return facing_signs(slopes, centres[above], metal, size, spacing)


def _fill(
    column: Column,
    segments: Mapping[str, Segment],
    bodies: Bodies,
    alone_mm: Array,
    scale: float,
    *,
    mirrored: bool,
) -> None:
    """Puts the landmarks of the bodies into the column, turned so that the patient looks right.

    Corners ``alone_mm`` (J, 4, 2), which neighbours have not helped, are asked for contradictions.
    """
    corners = np.concatenate([bodies.corners_mm, alone_mm[None]]) / scale
    middles = bodies.middles_mm / scale
    if mirrored:
        corners, middles = corners[:, :, MIRROR].copy(), middles.copy()
        corners[..., 0] *= -1.0
        middles[..., 0] *= -1.0
    column.mirrored = mirrored
    depths = []
    for place, level in enumerate(segments):
        if level == "S2":
            continue
        column.corners[level] = corners[:-1, place]
        column.alone[level] = corners[-1, place]
        column.middles[level] = middles[:, place]
        column.order.append(level)
        wanted = corners[0, place, :2] if level == "S1" else corners[0, place]
        if bodies.member_share[place] <= 0.0:
            column.missing[level] = WithheldReason.TOO_LITTLE_BORDER
        elif not np.isfinite(wanted).any():
            column.missing[level] = WithheldReason.CUT_BY_FILM
        depth = float(formulas.length(formulas.upper_plate(corners[0, place])))
        if np.isfinite(depth):
            depths.append(depth)
    column.unit_mm = float(np.median(depths)) if depths else 1.0
    column.doubt()


# --- The measures ---------------------------------------------------------------------------------


def _measures(column: Column) -> list[Measure]:
    """Every measure of the column, from above, with value or reason."""
    measures = [_global(column, kind, levels) for kind, levels in _GLOBAL]
    lumbar = [level for level in column.index if level[0] == "L"]
    lowest = max(lumbar, key=rank, default="L5")
    if "S1" in column.index or not lumbar:
        measures.append(_lumbosacral(column, lowest))
    bodies = [(level,) for level in _bodies_between(column)]
    measures += _of_each(column, _BODY_KINDS, bodies, _of_bodies)
    return measures + _of_each(column, _DISC_KINDS, _discs_between(column), _of_discs)


def _of_each(
    column: Column,
    kinds: Sequence[tuple[MeasureKind, MeasureUnit]],
    places: Sequence[Levels],
    samples_of: Callable[[Column, Sequence[Levels]], tuple[list[Array], list[int | None]]],
) -> list[Measure]:
    """Measures of bodies or discs in their order, with value or reason.

    Args:
        column: The measured column.
        kinds: What is measured of each.
        places: Levels of each.
        samples_of: Computes those that can be measured, at once: (S, N) samples of each kind, and
            N grades.
    """
    reasons = [column.reason(levels) for levels in places]
    seen = [levels for levels, why in zip(places, reasons, strict=True) if why is None]
    told = iter(column.said_of_all(kinds, seen, *samples_of(column, seen)) if seen else ())
    measures: list[Measure] = []
    for levels, why in zip(places, reasons, strict=True):
        if why is None:
            measures += next(told)
        else:
            measures += [column.withheld(kind, levels, unit, why) for kind, unit in kinds]
    return measures


def _global(column: Column, kind: MeasureKind, levels: Levels) -> Measure:
    reason = column.reason(levels)
    if reason is not None:
        return column.withheld(kind, levels, DEGREE, reason)
    corners = [column.corners[level] for level in levels]
    if kind is MeasureKind.LORDOSIS:
        last = formulas.upper_plate if levels[1] == "S1" else formulas.lower_plate
        value = formulas.between_deg(formulas.upper_plate(corners[0]), last(corners[1]))
        return column.said(kind, levels, DEGREE, value)
    if kind is MeasureKind.SACRAL_SLOPE:
        slope = formulas.slope_deg(formulas.upper_plate(corners[0]))
        return column.said(kind, levels, DEGREE, slope)
    return column.withheld(kind, levels, DEGREE, WithheldReason.NO_FEMORAL_HEADS)


def _lumbosacral(column: Column, lowest: str) -> Measure:
    kind, levels = MeasureKind.LUMBOSACRAL_ANGLE, (lowest, "S1")
    reason = column.reason(levels)
    if reason is not None:
        return column.withheld(kind, levels, DEGREE, reason)
    above, below = (column.corners[level] for level in levels)
    value = formulas.between_deg(formulas.lower_plate(above), formulas.upper_plate(below))
    return column.said(kind, levels, DEGREE, value)


def _bodies_between(column: Column) -> list[str]:
    """Levels of bodies that measures are listed for: those named, but of the sacrum none."""
    return [level for level in sorted(column.index, key=rank) if level[0] != "S"]


def _discs_between(column: Column) -> list[Levels]:
    """Neighbours between the highest and the lowest named level; gaps are listed too."""
    named = sorted((level for level in column.index if level != "S2"), key=rank)
    if len(named) < 2:
        return []
    lumbar = [level for level in named if level[0] == "L"]
    last = max([*lumbar, "L5"], key=rank) if "S1" in named else ""
    span: list[str] = []
    for number in range(rank(named[0]), 113):
        span.append(f"T{number - 100}")
    span = [level for level in span if level[0] == "T" and 100 < rank(level) <= 112]
    end = int((last or (lumbar[-1] if lumbar else "L0"))[1:])
    start = rank(named[0]) - 200 if named[0][0] == "L" else 1
    span += [f"L{number}" for number in range(start, end + 1)]
    if "S1" in named:
        span.append("S1")
    return list(itertools.pairwise(span))


_BODY_KINDS = (
    (MeasureKind.BODY_HEIGHT_ANTERIOR, MILLIMETRE),
    (MeasureKind.BODY_HEIGHT_MIDDLE, MILLIMETRE),
    (MeasureKind.BODY_HEIGHT_POSTERIOR, MILLIMETRE),
    (MeasureKind.BODY_WEDGING, DEGREE),
    (MeasureKind.BODY_HEIGHT_LOSS, PERCENT),
)


def _of_bodies(column: Column, places: Sequence[Levels]) -> tuple[list[Array], list[int | None]]:
    """Samples and grades of :data:`_BODY_KINDS`."""
    seen = [level for (level,) in places]
    corners = np.stack([column.corners[level] for level in seen], axis=1)
    middles = np.stack([column.middles[level] for level in seen], axis=1)
    heights = formulas.body_heights(corners, middles)
    upper, lower = formulas.upper_plate(corners), formulas.lower_plate(corners)
    shape = formulas.length(upper + lower) / 2.0 / np.maximum(heights[..., 2], 1e-9)
    usual = _usual_backs(column, seen)
    wedged = np.stack(
        [usual_wedge(level, shape[:, place]) for place, level in enumerate(seen)], axis=1
    )
    loss = 100.0 * formulas.height_loss(heights, usual, wedged)
    samples = [*np.moveaxis(heights, -1, 0), formulas.between_deg(lower, upper), loss]
    return samples, [formulas.genant_grade(each / 100.0) for each in loss[0].tolist()]


def _usual_backs(column: Column, levels: Sequence[str]) -> Array:
    """(N,) height behind that the other bodies let expect of a level; NaN: too few of them."""
    known = [level for level in column.order if level in USUAL_HEIGHT]
    if not known:
        return np.full(len(levels), np.nan)
    corners = np.stack([column.corners[level][0] for level in known])
    middles = np.stack([column.middles[level][0] for level in known])
    heights = formulas.body_heights(corners, middles)
    whole = np.asarray(np.isfinite(heights).all(axis=1))
    ratios = {
        level: float(back) / USUAL_HEIGHT[level]
        for level, back, seen in zip(known, heights[:, 2], whole, strict=True)
        if seen
    }
    found = []
    for level in levels:
        others = [ratio for other, ratio in ratios.items() if other != level]
        tellable = len(others) >= 2 and level in USUAL_HEIGHT
        found.append(median(others) * USUAL_HEIGHT[level] if tellable else float("nan"))
    return np.array(found)


_DISC_KINDS = (
    (MeasureKind.SEGMENTAL_ANGLE, DEGREE),
    (MeasureKind.DISC_ANGLE, DEGREE),
    (MeasureKind.DISC_HEIGHT_ANTERIOR, MILLIMETRE),
    (MeasureKind.DISC_HEIGHT_MIDDLE, MILLIMETRE),
    (MeasureKind.DISC_HEIGHT_POSTERIOR, MILLIMETRE),
    (MeasureKind.DISC_INDEX_HURXTHAL, RATIO),
    (MeasureKind.DISC_INDEX_FARFAN, RATIO),
    (MeasureKind.SLIP, MILLIMETRE),
    (MeasureKind.SLIP_PERCENT, PERCENT),
)


def _of_discs(column: Column, seen: Sequence[Levels]) -> tuple[list[Array], list[int | None]]:
    """Samples and grades of :data:`_DISC_KINDS`."""
    upper = np.stack([column.corners[above] for above, _ in seen], axis=1)
    lower = np.stack([column.corners[below] for _, below in seen], axis=1)
    middles = np.stack([column.middles[above] for above, _ in seen], axis=1)
    below = np.stack([column.middles[below] for _, below in seen], axis=1)
    between = np.stack([middles[:, :, 1], below[:, :, 0]], axis=2)
    heights = formulas.disc_gaps(upper, lower, between)
    # The estimate is no less than 0; the samples tell how far it may be off.
    heights[0] = np.maximum(heights[0], 0.0)
    depth = formulas.disc_depth(upper, lower)
    body = formulas.length(middles[:, :, 1] - middles[:, :, 0])
    first, facing = formulas.upper_plate(upper), formulas.upper_plate(lower)
    sacral = np.array([pair[1] == "S1" for pair in seen])
    last = np.where(sacral[:, None], facing, formulas.lower_plate(lower))
    slip = formulas.slip(upper, lower)
    percent = 100.0 * slip / formulas.length(facing)
    samples = [
        formulas.between_deg(first, last),
        formulas.between_deg(formulas.lower_plate(upper), facing),
        *np.moveaxis(heights, -1, 0),
        heights[..., 1] / body,
        (heights[..., 0] + heights[..., 2]) / depth,
        slip,
        percent,
    ]
    return samples, [formulas.meyerding_grade(each) for each in percent[0].tolist()]
