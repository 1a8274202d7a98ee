"""Phantoms as training takes them: on a network's canvas, without a file on the way."""

from __future__ import annotations

import numpy as np
from spinezoo_contract.types import Structure

from spinezoo_spine.dataset import PreparedFilm
from spinezoo_spine.phantom.film import make_film
from spinezoo_spine.phantom.settings import PhantomSettings
from spinezoo_spine.phantom.write import film_seed
from spinezoo_spine.prepare import letterbox

RENDER_SCALE = 1.25
"""Films are rendered this much larger than the canvas, so that resizing blurs as in serving."""


def training_films(
    seed: int, index: int, height: int, width: int, looks: int = 3
) -> list[PreparedFilm]:
    """Films of patient ``index`` of the stream ``seed``: the same every time.

    Args:
        seed: Of the stream, 0 or more.
        index: Number of the patient, 0 or more.
        height: Rows of the canvas.
        width: Columns of the canvas.
        looks: Films to make.
    """
    settings = PhantomSettings(
        height_px=max(96, round(height * RENDER_SCALE)),
        width_px=max(96, round(width * RENDER_SCALE)),
    )
    films = []
    for look in range(looks):
        # Version 2 knows no looks of one patient: each look is another patient.
        film = make_film(film_seed(seed, index * looks + look), settings)
        grey, fit = letterbox(film.pixels, height, width)
        regions = tuple(
            (Structure[region.structure.upper()], fit.to_canvas(region.polygon_xy))
            for region in film.regions
        )
        films.append(
            PreparedFilm(
                f"phantom-{seed}-{index}-{look}", np.rint(grey * 255.0).astype(np.uint8), regions
            )
        )
    return films
