"""Members' implants, taken apart and fused beside the rest of a film: in a process of their own.

Python's one lock lets only one thread of the gateway compute most of the time, so that implants in
a thread would cost the answer nearly as long as they take. Where no process is free or it fails,
implants are taken apart in threads of the gateway, with the same answer.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from spinezoo_contract.types import Film, FusedImplant, FusionOptions, Segment
from spinezoo_spine.fusion import rods
from spinezoo_spine.fusion.implants import Implants, implants_of
from spinezoo_spine.implant_parts import IMPLANTS

from spinezoo_gateway.metal_process import Fuse, Fused, Metal, Packed, receive, send

log = logging.getLogger("spinezoo.gateway")

START_S = 60.0
"""Time that a process has to start, in s."""

ANSWER_S = 20.0
"""Time that it has to fuse a film's implants, in s: mostly it takes some milliseconds."""

AGAIN_S = 5.0
"""Least time between two starts of a process that ends, in s."""

_THREADS = ThreadPoolExecutor(4, thread_name_prefix="metal")
"""Takes implants apart, which takes some milliseconds, or hands them to the process: neither the
event loop waits for it, nor do the film's regions, column and names."""


class ImplantProcessError(Exception):
    """The implants' process ended or hangs; the message says which."""


class ImplantProcess:
    """The process, as the gateway sees it. One film at a time."""

    def __init__(self) -> None:
        """Starts it and waits until it is ready.

        Raises:
            ImplantProcessError: It does not start.
        """
        ours, theirs = socket.socketpair()
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "spinezoo_gateway.metal_process",
                    str(theirs.fileno()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, **dict.fromkeys(names, "1")},
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise ImplantProcessError(f"it cannot be started ({error.strerror})") from error
        finally:
            theirs.close()
        # A process that hangs takes nothing: who sends to it must not hang as well.
        seconds, rest = divmod(ANSWER_S, 1.0)
        limit = struct.pack("ll", int(seconds), int(1e6 * rest))
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, limit)
        self._connection = Connection(ours.detach())
        try:
            self._received(START_S)
        except ImplantProcessError as error:
            raise ImplantProcessError(
                f"it does not start ({error}); run `python -m spinezoo_gateway.metal_process 0` "
                "for the reason"
            ) from None

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Ends it at once, whatever it does; who sends or waits notices."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def tell(self, message: Metal | Fuse) -> None:
        """Sends a message.

        Raises:
            ImplantProcessError: It has ended, or takes nothing.
        """
        try:
            send(self._connection, message)
        except BlockingIOError:
            raise ImplantProcessError(f"it took nothing for {ANSWER_S:.0f} s") from None
        except OSError:
            raise ImplantProcessError("it has ended") from None

    def answer(self, film: int) -> tuple[FusedImplant, ...] | None:
        """What it answers to the question about a film, by its number; None: that failed in it.

        Raises:
            ImplantProcessError: It has ended or takes too long.
        """
        while True:
            fused: Fused = self._received(ANSWER_S)
            if fused.film == film:  # nobody waited for another one's
                break
        if fused.failure:
            log.error("the implants' process failed on a film (%s)", fused.failure)
            return None
        return fused.found()

    def _received(self, limit_s: float) -> Any:
        """Its next message.

        Raises:
            ImplantProcessError: It has ended or takes too long; then it is stopped.
        """
        why = f"it did not answer within {limit_s:.0f} s and was stopped"
        try:
            if self._connection.poll(limit_s):
                return receive(self._connection)
        except (EOFError, OSError):
            why = "it has ended"
        self.stop()
        raise ImplantProcessError(why)


class ImplantProcesses:
    """The processes of a gateway: none before :meth:`start`, and none after :meth:`stop`."""

    def __init__(self, count: int = 1) -> None:
        """Starts none yet.

        Args:
            count: How many; with 0 implants are taken apart in the gateway.
        """
        self._count = count
        self._idle: list[ImplantProcess] = []
        self._out: set[ImplantProcess] = set()
        self._starting: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._stopped.set()

    def start(self) -> None:
        """Begins to start them; does not wait."""
        self._stopped.clear()
        for _ in range(self._count):
            self._start_one(0.0)

    def stop(self) -> None:
        """Ends them; films that are under way do the work themselves."""
        self._stopped.set()
        with self._lock:
            ended = [*self._idle, *self._out]
            starting = list(self._starting)
            self._idle.clear()
            self._out.clear()
        for process in ended:
            process.stop()
        for thread in starting:
            thread.join(1.0)  # one that is being started ends with the gateway

    def borrow(self) -> ImplantProcess | None:
        """A process for one film, to be given back; None where none is free. Does not wait."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                process = self._idle.pop()
                self._out.add(process)
            if process.running:
                return process
            self.give_back(process, ImplantProcessError("it has ended"))

    def give_back(
        self, process: ImplantProcess, failure: ImplantProcessError | None = None
    ) -> None:
        """Takes a process back.

        Args:
            process: It.
            failure: Why it is of no more use; then another one is started in its place.
        """
        with self._lock:
            ours = process in self._out
            self._out.discard(process)
            if ours and failure is None:
                self._idle.append(process)
                return
        if not ours:
            return  # all have been stopped
        process.stop()
        log.error(
            "the implants' process: %s; another one is started, implants are fused in the gateway "
            "meanwhile; if this repeats, give it more memory, or set SPINEZOO_IMPLANT_PROCESSES=0",
            failure,
        )
        self._start_one(AGAIN_S)

    def _start_one(self, after_s: float) -> None:
        def run() -> None:
            try:
                while not self._stopped.wait(wait_s[0]):
                    try:
                        process = ImplantProcess()
                    except ImplantProcessError as error:
                        log.error(
                            "the implants' process: %s; implants are fused in the gateway", error
                        )
                        wait_s[0] = START_S
                        continue
                    with self._lock:
                        if not self._stopped.is_set():
                            self._idle.append(process)
                            return
                    process.stop()
            finally:
                with self._lock:
                    self._starting.discard(thread)

        wait_s = [after_s]
        thread = threading.Thread(target=run, name="implants' process", daemon=True)
        with self._lock:
            self._starting.add(thread)
        thread.start()


@dataclass(frozen=True, slots=True)
class Handed:
    """A member's implants that the film's process has.

    Attributes:
        ticket: Number of the member's answer.
    """

    ticket: int


Taken = Implants | Handed
"""A member's implants: taken apart here, or with the process."""

_films = itertools.count()


class FilmMetal:
    """The implants of one film's members; to be closed when the film is done.

    A process is borrowed when a member shows implants, if one is free then. A film that begins in
    the gateway stays there.
    """

    def __init__(self, processes: ImplantProcesses | None = None) -> None:
        """Borrows none yet.

        Args:
            processes: Where implants are taken apart; None: in threads of the gateway.
        """
        self._processes = processes or ImplantProcesses(0)
        self._process: ImplantProcess | None = None
        self._borrowed = False
        self._film = next(_films)
        self._tickets = itertools.count()
        self._lock = threading.Lock()

    def take(self, segments: Sequence[Segment], height: int, width: int) -> Future[Taken]:
        """A member's implants, taken apart while other members still work.

        Args:
            segments: What the member answered; vertebrae are left out.
            height: Rows of the film, in pixels.
            width: Columns of the film, in pixels.
        """
        metal = _metal(segments)
        if metal:
            return _THREADS.submit(self._taken, metal, height, width)
        none: Future[Taken] = Future()
        none.set_result(implants_of((), height, width))
        return none

    def _taken(self, metal: tuple[Segment, ...], height: int, width: int) -> Taken:
        with self._lock:
            if not self._borrowed:
                self._borrowed, self._process = True, self._processes.borrow()
            if self._process is not None:
                handed = Handed(next(self._tickets))
                try:
                    self._process.tell(
                        Metal(self._film, handed.ticket, Packed.of(metal, height, width))
                    )
                except ImplantProcessError as error:
                    self._processes.give_back(self._process, error)
                    self._process = None
                else:
                    return handed
        return implants_of(metal, height, width)

    @contextlib.contextmanager
    def fused(
        self,
        taken: Mapping[str, Future[Taken]],
        said: Mapping[str, Sequence[Segment]],
        fused: Sequence[Segment],
        options: FusionOptions,
        film: Film,
    ) -> Iterator[Callable[[], tuple[FusedImplant, ...]]]:
        """Fuses the members' implants beside what is done within.

        Args:
            taken: What :meth:`take` gave for each member, by name.
            said: What the member answered, by name.
            fused: Fused regions of the same members.
            options: As these were fused.
            film: The film.

        Yields:
            What waits for the implants and gives them, as
            :func:`spinezoo_spine.fusion.rods.fuse_implants_on_film` does.
        """
        found = {name: each.result() for name, each in taken.items()}
        process = self._let_go()

        def here() -> tuple[FusedImplant, ...]:
            size = film.height, film.width
            members = {
                name: implants_of(said[name], *size) if isinstance(one, Handed) else one
                for name, one in found.items()
            }
            return rods.fuse_implants_on_film(members, fused, options, film)

        failure = None
        if process is not None:
            try:
                process.tell(self._question(found, said, fused, options, film))
            except ImplantProcessError as error:
                self._processes.give_back(process, error)
                process = None
        if process is None:
            yield _THREADS.submit(here).result
            return

        def beside() -> tuple[FusedImplant, ...]:
            nonlocal failure
            try:
                answer = process.answer(self._film)
            except ImplantProcessError as error:
                failure, answer = error, None
            return here() if answer is None else answer

        try:
            yield beside
        finally:
            self._processes.give_back(process, failure)

    def _question(
        self,
        found: Mapping[str, Taken],
        said: Mapping[str, Sequence[Segment]],
        fused: Sequence[Segment],
        options: FusionOptions,
        film: Film,
    ) -> Fuse:
        return Fuse(
            self._film,
            # The others have no implants.
            {name: one.ticket if isinstance(one, Handed) else None for name, one in found.items()},
            Packed.of(_metal(fused), film.height, film.width),
            options,
            rods.FilmPart.around(said.values(), film.pixels),
            rods.pixel_size_mm(film),
        )

    def _let_go(self) -> ImplantProcess | None:
        """The film's process, which nobody else of the film asks any more."""
        with self._lock:
            process, self._process, self._borrowed = self._process, None, True
        return process

    def close(self) -> None:
        """Gives the process back, if there is one and nobody waits for its answer."""
        process = self._let_go()
        if process is not None:
            self._processes.give_back(process)


def _metal(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    return tuple(segment for segment in segments if segment.structure in IMPLANTS)
