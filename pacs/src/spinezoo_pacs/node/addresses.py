"""Which addresses a peer calls from: addresses, networks (``10.1.0.0/16``) or names."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Sequence

KEPT_S = 30.0
"""How long the addresses of a name are kept, in s."""


class AddressBook:
    """Answers whether an address is one of a peer's. Safe in many threads."""

    def __init__(self) -> None:
        """Knows nothing yet."""
        self._lock = threading.Lock()
        self._names: dict[str, tuple[float, frozenset[str]]] = {}

    def holds(self, entries: Sequence[str], address: str) -> bool:
        """Whether an address is meant by one of the entries."""
        caller = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(caller, ipaddress.IPv6Address) and caller.ipv4_mapped is not None:
            caller = caller.ipv4_mapped
        for entry in entries:
            try:
                if caller in ipaddress.ip_network(entry, strict=False):
                    return True
            except ValueError:
                if str(caller) in self._addresses_of(entry):
                    return True
        return False

    def _addresses_of(self, name: str) -> frozenset[str]:
        now = time.monotonic()
        with self._lock:
            known = self._names.get(name)
        if known is not None and now - known[0] < KEPT_S:
            return known[1]
        try:
            found = frozenset(str(each[4][0]) for each in socket.getaddrinfo(name, None))
        except (OSError, UnicodeError):  # a name server that fails turns nobody away who was known
            found = frozenset() if known is None else known[1]
        with self._lock:
            self._names[name] = (now, found)
        return found
