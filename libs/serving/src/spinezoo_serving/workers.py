"""Processes of a pool and the command that they work for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def follow_parent() -> None:
    """Lets this worker end with the process that started it, and not before; for initializers.

    A pool's workers wait for tasks on a pipe of which each holds both ends: a command that SIGTERM
    or SIGKILL ends would leave them waiting for ever. Ctrl-C in a terminal goes to all of them; the
    command alone says what becomes of it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_wait_for_parent, name="follow-parent", daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
