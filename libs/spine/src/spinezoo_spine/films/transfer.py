"""Messages between a process that reads films and its decoding processes.

A message is a JSON object behind its length, with at most one file descriptor: that of memory which
both ends map, holding a film's file or its pixels. Nothing is pickled: a decoder that hostile
bytes have taken over must not be able to run code in the process that asked it.
"""

from __future__ import annotations

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
    """
    head, descriptors = b"", []
    while len(head) < 4:
        _set_timeout(connection, deadline)
        piece, found, _, _ = socket.recv_fds(connection, 4 - len(head), 1)
        descriptors += found
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


def shared_memory(content: bytes | memoryview) -> int:
    """A descriptor of memory that holds a copy of some bytes; the caller closes it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("spinezoo-film", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    view = memoryview(content).cast("B")
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def mapped(descriptor: int) -> mmap.mmap:
    """The memory of a descriptor, read-only; the descriptor is closed."""
    try:
        size = os.fstat(descriptor).st_size
        flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
        return mmap.mmap(descriptor, size, flags=flags, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)
