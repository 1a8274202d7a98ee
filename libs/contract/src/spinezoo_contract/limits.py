"""The limits of the contract: sizes, lengths and the forms of short texts.

A limit stands here once. What a single installation may set, such as the most pixels of a film,
is a setting of its servers; here is only the default.
"""

from __future__ import annotations

import re

from spinezoo_contract.errors import FilmError, TooLargeError

MIN_SIDE_PX = 16
"""Fewest rows and columns of a film, in pixels."""

MAX_SIDE_PX = 20_000
"""Most rows and columns of a film, in pixels."""

DEFAULT_MAX_PIXELS = 67_108_864
"""Most pixels of a film where no setting says otherwise: 64 Mi."""

DEFAULT_MAX_MESSAGE_BYTES = 67_108_864
"""gRPC message limit, both ways, of servers and clients where no setting says otherwise: 64 MiB."""

MIN_SPACING_MM, MAX_SPACING_MM = 0.001, 30.0
"""Least and most mm between two pixels. A spacing in metres or micrometres lies beyond; at the
most, the smallest film is as large as the largest detector."""

MAX_WEIGHT = 1e300
"""Most weight of a member in the weighted vote: sums of all members' stay finite."""

MAX_SEGMENTS_LIMIT = 1000
"""Most segments that a request may ask for and an answer may hold."""

MAX_NAME_LENGTH = 200
"""Most characters of a film or model name."""

LEVEL = re.compile(r"[TLS][0-9]{1,2}")
"""Anatomical level of one vertebra, such as L4, S1 or T12."""

MAX_NOTE_LENGTH = 500
"""Most characters of a note on a film."""

IMAGE_TAG = re.compile(r"[!-~]{0,255}")
"""A container image's tag: up to 255 printable ASCII characters, no space; empty: no container."""


def check_film_size(height: int, width: int, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> None:
    """Checks a film's size before anything of that size is allocated.

    Args:
        height: Rows, in pixels.
        width: Columns, in pixels.
        max_pixels: Most pixels that this process takes; None checks the sides alone.

    Raises:
        FilmError: Fewer than 16 rows or columns.
        TooLargeError: More than 20000 rows or columns, or more than ``max_pixels`` pixels.
    """
    if height < MIN_SIDE_PX or width < MIN_SIDE_PX:
        raise FilmError(
            f"film is {height} x {width} pixels; send at least {MIN_SIDE_PX} x {MIN_SIDE_PX}"
        )
    if height > MAX_SIDE_PX or width > MAX_SIDE_PX:
        raise TooLargeError(
            f"film is {height} x {width} pixels, the limit is {MAX_SIDE_PX} a side; "
            "reduce it before sending"
        )
    if max_pixels is not None and height * width > max_pixels:
        raise TooLargeError(
            f"film has {height * width} pixels, the limit is {max_pixels} "
            "(SPINEZOO_MAX_PIXELS of the server); reduce it before sending"
        )
