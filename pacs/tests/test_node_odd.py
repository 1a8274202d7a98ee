"""What happens to a node beside films: its queue goes, its peers change, callers send too much."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import peers
from odd_archive import OddArchive, Said
from parts import NodeProcess, OrthancProcess, ZooProcess, until
from prometheus_client import CollectorRegistry
from spinezoo_contract.errors import ConfigurationError, QueueFullError
from spinezoo_pacs.node.addresses import AddressBook
from spinezoo_pacs.node.intake import NO_ROOM, Intake
from spinezoo_pacs.node.page import NodeMetrics
from spinezoo_pacs.node.settings import Limits
from spinezoo_pacs.node.spool import QUEUE, Spool
from spinezoo_testing.processes import get_json
from test_node import dataset_of, film, store

pytestmark = pytest.mark.filterwarnings("ignore")


def test_films_of_a_sender_that_is_no_peer_any_more_wait_for_it(
    tmp_path: Path, start: Any, zoo: ZooProcess, orthanc: OrthancProcess
) -> None:
    node = NodeProcess(tmp_path / "node", "127.0.0.1:1", peers(orthanc))
    start(node)
    assert store(node, film(3)) == [0]
    until(lambda: node.status()["notable"])
    assert node.end() == 0
    known = node.settings["peers"]
    node.settings |= {"peers": known[1:], "gateway": zoo.target}
    node.start()
    until(lambda: node.status()["notable"][0]["reason"] == "waits-ConfigurationError", 100)
    assert node.films()["waiting"] == 1
    assert node.end() == 0
    node.settings |= {"peers": known}
    node.start()
    node.settled(1)
    assert len(orthanc.find(StudyInstanceUID=dataset_of(film(3)).StudyInstanceUID)) == 4


def peak_mib(pid: int) -> int:
    """Most memory that a process has had, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) >> 10
    raise AssertionError("no VmHWM")


def test_an_object_over_the_limit_is_refused_by_name_and_not_kept_in_memory(
    tmp_path: Path, start: Any
) -> None:
    peer = {"ae_title": "STORESCU", "host": "127.0.0.1", "port": 1}
    limits = {"disk_free_mib": 0, "film_mib": 1}
    node = NodeProcess(tmp_path / "node", "127.0.0.1:1", [peer], limits=limits)
    start(node)
    assert node.process is not None
    before = peak_mib(node.process.pid)
    dataset = dataset_of(film(3, Rows=1, Columns=1))
    dataset.PixelData = bytes(300 << 20)
    huge = io.BytesIO()
    dataset.save_as(huge)
    dataset.PixelData = bytes((1 << 20) - 20_000)
    fits = io.BytesIO()
    dataset.save_as(fits)
    assert store(node, huge.getvalue(), fits.getvalue()) == [0xA700, 0]
    assert node.status()["events"]["too-large"] == 1
    assert peak_mib(node.process.pid) - before < 100
    assert len(list((tmp_path / "node" / "spool" / "films").iterdir())) == 1


def test_a_spool_whose_queue_is_gone_keeps_its_films(tmp_path: Path) -> None:
    spool = Spool(tmp_path, Limits(disk_free_mib=0))
    spool.add("1.2.3", "1.2", "A", b"film")
    spool.close()
    for path in tmp_path.glob(f"{QUEUE}*"):
        path.unlink()
    for state in ("gone", "empty"):
        with pytest.raises(ConfigurationError, match=f"is {state}; put that file back"):
            Spool(tmp_path, Limits(disk_free_mib=0))
        (tmp_path / QUEUE).touch()  # as a copy to a full disk, or a crash of the machine leaves it
    assert [path.read_bytes() for path in (tmp_path / "films").iterdir()] == [b"film"]


def test_a_folder_that_holds_other_things_is_no_spool(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir(mode=0o755)
    mode = tmp_path.stat().st_mode
    with pytest.raises(ConfigurationError, match="other things"):
        Spool(tmp_path, Limits())
    assert tmp_path.stat().st_mode == mode
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]


def test_a_damaged_queue_is_named_at_the_start_and_nothing_is_lost(
    tmp_path: Path, start: Any
) -> None:
    node = NodeProcess(
        tmp_path / "node", "127.0.0.1:1", [{"ae_title": "STORESCU", "host": "127.0.0.1", "port": 1}]
    )
    start(node)
    assert store(node, film(3)) == [0]
    assert node.end() == 0
    spool = tmp_path / "node" / "spool"
    (spool / QUEUE).write_bytes(b"no database " * 1000)
    node.start(wait=False)
    assert node.process is not None
    assert node.process.wait(100) == 1
    assert "is damaged" in node.log.read_text()
    assert len(list((spool / "films").iterdir())) == 1


def damage(spool: Path) -> None:
    """Overwrites the queue's pages but the first, under a node that must read them anew."""
    with contextlib.closing(sqlite3.connect(spool / QUEUE)) as other:
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        other.execute("PRAGMA user_version = 1")
        with (spool / QUEUE).open("r+b") as file:
            file.seek(4096)
            file.write(b"no page " * 4096)


def take_away(spool: Path) -> None:
    (spool / QUEUE).unlink()


def put_another(spool: Path) -> None:
    shutil.copy(spool / QUEUE, spool / "copy")
    (spool / "copy").replace(spool / QUEUE)


def without_films(spool: Path) -> None:
    (spool / "films").rename(spool.with_name("elsewhere"))


def without_tables(spool: Path) -> None:
    with contextlib.closing(sqlite3.connect(spool / QUEUE)) as other:
        other.execute("DROP TABLE results")
        other.execute("DROP TABLE films")


@pytest.mark.parametrize(
    ("breaks", "name"),
    [
        (damage, f"{QUEUE}: SQLITE_CORRUPT"),
        (take_away, f"{QUEUE}: gone"),
        (put_another, f"{QUEUE}: another file"),
        (without_films, "films: not writable"),
        (without_tables, f"{QUEUE}: SQLITE_ERROR"),
    ],
)
def test_a_node_whose_queue_breaks_is_not_ready_and_says_why(
    tmp_path: Path, start: Any, breaks: Callable[[Path], None], name: str
) -> None:
    peer = {"ae_title": "STORESCU", "host": "127.0.0.1", "port": 1}
    node = NodeProcess(tmp_path / "node", "127.0.0.1:1", [peer])
    start(node)

    def ask(path: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{node.http}{path}", timeout=20)

    until(lambda: ask("/readyz").status_code == 200)
    breaks(tmp_path / "node" / "spool")
    answer = ask("/readyz")
    assert answer.status_code == 503
    assert answer.text.startswith(name)
    assert ask("/livez").status_code == 200
    assert f'"reason": "{name}' in node.log.read_text()
    if "SQLITE" in name:
        for path in ("/", "/status.json", "/metrics"):
            answer = ask(path)
            assert answer.status_code == 503
            assert name in answer.text


def test_a_queue_that_was_damaged_once_stays_in_trouble_and_a_full_disk_is_none(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, Limits(disk_free_mib=0))
    assert spool.trouble() == ""
    (most,) = spool._one("PRAGMA page_count") or (0,)
    spool._one(f"PRAGMA max_page_count = {most}")

    def fill() -> None:
        for number in range(1000):
            spool.add(f"1.2.{number}", "1.2", "A", b"film")

    with pytest.raises(QueueFullError):
        fill()
    assert spool.trouble() == ""
    damage(tmp_path)
    with pytest.raises(sqlite3.DatabaseError, match="malformed"):
        spool.add("1.3", "1.2", "A", b"film")
    assert spool.trouble() == f"{QUEUE}: SQLITE_CORRUPT"


def test_a_queue_that_can_only_be_read_any_more_is_in_trouble(tmp_path: Path) -> None:
    spool = Spool(tmp_path, Limits(disk_free_mib=0))
    spool._one("PRAGMA query_only = 1")
    assert spool.trouble() == f"{QUEUE}: SQLITE_READONLY"
    spool._one("PRAGMA query_only = 0")
    assert spool.trouble() == ""


def test_a_queue_that_nothing_else_can_use_is_in_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spinezoo_pacs.node.spool.BUSY_S", 0.05)
    spool = Spool(tmp_path, Limits(disk_free_mib=0))
    said: list[str] = []
    with spool._lock:
        asking = threading.Thread(target=lambda: said.append(spool.trouble()))
        asking.start()
        asking.join()
    assert said == [f"{QUEUE}: busy"]
    assert spool.trouble() == ""


def test_a_queue_that_cannot_be_used_any_more_is_said_to_the_sender(tmp_path: Path) -> None:
    spool = Spool(tmp_path, Limits(disk_free_mib=0))
    counted: list[str] = []
    intake = Intake(spool, counted.append, lambda: None)
    spool.close()
    assert intake.take("1.2.3", "1.2.3", "1.2", "A", b"film") == NO_ROOM
    assert counted == ["not-written"]


def test_what_has_happened_can_be_read_while_it_is_counted() -> None:
    class NoSpool:
        def counts(self) -> dict[str, int]:
            return {}

    spool: Any = NoSpool()
    metrics = NodeMetrics(CollectorRegistry(), spool)
    stop = threading.Event()

    def count() -> None:
        number = 0
        while not stop.is_set():
            metrics.count(f"what-{number % 20_000}")
            number += 1

    counting = threading.Thread(target=count)
    counting.start()
    try:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            seen = metrics.seen
            seen["mine"] = 1
    finally:
        stop.set()
        counting.join()
    assert list(metrics.seen) == sorted(metrics.seen)
    assert "mine" not in metrics.seen


def test_a_name_server_that_fails_turns_nobody_away_who_was_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = (2, 1, 6, "", ("10.1.2.3", 0))
    answers: list[Any] = [[known], OSError("no name server"), UnicodeError()]

    def look_up(*_: object) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr("spinezoo_pacs.node.addresses.KEPT_S", 0.0)
    book = AddressBook()
    assert [book.holds(["pacs"], "10.1.2.3") for _ in range(3)] == [True] * 3
    answers.append(UnicodeError())
    assert not AddressBook().holds(["other"], "10.1.2.3")


def test_an_address_with_a_slash_too_many_is_no_empty_answer(tmp_path: Path, start: Any) -> None:
    node = NodeProcess(
        tmp_path / "node", "127.0.0.1:1", [{"ae_title": "STORESCU", "host": "127.0.0.1", "port": 1}]
    )
    start(node)
    assert get_json(f"http://127.0.0.1:{node.http}/status.json")
    with socket.create_connection(("127.0.0.1", node.http)) as line:
        line.sendall(b"GET /status.json/ HTTP/1.0\r\n\r\n")
        assert line.recv(100).split()[1] == b"404"


@pytest.mark.parametrize("entry", ["port", "http_port"])
def test_a_port_that_is_taken_is_named_by_its_entry(tmp_path: Path, start: Any, entry: str) -> None:
    peer = {"ae_title": "STORESCU", "host": "127.0.0.1", "port": 1}
    node = NodeProcess(tmp_path / "node", "127.0.0.1:1", [peer])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node.settings |= {entry: taken.getsockname()[1]}
        start(node, wait=False)
        assert node.process is not None
        assert node.process.wait(100) == 1
    said = node.log.read_text()
    assert re.search(rf"set (host and )?{entry}", said), said
    assert "SPINEZOO_" not in said


@pytest.mark.parametrize("away", ["does not listen", "refuses"])
def test_a_destination_that_fails_keeps_no_other_waiting(
    tmp_path: Path, start: Any, zoo: ZooProcess, orthanc: OrthancProcess, away: str
) -> None:
    """Destinations are tried in the order of their titles: the one that fails comes first."""
    with OddArchive(lambda asked: Said(400)) as refusing:
        where = {"web_url": refusing.url} if away == "refuses" else {"host": "::1", "port": 1}
        known = [
            {"ae_title": "STORESCU", "host": "127.0.0.1", "answers_to": ["AWAY", "ORTHANC"]},
            {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.port},
            {"ae_title": "AWAY", **where},
        ]
        node = NodeProcess(tmp_path / "node", zoo.target, known)
        start(node)
        assert store(node, film(3)) == [0]
        study = dataset_of(film(3)).StudyInstanceUID
        until(lambda: len(orthanc.find(StudyInstanceUID=study)) == 4, 100)
        reason = "failed-RefusedError" if away == "refuses" else "waits-NotServingError"
        until(lambda: [each["reason"] for each in node.status()["notable"]] == [reason], 100)
        assert node.films()["done"] == 0


def test_a_wait_of_a_clock_that_was_wrong_is_not_waited_for(tmp_path: Path) -> None:
    spool = Spool(tmp_path, Limits(disk_free_mib=0))
    spool.add("1.2.3", "1.2", "A", b"film")
    queued = spool.claim(300.0)
    assert queued is not None
    spool.put_back(queued, "waits-x", 200.0, failed=False)
    assert spool.claim(300.0) is None
    spool._run("UPDATE films SET next_at = next_at + 1e6")
    assert spool.claim(300.0) is not None


def test_a_clock_that_was_ahead_keeps_no_film_beyond_its_time(tmp_path: Path) -> None:
    spool = Spool(tmp_path, Limits(disk_free_mib=0))
    spool.add("1.2.3", "1.2", "A", b"film")
    queued = spool.claim()
    assert queued is not None
    spool.finish(queued)
    spool._run("UPDATE films SET ended_at = ended_at + 1e8")
    assert spool.forget(0.1, 0.1) == 0
    time.sleep(0.2)
    assert spool.forget(0.1, 0.1) == 1
