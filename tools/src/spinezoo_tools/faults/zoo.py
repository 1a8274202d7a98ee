"""The composition that faults are made in, and the hands that make them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spinezoo_conformance import films as synthetic
from spinezoo_contract.client import EnsembleClient, EvaluationClient
from spinezoo_contract.errors import SpineZooError
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.types import (
    EnsembleOptions,
    EnsembleSummary,
    FusedAnswer,
    MemberCode,
    MemberStatus,
    Segment,
    SegmentKind,
    Structure,
)
from spinezoo_phantom import PhantomSettings, make_film, write_dicom, write_film_set

from spinezoo_tools.composition import UP_LIMIT_S, Composition, docker, inspect
from spinezoo_tools.environments import ROOT, python_of
from spinezoo_tools.faults.load import ASK_AGAIN_S, RECOVERY_LIMIT_S, Load, Missing, OwnLine
from spinezoo_tools.variables import FAULTS_PORT

PROJECT = "spinezoofaults"
OVERLAY = Path(__file__).with_name("compose.faults.yaml")
FILES = ("compose.yaml", str(OVERLAY))
SMALL = PhantomSettings(height_px=512, width_px=384)
THREADS = "1"
"""Threads of each network: left to itself each takes every core, and they hinder each other."""

CALL_LIMIT_S = 75.0
"""Time that one call of a client has, in s: more than a member's 60 s."""

BENCHMARK_LIMIT_S = 240.0
"""Time that one run of the benchmark has, in s."""


class CannotMakeError(Exception):
    """A fault cannot be made here; says what to do."""


@dataclass
class Zoo:
    """A running composition.

    Attributes:
        composition: Its project, ports and settings.
        folder: Where films, overrides and reports go.
        film: A phantom film, as the bytes of a DICOM file.
    """

    composition: Composition
    folder: Path
    film: bytes

    @classmethod
    def prepare(cls, folder: Path) -> Zoo:
        """Chooses ports and makes films; starts nothing."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            evaluator = str(free.getsockname()[1])
        composition = Composition.prepare(
            folder / "checkout",
            PROJECT,
            COMPOSE_FILE=os.pathsep.join(FILES),
            **{FAULTS_PORT.name: evaluator},
            SPINEZOO_THREADS=THREADS,
        )
        write_dicom(make_film(3, SMALL), folder / "film.dcm")
        write_film_set(folder / "films", count=30, seed=7, settings=SMALL)
        return cls(composition, folder, (folder / "film.dcm").read_bytes())

    @property
    def evaluator_target(self) -> str:
        """The evaluator's published address."""
        return f"127.0.0.1:{self.composition.environment[FAULTS_PORT.name]}"

    # ------------------------------------------------------------------ clients

    @contextlib.contextmanager
    def load(
        self,
        clients: int = 2,
        options: EnsembleOptions = EnsembleOptions(),
        *,
        evaluator: bool = False,
    ) -> Iterator[Load]:
        """Clients of the gateway, or of the evaluator, each with a connection of its own."""
        with contextlib.ExitStack() as stack:
            calls: list[Callable[[], Missing]] = []
            for _ in range(clients):
                call = self.fusing(stack) if evaluator else self.segmenting(stack, options)
                calls.append(call)
            with Load(calls) as load:
                yield load

    def segmenting(
        self,
        stack: contextlib.ExitStack,
        options: EnsembleOptions = EnsembleOptions(),
        target: str | None = None,
        pause_s: float | None = None,
    ) -> Callable[[], Missing]:
        """One film to the gateway; read as a stream with a pause at every message where asked."""
        client = stack.enter_context(
            EnsembleClient(
                target or self.composition.target, timeout_s=CALL_LIMIT_S, security=OwnLine()
            )
        )

        def call() -> Missing:
            if pause_s is None:
                answer = client.segment(self.film, options)
                return missing([each.status for each in answer.members], answer.fused)
            events = []
            for event in client.stream(self.film, options):
                time.sleep(pause_s)
                events.append(event)
            assert isinstance(events[-1], EnsembleSummary)
            return missing(events[-1].statuses, events[-1].fused)

        return call

    def fusing(self, stack: contextlib.ExitStack) -> Callable[[], Missing]:
        """Small masks to the evaluator's Fuse."""
        client = stack.enter_context(
            EvaluationClient(self.evaluator_target, timeout_s=CALL_LIMIT_S, security=OwnLine())
        )
        mask = encode_mask(synthetic.spine_like_pixels(64, 48) > 100)
        one = Segment(Structure.ROD, SegmentKind.REGION, mask, 1.0, mask_box(mask))

        def call() -> Missing:
            time.sleep(0.1)
            if client.fuse({"one": [one], "two": [one]}, 64, 48).merged_mask != mask:
                raise AssertionError("the evaluator fuses wrongly")
            return {}

        return call

    def settle(self) -> None:
        """Waits until gateway, every member and the evaluator answer.

        Raises:
            TimeoutError: They do not.
        """
        end = time.monotonic() + RECOVERY_LIMIT_S
        with contextlib.ExitStack() as stack:
            calls = [self.segmenting(stack), self.fusing(stack)]
            while calls:
                with contextlib.suppress(SpineZooError):
                    if not calls[0]():
                        calls.pop(0)
                        continue
                if time.monotonic() > end:
                    raise TimeoutError(f"not all answer after {RECOVERY_LIMIT_S:g} s of peace")
                time.sleep(0.5)

    def benchmark(self, report: str, films: int) -> subprocess.Popen[bytes]:
        """Starts the benchmark's runner on some films; its report goes below the folder."""
        python = python_of(ROOT, ROOT / "evaluator")
        if not python.exists():
            raise CannotMakeError("room evaluator is not set up; run `make setup`")
        command = [
            *(str(python), "-m", "spinezoo_evaluator.benchmark", "--no-pictures"),
            *("--data", str(self.folder / "films"), "--limit", str(films)),
            *("--report", str(self.folder / report), "--timeout-s", str(CALL_LIMIT_S)),
            *("--gateway", self.composition.target, "--evaluator", self.evaluator_target),
        ]
        with (self.folder / f"{report}.log").open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    def records(self, report: str) -> list[dict[str, Any]]:
        """The films that a benchmark has recorded, in order."""
        path = self.folder / report / "films.jsonl"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")]

    def wait_records(self, report: str, count: int, process: subprocess.Popen[bytes]) -> None:
        """Waits until a benchmark has recorded so many films.

        Raises:
            TimeoutError: It ended or took too long.
        """
        end = time.monotonic() + BENCHMARK_LIMIT_S
        while len(self.records(report)) < count:
            if time.monotonic() > end or process.poll() is not None:
                tail = (self.folder / f"{report}.log").read_text(errors="replace")[-2000:]
                raise TimeoutError(f"{count} films were not recorded: {tail}")
            time.sleep(0.1)

    # ------------------------------------------------------------------ faults

    def containers(self, *filters: str) -> list[str]:
        """Ids of the composition's containers, newest first; compose itself takes seconds."""
        project = self.composition.environment["COMPOSE_PROJECT_NAME"]
        labels = [f"com.docker.compose.project={project}", *filters]
        flags = [flag for label in labels for flag in ("--filter", f"label={label}")]
        return docker("ps", "--all", "--quiet", *flags).stdout.split()

    def container(self, service: str) -> str:
        """Id of a service's container."""
        return self.containers(f"com.docker.compose.service={service}")[0]

    def python(self, service: str, code: str) -> subprocess.CompletedProcess[str]:
        """Runs Python in the container of a service; may fail."""
        return docker("exec", self.container(service), "python", "-c", code, check=False)

    def signal(self, number: signal.Signals, *services: str) -> float:
        """Sends a signal to the services' first processes, as the kernel would; returns when.

        `docker kill` counts as stopped by hand, after which the engine starts nothing again. So a
        container that shares the engine's process numbers sends it.
        """
        states = [inspect(self.container(each)) for each in services]
        pids = [state["State"]["Pid"] for state in states]
        code = (
            f"import os, time\nprint(time.time())\nfor pid in {pids}: os.kill(pid, {int(number)})"
        )
        sent = docker(
            *("run", "--rm", "--pid", "host", "--network", "none", "--user", "0"),
            *("--cap-drop", "ALL", "--cap-add", "KILL", states[0]["Config"]["Image"]),
            *("python", "-c", code),
        )
        return time.monotonic() - (time.time() - float(sent.stdout))

    def restarts(self) -> dict[str, int]:
        """How often the engine has started each container again."""
        told = [inspect(each) for each in self.containers()]
        return {
            each["Config"]["Labels"]["com.docker.compose.service"]: each["RestartCount"]
            for each in told
        }

    def wait_restarted(self, service: str, before: Mapping[str, int]) -> float:
        """Waits until the engine has started a container again; returns when.

        Raises:
            TimeoutError: It did not.
        """
        end = time.monotonic() + RECOVERY_LIMIT_S
        while self.restarts()[service] <= before[service]:
            if time.monotonic() > end:
                raise TimeoutError(f"{service} was not started again")
            time.sleep(0.2)
        return time.monotonic()

    def with_override(self, name: str, services: Mapping[str, Any]) -> Composition:
        """The same composition with something on top."""
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps({"services": services}), encoding="utf-8")
        files = os.pathsep.join([*FILES, str(path)])
        return replace(
            self.composition,
            environment={**self.composition.environment, "COMPOSE_FILE": files},
        )

    def events(self, kind: str, container: str, since: float) -> int:
        """How many events of a kind the engine saw for a container since then (epoch seconds)."""
        told = docker(
            *("events", "--since", f"{since:.3f}", "--until", f"{time.time():.3f}"),
            *("--filter", f"container={container}", "--filter", f"event={kind}"),
            *("--format", "{{.Action}}"),
        )
        return len(told.stdout.splitlines())


def missing(statuses: Sequence[MemberStatus], fused: FusedAnswer) -> Missing:
    """What an answer lacks; an answer that contradicts itself is no answer.

    Raises:
        AssertionError: The fused answer is of other members than those that answered.
    """
    answered = tuple(each.member_name for each in statuses if each.code is MemberCode.OK)
    assert fused.member_names == answered, f"fused of {fused.member_names}, answered {answered}"
    return {
        each.member_name: (each.code.name, each.message)
        for each in statuses
        if each.code is not MemberCode.OK
    }


class SlowLine:
    """A TCP line to the gateway that lets so many bytes through in a second, each way."""

    def __init__(self, target: str, bytes_per_s: int) -> None:
        self._host, _, port = target.partition(":")
        self._port = int(port)
        self._rate = bytes_per_s
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.5)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    @property
    def target(self) -> str:
        """Where the line begins."""
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> SlowLine:
        self._threads[0].start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(5.0)
        self._server.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                near, _ = self._server.accept()
                far = socket.create_connection((self._host, self._port), 5.0)
                for pair in ((near, far), (far, near)):
                    # Small buffers: the other end has to wait, as on a slow line.
                    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
                    thread = threading.Thread(target=self._pass, args=pair, daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        source.settimeout(0.5)
        with contextlib.suppress(OSError):
            while not self._stop.is_set():
                try:
                    data = source.recv(4096)
                except TimeoutError:
                    continue
                if not data:
                    break
                sink.settimeout(CALL_LIMIT_S)
                sink.sendall(data)
                time.sleep(len(data) / self._rate)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


assert ASK_AGAIN_S > CALL_LIMIT_S, "a call must end before its client gives up"
assert UP_LIMIT_S > RECOVERY_LIMIT_S
