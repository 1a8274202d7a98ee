"""What a network's tests inherit: a real service process, and one test a rule."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from spinezoo_conformance.rules import RULES
from spinezoo_conformance.testing import ConformanceTests, ServiceProcess
from spinezoo_contract.errors import NotServingError

TEST_FILE = """\
from pathlib import Path

from spinezoo_conformance.testing import ConformanceTests


class TestConformance(ConformanceTests):
    service_folder = Path(__file__).parents[1]
    command = ({python!r}, "serve.py")
"""

SERVER = """\
import os, signal, sys, threading
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

server = grpc.server(futures.ThreadPoolExecutor(2))
servicer = health.HealthServicer()
servicer.set("", health_pb2.HealthCheckResponse.SERVING)
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
server.add_insecure_port(f"127.0.0.1:{os.environ['SPINEZOO_GRPC_PORT']}")
server.start()
asked = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: asked.set())
print("serving", flush=True)
asked.wait()
server.stop(0).wait()
"""

DIES = 'import sys\nprint("the weights are missing", flush=True)\nsys.exit(3)\n'


def _room(folder: Path, serve: str) -> Path:
    (folder / "tests").mkdir(parents=True)
    (folder / "serve.py").write_text(serve, encoding="utf-8")
    text = textwrap.dedent(TEST_FILE).format(python=sys.executable)
    (folder / "tests" / "test_conformance.py").write_text(text, encoding="utf-8")
    return folder


def _pytest(folder: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider",
         "-p", "no:asyncio", "--rootdir", str(folder), "tests"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    return result.stdout + result.stderr


def test_each_rule_is_a_test(tmp_path: Path) -> None:
    # A server with health alone: the rules of health hold, what needs the network does not.
    output = _pytest(_room(tmp_path / "room", SERVER))
    assert "FAILED tests/test_conformance.py::TestConformance::test_rule[C04]" in output
    assert "PASSED tests/test_conformance.py::TestConformance::test_rule[C02]" in output
    assert "GetModel is complete" in output
    assert "the end of the service's log:\nserving" in output
    counts = re.findall(r"(\d+) (?:failed|passed|skipped)", output.splitlines()[-1])
    assert sum(map(int, counts)) == len(RULES)


def test_a_service_that_dies_at_its_start_shows_its_log(tmp_path: Path) -> None:
    output = _pytest(_room(tmp_path / "room", DIES))
    assert "ended with code 3" in output
    assert "the weights are missing" in output
    assert "passed" not in output


def test_the_process_is_stopped_with_its_children(tmp_path: Path) -> None:
    child = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', CHILD], "
    child += "start_new_session=True)\n"
    code = "CHILD = 'import time; time.sleep(60)'\n" + child
    folder = _room(tmp_path / "room", code + SERVER)
    with ServiceProcess(folder, command=(sys.executable, "serve.py")) as service:
        assert service.running
        marked = _with_mark(service)
        assert len(marked) == 2
    assert not service.running
    assert not [pid for pid in marked if _alive(pid)]


def test_a_service_that_never_serves_is_stopped(tmp_path: Path) -> None:
    folder = _room(tmp_path / "room", "import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    service = ServiceProcess(folder, command=(sys.executable, "serve.py"), start_timeout_s=1.0)
    with pytest.raises(NotServingError, match=r"did not serve within 1 s.*\nloading"):
        service.__enter__()
    assert not _with_mark(service)


def _with_mark(service: ServiceProcess) -> list[int]:
    from spinezoo_conformance.testing import _marked

    return _marked(service._mark)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_class_is_not_collected_by_itself() -> None:
    assert not ConformanceTests.__name__.startswith("Test")
