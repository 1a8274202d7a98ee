"""Memory that is kept from film to film: how many pools a process has, by glibc's own account."""

from __future__ import annotations

import platform
import re
import subprocess
import sys

import pytest
from spinezoo_serving.memory import ARENAS

PROGRAM = """
import ctypes, sys, threading
from spinezoo_serving.memory import keep_film_memory

if sys.argv[1] == "kept":
    assert keep_film_memory()
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
c.fopen.restype = ctypes.c_void_p
c.malloc_info.argtypes = (ctypes.c_int, ctypes.c_void_p)
c.fclose.argtypes = (ctypes.c_void_p,)
together = threading.Barrier(8)

def take():
    together.wait()
    c.malloc(100_000)
    together.wait()

threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
file = c.fopen(b"/dev/stdout", b"w")
c.malloc_info(0, file)
c.fclose(file)
"""


def pools(how: str) -> int:
    """Number of pools of a process in which eight threads took memory at once."""
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True
    )
    return len(re.findall(r"<heap nr=", told.stdout))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_threads_share_a_few_pools() -> None:
    assert pools("kept") <= ARENAS < pools("as it is")
