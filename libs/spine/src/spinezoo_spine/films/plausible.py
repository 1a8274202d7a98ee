"""Films that are wrong about sign, byte order or sides, by what they would look like.

Read the wrong way, values jump from one end of their range to the other or become noise, and
networks name vertebrae on it. A film changes little from pixel to pixel, read the right way: both
ways are tried on some rows, or columns.
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

_PAINTED = 0.001
"""Share of the film from which its brightest level may be that of what is painted on it."""

_NOISE = 0.5
"""Mean step between neighbours over the standard deviation, from which a film is like noise. Real
films have less than 0.2; pure noise has 1.1."""


def check_order(pixels: NDArray[np.generic]) -> None:
    """Refuses a picture or raw film that makes sense only with its pixels in another order or sign.

    Args:
        pixels: (rows, columns).

    Raises:
        FilmError: The two bytes of each level are exchanged, or height and width are, or signed
            levels were written as unsigned.
    """
    turned = pixels.view(pixels.dtype.newbyteorder())
    if pixels.dtype.kind == "u" and becomes_noise(pixels, turned):
        raise FilmError(
            "the film is noise, and a film only with the two bytes of each level in the other "
            "order; write it again in the order of its format (raw pixels: little-endian)"
        )
    _check_sides(pixels, "height and width")
    if pixels.dtype == np.uint16:
        sample = pixels[:: max(1, pixels.shape[0] // _ROWS)].astype(np.int64)
        # Pictures, unlike raw films, may have much black beside white: levels between are none.
        torn = bool(((sample < 1 << 14) | (sample >= 3 << 14)).all())
        if torn and _wraps(sample, 1 << 16):
            raise FilmError(
                "the film's levels run over one end of their 16 bits and go on at the other, as "
                "signed levels do that are written as unsigned; write it again with levels from 0 "
                "up"
            )


def _check_sides(pixels: NDArray[np.generic], names: str) -> None:
    """Refuses a film whose columns are noise, and those of the exchanged size are not.

    Raises:
        FilmError: They are.
    """
    rows, columns = pixels.shape
    if rows != columns and becomes_noise(pixels.T, pixels.reshape(columns, rows).T):
        raise FilmError(
            f"the film's {names} are exchanged: its pixels make a film of {columns} x {rows}, not "
            f"of {rows} x {columns}; write it again with the right ones"
        )


def check_plausible(
    cells: NDArray[np.unsignedinteger], codes: NDArray[np.unsignedinteger], bits: Bits
) -> None:
    """Refuses a film that makes sense only with the other byte order, sign or sides.

    Args:
        cells: As they lie in the file.
        codes: Stored values minus the lowest one.
        bits: Where the values lie in the cells.

    Raises:
        FilmError: Header and values cannot both be right.
    """
    _check_sides(codes, "Rows and Columns")
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


def is_smoother(pixels: NDArray[np.generic], other: NDArray[np.generic]) -> bool:
    """Whether a film read another way has less than half the roughness that it has as read."""
    step = max(1, pixels.shape[0] // _ROWS)
    own, turned = (_roughness(each[::step].astype(np.float64)) for each in (pixels, other))
    return turned < own / 2.0


def becomes_noise(read: NDArray[np.generic], other: NDArray[np.generic]) -> bool:
    """Whether a film is noise as it was read, and a film when read the other way."""
    step = max(1, read.shape[0] // _ROWS)
    own = _roughness(read[::step].astype(np.float64))
    return own > _NOISE and _roughness(other[::step].astype(np.float64)) < own / 4.0


def _roughness(values: NDArray[np.int64] | NDArray[np.float64]) -> float:
    """Mean step from pixel to pixel, over the standard deviation."""
    deviation = float(values.std())
    return _variation(values) / deviation if deviation else 0.0


def _variation(values: NDArray[np.int64] | NDArray[np.float64]) -> float:
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
    # Letters and lines are painted in the brightest level alone, and levels that wrap go on there.
    brightest = np.count_nonzero(codes == length - 1)
    next_three = np.count_nonzero(codes >= length - 4) - brightest
    if brightest > max(4 * next_three / 3, _PAINTED * codes.size):
        return False
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
