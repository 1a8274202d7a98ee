"""Contact sheets with outlines, for looking at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from spinezoo_spine.films.reader import read_film_file
from spinezoo_spine.inference.preprocess import letterbox

from spinezoo_phantom.records import PhantomFilm
from spinezoo_phantom.write import display_bytes

_COLOURS_BGR = {
    "lumbar_vertebra": (80, 255, 80),
    "sacral_vertebra": (255, 200, 60),
    "cage": (60, 160, 255),
    "screw": (60, 60, 255),
    "rod": (255, 80, 255),
}


def draw_film(film: PhantomFilm, *, height_px: int, outlines: bool) -> np.ndarray:
    """Returns an (height_px, w, 3) uint8 BGR picture of one film."""
    scale = height_px / film.settings.height_px
    size = (round(film.settings.width_px * scale), height_px)
    grey = cv2.resize(display_bytes(film), size, interpolation=cv2.INTER_AREA)
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    if outlines:
        for region in film.regions:
            points = np.round((region.polygon_xy * scale - 0.5) * 16).astype(np.int32)
            cv2.polylines(
                picture, [points], True, _COLOURS_BGR[region.structure], 1, cv2.LINE_AA, 4
            )
            if region.structure.endswith("vertebra"):
                place = region.polygon_xy.mean(axis=0) * scale
                cv2.putText(
                    picture,
                    region.level,
                    (int(place[0]) - 8, int(place[1]) + 4),
                    cv2.FONT_HERSHEY_SIMPLEX,
                    0.35,
                    (0, 255, 255),
                    1,
                    cv2.LINE_AA,
                )
    return picture


def draw_real(path: Path, *, height_px: int, width_px: int) -> np.ndarray:
    """Returns an (height_px, width_px, 3) uint8 BGR picture of a film in a file, bars around it.

    Raises:
        FilmError: It cannot be read.
    """
    canvas, _ = letterbox(read_film_file(path).pixels, height_px, width_px)
    return cv2.cvtColor(cv2.convertScaleAbs(canvas, alpha=255), cv2.COLOR_GRAY2BGR)


def draw_sheet(films: Sequence[PhantomFilm], real: Sequence[Path] = ()) -> np.ndarray:
    """Draws one uint8 BGR picture of many films, row by row.

    Args:
        films: Phantoms of one size; outlined where there are no real films.
        real: Film files; every row of them stands below a row of phantoms.

    Raises:
        FilmError: A real film cannot be read.
        ValueError: There is no phantom.
    """
    if not films:
        raise ValueError("a sheet shows 1 film or more")
    columns, height_px = (8, 420) if real else (6, 480)
    tiles = [draw_film(film, height_px=height_px, outlines=not real) for film in films]
    width_px = tiles[0].shape[1]
    others = [draw_real(path, height_px=height_px, width_px=width_px) for path in real]
    blank = np.zeros_like(tiles[0])
    rows: list[np.ndarray] = []
    while tiles or others:
        for pile in (tiles, others):
            if pile:
                rows.append(np.hstack([*pile[:columns], *([blank] * (columns - len(pile)))]))
                del pile[:columns]
    return np.vstack(rows)
