"""A full disk or a wrong path ends a command with a sentence, whatever it was doing."""

from __future__ import annotations

import contextlib
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from spinezoo_contract.errors import ConfigurationError
from spinezoo_serving.disk import (
    alone_in,
    append_line,
    disk_errors_named,
    replace_file,
    replacing,
)


def test_what_the_disk_says_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    wrong = pytest.raises(ConfigurationError, match=r"file/below .*Not a directory")
    with wrong, disk_errors_named():
        (tmp_path / "file" / "below").write_text("x")
    full = pytest.raises(ConfigurationError, match="No space left")
    with full, disk_errors_named(), Path("/dev/full").open("w") as file:
        file.write("x")


def test_an_error_out_of_a_group_of_tasks_is_named_too() -> None:
    inner = ExceptionGroup("inner", [FileNotFoundError(2, "No such file", "a.txt")])
    with pytest.raises(ConfigurationError, match=r"a\.txt"), disk_errors_named():
        raise ExceptionGroup("tasks", [inner])


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(ValueError), disk_errors_named():
        raise ValueError
    mixed = ExceptionGroup("tasks", [OSError(28, "full"), ValueError()])
    with pytest.raises(ExceptionGroup) as caught, disk_errors_named():
        raise mixed
    assert caught.value is mixed
    with pytest.raises(KeyboardInterrupt), disk_errors_named():
        raise KeyboardInterrupt


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes: a write is done in part, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_has_no_room_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "of" / "record.json"
    replace_file(path, "the old one")
    path.chmod(0o600)
    with pytest.raises(OSError, match=r"too large.*record\.json'"), room_for(1000):
        replace_file(path, b"x" * 5000)
    assert path.read_text() == "the old one"
    assert list(path.parent.iterdir()) == [path]
    replace_file(path, "der n\u00e4chste")
    assert path.read_text(encoding="utf-8") == "der n\u00e4chste"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_new_file_has_the_rights_of_the_process(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        replace_file(tmp_path / "film.json", "{}")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "film.json").stat().st_mode) == 0o600


def test_a_secret_is_readable_by_its_owner_only_from_the_first_byte(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("")
    path.chmod(0o644)
    with replacing(path, mode=0o600) as beside:
        assert stat.S_IMODE(beside.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_line_that_has_no_room_is_not_there_in_part(tmp_path: Path) -> None:
    """Half a line would be glued to the next one, once there is room again."""
    path = tmp_path / "films.jsonl"
    append_line(path, "first")
    with pytest.raises(OSError, match="too large"), room_for(1000):
        append_line(path, "x" * 5000)
    append_line(path, "second")
    assert path.read_text() == "first\nsecond\n"


HOLD = """
import pathlib, sys
from spinezoo_serving.disk import alone_in
with alone_in(pathlib.Path(sys.argv[1]), "another"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "of" / "one"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        taken = pytest.raises(ConfigurationError, match=r"another is at work in .*one already")
        with taken, alone_in(folder, "another"):
            pass
        other.kill()
        other.wait()
    with alone_in(folder, "another"):  # who was killed holds nothing
        assert list(folder.iterdir()) == []
