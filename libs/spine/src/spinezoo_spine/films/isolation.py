"""Decoding where it can be stopped: a small pool of processes that read films.

Decoders are native code that gets hostile bytes. One that hangs, crashes, panics or allocates
without end costs its film an error, and its process is replaced; the films beside it are read by
the pool's other processes. Limits are those of :class:`DecoderLimits`.

A process is started when it is first needed and kept. After a fork the child starts its own.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from spinezoo_contract import errors
from spinezoo_contract.errors import ConfigurationError, FilmError, SpineZooError
from spinezoo_contract.types import PIXEL_TYPES, Film, FilmKind, FilmNote, FilmNoteCode

from spinezoo_spine.films.limits import DecoderLimits, FilmLimits
from spinezoo_spine.films.transfer import ClosedError, mapped, receive, send, shared_memory

_START_S = 60.0
"""Time that a process has to start, in s: it imports the decoders."""

_ADVICE = "it is damaged or hostile; export it again, as Explicit VR Little Endian or PNG"


class Worker:
    """One decoding process, as the process that asks it sees it."""

    def __init__(self, limits: DecoderLimits) -> None:
        """Starts it and waits until it is ready.

        Raises:
            ConfigurationError: It does not start.
        """
        self._limits = limits
        self._asked = False
        self._connection, other = socket.socketpair()
        threads = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MALLOC_ARENA_MAX")
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "spinezoo_spine.films.worker", str(other.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # decoders quote what they read
                pass_fds=(other.fileno(),),
                env={**os.environ, **dict.fromkeys(threads, "1")},
                start_new_session=True,
            )
        except OSError as error:
            self._connection.close()
            raise ConfigurationError(
                f"the decoding process cannot be started ({error.strerror}); films that are not "
                "raw pixels or plain DICOM cannot be read"
            ) from error
        finally:
            other.close()
        try:
            message, _ = receive(self._connection, time.monotonic() + _START_S)
        except (TimeoutError, ClosedError, OSError):
            message = {"state": "no start", "name": "no word from it"}
        if message.get("state") != "ready":
            self.stop()
            raise ConfigurationError(
                f"the decoding process does not start ({message.get('name')}); run `python -m "
                "spinezoo_spine.films.worker 0` for the reason, and check SPINEZOO_DECODER_IMPORT"
            )

    @property
    def ready(self) -> bool:
        """Whether the process is running and has answered all that it was asked."""
        return not self._asked and self._process.poll() is None

    def stop(self) -> None:
        """Ends it at once, whatever it does."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def ask(
        self, task: str, data: bytes, kind: FilmKind, limits: FilmLimits, pixels: int
    ) -> tuple[dict[str, Any], int | None]:
        """Its last message about a film, and the descriptor of the pixels.

        Raises:
            FilmError: The film cannot be read, or its decoder had to be stopped; then the process
                has ended.
            TooLargeError: The film is over a limit.
        """
        asked = {"task": task, "kind": kind, "pixels": pixels, "limits": asdict(limits)}
        memory = shared_memory(data)
        self._asked = True
        started = time.monotonic()
        deadline = started + self._limits.time_s(pixels)
        try:
            send(self._connection, asked, memory)
            message, descriptor = receive(self._connection, deadline)
            if message["state"] == "sized":
                pixels = int(message["pixels"])
                deadline = started + self._limits.time_s(min(pixels, limits.max_pixels))
                message, descriptor = receive(self._connection, deadline)
        except TimeoutError:
            self.stop()
            raise FilmError(
                f"film's decoder was stopped after {time.monotonic() - started:.1f} s; {_ADVICE} "
                "(SPINEZOO_DECODER_S)"
            ) from None
        except (ClosedError, OSError, KeyError):
            self.stop()
            raise FilmError(
                "film's decoder broke off: it crashed or needed too much memory; " + _ADVICE
            ) from None
        finally:
            os.close(memory)
        self._asked = False
        if message["state"] in ("done", "size"):
            return message, descriptor
        raise self._failure(message, pixels)

    def _failure(self, message: dict[str, Any], pixels: int) -> SpineZooError:
        if message["state"] == "failed":
            named = getattr(errors, str(message.get("error")), FilmError)
            known = isinstance(named, type) and issubclass(named, SpineZooError)
            return (named if known else FilmError)(str(message.get("message")))
        self.stop()
        if message["state"] == "memory":
            allowed = self._limits.memory_for(pixels) >> 20
            return FilmError(
                f"film's decoder asked for more than {allowed} MiB; {_ADVICE} "
                "(SPINEZOO_DECODER_MIB)"
            )
        name = str(message.get("name"))[:40]
        return FilmError(f"film's decoder broke off ({name}); {_ADVICE}")


class Pool:
    """Decoding processes of this process."""

    def __init__(self, limits: DecoderLimits) -> None:
        """Starts none yet."""
        self.limits = limits
        self._idle: list[Worker] = []
        self._all: set[Worker] = set()
        self._count = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def worker(self) -> Iterator[Worker]:
        """A process for one film; waits while all are at work.

        Raises:
            ConfigurationError: None can be started.
        """
        with self._changed:
            while not self._idle and self._count >= self.limits.decoder_processes:
                self._changed.wait()
            taken = self._idle.pop() if self._idle else None
            if taken is None:
                self._count += 1
        try:
            if taken is not None and not taken.ready:  # ended from outside while idle
                self._all.discard(taken)
                taken.stop()
                taken = None
            if taken is None:
                taken = Worker(self.limits)
                self._all.add(taken)
            yield taken
        finally:
            with self._changed:
                if taken is not None and taken.ready:
                    self._idle.append(taken)
                else:
                    self._count -= 1
                    if taken is not None:
                        self._all.discard(taken)
                        taken.stop()
                self._changed.notify()

    def close(self) -> None:
        """Ends all processes."""
        for worker in list(self._all):
            worker.stop()
        self._all.clear()

    def forget(self) -> None:
        """Lets go of the processes without ending them: they are another process's."""
        self._idle.clear()
        self._all.clear()


_pool: Pool | None = None
_lock = threading.Lock()


def pool() -> Pool:
    """The pool of this process.

    Raises:
        ConfigurationError: A setting is wrong.
    """
    global _pool
    with _lock:
        if _pool is None:
            _pool = Pool(DecoderLimits.from_env())
        return _pool


def close() -> None:
    """Ends the decoding processes; the next film starts new ones, by the settings of then."""
    global _pool
    with _lock:
        old, _pool = _pool, None
    if old is not None:
        old.close()


def warm_up() -> None:
    """Starts one decoding process now, so that the first film need not wait for it.

    Raises:
        ConfigurationError: It does not start.
    """
    with pool().worker():
        pass


def _after_fork() -> None:
    global _pool, _lock
    if _pool is not None:
        _pool.forget()
    _pool, _lock = None, threading.Lock()


atexit.register(close)
os.register_at_fork(after_in_child=_after_fork)


def read(data: bytes, kind: FilmKind, limits: FilmLimits, pixels: int = 0) -> Film:
    """A film, read in a decoding process.

    Args:
        data: The file.
        kind: Its kind.
        limits: What is refused by size.
        pixels: By its header; 0 where that is not known yet.

    Raises:
        FilmError: It cannot be read, or its decoder had to be stopped.
        TooLargeError: It is over a limit.
        ConfigurationError: No decoding process can be started.
    """
    with pool().worker() as worker:
        message, descriptor = worker.ask("read", data, kind, limits, pixels)
        if descriptor is None:
            worker.stop()
            raise FilmError(f"film's decoder gave no pixels; {_ADVICE}")
    memory = mapped(descriptor)
    dtype, shape = message["dtype"], (int(message["height"]), int(message["width"]))
    if dtype not in PIXEL_TYPES or len(memory) != np.dtype(dtype).itemsize * shape[0] * shape[1]:
        raise FilmError(f"film's decoder gave other pixels than it says; {_ADVICE}")
    notes = tuple(FilmNote(FilmNoteCode(code), text) for code, text in message["notes"])
    row_spacing_mm, column_spacing_mm = message["spacing"]
    film = np.frombuffer(memory, dtype=dtype).reshape(shape)
    return Film(film, row_spacing_mm, column_spacing_mm, notes)


def read_size(data: bytes, kind: FilmKind, limits: FilmLimits) -> tuple[int, int]:
    """(height, width) of a film as it will be shown, by its header.

    Args:
        data: The file.
        kind: Its kind.
        limits: What is refused by size.

    Raises:
        FilmError: As :func:`read`.
        TooLargeError: It is over a limit.
        ConfigurationError: No decoding process can be started.
    """
    with pool().worker() as worker:
        message, _ = worker.ask("size", data, kind, limits, 0)
    return int(message["height"]), int(message["width"])
