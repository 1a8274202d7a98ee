"""Signals that ask a program to stop: one exception for all, and none while something is undone.

Standard library only.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignalError(Exception):
    """A signal asked us to stop."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


def _raise_stop(signal_number: int, _frame: FrameType | None) -> None:
    raise StopSignalError(signal_number)


def raise_on_stop() -> None:
    """From now on a stop signal raises :class:`StopSignalError`."""
    for number in STOP_SIGNALS:
        signal.signal(number, _raise_stop)


@contextlib.contextmanager
def signals_held(text: str) -> Iterator[None]:
    """Within this block a stop signal only prints a line, so that nothing is left half done.

    Args:
        text: The line, such as ``stopping; one moment``.
    """

    def wait_please(_number: int, _frame: FrameType | None) -> None:
        print(text, file=sys.stderr, flush=True)

    before = {number: signal.signal(number, wait_please) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
