"""A full disk or a wrong path ends a command with a sentence, whatever it was doing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from spinezoo_contract.errors import ConfigurationError
from spinezoo_serving.disk import alone_in, disk_errors_named


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
