"""The network of double contours, fitted to made profiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import Structure
from spinezoo_evaluator.measures.fit_contours import LEAST_ROWS, fitted_rows, rows_of
from spinezoo_evaluator.measures.run import KeptFilm
from spinezoo_evaluator.measures.truth import read_truth
from spinezoo_phantom import PhantomSettings, make_film, write_film_set
from spinezoo_phantom.write import film_seed
from spinezoo_spine.annotations.raster import segments_from_regions
from spinezoo_spine.annotations.regions import Region
from spinezoo_spine.measures.double_contours import CELLS, FEATURES, KINDS, MOST_SPREAD, PARTS, told

Rows = list[tuple[NDArray[np.float64], NDArray[np.float64]]]


def profiles(films: int, seed: int) -> Rows:
    """Steps as broad as the distance, with noise; of every fourth endplate noise alone."""
    rng = np.random.default_rng(seed)
    at = np.linspace(-0.4, 0.4, CELLS)
    rows = []
    for _ in range(films):
        true = rng.uniform(0.0, 0.3, 14)
        step = -np.clip(2.0 * at / np.maximum(true, 0.02)[:, None], -1.0, 1.0)
        step[::4] = 0.0
        lines = step[:, None] + rng.normal(0.0, 0.15, (14, PARTS, CELLS))
        features = np.concatenate([lines.reshape(14, -1), rng.normal(-2, 0.1, (14, 1))], axis=1)
        rows.append((features, true))
    return rows


def test_it_tells_distances_and_what_it_cannot_tell() -> None:
    model = fitted_rows(profiles(80, 0), 0.9)
    features, true = (np.concatenate(part) for part in zip(*profiles(20, 1), strict=True))
    distance, spread = told(features, model)
    blind = np.arange(len(true)) % 14 % 4 == 0
    assert (spread[blind] > MOST_SPREAD).mean() > 0.9
    sure = spread <= MOST_SPREAD
    assert sure[~blind].mean() > 0.8
    off = np.abs(distance - true)[sure]
    assert np.median(off) < 0.02
    assert 0.8 <= (off <= float(model["factor"]) * spread[sure]).mean() <= 0.97


def test_too_few_endplates_fit_nothing() -> None:
    assert sum(len(true) for _, true in profiles(10, 0)) < LEAST_ROWS
    assert fitted_rows(profiles(10, 0), 0.9) == {}


def test_rows_of_a_phantom_are_those_that_the_film_shows(tmp_path: Path) -> None:
    settings = PhantomSettings(height_px=512, width_px=384, implant_share=0.0)
    write_film_set(tmp_path, count=1, seed=5, settings=settings, file_format="png")
    (truth,) = read_truth(tmp_path)
    drawn = make_film(film_seed(5, 0), settings)
    bones = [
        Region(Structure.LUMBAR_VERTEBRA, region.polygon_xy, region.level)
        for region in drawn.regions
        if region.structure.endswith("vertebra")
    ]
    segments = segments_from_regions(bones, truth.height, truth.width)
    film = KeptFilm(truth, {"one": segments}, segments, tmp_path / truth.name)
    features, true = rows_of(film)
    assert features.shape == (len(true), FEATURES)
    assert 6 <= len(true) <= 16
    asked = [value for (kind, _), (value, _) in truth.measures.items() if kind in KINDS]
    # Rows are in lengths of the endplate, the truth in mm.
    assert 0.0 <= true.min() <= true.max() < max(value for value in asked if value) / 20.0
    no_film = KeptFilm(truth, {"one": segments}, segments, None)
    assert len(rows_of(no_film)[1]) == 0
