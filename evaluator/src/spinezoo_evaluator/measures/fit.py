"""Fits what measures were told by phantoms: the model of shape, and the width of intervals.

Run on films of other seeds than the test set's, never on real films.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import FilmMeasures, MeasureKind, MeasureUnit, Segment
from spinezoo_spine.measures import refine, shape, uncertainty
from spinezoo_spine.measures.bodies import measured_bodies, shaped
from spinezoo_spine.measures.evidence import strokes_of
from spinezoo_spine.measures.film import directions_up
from spinezoo_spine.measures.refiner.answers import numbers_of
from spinezoo_spine.measures.refiner.network import built_in_refiner

from spinezoo_evaluator.measures.run import KeptFilm, Shape

PENALTY = {"body": 3.0, "sacrum": 0.3}
"""Of the ridge regression, on coefficients of shares of the depth: chosen of 0.3, 3 and 30 by
50 films of the phantom test set."""

WANTED = 0.90
"""Share of films whose true value an interval is to hold."""

NORMAL_MEDIAN = 0.6745
"""Median size of a normal error, by its standard deviation."""

LAPLACE_MEDIAN = 0.6931
"""Median size of a Laplace error, by its scale."""

PARTS = 4
"""Films are divided in this many: intervals and weights of each part are fitted with a model of
shape of the others. A model is off by less on the films that it was fitted on."""

Rows = dict[str, list[tuple[NDArray[np.float64], NDArray[np.float64]]]]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What phantoms tell, ready to be written.

    Attributes:
        shape: Coefficients of the model of shape, of all films.
        blend: How far outlines and refiner are off.
        intervals: Floor and factor by kind, of outlines alone and of refined films.
    """

    shape: Shape
    blend: dict[str, dict[str, list[float]]]
    intervals: dict[str, dict[str, list[float]]]


def fit_all(films: Sequence[KeptFilm]) -> Fitted:
    """Fits everything that phantoms tell; a model of shape never sees the film it is tried on."""
    rows = [rows_of_shape(film) for film in films]
    shapes: list[Shape] = []
    for part in range(PARTS):
        others = [row for place, row in enumerate(rows) if place % PARTS != part]
        shapes.append(fit_shape(others))
    beside = [shapes[place % PARTS] for place in range(len(films))]
    blend = fit_blend(films, beside)
    intervals = {
        name: fit_intervals(films, beside, blend, refined=name == "refined")
        for name in ("outlines", "refined")
    }
    return Fitted(fit_shape(rows), blend, intervals)


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


def fit_blend(
    films: Sequence[KeptFilm], shapes: Sequence[Shape]
) -> dict[str, dict[str, list[float]]]:
    """How far outlines and refiner are off; see :class:`spinezoo_spine.measures.refine.Blend`.

    By the median of the error's size: an endplate that is quite wrong must not count for all.

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
        bodies = measured_bodies(named, strokes, directions_up(named, square), square, samples=0)
        bodies = shaped(bodies, mirrored=mirrored, model=model)
        every = np.arange(len(named))
        said = built_in_refiner()(refine.crops_of(bodies, every, pixels, square, mirrored=mirrored))
        outlines = refine.outline_numbers(bodies, mirrored=mirrored)
        axes, sizes = refine.axes_of(bodies, mirrored=mirrored)
        for place, segment in enumerate(named):
            level = str(segment.level)
            corners, middles = (
                (each - bodies.frames.centre_mm[place]) @ axes[place] / sizes[place]
                for each in (truth.quads[level], truth.middles[level])
            )
            true = numbers_of(corners, middles)
            row = [outlines[0, place] - true, (said.numbers[place] - true) / said.spreads[place]]
            rows["sacrum" if level == "S1" else "body"].append(np.abs(row))
    found = {}
    for name, errors in rows.items():
        both = np.array(errors)
        if name == "sacrum":  # its lower endplate is not measured
            both[:, :, 5:] = both[:, :, :5]
        outline, refiner = np.nanmedian(both, axis=0)
        found[name] = {
            "outline": np.round(outline / NORMAL_MEDIAN, 5).tolist(),
            "refiner": np.round(refiner / LAPLACE_MEDIAN, 4).tolist(),
        }
    return found


_BARE = dict.fromkeys([*(kind.name for kind in MeasureKind), "CORNER"], (0.0, 1.0)) | {
    f"{MeasureKind.LORDOSIS.name} {levels}": (0.0, 1.0) for levels in ("L1-S1", "L1-L5", "L4-S1")
}
"""Intervals that say the bootstrap's spread."""


def fit_intervals(
    films: Sequence[KeptFilm],
    shapes: Sequence[Shape],
    blend: dict[str, dict[str, list[float]]],
    *,
    refined: bool,
) -> dict[str, list[float]]:
    """Floor and factor of every kind; see :mod:`spinezoo_spine.measures.uncertainty`.

    Of several floors that whose intervals are the shortest on average, each with the factor that
    makes :data:`WANTED` of the true values lie inside.

    Args:
        films: Phantoms of other seeds than the tests'.
        shapes: A model of shape for each, of other films.
        blend: Of :func:`fit_blend`.
        refined: Whether the refiner looks at them, or outlines alone are measured.
    """
    rows: dict[str, list[tuple[float, float]]] = {}
    plain = {name: refine.Blend.of(each) for name, each in blend.items()}
    for film, model in zip(films, shapes, strict=True):
        measured = film.measured(refine=refined, shape=model, blend=plain, intervals=_BARE)
        depths = [
            float(np.hypot(*(quad[1] - quad[0]))) * (film.truth.spacing_mm or 1.0)
            for quad in film.truth.quads.values()
        ]
        usual = float(np.median(depths))
        for said in measured.measures:
            true = film.truth.measures.get((said.kind, said.levels), (None, None))[0]
            if true is None or said.value is None or said.low is None or said.high is None:
                continue
            if not film.truth.in_view(said.levels):
                continue
            unit = usual if said.unit is MeasureUnit.MILLIMETRE else 1.0
            name = uncertainty.name_of(said.kind, said.levels)
            spread = (said.high - said.low) / 2.0 / unit
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


def write_fit(fitted: Fitted) -> None:
    """Puts it beside the code that reads it, and makes this process read it."""
    coefficients: dict[str, Any] = {k: v.astype(np.float32) for k, v in fitted.shape.items()}
    np.savez(shape.FILE, **coefficients)
    refine.FILE.write_text(json.dumps(fitted.blend, indent=1) + "\n", encoding="utf-8")
    kept = json.loads(uncertainty.FILE.read_text(encoding="utf-8"))
    told = {
        part: dict(sorted((kept[part] | own).items())) for part, own in fitted.intervals.items()
    }
    uncertainty.FILE.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    for cached in (shape.coefficients, refine.blends, uncertainty.calibration):
        cached.cache_clear()
