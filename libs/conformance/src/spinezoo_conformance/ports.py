"""Free ports for servers that a test or a measurement starts."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

PORTS = range(20_000, 32_000)
"""Below those that Linux gives to outgoing connections, which may take one before a server does."""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now; another process may still take one.

    Args:
        count: How many, all different.

    Raises:
        OSError: Fewer than that are free.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if len(found) == count:
            break
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    if len(found) < count:
        raise OSError(f"{count} free ports wanted, {len(found)} of {len(PORTS)} looked at are free")
    return found
