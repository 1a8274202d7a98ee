"""Headers that are wrong about sign or byte order, by what the film would look like.

Read the wrong way, values jump from one end of their range to the other or become noise, and
networks name vertebrae on it. A film changes little from pixel to pixel, read the right way: both
ways are tried on some rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import FilmError

from spinezoo_spine.films.header import Bits

_ROWS = 48
"""Rows that are looked at, evenly over the film."""

_END = 1 / 50
"""Share of the range that counts as one of its ends."""

_NOISE = 0.5
"""Mean step between neighbours over the standard deviation, from which a film is like noise. Real
films have less than 0.2; pure noise has 1.1."""


def check_plausible(
    cells: NDArray[np.unsignedinteger], codes: NDArray[np.unsignedinteger], bits: Bits
) -> None:
    """Refuses a film that makes sense only with the other byte order or the other sign.

    Args:
        cells: As they lie in the file.
        codes: Stored values minus the lowest one.
        bits: Where the values lie in the cells.

    Raises:
        FilmError: Header and values cannot both be right.
    """
    step = max(1, codes.shape[0] // _ROWS)
    sample = codes[::step].astype(np.int64)
    if codes.dtype.itemsize == 2 and bits.stored > 8 and _roughness(sample) > _NOISE:
        turned = cells[::step].astype(np.uint16).byteswap().astype(np.int64) >> bits.shift
        turned &= (1 << bits.stored) - 1
        if bits.signed:
            turned ^= 1 << (bits.stored - 1)
        if becomes_noise(sample, turned):
            raise FilmError(
                "DICOM pixels have their two bytes in the other order than the header says; "
                "export the film again as Explicit VR Little Endian"
            )
    if _wraps(sample, 1 << bits.stored):
        said, seen = ("signed", "unsigned") if bits.signed else ("unsigned", "signed")
        raise FilmError(
            f"DICOM header says that values are {said}, but they are {seen}; export the film again "
            "with the right Pixel Representation"
        )


def becomes_noise(read: NDArray[np.integer], other: NDArray[np.integer]) -> bool:
    """Whether a film is noise as it was read, and a film when read the other way."""
    step = max(1, read.shape[0] // _ROWS)
    own = _roughness(read[::step].astype(np.int64))
    return own > _NOISE and _roughness(other[::step].astype(np.int64)) < own / 4.0


def _roughness(values: NDArray[np.int64]) -> float:
    """Mean step from pixel to pixel, over the standard deviation."""
    deviation = float(values.std())
    return _variation(values) / deviation if deviation else 0.0


def _variation(values: NDArray[np.int64]) -> float:
    """Mean step from pixel to pixel along the rows."""
    return float(np.abs(np.diff(values, axis=1)).mean())


def _wraps(codes: NDArray[np.int64], length: int) -> bool:
    """Whether levels run over one end of the range and go on at the other."""
    quarter = length // 4
    low, high = codes < quarter, codes >= length - quarter
    if not low.any() or not high.any():
        return False
    other = codes ^ (length // 2)
    if _variation(other) > 0.9 * _variation(codes):  # of noise, both are alike
        return False
    if not (~low & ~high).any():  # nothing lies between the two ends
        return _several(codes[low], 16) and _several(codes[high], 16)
    end = max(3, int(length * _END))
    low, high = codes < end, codes >= length - end
    # Black beside white is rare on a film, also where white letters lie on black.
    beside = (low[:, 1:] & high[:, :-1]) | (high[:, 1:] & low[:, :-1])
    most = max(int(low.sum()), int(high.sum()))
    return (
        int(beside.sum()) > 0.03 * most > 0.0
        and most > 0.003 * codes.size
        and _several(codes[low], 3)
        and _several(codes[high], 3)
    )


def _several(values: NDArray[np.int64], least: int) -> bool:
    return len(np.unique(values)) >= least
