"""Checks that several types share."""

from __future__ import annotations

import math

from spinezoo_contract.errors import InvalidOutputError, SpineZooError
from spinezoo_contract.limits import IMAGE_TAG


def check_share(value: float, what: str, error: type[SpineZooError]) -> None:
    """Checks a number from 0 to 1; NaN is none."""
    if not 0.0 <= value <= 1.0:
        raise error(f"{what} is {value}; send a number from 0 to 1")


def check_times(**times_ms: float) -> None:
    """Checks that every time, in ms, is finite and 0 or more.

    Raises:
        InvalidOutputError: One is not.
    """
    for what, value in times_ms.items():
        if not (math.isfinite(value) and value >= 0.0):
            raise InvalidOutputError(f"{what} is {value}; send a finite number of 0 or more")


def check_image_tag(tag: str) -> None:
    """Checks that a container image's tag fits a log line and a report.

    Raises:
        InvalidOutputError: It does not.
    """
    if not IMAGE_TAG.fullmatch(tag):
        raise InvalidOutputError(
            f"image is a text of {len(tag)} characters, not a tag of at most 255 printable ones "
            "without spaces; set SPINEZOO_IMAGE of that container right"
        )
