"""Keeps the memory of one film for the next."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Numbers of glibc's ``mallopt``."""

KEPT_BYTES = 256 << 20
"""Freed memory that the process keeps before it gives any back."""

LARGEST_BYTES = 32 << 20
"""Blocks up to this size are kept; the most that glibc takes."""

ARENAS = 2
"""Pools that threads share. By default each thread may have one of its own, up to eight a core,
and each keeps what the largest films left in it: a process grows until every one of them has met
such films."""


def keep_film_memory() -> bool:
    """Tells glibc to keep freed blocks of a film's size; returns whether it could be told.

    By default each film's buffers are mapped anew and every page of them faulted in again: some
    900 faults for a film of 2 MiB that the gateway sends to five members, and 512 for each copy
    that a member receives. Called once, at the start of a process. Other C libraries than glibc
    are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    mallopt.restype = ctypes.c_int
    done = [
        mallopt(_M_MMAP_THRESHOLD, LARGEST_BYTES),
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES),
        mallopt(_M_ARENA_MAX, ARENAS),
    ]
    return all(done)
