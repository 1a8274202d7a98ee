"""Kill -9 of node, gateway and archive at any moment loses nothing and answers nothing twice."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from answers import changed, dicom_of
from conftest import peers
from parts import SEEDS, NodeProcess, OrthancProcess, ZooProcess, until
from spinezoo_pacs.node.settings import Limits
from spinezoo_pacs.node.spool import MOST_CRASHES, Spool, key_of
from spinezoo_pacs.results.identity import derived_uid
from test_node import dataset_of, store

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
]

FILMS = int(os.environ.get("SPINEZOO_PACS_FILMS", "24"))
"""Films of the test; `make pacs-kills` takes 500."""


def many(count: int) -> list[bytes]:
    """Films of known phantoms as other instances, three a study."""
    return [
        changed(
            dicom_of(SEEDS[number % 3]),
            SOPInstanceUID=derived_uid("film", str(number)),
            StudyInstanceUID=derived_uid("study", str(number // 3)),
            SeriesInstanceUID=derived_uid("series", str(number // 3)),
        )
        for number in range(count)
    ]


def studies_in_order(films: list[bytes]) -> dict[str, list[str]]:
    """Films of each study, in the order in which they were sent."""
    studies: dict[str, list[str]] = {}
    for content in films:
        header = dataset_of(content)
        studies.setdefault(str(header.StudyInstanceUID), []).append(str(header.SOPInstanceUID))
    return studies


def reports_in_order(orthanc: OrthancProcess) -> dict[str, list[str]]:
    """Films of each study, in the order in which the archive got their reports."""
    studies: dict[str, list[str]] = {}
    since, done = 0, False
    while not done:
        page = orthanc.get(f"/changes?since={since}&limit=1000")
        since, done = page["Last"], page["Done"]
        for change in page["Changes"]:
            if change["ChangeType"] != "NewInstance":
                continue
            one = dataset_of(orthanc.file(change["ID"]))
            if one.Modality == "SR":
                evidence = one.CurrentRequestedProcedureEvidenceSequence[0]
                film = evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
                ordered = studies.setdefault(str(one.StudyInstanceUID), [])
                ordered.append(str(film.ReferencedSOPInstanceUID))
    return studies


def test_kills_lose_nothing_and_send_nothing_twice(
    tmp_path: Path, start: Any, orthanc: OrthancProcess
) -> None:
    zoo = ZooProcess(tmp_path / "zoo", SEEDS[:3])
    start(zoo)
    node = NodeProcess(
        tmp_path / "node", zoo.target, peers(orthanc), results=["seg", "sr"], gateway_s=20
    )
    start(node)
    films = many(FILMS)
    stop, chance = threading.Event(), random.Random(7)
    kills: Counter[str] = Counter()

    def killer() -> None:
        started_s = 0.0
        for place in range(10_000):
            # On a busy machine all takes longer: without more time nothing would ever be answered.
            if stop.wait(chance.uniform(1.0, 3.0) * max(1.0, started_s / 3.0)):
                return
            victim = (node, zoo, node, orthanc)[place % 4]
            victim.kill()
            kills[victim.name] += 1
            time.sleep(chance.uniform(0.0, 0.5))
            began = time.monotonic()
            victim.start()
            started_s = time.monotonic() - began

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        for content in films:
            # As a PACS does: send again until the film is taken.
            until(lambda content=content: store(node, content) == [0], 120)
        # The kills go on while films are answered, not only while they come in.
        until(lambda: node.films()["done"] >= FILMS * 0.8, 120 + 20 * FILMS)
        until(lambda: kills["node"] >= 2 and kills["zoo"] and kills["orthanc"], 120)
    finally:
        stop.set()
        thread.join(120)
    node.settled(FILMS, 60 + 10 * FILMS)
    assert node.films() == {"waiting": 0, "answered": 0, "done": FILMS, "aside": 0}
    answered: Counter[tuple[str, str]] = Counter()
    for one in orthanc.get("/instances"):
        dataset = dataset_of(orthanc.file(one))
        source = (
            dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
            .ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            if dataset.Modality == "SR"
            else dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
            .ReferencedSOPInstanceUID
        )  # fmt: skip
        answered[source, dataset.Modality] += 1
    expected = {
        (str(dataset_of(content).SOPInstanceUID), kind)
        for content in films
        for kind in ("SEG", "SR")
    }
    assert set(answered) == expected
    assert set(answered.values()) == {1}
    # Within a study the archive got the reports in the order in which the films came.
    assert reports_in_order(orthanc) == studies_in_order(films)


def test_a_film_that_ends_the_process_again_and_again_is_set_aside(tmp_path: Path) -> None:
    for _ in range(MOST_CRASHES):
        spool = Spool(tmp_path, Limits(disk_free_mib=0))
        spool.add("1.2.3", "1.2", "A", b"film")
        assert spool.claim() is not None
        spool.close()
    spool = Spool(tmp_path, Limits(disk_free_mib=0))
    assert spool.claim() is None
    assert spool.notable()[0][:3] == (key_of("1.2.3"), "aside", "ends-the-process")
    assert spool.add("1.2.3", "1.2", "A", b"film"), "a person sends it again"
    assert spool.claim() is not None


def test_what_was_sent_before_a_film_was_set_aside_is_not_sent_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, Limits(disk_free_mib=0))
    files = {"seg": ("1.8", b"outlines"), "sr": ("1.9", b"report"), "sc": ("1.10", b"picture")}
    spool.add("1.2.3", "1.2", "A", b"film")
    film = spool.claim()
    assert film is not None
    spool.keep_results(film, files, ["B"])
    seg, report, _ = spool.results(film)
    spool.mark(film, seg, "sent")
    spool.mark(film, report, "sending")
    spool.set_aside(film, "failed-RefusedError")
    assert spool.claim() is None
    assert spool.add("1.2.3", "1.2", "A", b"corrected")
    again = spool.claim()
    assert again is not None
    assert again.state == "waiting"
    assert spool.film_data(again) == b"corrected"
    spool.keep_results(again, files, ["B"])
    left = [(each.kind, each.state) for each in spool.results(again)]
    assert left == [("sr", "sending"), ("sc", "waiting")]
    # Another version of the networks gives results of other UIDs, and all of them go out.
    files["seg"] = ("1.80", b"other outlines")
    spool.keep_results(again, files, ["B"])
    assert ("seg", "waiting") in [(each.kind, each.state) for each in spool.results(again)]
    # An answer without outlines takes those of an earlier one along, which nobody has got.
    del files["seg"]
    spool.keep_results(again, files, ["B"])
    left = [(each.kind, each.state) for each in spool.results(again)]
    assert left == [("sr", "sending"), ("sc", "waiting")]


def test_what_was_never_acknowledged_is_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path, Limits(disk_free_mib=0))
    spool.add("1.2.3", "1.2", "A", b"film")
    spool.close()
    (tmp_path / "films" / f"{key_of('9.9')}.dcm").write_bytes(b"half")
    (tmp_path / "films" / "x.dcm.12.partial").write_bytes(b"half")
    spool = Spool(tmp_path, Limits(disk_free_mib=0))
    names = [path.name for path in (tmp_path / "films").iterdir()]
    assert names == [f"{key_of('1.2.3')}.dcm"]
    (record,) = caplog.records
    assert (record.message, vars(record)["fields"]) == (
        "films removed that the queue does not know",
        {"films": 1},
    )


def test_films_are_deleted_after_their_time_and_stay_known(tmp_path: Path) -> None:
    spool = Spool(tmp_path, Limits(disk_free_mib=0))
    spool.add("1.2.3", "1.2", "A", b"film")
    film = spool.claim()
    assert film is not None
    spool.keep_results(film, {"sr": ("1.9", b"report")}, ["B"])
    spool.finish(film)
    assert spool.forget(3600, 3600) == 0
    assert spool.forget(-1, -1) == 1
    assert not list((tmp_path / "films").iterdir())
    assert not list((tmp_path / "results").iterdir())
    assert spool._all("SELECT name FROM files") == []
    assert spool.add("1.2.3", "1.2", "A", b"film") is False
