"""Stored values of a DICOM file as grey levels where bright is dense."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels import apply_modality_lut, apply_voi
from spinezoo_contract.errors import FilmError


def _spread(values: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Values spread linearly over 0 to 65535; one single value becomes 0."""
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise FilmError("DICOM display transform gives values that are not finite; export again")
    if high <= low:
        return np.zeros(values.shape, dtype=np.uint16)
    return np.rint((values - low) * (65535.0 / (high - low))).astype(np.uint16)


def _padding(dataset: Dataset, stored: NDArray[np.integer]) -> NDArray[np.bool_] | None:
    """Pixels that the file marks as padding, or None where it marks none."""
    value = dataset.get("PixelPaddingValue")
    if value is None or isinstance(value, bytes):
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = sorted((int(value), int(value if limit is None or isinstance(limit, bytes) else limit)))
    mask = (stored >= ends[0]) & (stored <= ends[1])
    return mask if mask.any() and not mask.all() else None


def _first_number(value: object) -> float | None:
    """The first of the values of an attribute, or None where there is none."""
    if isinstance(value, (MultiValue, list, tuple)):
        value = value[0] if value else None
    return None if value is None or value == "" else float(str(value))


def _window(dataset: Dataset) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window, or None where there is none."""
    centre = _first_number(dataset.get("WindowCenter"))
    width = _first_number(dataset.get("WindowWidth"))
    if centre is None or width is None:
        return None
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise FilmError("DICOM VOI LUT function is unknown; export the film with a linear window")
    if not ((math.isfinite(centre) and width >= 1.0) or (function != "LINEAR" and width > 0.0)):
        raise FilmError("DICOM window width is not positive; export the film again")
    return centre, width, function


def _apply_window(
    values: NDArray[np.floating], centre: float, width: float, function: str
) -> NDArray[np.floating]:
    """Values as 0 to 1 through a window, by PS3.3 C.11.2.1.2 and C.11.2.1.3.

    Not pydicom's: its output range follows the rescale slope, so that a negative slope would turn
    the film over.
    """
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(-4.0 * (values - centre) / width))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0.0, 1.0)
    if width == 1.0:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)


def display_levels(dataset: Dataset, stored: NDArray[np.integer]) -> NDArray[np.generic]:
    """Stored values as display levels, bright is dense."""
    padding = _padding(dataset, stored)
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    identity = (slope is None or float(slope) == 1.0) and (
        intercept is None or float(intercept) == 0.0
    )
    invert = dataset.PhotometricInterpretation == "MONOCHROME1"
    window = _window(dataset)
    has_tables = dataset.get("ModalityLUTSequence") or dataset.get("VOILUTSequence")
    if identity and not has_tables and window is None:
        bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
        lowest = -(1 << (bits - 1)) if int(dataset.get("PixelRepresentation") or 0) else 0
        levels = np.clip(stored.astype(np.int32) - lowest, 0, (1 << bits) - 1)
        levels = (1 << bits) - 1 - levels if invert else levels
        shown: NDArray[np.generic] = levels.astype(np.uint8 if bits <= 8 else np.uint16)
        if padding is not None:
            shown[padding] = shown[~padding].min()
        return shown
    values = apply_modality_lut(stored, dataset)
    if dataset.get("VOILUTSequence"):
        values = apply_voi(values, dataset, index=0)
    elif window is not None:
        values = _apply_window(np.asarray(values, dtype=np.float64), *window)
    values = np.array(values, dtype=np.float64)
    if values.min() == values.max() and stored.min() != stored.max():
        raise FilmError(
            "DICOM window leaves a single grey level of the film; export it with the window it "
            "was read at"
        )
    if invert:
        values = -values
    if padding is not None:
        values[padding] = values[~padding].min()
    return _spread(values)
