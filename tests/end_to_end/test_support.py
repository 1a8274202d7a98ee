"""The tests' own look-out for processes that are left behind."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

from end_to_end.support import Watch, clean_environment, started, wait_for

PARENT = (
    "import subprocess, sys, time; "
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    "print('up', flush=True); time.sleep(60)"
)


def test_an_orphan_is_seen(tmp_path: Path) -> None:
    log = tmp_path / "log"
    watch = Watch()
    with started([sys.executable, "-c", PARENT], log, env=clean_environment()) as parent:
        wait_for("the child", lambda: "up" in log.read_text(), 20.0)
        watch.add(parent.pid, leads_group=True)
        (child,) = psutil.Process(parent.pid).children()
        assert len(watch.left()) == 2
        parent.kill()
        parent.wait(10.0)
        assert watch.left() == [f"{child.pid}: {' '.join(child.cmdline())}"]
        child.kill()
        wait_for("its end", lambda: not watch.left(), 10.0)
