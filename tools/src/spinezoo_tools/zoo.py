"""The zoo of one checkout: its settings, its ports, and starting and stopping its processes.

Standard library only, because it runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from spinezoo_tools.checkout import FRONT, ToolError, networks_of, read_env_file
from spinezoo_tools.environments import MADE_FROM, python_of, serving_python_of
from spinezoo_tools.running import (
    MARKER,
    Part,
    Running,
    log_tail,
    marked_processes,
    start_ticks,
)
from spinezoo_tools.signals import signals_held
from spinezoo_tools.variables import RUN_DIR, TLS_DIR, default_of

FIRST_NETWORK_PORTS = (50051, 8051)
"""gRPC and HTTP port from which networks without lines in ``.env`` are numbered."""

ROSTER_PREFIX = "SPINEZOO_ROSTER_"
"""``SPINEZOO_ROSTER_<NAME>`` tells the gateway where a member is; empty takes it out."""

ROSTER_HOST = "127.0.0.1"
"""Where the shipped roster says that members listen."""

DRAIN = "SPINEZOO_DRAIN_S"
"""Time that a process gives requests in flight after SIGTERM."""

START_TIMEOUT_S = 300.0
KILL_GRACE_S = 10.0
"""Time beyond that until a process that was told to stop is killed."""


STARTED = ".started"
"""Stands in an environment's folder once a zoo has been started from it."""


class ZooError(ToolError):
    """Something the user has to know, worded for the user."""


class Zoo:
    """All processes of one checkout."""

    def __init__(self, root: Path, *, environment: Mapping[str, str] | None = None) -> None:
        """Reads ``.env``; starts nothing.

        Args:
            root: The checkout.
            environment: Takes the place of the process's own environment.
        """
        self.root = root
        self.environment = dict(os.environ if environment is None else environment)
        self.run_folder = root / RUN_DIR.of(self.environment)
        self.state_file = self.run_folder / "zoo.json"
        self.temporary_folder = self.run_folder / "tmp"
        self.environment.pop(MARKER, None)
        self.shipped = read_env_file(root / ".env")
        self.settings = {**self.shipped, **self.environment}
        self.host = (self.settings.get("SPINEZOO_HOST") or ROSTER_HOST).strip("[]")

    @property
    def networks(self) -> list[str]:
        """Names of the networks: the folders of ``services/`` that have a card, sorted."""
        return networks_of(self.root)

    @property
    def call_host(self) -> str:
        """Address at which to call a server that may be bound to every address."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)

    def called(self, port: int) -> str:
        """``host:port`` at which to call a server; an IPv6 address stands in brackets."""
        host = f"[{self.call_host}]" if ":" in self.call_host else self.call_host
        return f"{host}:{port}"

    @property
    def tls(self) -> str:
        """``off``, ``server`` or ``mutual``.

        Raises:
            ZooError: Something else stands there.
        """
        mode = self.settings.get("SPINEZOO_TLS", "").strip().lower() or "off"
        if mode not in ("off", "server", "mutual"):
            raise ZooError(f"SPINEZOO_TLS is {mode!r}; set off, server or mutual")
        return mode

    def _number(self, key: str, default: float) -> float:
        text = self.settings.get(key, "")
        try:
            number = float(text) if text else default
        except ValueError:
            number = math.inf
        if not math.isfinite(number):
            raise ZooError(f"{key} must be a number, is {text!r}; correct it in .env")
        return number

    def _threads(self) -> int:
        """Threads of a network as they are set; 0 where they are not."""
        number = self._number("SPINEZOO_THREADS", 0.0)
        if not number.is_integer():
            raise ZooError(f"SPINEZOO_THREADS must be an integer, is {number}; correct it in .env")
        return int(number)

    def ports(self) -> dict[str, tuple[int, int]]:
        """The two ports of every part, gRPC and HTTP; those without get the next numbers."""
        given = {
            name: (self._port(name, "GRPC"), self._port(name, "HTTP"))
            for name in [*FRONT, *self.networks]
        }
        taken: set[int] = set()
        for port in (each for pair in given.values() for each in pair if each):
            if port in taken:
                raise ZooError(f"port {port} stands twice in .env; give each its own")
            taken.add(port)

        def free_from(port: int) -> int:
            while port in taken:
                port += 1
            taken.add(port)
            return port

        first_grpc, first_http = FIRST_NETWORK_PORTS
        return {
            name: (grpc or free_from(first_grpc), http or free_from(first_http))
            for name, (grpc, http) in given.items()
        }

    def _port(self, name: str, kind: str) -> int:
        """A port of a part as it is set; 0 where it is not."""
        key = f"SPINEZOO_{name.upper()}_{kind}_PORT"
        text = self.settings.get(key, "").strip() or "0"
        if not text.isdecimal() or int(text) > 65535:
            raise ZooError(f"{key} must be a port, 1 to 65535, is {text!r}; correct it in .env")
        return int(text)

    def parts(self, only: Sequence[str] = ()) -> list[Part]:
        """What to start, networks first.

        Args:
            only: Names to start; empty starts everything.

        Raises:
            ZooError: A name is unknown, a setting is wrong, or an environment is not set up.
        """
        ports = self.ports()
        unknown = sorted(set(only) - set(ports))
        if unknown:
            raise ZooError(f"unknown: {', '.join(unknown)}; known are {', '.join(sorted(ports))}")
        chosen = [n for n in [*self.networks, *FRONT] if not only or n in only]
        networks = [name for name in chosen if name not in FRONT]
        if not networks and not only:
            raise ZooError(f"no network found: no card.yaml under {self.root / 'services'}/*/")
        threads = self._threads()
        processors = os.cpu_count() or 1
        # A framework's threads wait busily, so each network gets its share of the processors.
        share = threads or max(1, processors // max(1, len(networks)))
        # An engine's threads wait for each other after every layer: several networks at once get
        # more done with fewer. A network alone may use all processors.
        beside_others = threads or (max(1, processors // 2) if len(networks) > 1 else 0)
        parts = []
        for name in chosen:
            grpc_port, http_port = ports[name]
            environment = {
                # gRPC writes a line, no JSON, for every connection that TLS refuses.
                "GRPC_VERBOSITY": "ERROR",
                **self.settings,
                "PYTHONUNBUFFERED": "1",
                "SPINEZOO_HOST": self.host,
                "SPINEZOO_GRPC_PORT": str(grpc_port),
                "SPINEZOO_HTTP_PORT": str(http_port),
                "SPINEZOO_THREADS": str(threads),
                **self.tls_files(name),
            }
            if name in FRONT:
                folder = self.root / name
                command = [str(python_of(self.root, folder)), "-m", f"spinezoo_{name}.serve"]
                if name == "gateway":
                    environment.update(self._roster_overrides(ports, networks, bool(only)))
            else:
                folder = self.root / "services" / name
                python = serving_python_of(self.root, folder, self.settings)
                in_framework = python == python_of(self.root, folder)
                environment["SPINEZOO_THREADS"] = str(share if in_framework else beside_others)
                command = [str(python), "-m", "spinezoo_serving.bento"]
                environment["BENTOML_DO_NOT_TRACK"] = "True"
                # Where BentoML has its home; a killed process cannot tidy up after itself.
                environment["TMPDIR"] = str(self.temporary_folder)
            if not Path(command[0]).exists():
                raise ZooError(f"{name} is not set up ({command[0]} is absent); run `make setup`")
            parts.append(Part(name, folder, tuple(command), grpc_port, http_port, environment))
        return parts

    def _roster_overrides(
        self, ports: Mapping[str, tuple[int, int]], started: Sequence[str], subset: bool
    ) -> dict[str, str]:
        """Where the gateway finds members that its roster file cannot know.

        A member that listens where ``.env`` as shipped says is left to the roster file, so that
        editing the file at run time keeps its effect.
        """
        overrides = {}
        for name in self.networks:
            key = f"{ROSTER_PREFIX}{name.upper()}"
            if key in self.environment:
                continue
            if name in started:
                shipped = self.shipped.get(f"SPINEZOO_{name.upper()}_GRPC_PORT")
                if (self.call_host, str(ports[name][0])) != (ROSTER_HOST, shipped):
                    overrides[key] = self.called(ports[name][0])
            elif subset and started:
                overrides[key] = ""
        return overrides

    def command_environment(self, running: Sequence[Running]) -> dict[str, str]:
        """What a command run beside the zoo finds: all settings, and each part's address.

        The addresses are ``SPINEZOO_<NAME>_TARGET``, as gRPC targets.
        """
        targets = {
            f"SPINEZOO_{one.name.upper()}_TARGET": self.called(one.grpc_port) for one in running
        }
        return {**self.settings, **self.tls_files("client", "SPINEZOO_CLIENT_TLS"), **targets}

    def tls_files(self, name: str, prefix: str = "SPINEZOO_TLS") -> dict[str, str]:
        """Certificate, key and authority of one process, as far as the settings name none.

        Raises:
            ZooError: A file is absent.
        """
        mode = self.tls
        folder = self.settings.get(TLS_DIR.name, "").strip()
        if mode == "off" or (not folder and self.settings.get("SPINEZOO_TLS_CERT")):
            return {}
        files = {"CERT": f"{name}.crt", "KEY": f"{name}.key", "CA": "ca.crt"}
        found = {}
        for kind, file in files.items():
            if self.settings.get(f"{prefix}_{kind}"):
                continue
            path = (self.root / (folder or TLS_DIR.default) / file).resolve()
            if not path.is_file():
                raise ZooError(
                    f"SPINEZOO_TLS is {mode}, but {path} is absent; run `make certs`, or correct "
                    "SPINEZOO_TLS_DIR"
                )
            found[f"{prefix}_{kind}"] = str(path)
        return found

    # ---------------------------------------------------------------- state

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps two starts or stops of one checkout apart."""
        self.run_folder.mkdir(parents=True, exist_ok=True)
        with (self.run_folder / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ZooError(
                    "another start or stop is at work here; wait until it has ended"
                ) from None
            yield

    def load(self) -> tuple[str, list[Running]]:
        """Marker and processes of the last start; empty where there is none."""
        try:
            state = json.loads(self.state_file.read_text(encoding="utf-8"))
            return str(state["id"]), [Running(**entry) for entry in state["processes"]]
        except FileNotFoundError:
            return "", []
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ZooError(
                f"{self.state_file} cannot be read ({error}); stop the processes by hand, delete it"
            ) from None

    def _save(self, zoo_id: str, running: Sequence[Running]) -> None:
        entries = [
            {
                "name": one.name,
                "pid": one.pid,
                "start_ticks": one.start_ticks,
                "grpc_port": one.grpc_port,
                "http_port": one.http_port,
                "drain_s": one.drain_s,
                "log": one.log,
            }
            for one in running
        ]
        partial = self.state_file.with_suffix(".partial")
        partial.write_text(json.dumps({"id": zoo_id, "processes": entries}, indent=1))
        partial.replace(self.state_file)

    # ---------------------------------------------------------------- start

    def _check_ports(self, parts: Sequence[Part]) -> None:
        """Raises ZooError naming every port that somebody else listens on."""
        taken = []
        for part in parts:
            for kind, port in (("gRPC", part.grpc_port), ("HTTP", part.http_port)):
                family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
                with socket.socket(family, socket.SOCK_STREAM) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    try:
                        probe.bind((self.host, port))
                    except (socket.gaierror, UnicodeError, TypeError):
                        raise ZooError(
                            f"SPINEZOO_HOST is {self.host[:80]!r}, which stands for no address of "
                            "this machine; correct it"
                        ) from None
                    except OSError as error:
                        taken.append(
                            f"{part.name}'s {kind} port {port} cannot be had ({error.strerror}); "
                            f"set SPINEZOO_{part.name.upper()}_{kind.upper()}_PORT"
                        )
        if taken:
            raise ZooError("nothing was started:\n  " + "\n  ".join(taken))

    def start(self, parts: Sequence[Part], timeout_s: float) -> tuple[str, list[Running]]:
        """Starts the parts and waits until each is ready; on failure nothing is left running.

        Raises:
            ZooError: Something runs already, a port is taken, or a part did not become ready.
            StopSignalError: A signal came while waiting.
        """
        old_id, old = self.load()
        if any(one.alive() for one in old) or (old_id and marked_processes(old_id)):
            raise ZooError("the zoo is running already; stop it with `make down` first")
        self._check_ports(parts)
        logs = self.run_folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.temporary_folder, ignore_errors=True)
        self.temporary_folder.mkdir()
        zoo_id = uuid.uuid4().hex
        drain_s = self._drain_s(parts)
        running: list[Running] = []
        try:
            for turn in turns_of(parts):
                started = []
                for part in turn:
                    log = logs / f"{part.name}.log"
                    started.append(self._start(part, log, zoo_id, drain_s))
                    running.append(started[-1])
                    self._save(zoo_id, running)
                self._wait_ready(started, timeout_s)
        except BaseException:
            self.stop(zoo_id, running)
            raise
        for folder in {environment_of(part) for part in parts}:
            if (folder / MADE_FROM).is_file():
                (folder / STARTED).touch()
        return zoo_id, running

    def _drain_s(self, parts: Sequence[Part]) -> float:
        """Time that each part gives requests in flight: what is set, else what its code says."""
        if self.settings.get(DRAIN, "").strip():
            return self._number(DRAIN, 0.0)
        try:
            return float(default_of(DRAIN, parts[0].command[0], "spinezoo_serving.settings"))
        except subprocess.CalledProcessError as error:
            said = (error.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise ZooError(
                f"{parts[0].command[0]} cannot read the settings ({said}); run `make setup`"
            ) from None

    def _start(self, part: Part, log: Path, zoo_id: str, drain_s: float) -> Running:
        """Starts one part; it is not ready yet."""
        with log.open("wb") as handle:
            process = subprocess.Popen(
                part.command,
                cwd=part.folder,
                env={**part.environment, MARKER: zoo_id},
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        ticks = start_ticks(process.pid)
        ports = part.grpc_port, part.http_port
        return Running(part.name, process.pid, ticks, *ports, drain_s, str(log), process)

    def ready(self, one: Running) -> bool:
        """Whether ``/readyz`` says yes and the gRPC port takes connections."""
        url = f"http://{self.called(one.http_port)}/readyz"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(url, timeout=2.0) as answer:
                if answer.status != 200:
                    return False
            with socket.create_connection((self.call_host, one.grpc_port), timeout=2.0):
                return True
        except (OSError, urllib.error.URLError, ValueError):
            return False

    def _wait_ready(self, running: Sequence[Running], timeout_s: float) -> None:
        began = time.monotonic()
        said = began
        waiting = list(running)
        say(f"waiting for {', '.join(one.name for one in waiting)}")
        while waiting:
            for one in list(waiting):
                if not one.alive():
                    raise ZooError(
                        f"{one.name} {one.exit_text()} before it was ready{log_tail(one)}"
                    )
                if self.ready(one):
                    waiting.remove(one)
                    said = time.monotonic()
                    done = len(running) - len(waiting)
                    say(
                        f"  {one.name:<12} ready after {said - began:5.1f} s"
                        f" ({done}/{len(running)})"
                    )
            passed = time.monotonic() - began
            if waiting and passed > timeout_s:
                raise ZooError(
                    f"not ready after {timeout_s:.0f} s: {', '.join(one.name for one in waiting)}"
                    + "".join(log_tail(one) for one in waiting)
                )
            if waiting and time.monotonic() - said > 10.0:
                said = time.monotonic()
                say(f"  {passed:.0f} s: waiting for {', '.join(one.name for one in waiting)}")
            if waiting:
                time.sleep(0.2)

    # ---------------------------------------------------------------- stop

    def stop(self, zoo_id: str, running: Sequence[Running]) -> list[str]:
        """Stops exactly these processes and what they started; returns what had to be killed.

        The gateway and the evaluator go first, so that requests in flight still find the members.
        Signals that ask us to stop are held back until it is done.
        """
        with signals_held("stopping; one moment"):
            killed = []
            front = [one for one in running if one.name in FRONT]
            rest = [one for one in running if one.name not in FRONT]
            for batch in (front, rest):
                for one in batch:
                    if one.alive():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(one.pid, signal.SIGTERM)
                drain_s = max((one.drain_s for one in batch), default=0.0)
                end = time.monotonic() + drain_s + KILL_GRACE_S
                while any(one.alive() for one in batch) and time.monotonic() < end:
                    time.sleep(0.05)
                for one in batch:
                    if one.alive():
                        killed.append(one.name)
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(one.pid, signal.SIGKILL)
            self._sweep(zoo_id, running)
            shutil.rmtree(self.temporary_folder, ignore_errors=True)
            self.state_file.unlink(missing_ok=True)
            return killed

    def _sweep(self, zoo_id: str, running: Sequence[Running]) -> None:
        """Ends what the stopped processes left behind; raises ZooError where that fails.

        Only processes with this start's marker, or in a process group that we made and whose leader
        was still ours when told to stop, are touched.
        """
        for signal_number, seconds in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0)):
            left = marked_processes(zoo_id)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal_number)
            end = time.monotonic() + seconds
            while left and time.monotonic() < end:
                time.sleep(0.05)
                for one in running:
                    one.alive()  # reaps our own children
                left = marked_processes(zoo_id)
            if not left:
                return
        raise ZooError(f"still running after SIGKILL: processes {', '.join(map(str, left))}")


def environment_of(part: Part) -> Path:
    """Folder of the environment that a part runs in."""
    return Path(part.command[0]).parents[1]


def turns_of(parts: Sequence[Part]) -> list[list[Part]]:
    """Parts that start together, the first ones first.

    A new environment has no bytecode yet. Started together, each of its processes would compile the
    same packages; so one goes ahead.
    """
    first: list[Part] = []
    rest: list[Part] = []
    ahead: set[Path] = set()
    for part in parts:
        folder = environment_of(part)
        made, started = folder / MADE_FROM, folder / STARTED
        new = made.is_file() and not (
            started.is_file() and started.stat().st_mtime >= made.stat().st_mtime
        )
        (rest if new and folder in ahead else first).append(part)
        ahead.add(folder)
    return [turn for turn in (first, rest) if turn]


def say(text: str) -> None:
    """One line for the user, at once. The standard output is left to the command that is run."""
    print(text, file=sys.stderr, flush=True)
