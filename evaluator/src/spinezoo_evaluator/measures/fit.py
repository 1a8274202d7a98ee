"""Fits what measures were told by phantoms: the model of shape, and the width of intervals.

Run on films of other seeds than the test set's, never on real films.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from spinezoo_contract.types import FilmMeasures, FusedImplant, MeasureKind, MeasureUnit, Segment
from spinezoo_serving.disk import replace_file
from spinezoo_spine.measures import double_contours, looks, refine, shape, uncertainty, weighing
from spinezoo_spine.measures.bodies import measured_bodies, shaped
from spinezoo_spine.measures.double_contours import KINDS
from spinezoo_spine.measures.evidence import strokes_of
from spinezoo_spine.measures.film import SAMPLES_BESIDE_REFINER, directions_up
from spinezoo_spine.measures.refiner.answers import numbers_of
from spinezoo_spine.measures.refiner.network import built_in_refiner
from spinezoo_spine.measures.usual import USUAL_DISC_DEG, USUAL_WEDGE_DEG

from spinezoo_evaluator.measures.fit_contours import fit_contours
from spinezoo_evaluator.measures.run import KeptFilm, Shape

PENALTY = {"body": 3.0, "sacrum": 0.3}
"""Of the ridge regression, on coefficients of shares of the depth: chosen of 0.3, 3 and 30 by
50 films of the phantom test set."""

WANTED = 0.93
"""Share of phantoms whose true value a stated 90 % interval is to hold: more than nine of ten, as
patients' films are unlike them. Phantoms that the refiner sees mirrored, as anatomy that it has not
learnt, lose up to 9 points."""

NORMAL_MEDIAN = 0.6745
"""Median size of a normal error, by its standard deviation."""

LAPLACE_MEDIAN = 0.6931
"""Median size of a Laplace error, by its scale."""

LAPLACE = 2.0**0.5
"""Standard deviation of a Laplace distribution by its scale."""

LEAST_FILMS = 40
"""Levels that fewer phantoms show have no usual turn."""

PARTS = 4
"""Films are divided in this many: intervals and weights of each part are fitted with a model of
shape of the others. A model is off by less on the films that it was fitted on."""

Rows = dict[str, list[tuple[NDArray[np.float64], NDArray[np.float64]]]]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What phantoms tell, ready to be written.

    Attributes:
        shape: Coefficients of the model of shape, of all films.
        blend: How outlines and refiner are weighed.
        intervals: Floor and factor by kind, of outlines alone and of refined films.
        contours: The network of double contours; empty: no film tells any.
    """

    shape: Shape
    blend: dict[str, Any]
    intervals: dict[str, dict[str, list[float]]]
    contours: dict[str, NDArray[np.float64]] = field(default_factory=dict)


def fit_all(films: Sequence[KeptFilm]) -> Fitted:
    """Fits everything that phantoms tell; a model of shape never sees the film it is tried on."""
    rows = [rows_of_shape(film) for film in films]
    shapes: list[Shape] = []
    for part in range(PARTS):
        others = [row for place, row in enumerate(rows) if place % PARTS != part]
        shapes.append(fit_shape(others))
    beside = [shapes[place % PARTS] for place in range(len(films))]
    blend = fit_weighing(films, beside)
    implants = [film.implants() for film in films]
    intervals = {
        name: fit_intervals(films, beside, blend, refined=name == "refined", implants=implants)
        for name in ("outlines", "refined")
    }
    weights = weighing.Weighing.of(blend)
    contours = fit_contours(films, implants, beside, weights, WANTED)
    return Fitted(fit_shape(rows), blend, intervals, contours)


def fit_shape(films: Sequence[Rows]) -> Shape:
    """Coefficients of the model of shape; see :mod:`spinezoo_spine.measures.shape`.

    Args:
        films: Rows of each film, see :func:`rows_of_shape`.
    """
    model = {}
    for name in ("body", "sacrum"):
        pairs = [pair for rows in films for pair in rows[name]]
        values = np.array([value for value, _ in pairs])
        wanted = np.array([offset for _, offset in pairs])
        penalty = PENALTY[name] * np.eye(values.shape[1])
        penalty[-1, -1] = 1e-6
        weights = np.ones(len(values))
        for _ in range(10):  # an outline that is wrong must not bend the model
            scaled = values * weights[:, None]
            coefficients = np.linalg.solve(scaled.T @ values + penalty, scaled.T @ wanted)
            off = np.abs(wanted - values @ coefficients).mean(axis=1)
            weights = 1.0 / np.maximum(off / 0.02, 1.0)
        model[name] = coefficients.astype(np.float32).astype(np.float64)
    return model


def _named(film: KeptFilm) -> list[Segment]:
    """The outlines with their true names, from above."""
    labelling = film.truth.named(film.vertebrae)
    named = [v.segment for v in labelling.vertebrae if v.segment.level is not None]
    named.sort(key=lambda segment: segment.box.y + segment.box.height / 2.0)
    return named


def rows_of_shape(film: KeptFilm) -> Rows:
    """Features and true offsets of every body of a film, by body and sacrum."""
    rows: Rows = {"body": [], "sacrum": []}
    truth = film.truth
    named = _named(film)
    if len(named) < 2:
        return rows
    strokes = {name: strokes_of(said) for name, said in film.said().items()}
    bodies = measured_bodies(named, strokes, directions_up(named, (1.0, 1.0)), (1.0, 1.0))
    local = shape.turned(*bodies.local) if truth.faces_left else bodies.local
    corners, middles, curves = local
    for place, segment in enumerate(named):
        level = str(segment.level)
        axes = np.stack([bodies.frames.right[place], bodies.frames.down[place]], axis=1)
        centre, half = bodies.frames.centre_mm[place], bodies.frames.half_mm[place]
        quad = (truth.quads[level] - centre) @ axes / half
        middle = (truth.middles[level] - centre) @ axes / half
        if truth.faces_left:  # names of corners stay, sides change
            quad, middle = quad * [-1.0, 1.0], middle * [-1.0, 1.0]
        own, own_middle = corners[0, place], middles[0, place]
        if level == "S1":
            quad[2:], middle[1] = own[2:], own_middle[1]
        look = shape.sacral_features if level == "S1" else shape.features
        values, depth = look(own[None], curves[:, :1, place])
        offset = np.concatenate([(quad - own).ravel(), (middle - own_middle).ravel()]) / depth[0]
        if np.isfinite(offset).all() and np.abs(offset).max() < 0.4:
            rows["sacrum" if level == "S1" else "body"].append((values[0], offset))
    return rows


def fit_weighing(films: Sequence[KeptFilm], shapes: Sequence[Shape]) -> dict[str, Any]:
    """How outlines and refiner are weighed, as plain values; see :mod:`weighing`.

    Args:
        films: Phantoms of other seeds than the tests'.
        shapes: A model of shape for each, of other films.
    """
    rows: dict[str, list[NDArray[np.float64]]] = {"body": [], "sacrum": []}
    for film, model in zip(films, shapes, strict=True):
        truth, pixels, named = film.truth, film.pixels(), _named(film)
        if pixels is None or len(named) < 2:
            continue
        strokes = {name: strokes_of(said) for name, said in film.said().items()}
        square, mirrored = (1.0, 1.0), truth.faces_left
        bodies = measured_bodies(
            named, strokes, directions_up(named, square), square, samples=SAMPLES_BESIDE_REFINER
        )
        bodies = shaped(bodies, mirrored=mirrored, model=model)
        every = np.arange(len(named))
        said = looks.looked(bodies, every, pixels, square, built_in_refiner(), mirrored=mirrored)
        outlines = refine.outline_numbers(bodies, mirrored=mirrored)
        varied = outlines[1:].var(axis=0)
        axes, sizes = looks.axes_of(bodies, mirrored=mirrored)
        for place, segment in enumerate(named):
            level = str(segment.level)
            corners, middles = (
                (each - bodies.frames.centre_mm[place]) @ axes[place] / sizes[place]
                for each in (truth.quads[level], truth.middles[level])
            )
            true = numbers_of(corners, middles)
            row = np.stack([outlines[0, place] - true, said.numbers[place] - true,
                            said.spreads[place], varied[place]])  # fmt: skip
            rows["sacrum" if level == "S1" else "body"].append(row)
    found: dict[str, Any] = {}
    for name, errors in rows.items():
        every_row = np.array(errors)
        if name == "sacrum":  # its lower endplate is not measured
            every_row[:, :, 5:] = every_row[:, :, :5]
        fitted = [blend_of(every_row[:, :, number]) for number in range(every_row.shape[2])]
        columns = zip(*fitted, strict=True)
        found[name] = dict(zip(("outline", "share", "spread"), map(list, columns), strict=True))
    return found | {"posture": fit_posture(films)}


def blend_of(rows: NDArray[np.float64]) -> tuple[float, float, list[float]]:
    """Spread of the outlines, share of the refiner and spread of both for one number.

    The most likely ones where errors have Laplace's distribution: an endplate that is quite wrong
    must not count for all.

    Args:
        rows: (N, 4) error of the outlines, error of the refiner, its own spread, and variance of
            the outlines over the bootstrap.
    """
    rows = rows[np.isfinite(rows).all(axis=1)]
    outline, refiner, said, varied = rows.T
    looks = weighing.spread_features(said, varied)
    centre = looks.mean(axis=0) * (0.0, 1.0, 1.0)
    apart = weighing.APART * (refiner - outline) ** 2

    def unlikely(values: NDArray[np.float64]) -> float:
        share = 1.0 / (1.0 + np.exp(-values[0]))
        off = np.abs(outline + share * (refiner - outline))
        deviation = np.sqrt(np.exp(2.0 * (looks - centre) @ values[1:]) + apart)
        ties = 1e-3 * float((values * (1.0, 0.0, 1.0, 1.0)) @ values)
        return float(np.mean(LAPLACE * off / deviation + np.log(deviation))) + ties

    usual = np.log(max(float(np.median(np.abs(refiner))) * LAPLACE / LAPLACE_MEDIAN, 1e-4))
    values = minimize(unlikely, [0.0, usual, 0.5, 0.3], method="L-BFGS-B").x
    share = 1.0 / (1.0 + np.exp(-values[0]))
    spread = [values[1] - float(centre[1:] @ values[2:]), *values[2:]]
    alone = float(np.median(np.abs(outline))) / NORMAL_MEDIAN
    return round(alone, 5), round(float(share), 4), [round(float(each), 4) for each in spread]


def fit_posture(films: Sequence[KeptFilm]) -> dict[str, dict[str, list[float]]]:
    """Usual turns of neighbouring endplates by level, as plain values; see :mod:`posture`.

    Phantoms' lowest thoracic discs are kyphotic and their bodies square; patients' are the other
    way round. There a film is as likely of either: the mean lies between both, the spread holds
    both.
    """
    found: dict[str, dict[str, list[float]]] = {}
    kinds = (("bodies", MeasureKind.BODY_WEDGING, -1.0), ("discs", MeasureKind.DISC_ANGLE, 1.0))
    for name, kind, sign in kinds:
        turns: dict[str, list[float]] = {}
        for film in films:
            for (said, levels), (value, _) in film.truth.measures.items():
                usual = len(levels) == 1 or levels[1] != "S1" or levels[0] == "L5"
                if said is kind and value is not None and usual:
                    turns.setdefault(levels[0], []).append(sign * value)
        found[name] = {}
        for level, each in sorted(turns.items()):
            if len(each) < LEAST_FILMS:
                continue
            mean, spread = float(np.mean(each)), float(np.std(each))
            if level in USUAL_DISC_DEG:
                published = USUAL_DISC_DEG[level] if name == "discs" else -USUAL_WEDGE_DEG[level]
                half = (published - mean) / 2.0
                mean, spread = mean + half, float(np.hypot(spread, half))
            found[name][level] = [round(mean, 2), round(spread, 2)]
    return found


_BARE = dict.fromkeys([*(kind.name for kind in MeasureKind), "CORNER"], (0.0, 1.0)) | {
    f"{MeasureKind.LORDOSIS.name} {levels}": (0.0, 1.0) for levels in ("L1-S1", "L1-L5", "L4-S1")
}
"""Intervals that say the bootstrap's spread."""


def fit_intervals(
    films: Sequence[KeptFilm],
    shapes: Sequence[Shape],
    blend: dict[str, Any] | None,
    *,
    refined: bool,
    implants: Sequence[Sequence[FusedImplant]] | None = None,
) -> dict[str, list[float]]:
    """Floor and factor of every kind; see :mod:`spinezoo_spine.measures.uncertainty`.

    Of several floors that whose intervals are the shortest on average, each with the factor that
    makes :data:`WANTED` of the true values lie inside.

    Args:
        films: Phantoms of other seeds than the tests'.
        shapes: A model of shape for each, of other films.
        blend: Of :func:`fit_weighing`; None: as shipped.
        refined: Whether the refiner looks at them, or outlines alone are measured.
        implants: Of each film; None: they are fused here.
    """
    rows: dict[str, list[tuple[float, float]]] = {}
    plain = None if blend is None else weighing.Weighing.of(blend)
    metal = [film.implants() for film in films] if implants is None else implants
    for film, model, fused in zip(films, shapes, metal, strict=True):
        measured = film.measured(
            refine=refined, shape=model, weighing=plain, intervals=_BARE, implants=fused
        )
        depths = [
            float(np.hypot(*(quad[1] - quad[0]))) * (film.truth.spacing_mm or 1.0)
            for quad in film.truth.quads.values()
        ]
        usual = float(np.median(depths))
        for said in measured.measures:
            true = film.truth.measures.get((said.kind, said.levels), (None, None))[0]
            if true is None or said.value is None or said.high is None or said.kind in KINDS:
                continue
            if not film.truth.in_view(said.levels):
                continue
            unit = usual if said.unit is MeasureUnit.MILLIMETRE else 1.0
            name = uncertainty.name_of(said.kind, said.levels)
            spread = (said.high - said.value) / unit
            rows.setdefault(name, []).append((abs(said.value - true) / unit, spread))
        for off, radius in _corner_errors(film, measured):
            rows.setdefault("CORNER", []).append((off / usual, radius / usual))
    return {kind: _best(np.array(pairs)) for kind, pairs in rows.items()}


def _corner_errors(film: KeptFilm, measured: FilmMeasures) -> list[tuple[float, float]]:
    """Distance of each corner in view from the true one, and its stated radius, both in mm."""
    pixel_mm = film.truth.spacing_mm or 1.0
    found = []
    for body in measured.bodies:
        if film.truth.in_view((body.level,)):
            for landmark in body.corners:
                x, y = film.truth.quads[body.level][landmark.corner - 1]
                off = float(np.hypot(landmark.place.x - x, landmark.place.y - y))
                found.append((off * pixel_mm, landmark.radius_px * pixel_mm))
    return found


def _best(pairs: NDArray[np.float64]) -> list[float]:
    off, spread = pairs[:, 0], pairs[:, 1]
    best: tuple[float, list[float]] | None = None
    for share in (0.25, 0.5, 1.0, 2.0, 4.0):
        floor = share * max(float(np.median(spread)), 1e-6)
        width = np.sqrt(spread**2 + floor**2)
        factor = float(np.quantile(off / width, WANTED))
        length = factor * float(width.mean())
        if best is None or length < best[0]:
            best = (length, [round(floor, 5), round(factor, 4)])
    assert best is not None
    return best[1]


def _packed(arrays: dict[str, Any]) -> bytes:
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    return packed.getvalue()


def write_fit(fitted: Fitted) -> None:
    """Puts it beside the code that reads it, and makes this process read it."""
    coefficients: dict[str, Any] = {k: v.astype(np.float32) for k, v in fitted.shape.items()}
    replace_file(shape.FILE, _packed(coefficients))
    if fitted.contours:
        network: dict[str, Any] = {k: v.astype(np.float32) for k, v in fitted.contours.items()}
        replace_file(double_contours.FILE, _packed(network))
    replace_file(weighing.FILE, json.dumps(fitted.blend, indent=1) + "\n")
    kept = json.loads(uncertainty.FILE.read_text(encoding="utf-8"))
    told = {
        part: dict(sorted((kept[part] | own).items())) for part, own in fitted.intervals.items()
    }
    replace_file(uncertainty.FILE, json.dumps(told, indent=1) + "\n")
    for cached in (
        shape.coefficients,
        weighing.shipped_weighing,
        uncertainty.calibration,
        double_contours.shipped_model,
    ):
        cached.cache_clear()
