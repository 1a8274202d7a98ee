"""Which addresses a member's name stands for, asked again and again.

gRPC looks a name up when a connection is lost and not while it lives, so a replica that joins
behind a name would stay unused until another one fails. The gateway therefore looks names up
itself (:data:`spinezoo_gateway.settings.ROSTER_POLL_S`) and hands gRPC addresses.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""``resolve(host, port)`` gives addresses, IPv4 or IPv6 without port; raises ``OSError``."""

LOOKUPS_AT_ONCE = 8
"""Threads that may wait for a name server."""


def named_host(target: str) -> tuple[str, int] | None:
    """Host and port of a target that names a host, or None.

    None for addresses, sockets, and names for which the target says whom to ask
    (``dns://server/name:port``): those are left to gRPC.
    """
    rest = target
    if target.startswith("dns:"):
        rest = target.removeprefix("dns:")
        if rest.startswith("//"):
            server, _, rest = rest[2:].partition("/")
            if server:
                return None
    elif target.startswith(("ipv4:", "ipv6:", "unix:", "unix-abstract:")):
        return None
    host, _, port = rest.rpartition(":")
    if not host or not port.isdigit() or "," in rest:
        return None
    try:
        ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return host, int(port)
    return None


def addresses_target(addresses: Sequence[str], port: int) -> str:
    """The gRPC target of addresses of one port.

    Where a name has both kinds, only IPv4 counts: both are mostly one server, and would be given
    two shares of the films.
    """
    four = [one for one in addresses if ":" not in one]
    if four:
        return "ipv4:" + ",".join(f"{one}:{port}" for one in sorted(set(four)))
    return "ipv6:" + ",".join(f"[{one}]:{port}" for one in sorted(set(addresses)))


class HostResolver:
    """Asks the system, as every other program of the machine does (name server, hosts file)."""

    def __init__(self) -> None:
        """Starts nothing."""
        # Threads of its own: a name server that does not answer must not hold up films.
        self._threads = ThreadPoolExecutor(LOOKUPS_AT_ONCE, thread_name_prefix="names")

    async def __call__(self, host: str, port: int) -> list[str]:
        """All addresses of a host.

        Raises:
            OSError: The name is unknown, or nobody answered.
        """
        ask = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        except UnicodeError:
            raise OSError(f"{host!r} is no name of a host") from None
        return sorted({str(address[0]) for *_, address in found})

    def close(self) -> None:
        """Takes no more questions."""
        self._threads.shutdown(wait=False, cancel_futures=True)
