"""A command that is killed leaves no process of its pool behind; a real pool, a real kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from spinezoo_serving.workers import follow_parent

if __name__ == "__main__":
    pool = ProcessPoolExecutor(2, get_context("spawn"), initializer=follow_parent)
    waiting = [pool.submit(time.sleep, 0.5) for _ in range(2)]
    waiting[1].result()
    print(*(child.pid for child in pool._processes.values()), flush=True)
    time.sleep(60)
"""


def is_alive(process_id: int) -> bool:
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_command(tmp_path: Path, how: signal.Signals) -> None:
    path = tmp_path / "command.py"
    path.write_text(COMMAND)
    command = subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None
    with command.stdout:
        workers = [int(each) for each in command.stdout.readline().split()]
    for worker in workers:  # as Ctrl-C in a terminal does
        os.kill(worker, signal.SIGINT)
    time.sleep(0.5)
    assert [is_alive(each) for each in workers] == [True, True]
    command.send_signal(how)
    command.wait(10)
    end = time.monotonic() + 10
    while any(map(is_alive, workers)) and time.monotonic() < end:
        time.sleep(0.05)
    left = [each for each in workers if is_alive(each)]
    for each in left:
        os.kill(each, signal.SIGKILL)
    assert not left
