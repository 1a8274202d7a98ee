"""How a serving process hears that it is to stop."""

from __future__ import annotations

import asyncio
import signal

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def stop_requests() -> tuple[asyncio.Event, asyncio.Event]:
    """Listens for signals to stop, from the running event loop on.

    Returns:
        Set at the first one, to drain; set at the second one, to end at once.
    """
    asked, hurried = asyncio.Event(), asyncio.Event()

    def handle() -> None:
        (hurried if asked.is_set() else asked).set()

    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, handle)
    return asked, hurried
