"""Contact sheets with outlines, for looking at."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from spinezoo_spine.phantom.records import PhantomFilm
from spinezoo_spine.phantom.write import display_bytes

_COLOURS_BGR = {
    "lumbar_vertebra": (80, 255, 80),
    "sacral_vertebra": (255, 200, 60),
    "cage": (60, 160, 255),
    "screw": (60, 60, 255),
    "rod": (255, 80, 255),
}


def draw_film(film: PhantomFilm, *, height_px: int, outlines: bool = True) -> np.ndarray:
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


def draw_sheet(
    films: Sequence[PhantomFilm], *, columns: int = 6, height_px: int = 480, outlines: bool = True
) -> np.ndarray:
    """Returns one uint8 BGR picture of many films of one size, row by row."""
    tiles = [draw_film(film, height_px=height_px, outlines=outlines) for film in films]
    while len(tiles) % columns:
        tiles.append(np.zeros_like(tiles[0]))
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    return np.vstack(rows)
