"""The durable queue: SQLite for what is to be done, files for films and results.

A film is in the queue when its row is committed, which is after its file is on the disk; only then
is the sender told that it was stored. Everything that follows can be done twice with the same
outcome, so a process that is killed at any moment goes on where it was.

File names are digests of UIDs, so nothing that a sender says becomes a path. The database holds
UIDs and AE titles, no patient data; film and result files do.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import math
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinezoo_contract.errors import ConfigurationError, QueueFullError, TooLargeError
from spinezoo_contract.words import are, counted

from spinezoo_pacs.errors import OtherStudyError
from spinezoo_pacs.node.settings import Limits
from spinezoo_pacs.node.vault import CHECK, DamagedError, Vault

log = logging.getLogger("spinezoo.pacs.spool")

SCHEMA = """
CREATE TABLE IF NOT EXISTS films (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  sop_uid TEXT NOT NULL UNIQUE,
  study_uid TEXT NOT NULL,
  sender TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('waiting', 'answered', 'done', 'aside')),
  reason TEXT NOT NULL DEFAULT '',
  failures INTEGER NOT NULL DEFAULT 0,
  waits INTEGER NOT NULL DEFAULT 0,
  crashes INTEGER NOT NULL DEFAULT 0,
  busy INTEGER NOT NULL DEFAULT 0,
  next_at REAL NOT NULL DEFAULT 0,
  received_at REAL NOT NULL,
  ended_at REAL,
  kept INTEGER NOT NULL DEFAULT 1
);
CREATE INDEX IF NOT EXISTS films_by_study ON films (study_uid, state, id);
CREATE INDEX IF NOT EXISTS films_by_state ON films (state, id);
CREATE TABLE IF NOT EXISTS results (
  film_id INTEGER NOT NULL REFERENCES films (id),
  kind TEXT NOT NULL,
  destination TEXT NOT NULL,
  sop_uid TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('waiting', 'sending', 'sent', 'not_taken')),
  PRIMARY KEY (film_id, kind, destination)
);
CREATE TABLE IF NOT EXISTS files (
  name TEXT PRIMARY KEY,
  sha256 TEXT NOT NULL
);
"""

KEEP_DIGEST = "INSERT OR REPLACE INTO files (name, sha256) VALUES (?, ?)"

QUEUE = "queue.sqlite"
"""File of the queue in the spool."""

MOST_CRASHES = 8
"""A film that was under way this often when the process ended is set aside."""


@dataclass(frozen=True, slots=True)
class QueuedFilm:
    """One film of the queue."""

    id: int
    sop_uid: str
    study_uid: str
    sender: str
    state: str
    failures: int
    waits: int
    received_at: float

    @property
    def key(self) -> str:
        """Its name in logs, on the status page and of its files."""
        return key_of(self.sop_uid)


@dataclass(frozen=True, slots=True)
class QueuedResult:
    """One result that is to be sent to one destination."""

    kind: str
    destination: str
    sop_uid: str
    state: str


def key_of(sop_uid: str) -> str:
    """A short name that says nothing of the patient."""
    return hashlib.sha256(sop_uid.encode()).hexdigest()[:24]


BUSY_S = 4.0
"""A queue that nothing else can use for so long is in trouble, in s."""

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""What SQLite says of a file that will not get well by itself."""


def error_name(error: sqlite3.Error) -> str:
    """What SQLite calls an error, such as SQLITE_CORRUPT."""
    return getattr(error, "sqlite_errorname", type(error).__name__)


def no_room(error: Exception) -> bool:
    """Whether an error of the spool says that its disk is full."""
    if isinstance(error, sqlite3.OperationalError):
        return True
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Spool:
    """The queue. Safe in many threads of one process; one process at a time."""

    def __init__(self, folder: Path, limits: Limits, vault: Vault | None = None) -> None:
        """Opens or makes the queue and takes up what a killed process left.

        Args:
            folder: Where it lies.
            limits: What it takes at most.
            vault: Encrypts films and results; None does not.

        Raises:
            sqlite3.Error: The database cannot be opened.
            OSError: The folder cannot be made.
            ConfigurationError: The key is not the spool's, its queue is gone while films lie in
                it, or the folder is another's.
        """
        self.folder, self.limits = folder, limits
        self._vault = vault or Vault(None)
        _check_is_ours(folder)
        for name in ("films", "results"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        os.chmod(folder, 0o700)
        self._vault.check(folder)
        self._lock = threading.RLock()
        self._database = sqlite3.connect(
            folder / QUEUE, isolation_level=None, check_same_thread=False, timeout=30.0
        )
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        if not self._one("SELECT 1 FROM sqlite_master WHERE name = 'films'"):
            _check_has_no_films(folder, "empty")  # as one that was copied without its WAL
        self._database.executescript(SCHEMA)
        self._file = _identity(folder / QUEUE)
        self._damage = ""
        self._take_up()

    def close(self) -> None:
        """Closes the database."""
        with self._lock:
            self._database.close()

    # Coming in.

    def check_room(self, size: int) -> None:
        """Checks queue and disk before a film is taken.

        Raises:
            QueueFullError: No place in the queue or on the disk.
            TooLargeError: The film is over the limit.
        """
        if size > self.limits.film_mib << 20:
            raise TooLargeError(f"the film is over {self.limits.film_mib} MiB")
        most = self.limits.films_waiting
        if self.counts()["waiting"] >= most:
            raise QueueFullError(f"{counted(most, 'film')} {are(most)} waiting; send again later")
        free = shutil.disk_usage(self.folder).free
        if free - size < self.limits.disk_free_mib << 20:
            raise QueueFullError("the spool's disk is full; free some, then send again")

    def add(self, sop_uid: str, study_uid: str, sender: str, data: bytes) -> bool:
        """Takes a film; returns whether something is to be done. It is on the disk by then.

        One that is known is not taken again, unless it was set aside: then a person has sent it
        again, and it is tried anew with the file that came.

        Raises:
            OtherStudyError: It is known as a film of another study.
            QueueFullError: No place in the queue or on the disk.
            TooLargeError: The film is over the limit.
        """
        with self._queue():
            known = self._one("SELECT study_uid, state FROM films WHERE sop_uid = ?", sop_uid)
            if known is not None and known[0] != study_uid:
                raise OtherStudyError("one SOP instance UID stands for films of two studies")
            if known is not None and known[1] != "aside":
                return False
            self.check_room(len(data))
            try:
                digest = self._write(self.film_path(sop_uid), data)
                with self._transaction() as database:
                    database.execute(KEEP_DIGEST, digest)
                    database.execute(
                        "INSERT INTO films (sop_uid, study_uid, sender, state, received_at) "
                        "VALUES (?, ?, ?, 'waiting', ?) ON CONFLICT (sop_uid) DO UPDATE SET "
                        "sender = excluded.sender, state = 'waiting', reason = '', failures = 0, "
                        "waits = 0, crashes = 0, next_at = 0, ended_at = NULL, kept = 1",
                        (sop_uid, study_uid, sender, time.time()),
                    )
            except (OSError, sqlite3.OperationalError) as error:
                if known is None:
                    self.film_path(sop_uid).unlink(missing_ok=True)
                if no_room(error):
                    raise QueueFullError("the spool cannot be written; is its disk full?") from None
                raise
            return True

    # Under way.

    def claim(self, most_wait_s: float = math.inf) -> QueuedFilm | None:
        """The next film to work on; the order within a study is that of arrival.

        Args:
            most_wait_s: Longest wait between two attempts, in s. A film that is to wait for longer
                got its time from a clock that was wrong, and is tried now.
        """
        with self._queue() as database:
            row = self._next(most_wait_s)
            if row is None:
                return None
            film = QueuedFilm(*row)
            database.execute("UPDATE films SET busy = 1 WHERE id = ?", (film.id,))
            return film

    def _next(self, most_wait_s: float) -> tuple[Any, ...] | None:
        """The row of the next film to work on."""
        now = time.time()
        return self._one(
            "SELECT id, sop_uid, study_uid, sender, state, failures, waits, received_at "
            "FROM films AS f WHERE state IN ('waiting', 'answered') AND busy = 0 "
            "AND (next_at <= ? OR next_at > ?) AND NOT EXISTS (SELECT 1 FROM films AS g WHERE "
            "g.study_uid = f.study_uid AND g.id < f.id "
            "AND g.state IN ('waiting', 'answered')) ORDER BY id LIMIT 1",
            now,
            now + most_wait_s,
        )

    def film_data(self, film: QueuedFilm) -> bytes:
        """The film's file.

        Raises:
            DamagedError: It was changed on the disk.
        """
        return self._read(self.film_path(film.sop_uid))

    def result_data(self, film: QueuedFilm, kind: str) -> bytes:
        """A result's file.

        Raises:
            DamagedError: It was changed on the disk.
        """
        return self._read(self.result_path(film, kind))

    def keep_results(
        self,
        film: QueuedFilm,
        files: Mapping[str, tuple[str, bytes]],
        destinations: Sequence[str],
    ) -> None:
        """Keeps a film's results, all or none, and what is to be sent where.

        Of a film that is answered anew, what was sent already is not sent again, and what an
        earlier answer left unsent goes out only where this one has it too.

        Args:
            film: The film.
            files: SOP instance UID and file by kind.
            destinations: AE titles.
        """
        digests = [
            self._write(self.result_path(film, kind), data) for kind, (_, data) in files.items()
        ]
        with self._transaction() as database:
            database.executemany(KEEP_DIGEST, digests)
            database.execute(
                "DELETE FROM results WHERE film_id = ? AND state IN ('waiting', 'sending') "
                f"AND kind NOT IN ({', '.join('?' * len(files))})",
                (film.id, *files),
            )
            for kind, (sop_uid, _) in files.items():
                for destination in destinations:
                    database.execute(
                        "INSERT INTO results VALUES (?, ?, ?, ?, 'waiting') "
                        "ON CONFLICT (film_id, kind, destination) DO UPDATE SET state = CASE "
                        "WHEN sop_uid = excluded.sop_uid AND state IN ('sending', 'sent') "
                        "THEN state ELSE 'waiting' END, sop_uid = excluded.sop_uid",
                        (film.id, kind, destination, sop_uid),
                    )
            database.execute(
                "UPDATE films SET state = 'answered', failures = 0, waits = 0, crashes = 0 "
                "WHERE id = ?",
                (film.id,),
            )

    def results(self, film: QueuedFilm) -> list[QueuedResult]:
        """A film's results that are not sent yet."""
        rows = self._all(
            "SELECT kind, destination, sop_uid, state FROM results WHERE film_id = ? "
            "AND state IN ('waiting', 'sending') ORDER BY destination, rowid",
            film.id,
        )
        return [QueuedResult(*row) for row in rows]

    def mark(self, film: QueuedFilm, result: QueuedResult, state: str) -> None:
        """Says how far the sending of a result is: sending, sent, not_taken."""
        self._run(
            "UPDATE results SET state = ? WHERE film_id = ? AND kind = ? AND destination = ?",
            state,
            film.id,
            result.kind,
            result.destination,
        )

    def finish(self, film: QueuedFilm) -> None:
        """All results are sent."""
        self._run(
            "UPDATE films SET state = 'done', busy = 0, reason = '', ended_at = ? WHERE id = ?",
            time.time(),
            film.id,
        )

    def set_aside(self, film: QueuedFilm, reason: str) -> None:
        """Takes a film out of the queue under a name; its file stays."""
        self._run(
            "UPDATE films SET state = 'aside', busy = 0, reason = ?, ended_at = ? WHERE id = ?",
            reason,
            time.time(),
            film.id,
        )

    def put_back(self, film: QueuedFilm, reason: str, wait_s: float, *, failed: bool) -> None:
        """Tries a film again after a wait; ``failed`` counts against it."""
        self._run(
            "UPDATE films SET busy = 0, reason = ?, next_at = ?, waits = waits + 1, "
            "failures = failures + ? WHERE id = ?",
            reason,
            time.time() + wait_s,
            int(failed),
            film.id,
        )

    # Looking and cleaning.

    def counts(self) -> dict[str, int]:
        """Films by state."""
        found = dict.fromkeys(("waiting", "answered", "done", "aside"), 0)
        found.update(dict(self._all("SELECT state, count(*) FROM films GROUP BY state")))
        return found

    def notable(self, most: int = 200) -> list[tuple[str, str, str, float]]:
        """Key, state, reason and arrival of films that were set aside or wait for something."""
        rows = self._all(
            "SELECT sop_uid, state, reason, received_at FROM films WHERE reason != '' "
            "AND state != 'done' ORDER BY id DESC LIMIT ?",
            most,
        )
        return [(key_of(uid), state, reason, at) for uid, state, reason, at in rows]

    def trouble(self) -> str:
        """Why the queue cannot be used, by name; empty: it can, or there is no room only.

        Reads as a worker does and writes what changes nothing, since a disk that can only be read
        any more is seen no other way.
        """
        if not self._lock.acquire(timeout=BUSY_S):
            return f"{QUEUE}: busy"
        try:
            if self._damage:
                return f"{QUEUE}: {self._damage}"
            if _identity(self.folder / QUEUE) != self._file:
                return f"{QUEUE}: another file"
            for name in ("films", "results"):
                if not os.access(self.folder / name, os.W_OK | os.X_OK):
                    return f"{name}: not writable"
            self._next(math.inf)
            self._run("PRAGMA user_version = 0")
        except FileNotFoundError:
            return f"{QUEUE}: gone"
        except OSError as error:
            return f"{QUEUE}: {type(error).__name__}"
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
            return "" if full else f"{QUEUE}: {error_name(error)}"
        finally:
            self._lock.release()
        return ""

    def not_taken(self) -> int:
        """Results that a destination does not take."""
        row = self._one("SELECT count(*) FROM results WHERE state = 'not_taken'")
        return int(row[0]) if row else 0

    def forget(self, done_s: float, aside_s: float) -> int:
        """Deletes films and results that ended so long ago; their UIDs stay known."""
        now = time.time()
        # Not while a film that was set aside is taken anew.
        with self._lock:
            # By a clock that was ahead; patients' data would stay until then.
            self._run("UPDATE films SET ended_at = ? WHERE kept = 1 AND ended_at > ?", now, now)
            rows = self._all(
                "SELECT id, sop_uid FROM films WHERE kept = 1 AND ("
                "(state = 'done' AND ended_at < ?) OR (state = 'aside' AND ended_at < ?)) "
                "LIMIT 1000",
                now - done_s,
                now - aside_s,
            )
            for film_id, sop_uid in rows:
                for path in (self.folder / "results").glob(f"{key_of(sop_uid)}.*"):
                    path.unlink(missing_ok=True)
                self.film_path(sop_uid).unlink(missing_ok=True)
                self._run("DELETE FROM files WHERE name GLOB ?", f"{key_of(sop_uid)}.*")
                self._run("UPDATE films SET kept = 0 WHERE id = ?", film_id)
        return len(rows)

    def film_path(self, sop_uid: str) -> Path:
        """Where a film lies."""
        return self.folder / "films" / f"{key_of(sop_uid)}.dcm"

    def result_path(self, film: QueuedFilm, kind: str) -> Path:
        """Where a result lies."""
        return self.folder / "results" / f"{film.key}.{kind}.dcm"

    def _take_up(self) -> None:
        """Frees films that were under way, and removes files that nobody was told of."""
        self._run("UPDATE films SET crashes = crashes + 1, busy = 0 WHERE busy = 1")
        self._run(
            "UPDATE films SET state = 'aside', reason = 'ends-the-process', ended_at = ? "
            "WHERE state = 'waiting' AND crashes >= ?",
            time.time(),
            MOST_CRASHES,
        )
        known = {key_of(uid) for (uid,) in self._all("SELECT sop_uid FROM films WHERE kept = 1")}
        films = 0
        for name in ("films", "results"):
            for path in (self.folder / name).iterdir():
                if path.name.endswith(".partial") or path.name.partition(".")[0] not in known:
                    path.unlink(missing_ok=True)
                    films += name == "films" and path.suffix == ".dcm"
        if films:  # one or two after a kill; after an older copy of the queue, all since then
            log.warning(
                "films removed that the queue does not know", extra={"fields": {"films": films}}
            )

    def _write(self, path: Path, data: bytes) -> tuple[str, str]:
        """Writes a file; returns name and digest, which belong into the queue."""
        sealed = self._vault.seal(path.name, data)
        _write(path, sealed)
        return path.name, hashlib.sha256(sealed).hexdigest()

    def _read(self, path: Path) -> bytes:
        """What a file holds. Of a DICOM file that lost its end, nobody else would notice.

        Raises:
            DamagedError: It is not what was written.
        """
        sealed = path.read_bytes()
        row = self._one("SELECT sha256 FROM files WHERE name = ?", path.name)
        if row is not None and hashlib.sha256(sealed).hexdigest() != row[0]:
            raise DamagedError(f"{path.name} was changed on the disk; send the film again")
        return self._vault.open(path.name, sealed)

    @contextlib.contextmanager
    def _queue(self) -> Iterator[sqlite3.Connection]:
        """The database, for one thread at a time; that it is damaged stays known."""
        with self._lock:
            try:
                yield self._database
            except sqlite3.Error as error:
                # The low byte is the kind, the others its details.
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                    self._damage = error_name(error)
                raise

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._queue() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                # SQLite may have done so itself; to do it twice would hide why.
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")

    def _run(self, statement: str, *values: object) -> None:
        with self._queue() as database:
            database.execute(statement, values)

    def _one(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        with self._queue() as database:
            found: tuple[Any, ...] | None = database.execute(statement, values).fetchone()
            return found

    def _all(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._queue() as database:
            return database.execute(statement, values).fetchall()


def _identity(path: Path) -> tuple[int, int]:
    """Which file a path names.

    Raises:
        OSError: None.
    """
    found = path.stat()
    return found.st_dev, found.st_ino


def _check_is_ours(folder: Path) -> None:
    """Raises ConfigurationError where a folder's content is not that of a spool."""
    if not folder.is_dir() or (folder / QUEUE).exists():
        return
    _check_has_no_films(folder, "gone")
    others = {each.name for each in folder.iterdir()} - {"films", "results", CHECK, "lost+found"}
    if others:
        raise ConfigurationError(
            f"the spool {folder} is a folder that holds other things; name a folder that the node "
            "has for itself"
        )


def _check_has_no_films(folder: Path, queue: str) -> None:
    """Raises ConfigurationError where films lie in a spool whose queue is gone or empty."""
    if any((folder / "films").glob("*.dcm")):
        # Senders were told that these are stored; without the queue nobody knows whose they are.
        raise ConfigurationError(
            f"the spool {folder} holds films, and its {QUEUE} is {queue}; put that file back, or "
            "move the folder `films` away and send its films again"
        )


def _write(path: Path, data: bytes) -> None:
    """Writes a file that is on the disk when this returns, whole or not at all."""
    partial = path.with_name(f"{path.name}.{threading.get_ident()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
