"""A film as the networks get it: its grey levels, size, spacing and notes."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
import pydantic_core
from numpy.typing import NDArray
from spinezoo_contract.types import Film, FilmNoteCode
from spinezoo_spine.films.notes import spacing_plane

from spinezoo_gateway.http.options import PixelForm

MOST_SAMPLES = 1 << 18
"""Most pixels that percentiles are taken from."""

ALIGNED_BYTES = 8
"""Where rows may begin, so that numbers can be read in place."""

PNG_LEVEL = 1
"""Compression of a PNG, 0 to 9: a preview is waited for."""


def levels_of(film: Film) -> tuple[NDArray[Any], float, float]:
    """Levels of 8 or 16 bits, and scale and offset by which they are the film's own values.

    Args:
        film: Any film; one with decimals is spread over 16 bits.
    """
    pixels = film.pixels
    if pixels.dtype.kind != "f":
        return pixels, 1.0, 0.0
    low, high = float(pixels.min()), float(pixels.max())
    scale = (high - low) / 65535.0 or 1.0
    values = pixels.astype(np.float64)
    return np.rint((values - low) / scale).astype(np.uint16), scale, low


def png_of(film: Film) -> bytes:
    """A PNG of 8 or 16 bits."""
    done, data = cv2.imencode(".png", levels_of(film)[0], [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])
    assert done
    return bytes(data.tobytes())


def preview_bytes(film: Film) -> bytes:
    """A line of JSON, then the rows of little-endian numbers: nothing to encode, nothing to parse.

    Blanks before the line's end put the rows at a multiple of :data:`ALIGNED_BYTES`.
    """
    levels = levels_of(film)
    line = pydantic_core.to_json(_described(film, levels)) + b"\n"
    line = line[:-1] + b" " * (-len(line) % ALIGNED_BYTES) + b"\n"
    return line + _rows(levels[0]).tobytes()


def preview_json(film: Film, form: PixelForm) -> dict[str, Any]:
    """The preview as plain values of :class:`spinezoo_gateway.http.models.PreviewAnswer`."""
    levels = levels_of(film)
    found = _described(film, levels)
    if form is PixelForm.RAW:
        found["raw"] = base64.b64encode(_rows(levels[0]).tobytes()).decode()
    elif form is PixelForm.PNG:
        found["png"] = base64.b64encode(png_of(film)).decode()
    return found


def _rows(pixels: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder("<"), copy=False)


def _described(film: Film, levels: tuple[NDArray[Any], float, float]) -> dict[str, Any]:
    """All but the pixels."""
    pixels, scale, offset = levels
    step = max(1, int(np.ceil((pixels.size / MOST_SAMPLES) ** 0.5)))
    low, high = np.percentile(pixels[::step, ::step], (1.0, 99.0), method="nearest").tolist()
    found: dict[str, Any] = {
        "height": film.height,
        "width": film.width,
        "levels": {
            "type": pixels.dtype.name,
            "minimum": int(pixels.min()),
            "maximum": int(pixels.max()),
            "low": int(low),
            "high": int(high),
            "scale": scale,
            "offset": offset,
        },
        "notes": [{"code": note.code.name.lower(), "text": note.text} for note in film.notes],
    }
    if film.row_spacing_mm is not None:
        found["row_spacing_mm"] = film.row_spacing_mm
    if film.column_spacing_mm is not None:
        found["column_spacing_mm"] = film.column_spacing_mm
    if film.row_spacing_mm is not None or film.column_spacing_mm is not None:
        nominal = any(note.code is FilmNoteCode.SPACING_NOMINAL_SCANNED for note in film.notes)
        found["spacing_plane"] = "scanner" if nominal else spacing_plane(film).name.lower()
    return found
