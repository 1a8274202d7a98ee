"""Messages between a process that reads films and its decoding processes.

A message is a JSON object behind its length, with at most one file descriptor: that of memory which
both ends map, holding a film's file or its pixels. Nothing is pickled: a decoder that hostile
bytes have taken over must not be able to run code in the process that asked it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import mmap
import os
import socket
import struct
import tempfile
import time
from collections.abc import Mapping
from typing import Any

MAX_MESSAGE_BYTES = 1 << 20

_STEP_BYTES = 1 << 20
"""Memory is taken in steps of this."""

_KEPT_BYTES = 32 << 20
"""Memory of more bytes is not kept for the next film."""

_SEAL = getattr(fcntl, "F_SEAL_SHRINK", None)
"""What keeps memory from being taken away while it is read; None outside Linux."""


class ClosedError(Exception):
    """The other end has gone."""


def send(
    connection: socket.socket, message: Mapping[str, Any], descriptor: int | None = None
) -> None:
    """Sends a message.

    Raises:
        OSError: The other end has gone, or takes no more.
    """
    body = json.dumps(message).encode()
    data = struct.pack("<I", len(body)) + body
    sent = socket.send_fds(connection, [data], [] if descriptor is None else [descriptor])
    if sent < len(data):
        connection.sendall(data[sent:])


def receive(
    connection: socket.socket, deadline: float | None = None
) -> tuple[dict[str, Any], int | None]:
    """The next message, and the descriptor that came with it, which is the caller's to close.

    Args:
        connection: Where it comes from.
        deadline: On the monotonic clock, in s; None waits for ever.

    Raises:
        TimeoutError: The deadline has come.
        ClosedError: The other end has gone, or talks nonsense.
        OSError: The connection is broken, or this process may open no more files.
    """
    head, descriptors = b"", []
    while len(head) < 4:
        _set_timeout(connection, deadline)
        piece, found, flags, _ = socket.recv_fds(connection, 4 - len(head), 1)
        descriptors += found
        if flags & socket.MSG_CTRUNC:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if not piece:
            raise ClosedError
        head += piece
    (length,) = struct.unpack("<I", head)
    body = bytearray()
    while len(body) < min(length, MAX_MESSAGE_BYTES):
        _set_timeout(connection, deadline)
        piece = connection.recv(length - len(body))
        if not piece:
            raise ClosedError
        body += piece
    try:
        message = json.loads(bytes(body))
    except ValueError:
        raise ClosedError from None
    if not isinstance(message, dict):
        raise ClosedError
    return message, descriptors[0] if descriptors else None


def _set_timeout(connection: socket.socket, deadline: float | None) -> None:
    if deadline is None:
        connection.settimeout(None)
        return
    left_s = deadline - time.monotonic()
    if left_s <= 0.0:
        raise TimeoutError
    connection.settimeout(left_s)


class Buffer:
    """Memory that both ends map, kept from film to film: new pages cost more than decoding.

    It is written by one end only. Whoever reads it takes a copy, so that the other end cannot
    change what has been read.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        """Of a descriptor that came from the other end, which is closed, or without memory yet.

        Raises:
            OSError: The other end could take its pages away while they are read.
        """
        self._memory: mmap.mmap | None = None
        if descriptor is None:
            return
        try:
            if _SEAL is not None:
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEAL)
            self._memory = mmap.mmap(descriptor, os.fstat(descriptor).st_size, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)

    def write(self, content: bytes | memoryview) -> int | None:
        """Writes bytes; gives a descriptor to send and to close where the memory is new."""
        view = memoryview(content).cast("B")
        if self._memory is not None and len(view) <= len(self._memory):
            self._memory[: len(view)] = view
            return None
        descriptor = _new_memory(-(-len(view) // _STEP_BYTES) * _STEP_BYTES)
        try:
            self.close()
            self._memory = mmap.mmap(descriptor, 0)
            self._memory[: len(view)] = view
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def view(self, size: int) -> memoryview:
        """The first so many bytes; release it before anything else is done with the memory.

        Raises:
            OSError: There are fewer.
        """
        if self._memory is None or not 0 <= size <= len(self._memory):
            raise OSError("the other end wrote less than it says")
        return memoryview(self._memory)[:size]

    def tidy(self) -> None:
        """Gives the memory back where it is too much to be kept."""
        if self._memory is not None and len(self._memory) > _KEPT_BYTES:
            self.close()

    def close(self) -> None:
        """Gives the memory back."""
        memory, self._memory = self._memory, None
        if memory is not None:
            with contextlib.suppress(BufferError):  # another thread reads it; it goes with that
                memory.close()


def _new_memory(size: int) -> int:
    """A descriptor of new memory."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("spinezoo-film", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)  # fails where memory is short
        else:
            os.ftruncate(descriptor, size)
        if _SEAL is not None:
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEAL)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
