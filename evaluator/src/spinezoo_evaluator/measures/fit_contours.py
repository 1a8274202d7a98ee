"""Fits the network that tells double contours of endplates, on phantoms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from spinezoo_contract.types import FusedImplant
from spinezoo_spine.measures import double_contours
from spinezoo_spine.measures.double_contours import FEATURES, KINDS
from spinezoo_spine.measures.weighing import Weighing

from spinezoo_evaluator.measures.run import KeptFilm, Shape

Array = NDArray[np.float64]

HIDDEN = 16
"""Units of the hidden layer."""

PENALTY = 0.08
"""Of the squares of the weights; 0.02 and less learn the films by heart, 0.25 learns too little."""

ROUNDS = 120
"""Of the optimiser."""

PARTS = 5
"""Films are divided in this many: each part's errors, which tell the width of intervals, are those
of a network fitted on the others."""

LEAST_ROWS = 500
"""Fewer endplates fit nothing."""

SMOOTH = 0.003
"""Errors smaller than this count by their squares, in lengths of the endplate."""

_SHAPES = {"w1": (FEATURES, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN, 2), "b2": (2,)}


def rows_of(
    film: KeptFilm,
    implants: Sequence[FusedImplant] | None = None,
    shape: Shape | None = None,
    weighing: Weighing | None = None,
) -> tuple[Array, Array]:
    """(N, FEATURES) features and (N,) true distances of a film's endplates that are shown.

    Implants that are given are not fused again. Endplates are found by the model of shape and the
    weights that are given, or by those shipped.
    """
    truth, pixels = film.truth, film.pixels()
    nothing = np.zeros((0, FEATURES)), np.zeros(0)
    if pixels is None or truth.spacing_mm is None:
        return nothing
    implants = film.implants() if implants is None else implants
    ends, upper, wanted = [], [], []
    said = film.measured(implants=implants, shape=shape, weighing=weighing)
    for body in said.bodies:
        quad = np.full((4, 2), np.nan)
        for each in body.corners:
            quad[each.corner - 1] = each.place.x, each.place.y
        plates = double_contours.endplates_of(quad[None])[0]
        for which, kind in enumerate(KINDS):
            true = truth.measures.get((kind, (body.level,)), (None, None))[0]
            if true is None or not np.isfinite(plates[which]).all():
                continue
            if truth.in_view((body.level,)):
                ends.append(plates[which])
                upper.append(which == 0)
                wanted.append(true)
    if not ends:
        return nothing
    spacing = (truth.spacing_mm, truth.spacing_mm)
    metal = [each.segment for each in implants]
    strips = double_contours.strips_of(np.stack(ends), np.array(upper), pixels, spacing, metal)
    return strips.features[strips.shown], (np.array(wanted) / strips.depths_mm)[strips.shown]


def fit_contours(
    films: Sequence[KeptFilm],
    implants: Sequence[Sequence[FusedImplant]],
    shapes: Sequence[Shape],
    weighing: Weighing,
    wanted: float,
) -> dict[str, Array]:
    """The network, of all films, and the width of its intervals.

    Args:
        films: Phantoms of other seeds than the tests'.
        implants: Of each film.
        shapes: Model of shape by which each film is measured.
        weighing: How outlines and refiner are weighed.
        wanted: Share of the true values that a stated 90 % interval is to hold.

    Returns:
        What :data:`double_contours.FILE` holds; nothing where fewer than :data:`LEAST_ROWS`
        endplates have a truth, as in sets that are older than it.
    """
    every = zip(films, implants, shapes, strict=True)
    return fitted_rows([rows_of(film, metal, own, weighing) for film, metal, own in every], wanted)


def fitted_rows(rows: Sequence[tuple[Array, Array]], wanted: float) -> dict[str, Array]:
    """See :func:`fit_contours`; of each film its :func:`rows_of`."""
    if sum(len(true) for _, true in rows) < LEAST_ROWS:
        return {}
    off = []
    for part in range(PARTS):
        model = fit_network([row for place, row in enumerate(rows) if place % PARTS != part])
        features, true = _together([row for place, row in enumerate(rows) if place % PARTS == part])
        distance, spread = double_contours.told(features, model)
        sure = spread <= double_contours.MOST_SPREAD
        off.append((np.abs(distance - true) / spread)[sure])
    factor = np.quantile(np.concatenate(off), wanted)
    return fit_network(rows) | {"factor": np.asarray(factor)}


def _together(rows: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    return np.concatenate([row[0] for row in rows]), np.concatenate([row[1] for row in rows])


def fit_network(rows: Sequence[tuple[Array, Array]]) -> dict[str, Array]:
    """The network whose distances and spreads are the most likely ones, errors being Laplace's."""
    features, true = _together(rows)
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-3
    inputs = (features - mean) / deviation
    rng = np.random.default_rng(0)
    start = {name: 0.3 * rng.standard_normal(shape) for name, shape in _SHAPES.items()}
    start["w1"] /= FEATURES**0.5 / 3.0
    start["b2"][:] = 0.0, -3.0
    penalty = np.concatenate(
        [np.full(each.size, PENALTY * name.startswith("w")) for name, each in start.items()]
    )

    def unlikely(flat: Array) -> tuple[float, Array]:
        model = _parts(flat)
        hidden = np.tanh(inputs @ model["w1"] + model["b1"])
        answer = hidden @ model["w2"] + model["b2"]
        error = np.logaddexp(0.0, answer[:, 0]) / 10.0 - true
        size = np.sqrt(error**2 + SMOOTH**2)
        narrow = np.exp(-answer[:, 1])
        loss = float(np.mean(size * narrow + answer[:, 1]))
        down = np.stack(
            [error / size * narrow / (1.0 + np.exp(-answer[:, 0])) / 10.0, 1.0 - size * narrow], 1
        ) / len(true)
        back = (down @ model["w2"].T) * (1.0 - hidden**2)
        slope = [inputs.T @ back, back.sum(axis=0), hidden.T @ down, down.sum(axis=0)]
        gradient = np.concatenate([each.ravel() for each in slope]) + penalty * flat
        return loss + float(0.5 * penalty @ flat**2), gradient

    first = np.concatenate([each.ravel() for each in start.values()])
    found = minimize(unlikely, first, jac=True, method="L-BFGS-B", options={"maxiter": ROUNDS})
    return _parts(found.x) | {"mean": mean, "deviation": deviation}


def _parts(flat: Array) -> dict[str, Array]:
    """The weights by name, of all in one row."""
    sizes = [int(np.prod(shape)) for shape in _SHAPES.values()]
    pieces = np.split(flat, np.cumsum(sizes)[:-1])
    return {
        name: piece.reshape(shape)
        for (name, shape), piece in zip(_SHAPES.items(), pieces, strict=True)
    }
