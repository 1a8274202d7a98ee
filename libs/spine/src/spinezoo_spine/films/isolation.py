"""Decoding where it can be stopped: a small pool of processes that read films.

Decoders are native code that gets hostile bytes. One that hangs, crashes, panics or allocates
without end costs its film an error, and its process is replaced; the films beside it are read by
the pool's other processes. Limits are those of :class:`DecoderLimits`.

A process is started when it is first needed and kept. After a fork the child starts its own.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract import errors
from spinezoo_contract.errors import (
    ConfigurationError,
    FilmError,
    QueueFullError,
    SpineZooError,
)
from spinezoo_contract.types import PIXEL_TYPES, Film, FilmKind, FilmNote, FilmNoteCode

from spinezoo_spine.films.limits import PATIENCE, DecoderLimits, FilmLimits
from spinezoo_spine.films.transfer import Buffer, ClosedError, receive, send

_START_S = 60.0
"""Time that a process has to start, in s: it imports the decoders."""

_ANSWER_S = 2.0
"""Time that a message has to arrive once it has begun, in s."""

_LOOK_S = 0.25
"""How often a decoder beyond its time is looked at, in s."""

_OWN_SHARE = 0.5
"""Share of its time that a decoder is to have had on a processor before it is stopped on a machine
that is busy with other things."""

_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC})
"""What the system says where it, not the film, is the reason."""

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
        self._file, self._pixels = Buffer(), Buffer()
        try:
            self._connection, other = socket.socketpair()
        except OSError as error:
            raise _no_start(error) from error
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
            raise _no_start(error) from error
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
        self._file.close()
        self._pixels.close()

    def ask(
        self, task: str, data: bytes, kind: FilmKind, limits: FilmLimits, pixels: int
    ) -> dict[str, Any]:
        """Its last message about a film; the pixels are then in :meth:`pixels_of`.

        Raises:
            FilmError: The film cannot be read, or its decoder had to be stopped; then the process
                has ended.
            TooLargeError: The film is over a limit.
            QueueFullError: This process has no memory left for it, or may open no more files.
        """
        asked = {
            "task": task,
            "kind": kind,
            "pixels": pixels,
            "limits": asdict(limits),
            "bytes": len(data),
        }
        self._asked = True
        memory = None
        started, worked_s = time.monotonic(), _worked_s(self._process.pid)
        try:
            memory = self._file.write(data)
            send(self._connection, asked, memory)
            message = self._answer(started, worked_s, pixels)
            if message["state"] == "sized":
                pixels = int(message["pixels"])
                most = min(pixels, limits.max_pixels)
                message = self._answer(started, worked_s, most)
        except TimeoutError:
            self.stop()
            raise FilmError(
                f"film's decoder was stopped after {time.monotonic() - started:.1f} s; {_ADVICE} "
                "(SPINEZOO_DECODER_S)"
            ) from None
        except (ClosedError, OSError, KeyError) as error:
            self.stop()
            if isinstance(error, OSError) and error.errno in _SCARCE:
                raise QueueFullError(
                    f"the film could not be given to its decoder ({error.strerror}); ask again "
                    "later, or allow more memory or open files"
                ) from None
            raise FilmError(
                "film's decoder broke off: it crashed or needed too much memory; " + _ADVICE
            ) from None
        finally:
            if memory is not None:
                os.close(memory)
            self._file.tidy()
        self._asked = False
        if message["state"] in ("done", "size"):
            return message
        raise self._failure(message, pixels)

    def pixels_of(self, message: dict[str, Any]) -> NDArray[np.generic]:
        """A copy of the pixels that a message tells of.

        Raises:
            FilmError: They are not what it says.
        """
        try:
            dtype, shape = message["dtype"], (int(message["height"]), int(message["width"]))
            if dtype not in PIXEL_TYPES:
                raise ValueError
            size = np.dtype(dtype).itemsize * shape[0] * shape[1]
            with self._pixels.view(size) as view:
                return np.frombuffer(view, dtype=dtype).reshape(shape).copy()
        except (KeyError, TypeError, ValueError, OSError):
            self.stop()
            raise FilmError(f"film's decoder gave other pixels than it says; {_ADVICE}") from None
        finally:
            self._pixels.tidy()

    def _answer(self, started: float, worked_s: float, pixels: int) -> dict[str, Any]:
        """Its next message, within the time of a film of so many pixels.

        On a machine that is too busy to let the decoder work, a good film takes longer: as long as
        the decoder works and has not had :data:`_OWN_SHARE` of its time on a processor, it gets up
        to :data:`PATIENCE` times as much.

        Raises:
            TimeoutError: It took too long.
            ClosedError: It has gone.
        """
        allowed_s = self._limits.time_s(pixels)
        deadline, last_s = started + allowed_s, -1.0
        while not _has_come(self._connection, deadline):
            now_s = _worked_s(self._process.pid) - worked_s
            beyond = time.monotonic() - started > PATIENCE * allowed_s
            waits = now_s <= last_s and not _is_runnable(self._process.pid)
            if waits or now_s >= _OWN_SHARE * allowed_s or beyond:
                raise TimeoutError
            deadline, last_s = time.monotonic() + _LOOK_S, now_s
        message, descriptor = receive(self._connection, time.monotonic() + _ANSWER_S)
        if descriptor is not None:
            self._pixels.close()
            self._pixels = Buffer(descriptor)
        return message

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


def _no_start(error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"the decoding process cannot be started ({error.strerror}); films that are not raw pixels "
        "or plain DICOM cannot be read; allow more memory, processes or open files"
    )


def _worked_s(pid: int) -> float:
    """Time that a process has had on the processors, in s; 0 where it cannot be known."""
    try:
        numbers = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):  # no such file outside Linux
        return 0.0


def _is_runnable(pid: int) -> bool:
    """Whether any thread of a process works, or would if it had a processor or its disk."""
    try:
        threads = [
            path.read_text(encoding="ascii") for path in Path(f"/proc/{pid}/task").glob("*/stat")
        ]
    except OSError:  # it has ended, or this is not Linux
        return False
    return any(text.rpartition(")")[2].split()[0] in ("R", "D") for text in threads)


def _has_come(connection: socket.socket, deadline: float) -> bool:
    """Waits for a message until the deadline, on the monotonic clock, in s."""
    left_s = max(0.0, deadline - time.monotonic())
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(1e3 * left_s))


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
        QueueFullError: As :meth:`Worker.ask`.
    """
    with pool().worker() as worker:
        message = worker.ask("read", data, kind, limits, pixels)
        film = worker.pixels_of(message)
    notes = tuple(FilmNote(FilmNoteCode(code), text) for code, text in message["notes"])
    row_spacing_mm, column_spacing_mm = message["spacing"]
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
        QueueFullError: As :meth:`Worker.ask`.
    """
    with pool().worker() as worker:
        message = worker.ask("size", data, kind, limits, 0)
    return int(message["height"]), int(message["width"])
