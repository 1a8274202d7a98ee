"""What is refused by size, before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from spinezoo_contract.errors import FilmError, TooLargeError
from spinezoo_contract.limits import MIN_SIDE_PX

TO_ONE_GREY = "convert it to one grey channel of 8 or 16 bits"


@dataclass(frozen=True, slots=True)
class FilmLimits:
    """What is refused before it is decoded.

    Attributes:
        max_pixels: Most pixels (rows times columns).
        max_bytes: Most bytes of the file.
    """

    max_pixels: int = 67_108_864
    max_bytes: int = 67_108_864


DEFAULT_LIMITS = FilmLimits()
"""The limits where none are given."""


def check_size(height: int, width: int, limits: FilmLimits) -> None:
    """Refuses a film by the size that its header states.

    Raises:
        TooLargeError: More pixels than allowed.
        FilmError: A side below :data:`MIN_SIDE_PX`.
    """
    if height * width > limits.max_pixels:
        raise TooLargeError(
            f"film is {height} x {width} pixels, more than the {limits.max_pixels} allowed; "
            "scale it down or raise SPINEZOO_MAX_PIXELS"
        )
    if height < MIN_SIDE_PX or width < MIN_SIDE_PX:
        raise FilmError(
            f"film is {height} x {width} pixels; send one of at least {MIN_SIDE_PX} x {MIN_SIDE_PX}"
        )


def check_bytes(size: int, limits: FilmLimits) -> None:
    """Refuses a file by its size in bytes.

    Raises:
        FilmError: It is empty.
        TooLargeError: More bytes than allowed.
    """
    if size == 0:
        raise FilmError("film has 0 bytes; send the whole file")
    if size > limits.max_bytes:
        raise TooLargeError(f"film file has {size} bytes; at most {limits.max_bytes} are taken")
