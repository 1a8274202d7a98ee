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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import (
    Box,
    FusedImplant,
    FusionOptions,
    RunLengthMask,
    Segment,
    SegmentKind,
    Structure,
    decode_together,
)
from spinezoo_serving.memory import keep_film_memory
from spinezoo_spine.fusion import rods
from spinezoo_spine.fusion.implants import Implants, fuse_implants, implants_of


@dataclass(frozen=True, slots=True)
class Packed:
    """Outlines of one film, quicker to send than one by one, with what their masks keep.

    Attributes:
        height: Rows of the film, in pixels.
        width: Columns of the film, in pixels.
        outlines: Of each its structure, kind, score, box, the mask's counts, its box and the number
            of its runs.
        runs: The runs of all masks, end to end.
    """

    height: int
    width: int
    outlines: tuple[tuple[Any, ...], ...]
    runs: NDArray[np.int64]

    @classmethod
    def of(cls, segments: Sequence[Segment], height: int, width: int) -> Packed:
        """Packs them."""
        masks = [segment.mask for segment in segments]
        decode_together(masks)
        runs = [mask.runs for mask in masks]
        outlines = tuple(
            (
                int(one.structure),
                int(one.kind),
                one.score,
                _numbers(one.box),
                mask.counts,
                None if one.box is mask.box else _numbers(mask.box),
                len(own),
            )
            for one, mask, own in zip(segments, masks, runs, strict=True)
        )
        every = np.concatenate(runs) if runs else np.empty(0, dtype=np.int64)
        return cls(height, width, outlines, every)

    def segments(self) -> tuple[Segment, ...]:
        """Unpacks them."""
        runs = self.runs
        runs.flags.writeable = False
        first = 0
        found = []
        for structure, kind, score, numbers, counts, of_mask, count in self.outlines:
            mask = RunLengthMask(self.height, self.width, counts)
            box = Box(*numbers)
            mask.keep_runs(runs[first : first + count], box if of_mask is None else Box(*of_mask))
            first += count
            found.append(Segment(Structure(structure), SegmentKind(kind), mask, score, box))
        return tuple(found)


def _numbers(box: Box) -> tuple[float, float, float, float]:
    return box.x, box.y, box.width, box.height


@dataclass(frozen=True, slots=True)
class Metal:
    """One member's implants, to be taken apart while other members still work; not answered.

    Attributes:
        film: Number of the film; what is kept of another one is forgotten.
        ticket: Number of the member's answer.
        segments: The implants.
    """

    film: int
    ticket: int
    segments: Packed


@dataclass(frozen=True, slots=True)
class Fuse:
    """The question for a film's fused implants.

    Attributes:
        film: Number of the film.
        members: Ticket of each member's answer; None: it has no implants.
        fused: Fused regions of implants.
        options: As they were fused.
        part: What rods are redrawn from; None where no member has a rod.
        pixel_mm: Size of a pixel of the film; None: unknown.
    """

    film: int
    members: Mapping[str, int | None]
    fused: Packed
    options: FusionOptions
    part: rods.FilmPart | None
    pixel_mm: float | None


@dataclass(frozen=True, slots=True)
class Fused:
    """Its answer.

    Attributes:
        film: Number of the film.
        implants: The fused implants.
        members: Of each, who drew it.
        failure: Name of the error where there are none.
    """

    film: int
    implants: Packed | None
    members: tuple[tuple[str, ...], ...] = ()
    failure: str = ""

    def found(self) -> tuple[FusedImplant, ...]:
        """The fused implants."""
        segments = () if self.implants is None else self.implants.segments()
        return tuple(
            FusedImplant(segment, member_names=names)
            for segment, names in zip(segments, self.members, strict=True)
        )


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
    size = asked.fused.height, asked.fused.width
    members = {
        name: implants_of((), *size) if ticket is None else kept[ticket]
        for name, ticket in asked.members.items()
    }
    found = fuse_implants(members, asked.fused.segments(), asked.options)
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
                said = message.segments
                kept[message.ticket] = implants_of(said.segments(), said.height, said.width)
            continue
        try:
            found = _fused(message, kept)
            size = message.fused.height, message.fused.width
            segments = Packed.of([one.segment for one in found], *size)
            answer = Fused(message.film, segments, tuple(one.member_names for one in found))
        except Exception as error:
            answer = Fused(message.film, None, failure=type(error).__name__)
        kept = {}
        send(connection, answer)


def main() -> int:
    """Serves one connection; returns the exit status."""
    # Whoever stops the gateway from the keyboard stops this with it: by the connection's end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # where memory runs out, this process is the one to go
        Path("/proc/self/oom_score_adj").write_text("500")
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
