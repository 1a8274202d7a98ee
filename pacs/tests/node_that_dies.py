"""The node, which is killed when one film comes to one point: ``node.yaml POINT SOP_UID``.

Nothing of the node is replaced. A trace function watches the calls of its threads and kills the
process (SIGKILL) at the point, so that no ``finally`` and no destructor runs.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from pynetdicom.dimse import DIMSEServiceProvider
from spinezoo_contract.client import EnsembleClient
from spinezoo_pacs.node import spool
from spinezoo_pacs.node.sender import Link, Sender
from spinezoo_pacs.node.serve import main
from spinezoo_pacs.node.spool import Spool, key_of

DEEP = 12
"""Callers among which the film and the result are looked for."""


@dataclass(frozen=True)
class Point:
    """Where the process ends.

    Attributes:
        function: The call that is watched.
        event: ``call``: before it does anything; ``return``: after all it does.
        kind: Only while this result is under way.
        state: Only where the call's ``state`` is this.
        turn: Which of the calls that fit; a context manager is called again for its end.
    """

    function: Any
    event: str
    kind: str = ""
    state: str = ""
    turn: int = 1

    @property
    def code(self) -> CodeType:
        """By which the call is known."""
        code: CodeType = getattr(self.function, "__wrapped__", self.function).__code__
        return code


POINTS = {
    "comes in": Point(Spool.add, "call"),
    "written": Point(spool._write, "return"),
    "half queued": Point(Spool._transaction, "call", turn=2),
    "queued": Point(Spool.add, "return"),
    "taken up": Point(Spool.claim, "return"),
    "zoo asked": Point(EnsembleClient.segment, "call"),
    "zoo answered": Point(EnsembleClient.segment, "return"),
    "labelmap written": Point(spool._write, "return", kind="labelmap"),
    "half entered": Point(Spool._transaction, "call", turn=4),
    "entered": Point(Spool.keep_results, "return"),
    "sr announced": Point(Spool.mark, "return", kind="sr", state="sending"),
    "sr handed over": Point(DIMSEServiceProvider.send_msg, "return", kind="sr"),
    "asked for": Point(Sender.has, "return"),
    "all sent": Point(Spool.finish, "call"),
    "done": Point(Spool.finish, "return"),
}
for _kind in ("seg", "labelmap", "sr", "sc"):
    POINTS[f"{_kind} arrived"] = Point(Link.store, "return", kind=_kind)
    POINTS[f"{_kind} ticked off"] = Point(Spool.mark, "return", kind=_kind, state="sent")


def callers(frame: FrameType | None) -> Iterator[dict[str, Any]]:
    """Local names of a call and of those that it was made from."""
    for _ in range(DEEP):
        if frame is None:
            return
        yield frame.f_locals
        frame = frame.f_back


def fits(point: Point, frame: FrameType, sop_uid: str) -> bool:
    """Whether a call is the point's, and for the film."""
    names = list(callers(frame))
    if point.state and names[0].get("state") != point.state:
        return False
    films = (each.get("sop_uid") or getattr(each.get("film"), "sop_uid", None) for each in names)
    if sop_uid not in films:
        return False
    if not point.kind:
        return True
    path = names[0].get("path")
    if path is not None:
        return bool(path.name == f"{key_of(sop_uid)}.{point.kind}.dcm")
    return point.kind in (getattr(each.get("result"), "kind", None) for each in names)


def watch(point: Point, sop_uid: str) -> Callable[[FrameType, str, Any], Any]:
    """The trace function of every thread."""
    seen = 0

    def end_if_there(frame: FrameType) -> None:
        nonlocal seen
        if fits(point, frame, sop_uid):
            seen += 1
            if seen == point.turn:
                os.kill(os.getpid(), signal.SIGKILL)

    def on_return(frame: FrameType, event: str, value: Any) -> Any:
        if event == "return":
            end_if_there(frame)
        return on_return

    def on_call(frame: FrameType, event: str, value: Any) -> Any:
        if frame.f_code is not point.code:
            return None
        if point.event == "return":
            return on_return
        end_if_there(frame)
        return None

    return on_call


if __name__ == "__main__":
    threading.settrace(watch(POINTS[sys.argv[2]], sys.argv[3]))
    sys.exit(main(sys.argv[1:2]))
