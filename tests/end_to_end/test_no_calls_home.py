"""No process of the zoo calls anybody but its own neighbours.

Every Python process of the shared zoo runs under an audit hook that notes the address of each
connection and each name that is looked up, with BENTOML_DO_NOT_TRACK taken out of its environment.
gRPC's own sockets do not pass Python: those are looked at from outside.
"""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import psutil

from end_to_end.support import NETWORKS, PARTS, Zoo, is_here, strangers


def test_the_look_out_sees_a_stranger() -> None:
    calls = (
        "1 started ['x']\n"
        "1 socket.connect ('127.0.0.1', 80)\n"
        "1 socket.getaddrinfo 't.bentoml.com'\n"
        "1 socket.connect '/tmp/socket'\n"
        "1 socket.connect ('2001:db8::1', 443, 0, 0)\n"
    )
    assert [line.split()[2] for line in strangers(calls)] == ["'t.bentoml.com'", "('2001:db8::1',"]


def test_nobody_outside_is_called(zoo: Zoo, film_path: Path) -> None:
    with zoo.gateway() as gateway:
        gateway.segment(film_path)
    for name in NETWORKS:
        url = f"{zoo.http(name)}/predict"
        assert httpx.post(url, content=film_path.read_bytes(), timeout=60.0).status_code == 200
    calls = Path(zoo.environment["SPINEZOO_TEST_CALLS"]).read_text()
    pids = zoo.remember()
    assert set(pids) == set(PARTS)
    for name, pid in pids.items():
        assert f"{pid} started" in calls, f"{name} ran without the probe"
    assert not strangers(calls)
    for name, pid in pids.items():
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            for connection in each.net_connections(kind="inet"):
                assert is_here(connection.laddr.ip), f"{name}: {connection}"
                if connection.raddr:
                    assert is_here(connection.raddr.ip), f"{name}: {connection}"
    assert os.environ.get("SPINEZOO_TEST_CALLS") is None
