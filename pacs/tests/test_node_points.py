"""Killed at every step that a film takes, the node sends each result exactly once after its start.

Orthanc writes down everything that it is sent, also what it has already.
"""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from answers import changed, dicom_of
from conftest import peers
from node_that_dies import POINTS
from parts import ORTHANC, SEEDS, TESTS, NodeProcess, OrthancProcess, ZooProcess, until
from spinezoo_pacs.results.identity import derived_uid
from test_node import dataset_of, store

pytestmark = pytest.mark.filterwarnings("ignore")

KINDS = ("seg", "labelmap", "sr", "sc")

NEVER: tuple[str, ...] = ("", "", "", "", "")
WAITING: tuple[str, ...] = ("waiting", "", "", "", "")
ANSWERED: tuple[str, ...] = ("answered", "waiting", "waiting", "waiting", "waiting")


def sent(number: int, next_one: str = "waiting") -> tuple[str, ...]:
    """So many results are sent, the next is in a state, the rest waits."""
    states = ["sent"] * number + [next_one] + ["waiting"] * 4
    return ("answered", *states[:4])


STEPS = {
    "comes in": NEVER,
    "written": NEVER,
    "half queued": NEVER,
    "queued": WAITING,
    "taken up": WAITING,
    "zoo asked": WAITING,
    "zoo answered": WAITING,
    "labelmap written": WAITING,
    "half entered": WAITING,
    "entered": ANSWERED,
    "seg arrived": sent(0, "sending"),
    "seg ticked off": sent(1),
    "labelmap arrived": sent(1, "sending"),
    "labelmap ticked off": sent(2),
    "sr announced": sent(2, "sending"),
    "sr handed over": sent(2, "sending"),
    "sr arrived": sent(2, "sending"),
    # The same film once more: killed while it looks whether the report arrived.
    "asked for": sent(2, "sending"),
    "sr ticked off": sent(3),
    "sc arrived": sent(3, "sending"),
    "sc ticked off": sent(4),
    "all sent": sent(4),
    "done": ("done", "sent", "sent", "sent", "sent"),
}
"""The points in a film's order, and what the queue then says: of the film, of its four results."""

AGAIN = "asked for"

SCRIPT = """
function ReceivedInstanceFilter(dicom, origin)
  local file = io.open('{path}', 'a')
  file:write(dicom['Modality'] .. ' ' .. dicom['SOPInstanceUID'] .. '\\n')
  file:close()
  return true
end
"""


class NodeThatDies(NodeProcess):
    """The node under test, which is killed where it is told."""

    point = film = ""

    def command(self) -> list[str]:
        plain = super().command()
        if not self.point:
            return plain
        return [sys.executable, str(TESTS / "node_that_dies.py"), plain[-1], self.point, self.film]

    def ended(self, limit_s: float = 120.0) -> int:
        """Waits for its end and gives the exit status."""
        assert self.process is not None
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"never came to {self.point!r}: {self.status()}") from None

    def said(self, sop_uid: str) -> tuple[str, ...]:
        """States of a film and of its results in the queue."""
        queue = sqlite3.connect(self.folder / "spool" / "queue.sqlite")
        try:
            film = queue.execute(
                "SELECT id, state FROM films WHERE sop_uid = ?", (sop_uid,)
            ).fetchone()
            if film is None:
                return NEVER
            rows = queue.execute(
                "SELECT kind, state FROM results WHERE film_id = ?", (film[0],)
            ).fetchall()
        finally:
            queue.close()
        return (film[1], *(dict(rows).get(kind, "") for kind in KINDS))


def test_the_steps_are_all_that_a_film_takes() -> None:
    assert set(STEPS) == set(POINTS)


@pytest.mark.skipif(ORTHANC is None, reason="Orthanc is not installed")
def test_killed_at_every_step_each_result_is_sent_exactly_once(
    tmp_path: Path, start: Any, zoo: ZooProcess
) -> None:
    came, script = tmp_path / "came.txt", tmp_path / "came.lua"
    script.write_text(SCRIPT.format(path=came))
    # Orthanc answers the questions of nodes only that it knows, by C-FIND as by any other way.
    known = {"node": ["SPINEZOO", "127.0.0.1", 11112]}
    orthanc = OrthancProcess(tmp_path / "orthanc", known, LuaScripts=[str(script)])
    start(orthanc)
    node = NodeThatDies(tmp_path / "node", zoo.target, peers(orthanc))
    films: list[str] = []
    for number, (point, said) in enumerate(STEPS.items()):
        content = changed(
            dicom_of(SEEDS[number % 3]),
            SOPInstanceUID=derived_uid("film", point),
            StudyInstanceUID=derived_uid("study", point),
            SeriesInstanceUID=derived_uid("series", point),
        )
        if point != AGAIN:
            films.append(str(dataset_of(content).SOPInstanceUID))
        node.point, node.film = point, films[-1]
        # Not to its readiness: what is left from before may bring it to the point at once.
        start(node, wait=False)
        if point != AGAIN:
            until(lambda: node.process.poll() is not None or node.ready(), 120)
            status = store(node, content)
            # A sender that got no status sends again; here to the node that starts next.
            assert status in ([0], [None])
        assert node.ended() == -signal.SIGKILL, point
        assert node.said(films[-1]) == said, point
        if status == [None]:
            node.point = ""
            start(node)
            until(lambda content=content: store(node, content) == [0], 60)
            node.kill()
    node.point = ""
    start(node)
    node.settled(len(films))
    assert node.films() == {"waiting": 0, "answered": 0, "done": len(films), "aside": 0}
    each = Counter(came.read_text().splitlines())
    assert set(each.values()) == {1}, each.most_common(3)
    modalities = Counter(line.split()[0] for line in each)
    # SEG: the segmentation and the label map; OT: the picture.
    assert modalities == {"SEG": 2 * len(films), "SR": len(films), "OT": len(films)}
    assert len(orthanc.get("/instances")) == 4 * len(films)
    # The counting can fail: what is sent a second time is written down a second time.
    orthanc.upload(orthanc.file(orthanc.get("/instances")[0]))
    assert max(Counter(came.read_text().splitlines()).values()) == 2
