"""Values of command lines that several commands take."""

from __future__ import annotations

import argparse

MOST_S = 1e6
"""Most seconds that a command waits for anything: eleven days."""


def seconds(text: str) -> float:
    """A time in s, 0 or more, for argparse; "nan" and "inf" are none.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= MOST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; give seconds")
    return value


def seconds_above_0(text: str) -> float:
    """:func:`seconds` that something can be done in.

    Raises:
        argparse.ArgumentTypeError: It is none, or 0.
    """
    value = seconds(text)
    if not value:
        raise argparse.ArgumentTypeError(f"{text!r} is no time at all; give seconds above 0")
    return value
