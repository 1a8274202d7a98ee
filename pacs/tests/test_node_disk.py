"""The spool's disk: full for real, and unreadable without the key."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import peers
from parts import SEEDS, NodeProcess, OrthancProcess, ZooProcess, until
from spinezoo_contract.errors import ConfigurationError
from spinezoo_pacs.node.settings import Limits
from spinezoo_pacs.node.spool import QUEUE, Spool, key_of
from spinezoo_pacs.node.vault import CHECK, DamagedError, Vault
from test_node import dataset_of, film, store

pytestmark = pytest.mark.filterwarnings("ignore")

DISK_MIB = 8


class SmallDiskNode(NodeProcess):
    """A node whose spool lies on a disk of its own, which nobody else sees."""

    def command(self) -> list[str]:
        inner = " ".join(super().command())
        spool = self.folder / "spool"
        spool.mkdir(exist_ok=True)
        mount = f"mount -t tmpfs -o size={DISK_MIB}m tmpfs {spool}"
        return ["unshare", "--map-root-user", "--mount", "sh", "-c", f"{mount} && exec {inner}"]

    @property
    def disk(self) -> Path:
        """That disk, seen from outside."""
        assert self.process is not None
        return Path(f"/proc/{self.process.pid}/root{self.folder}/spool")


def may_mount() -> bool:
    """Whether this user may give a process a disk of its own."""
    if shutil.which("unshare") is None:
        return False
    trial = "mount -t tmpfs tmpfs /tmp"
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", trial]
    return subprocess.run(command, capture_output=True).returncode == 0


def fill(disk: Path, name: str, left: int) -> Path:
    """Writes a file that leaves so many bytes; returns it."""
    path = disk / name
    path.write_bytes(b"\0" * (shutil.disk_usage(disk).free - left))
    return path


@pytest.mark.skipif(not may_mount(), reason="this user may not mount a small disk (unshare)")
def test_a_disk_that_is_full_for_real_is_said_and_waited_for(
    tmp_path: Path, start: Any, zoo: ZooProcess, orthanc: OrthancProcess
) -> None:
    limits = {"disk_free_mib": 0}
    node = SmallDiskNode(tmp_path / "node", zoo.target, peers(orthanc), limits=limits)
    start(node)
    first, second, third = (film(seed) for seed in SEEDS[:3])
    # Room for the film, not for its results: it waits, and does not end among the failed ones.
    filler = fill(node.disk, "filler", len(first) + 300_000)
    assert store(node, first) == [0]
    until(lambda: "waits-disk" in [n["reason"] for n in node.status()["notable"]], 200)
    # No room at all: said to the sender, nothing half-written stays, the node goes on.
    more = fill(node.disk, "more", 0)
    assert store(node, second) == [0xA700]
    assert len(list((node.disk / "films").iterdir())) == 1
    assert node.status()["events"]["no-room"] >= 1
    filler.unlink()
    more.unlink()
    assert store(node, second, third) == [0, 0]
    node.settled(3)
    assert node.films() == {"waiting": 0, "answered": 0, "done": 3, "aside": 0}
    for content in (first, second, third):
        study = dataset_of(content).StudyInstanceUID
        assert len(orthanc.find(StudyInstanceUID=study)) == 4


def test_films_and_results_are_encrypted_at_rest(
    tmp_path: Path, start: Any, zoo: ZooProcess, orthanc: OrthancProcess
) -> None:
    key = tmp_path / "spool.key"
    key.write_text(secrets.token_hex(32) + "\n")
    made = NodeProcess(tmp_path / "node", zoo.target, peers(orthanc), spool_key=str(key))
    start(made)
    content = film(3, PatientName="Canary^Bird", PatientID="CANARYID")
    assert store(made, content) == [0]
    made.settled(1)
    found = orthanc.find(StudyInstanceUID=dataset_of(content).StudyInstanceUID)
    assert len(found) == 4
    assert str(dataset_of(orthanc.file(found[0])).PatientName) == "Canary^Bird"
    assert made.end() == 0
    paths = [path for path in (tmp_path / "node" / "spool").rglob("*") if path.is_file()]
    assert len([path for path in paths if path.suffix == ".dcm"]) == 5
    for path in paths:
        data = path.read_bytes().lower()
        assert b"canary" not in data, path.name
        assert b"dicm" not in data[:200], path.name
    # Without the key, or with another, it does not start.
    for change, word in ((None, "is encrypted"), (secrets.token_hex(32), "is not the key")):
        made.settings["spool_key"] = None if change is None else str(key)
        key.write_text(change or "")
        made.log.unlink()
        made.start(wait=False)
        assert made.process is not None
        assert made.process.wait(120) == 1
        assert word in made.log.read_text()


@pytest.mark.parametrize("content", ["", "ab" * 16, "ab" * 33, "no key at all", "ä" * 32])
def test_a_key_of_the_wrong_size_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match="spool_key"):
        Vault.from_file(path)
    with pytest.raises(ConfigurationError, match="spool_key"):
        Vault.from_file(tmp_path / "missing")


@pytest.mark.parametrize("key", [b"k" * 32, None])
def test_a_file_that_was_changed_or_exchanged_is_known(tmp_path: Path, key: bytes | None) -> None:
    spool = Spool(tmp_path, Limits(disk_free_mib=0), Vault(key))
    spool.add("1.2.3", "1.2", "A", b"one film")
    spool.add("1.2.4", "1.2", "A", b"another")
    one, other = (spool.film_path(uid) for uid in ("1.2.3", "1.2.4"))
    taken = spool.claim()
    assert taken is not None
    assert spool.film_data(taken) == b"one film"
    assert one.read_bytes() != spool.film_path("1.2.4").read_bytes()
    original = one.read_bytes()
    one.write_bytes(other.read_bytes())
    with pytest.raises(DamagedError):
        spool.film_data(taken)
    for changed in (original[:-1] + bytes([original[-1] ^ 1]), original[:-1], b""):
        one.write_bytes(changed)
        with pytest.raises(DamagedError):
            spool.film_data(taken)
    assert (tmp_path / CHECK).is_file() == (key is not None)
    assert key_of("1.2.3") in one.name
    # A result that lost its end would be a valid DICOM file with less in it.
    spool.keep_results(taken, {"sr": ("1.9", b"a report")}, ["B"])
    assert spool.result_data(taken, "sr") == b"a report"
    os.truncate(spool.result_path(taken, "sr"), 4)
    with pytest.raises(DamagedError):
        spool.result_data(taken, "sr")
    # Sent again, or answered again, it is whole.
    spool.set_aside(taken, "failed-DamagedError")
    assert spool.add("1.2.3", "1.2", "A", b"the film again")
    taken = spool.claim()
    assert taken is not None
    assert spool.film_data(taken) == b"the film again"
    spool.keep_results(taken, {"sr": ("1.9", b"the report again")}, ["B"])
    assert spool.result_data(taken, "sr") == b"the report again"


def test_a_spool_from_before_the_digests_is_still_read(tmp_path: Path) -> None:
    spool = Spool(tmp_path, Limits(disk_free_mib=0))
    spool.add("1.2.3", "1.2", "A", b"film")
    spool.close()
    with contextlib.closing(sqlite3.connect(tmp_path / QUEUE)) as queue:
        queue.execute("DROP TABLE files")
    spool = Spool(tmp_path, Limits(disk_free_mib=0))
    taken = spool.claim()
    assert taken is not None
    assert spool.film_data(taken) == b"film"


@pytest.mark.skipif(not may_mount(), reason="this user may not mount a small disk (unshare)")
def test_a_key_is_known_after_a_first_start_on_a_full_disk(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from spinezoo_pacs.node.settings import Limits
from spinezoo_pacs.node.spool import Spool
from spinezoo_pacs.node.vault import Vault
disk = Path(sys.argv[1])
filler = disk.with_name("filler")
try:
    filler.write_bytes(bytes(2 << 20))
except OSError:
    pass
try:
    Spool(disk, Limits(), Vault(b"k" * 32))
except OSError as error:
    print(error.strerror)
filler.unlink()
Spool(disk, Limits(), Vault(b"k" * 32))
"""
    mount = f"mount -t tmpfs -o size=1m tmpfs {tmp_path} && mkdir {tmp_path}/spool && exec "
    inner = shlex.join([sys.executable, "-c", script, str(tmp_path / "spool")])
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", mount + inner],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "No space left on device\n", "")


def test_a_spool_from_before_the_key_is_still_read(tmp_path: Path) -> None:
    plain = Spool(tmp_path, Limits(disk_free_mib=0))
    plain.add("1.2.3", "1.2", "A", b"\0" * 128 + b"DICM")
    plain.close()
    spool = Spool(tmp_path, Limits(disk_free_mib=0), Vault(b"k" * 32))
    taken = spool.claim()
    assert taken is not None
    assert spool.film_data(taken).endswith(b"DICM")
