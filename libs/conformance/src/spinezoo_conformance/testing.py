"""The conformance suite as pytest tests, for a network to inherit in a few lines.

::

    from pathlib import Path

    from spinezoo_conformance.testing import ConformanceTests


    class TestConformance(ConformanceTests):
        service_folder = Path(__file__).parents[1]

The service is started once, as its own process with the command that the zoo uses, and each rule
is a test of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from spinezoo_contract.errors import NotServingError

from spinezoo_conformance.check import judge
from spinezoo_conformance.ports import free_ports
from spinezoo_conformance.rule import Rule
from spinezoo_conformance.rules import RULES
from spinezoo_conformance.session import Session
from spinezoo_conformance.verdict import Outcome

_LOG_TAIL_LINES = 40
_POLL_S = 0.1
_STOP_S = 30.0
"""Time from SIGTERM until the process is killed: longer than the default drain."""

_MARKER = "SPINEZOO_TEST_PROCESS"
"""Environment variable by which children of a service are known when it has left them behind."""


class ServiceProcess:
    """One service as a process of its own on free ports, for the length of a ``with`` block.

    Args:
        folder: The service's folder, with ``service.py``.
        command: What to run; None runs ``python -m spinezoo_serving.bento <folder>``. The text
            ``{http_port}`` in it is replaced.
        environment: Variables on top of the current ones.
        start_timeout_s: Time until health has to say SERVING, in s.
    """

    def __init__(
        self,
        folder: Path,
        *,
        command: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        start_timeout_s: float = 240.0,
    ) -> None:
        self.folder = folder.resolve()
        self.grpc_port, self.http_port = free_ports(2)
        self.target = f"127.0.0.1:{self.grpc_port}"
        self._command = command or service_command(self.folder)
        self._environment = dict(environment or {})
        self._start_timeout_s = start_timeout_s
        self._mark = uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None
        self._stack = ExitStack()
        self._log: Path | None = None

    def __enter__(self) -> Self:
        """Starts the process and waits until it serves.

        Raises:
            NotServingError: It ended or did not serve in time; the message holds the log's end.
        """
        scratch = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="service-")))
        self._log = scratch / "service.log"
        environment = {
            **os.environ,
            "BENTOML_HOME": str(scratch / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "True",
            "PYTHONUNBUFFERED": "1",
            **self._environment,
            "SPINEZOO_HOST": "127.0.0.1",
            "SPINEZOO_GRPC_PORT": str(self.grpc_port),
            "SPINEZOO_HTTP_PORT": str(self.http_port),
            _MARKER: self._mark,
        }
        log = self._stack.enter_context(self._log.open("wb"))
        self._process = subprocess.Popen(
            [part.replace("{http_port}", str(self.http_port)) for part in self._command],
            cwd=self.folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._wait_until_serving()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stops the process."""
        self.stop()

    @property
    def pid(self) -> int:
        """Number of the process that was started.

        Raises:
            NotServingError: Nothing was started.
        """
        if self._process is None:
            raise NotServingError("the service was not started; use it in a `with` block")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def log_tail(self) -> str:
        """The last lines of the process's log."""
        if self._log is None or not self._log.is_file():
            return ""
        text = self._log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-_LOG_TAIL_LINES:])

    def stop(self) -> None:
        """Stops the process and what it started, by their numbers; may be called twice."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            deadline = time.monotonic() + _STOP_S
            while (left := _marked(self._mark)) and time.monotonic() < deadline:
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(_POLL_S)
        self._stack.close()

    def _wait_until_serving(self) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        with grpc.insecure_channel(self.target) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() < deadline:
                if not self.running:
                    assert self._process is not None
                    raise self._not_serving(f"ended with code {self._process.returncode}")
                with suppress(grpc.RpcError):
                    answer = health.Check(health_pb2.HealthCheckRequest(), timeout=2.0)
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                time.sleep(_POLL_S)
        raise self._not_serving(f"did not serve within {self._start_timeout_s:g} s")

    def _not_serving(self, what: str) -> NotServingError:
        return NotServingError(
            f"{' '.join(self._command)} in {self.folder} {what}; the end of its log:\n"
            f"{self.log_tail()}"
        )


def service_command(folder: Path) -> tuple[str, ...]:
    """How a service is started: by the interpreter of the tests."""
    return (sys.executable, "-m", "spinezoo_serving.bento", str(folder))


def _marked(mark: str) -> list[int]:
    """Numbers of processes that carry a mark in their environment; none where there is no /proc."""
    wanted = f"{_MARKER}={mark}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


class ConformanceTests:
    """Inherit and set ``service_folder``.

    Attributes:
        service_folder: The service's folder.
        command: What to run, see :class:`ServiceProcess`; None is how the zoo starts it.
        environment: Variables on top of the current ones.
        start_timeout_s: Time until the service has to serve, in s.
        call_timeout_s: Time each call has, in s.
        quick: Leave out the slow rules.
    """

    service_folder: ClassVar[Path]
    command: ClassVar[Sequence[str] | None] = None
    environment: ClassVar[Mapping[str, str]] = {}
    start_timeout_s: ClassVar[float] = 240.0
    call_timeout_s: ClassVar[float] = 120.0
    quick: ClassVar[bool] = False

    @pytest.fixture(scope="class")
    @classmethod
    def service_process(cls) -> Iterator[ServiceProcess]:
        """The running service."""
        process = ServiceProcess(
            cls.service_folder,
            command=cls.command,
            environment=cls.environment,
            start_timeout_s=cls.start_timeout_s,
        )
        try:
            process.__enter__()
        except NotServingError as error:
            pytest.fail(str(error), pytrace=False)
        try:
            yield process
        finally:
            process.stop()

    @pytest.fixture(scope="class")
    @classmethod
    def conformance_session(cls, service_process: ServiceProcess) -> Iterator[Session]:
        """A connection to the running service."""
        with Session(service_process.target, timeout_s=cls.call_timeout_s) as session:
            session.connect()
            yield session

    @pytest.mark.parametrize("rule", RULES, ids=[rule.rule_id for rule in RULES])
    def test_rule(
        self, service_process: ServiceProcess, conformance_session: Session, rule: Rule
    ) -> None:
        """One rule of the contract."""
        if self.quick and rule.slow:
            pytest.skip("left out by quick")
        if not service_process.running:
            pytest.fail(f"the service has ended:\n{service_process.log_tail()}", pytrace=False)
        result = judge(conformance_session, rule)
        # A rule that could not be judged is not kept either.
        if result.outcome is not Outcome.PASS:
            pytest.fail(
                f"{result.rule_id}: {result.statement}\n{result.message}\n"
                f"the end of the service's log:\n{service_process.log_tail()}",
                pytrace=False,
            )
