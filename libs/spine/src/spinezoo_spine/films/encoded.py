"""PNG, JPEG and TIFF files into films."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from spinezoo_contract.errors import FilmError, TooLargeError
from spinezoo_contract.types import Film

from spinezoo_spine.films.kinds import kind_of
from spinezoo_spine.films.limits import TO_ONE_GREY, FilmLimits, check_size

_ENCODED_FORMATS = ("PNG", "JPEG", "TIFF")


def open_encoded(data: bytes, limits: FilmLimits) -> Image.Image:
    """The image, header read and judged, pixels not decoded."""
    if kind_of(data) == "dicom":
        raise FilmError("is a DICOM file, said to be PNG, JPEG or TIFF; send it as dicom")
    try:
        image = Image.open(io.BytesIO(data), formats=_ENCODED_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLargeError(
            f"film has more than the {limits.max_pixels} pixels allowed; scale it down"
        ) from None
    except Exception:
        raise FilmError(
            "is neither DICOM nor a readable PNG, JPEG or TIFF; send one of these, whole"
        ) from None
    check_size(image.height, image.width, limits)
    frames = int(getattr(image, "n_frames", 1))
    if frames != 1:
        raise FilmError(f"{image.format} has {frames} frames; send one film a file")
    if image.mode == "1":
        raise FilmError(f"{image.format} has one bit a pixel; {TO_ONE_GREY}")
    if image.mode not in ("L", "I", "F") and not image.mode.startswith("I;16"):
        raise FilmError(f"{image.format} is {image.mode}, not grey; {TO_ONE_GREY}")
    return image


def read_encoded(data: bytes, limits: FilmLimits) -> Film:
    """Decodes a PNG, JPEG or TIFF file.

    Raises:
        FilmError: None of these, damaged, or not one grey frame.
        TooLargeError: Over the pixel limit.
    """
    image = open_encoded(data, limits)
    try:
        image.load()
        pixels = np.array(image)
    except Exception as error:
        raise FilmError(
            f"{image.format} is truncated or damaged ({type(error).__name__}); send the whole file"
        ) from None
    if pixels.dtype == np.uint8:
        return Film(pixels)
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all():
            raise FilmError("TIFF has pixels that are not finite; replace NaN and infinities")
        return Film(pixels.astype(np.float32))
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise FilmError(f"{image.format} has levels from {low} to {high}; save it with 16 bits")
    levels = pixels.astype(np.uint16)
    # Photometric 0 is white-is-zero; Pillow turns 8-bit images over, but not 16-bit ones.
    if image.format == "TIFF" and image.tag_v2.get(262) == 0:  # type: ignore[attr-defined]
        levels = np.uint16(65535) - levels
    return Film(levels)
