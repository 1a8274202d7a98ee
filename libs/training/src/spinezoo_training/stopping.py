"""How a long piece of work is asked to stop: Ctrl-C or SIGTERM, once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Turns the first SIGINT or SIGTERM into a wish to stop; the second acts as usual."""
    wish = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield wish.is_set
        return
    before = {number: signal.getsignal(number) for number in numbers}

    def note(_number: int, _frame: Any) -> None:
        wish.set()
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in numbers:
        signal.signal(number, note)
    try:
        yield wish.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
