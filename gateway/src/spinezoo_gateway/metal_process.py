"""The implants' process: ``python -m spinezoo_gateway.metal_process DESCRIPTOR``.

It takes members' implants apart, fuses them and redraws rods for the gateway at the other end of
the connection whose descriptor is given, one film at a time. It ends when the gateway goes.

Messages are pickles: both ends are this package, over a connection that nobody else has, and the
gateway has checked the masks in them.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import cv2
from spinezoo_contract.types import FusedImplant, FusionOptions, Segment, decode_together
from spinezoo_serving.memory import keep_film_memory
from spinezoo_spine.fusion import rods
from spinezoo_spine.fusion.implants import Implants, fuse_implants, implants_of


@dataclass(frozen=True, slots=True)
class Metal:
    """One member's implants, to be taken apart while other members still work; not answered.

    Attributes:
        film: Number of the film; what is kept of another one is forgotten.
        ticket: Number of the member's answer.
        segments: The implants.
        height: Rows of the film, in pixels.
        width: Columns of the film, in pixels.
    """

    film: int
    ticket: int
    segments: tuple[Segment, ...]
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Fuse:
    """The question for a film's fused implants.

    Attributes:
        film: Number of the film.
        members: Ticket of each member's answer; None: it has no implants.
        height: Rows of the film, in pixels.
        width: Columns of the film, in pixels.
        fused: Fused regions of implants.
        options: As they were fused.
        part: What rods are redrawn from; None where no member has a rod.
        pixel_mm: Size of a pixel of the film; None: unknown.
    """

    film: int
    members: Mapping[str, int | None]
    height: int
    width: int
    fused: tuple[Segment, ...]
    options: FusionOptions
    part: rods.FilmPart | None
    pixel_mm: float | None


@dataclass(frozen=True, slots=True)
class Fused:
    """Its answer.

    Attributes:
        film: Number of the film.
        implants: The fused implants.
        failure: Name of the error where there are none.
    """

    film: int
    implants: tuple[FusedImplant, ...]
    failure: str = ""


def send(connection: Connection, message: Any) -> None:
    """Sends a message, arrays as they lie in memory.

    Raises:
        OSError: The other end has gone.
    """
    arrays: list[pickle.PickleBuffer] = []
    body = pickle.dumps(message, 5, buffer_callback=arrays.append)
    connection.send_bytes(len(arrays).to_bytes(4, "little") + body)
    for array in arrays:
        connection.send_bytes(array.raw())


def receive(connection: Connection) -> Any:
    """The next message.

    Raises:
        EOFError: The other end has gone.
        OSError: It went while it sent.
    """
    head = connection.recv_bytes()
    arrays = [connection.recv_bytes() for _ in range(int.from_bytes(head[:4], "little"))]
    return pickle.loads(memoryview(head)[4:], buffers=arrays)


def _fused(asked: Fuse, kept: Mapping[int, Implants]) -> tuple[FusedImplant, ...]:
    members = {
        name: implants_of((), asked.height, asked.width) if ticket is None else kept[ticket]
        for name, ticket in asked.members.items()
    }
    found = fuse_implants(members, asked.fused, asked.options)
    if asked.part is None:
        return found
    return rods.redrawn_rods(found, members, asked.part, asked.pixel_mm, asked.options)


def _serve(connection: Connection) -> None:
    """Answers until the other end goes."""
    film, kept = -1, dict[int, Implants]()
    while True:
        message: Metal | Fuse = receive(connection)
        if message.film != film:
            film, kept = message.film, {}
        if isinstance(message, Metal):
            # Where it fails the film's question does, and the gateway does the work itself.
            with contextlib.suppress(Exception):
                decode_together([segment.mask for segment in message.segments])
                size = message.height, message.width
                kept[message.ticket] = implants_of(message.segments, *size)
            continue
        try:
            answer = Fused(message.film, _fused(message, kept))
        except Exception as error:
            answer = Fused(message.film, (), type(error).__name__)
        kept = {}
        send(connection, answer)


def main() -> int:
    """Serves one connection; returns the exit status."""
    # Whoever stops the gateway from the keyboard stops this with it: by the connection's end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_film_memory()
    cv2.setNumThreads(1)
    connection = Connection(int(sys.argv[1]))
    with contextlib.suppress(EOFError, OSError):
        send(connection, "ready")
        _serve(connection)
    return 0


if __name__ == "__main__":
    # By its own name: pickles name the module of what they hold.
    from spinezoo_gateway import metal_process

    sys.exit(metal_process.main())
