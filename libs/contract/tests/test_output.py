"""Commands whose reader goes before their end, each a real process behind a real pipe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from spinezoo_contract.output import UNREAD

BEGIN = "import sys\nfrom spinezoo_contract.output import end_with_reader\nend_with_reader()\n"


def run(
    folder: Path, script: str, *, lines: int = 0, closed: str = "stdout"
) -> tuple[int, str, str]:
    """Runs a script, one of whose streams is read for so many lines only.

    Returns:
        Exit code, what was read of that stream, all of the other one.
    """
    path = folder / "command.py"
    path.write_text(BEGIN + textwrap.dedent(script))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    first, other = process.stdout, process.stderr
    if closed == "stderr":
        first, other = other, first
    read = "".join(first.readline() for _ in range(lines))
    first.close()
    with other:
        rest = other.read()
    return process.wait(60), read, rest


@pytest.mark.parametrize("flush", [True, False])
def test_a_command_ends_without_a_word_when_its_reader_has_gone(
    tmp_path: Path, flush: bool
) -> None:
    code, read, errors = run(
        tmp_path,
        f"""
        try:
            for number in range(1_000_000):
                print("line", number, flush={flush})
        except OSError as error:
            print("a file cannot be written", error, file=sys.stderr)
        finally:
            with open({str(tmp_path / "undone")!r}, "w") as file:
                file.write("yes")
            print("the zoo is stopped")
        """,
        lines=2,
    )
    assert (code, read, errors) == (UNREAD, "line 0\nline 1\n", "")
    assert (tmp_path / "undone").read_text() == "yes"


@pytest.mark.parametrize("end", ["", "sys.exit(3)"])
def test_what_is_printed_last_and_not_read_changes_no_exit_code(tmp_path: Path, end: str) -> None:
    # Its reader has gone before it begins.
    assert run(tmp_path, f"print('nothing is running')\n{end}\n") == (3 if end else 0, "", "")


def test_a_command_whose_progress_nobody_reads_goes_on(tmp_path: Path) -> None:
    code, read, out = run(
        tmp_path,
        """
        for number in range(100_000):
            print("progress", number, file=sys.stderr, flush=True)
        print("done")
        """,
        lines=1,
        closed="stderr",
    )
    assert (code, read, out) == (0, "progress 0\n", "done\n")


def test_output_that_is_read_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "command.py"
    path.write_text(BEGIN + "print('ä' * 100_000)\nprint('end', file=sys.stderr)\n")
    done = subprocess.run([sys.executable, path], capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ä" * 100_000 + "\n", "end\n")


def test_a_stream_that_was_closed_before_the_start_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "command.py"
    path.write_text(BEGIN + "print('nowhere')\n")
    done = subprocess.run(f"{sys.executable} {path} >&-", shell=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_broken_connection_is_no_reader_that_has_gone(tmp_path: Path) -> None:
    code, _, errors = run(tmp_path, "raise BrokenPipeError(32, 'the other end has gone')")
    assert code == 1
    assert "the other end has gone" in errors


def test_ctrl_c_is_told_in_a_word(tmp_path: Path) -> None:
    code, _, errors = run(tmp_path, "raise KeyboardInterrupt")
    assert (code, errors) == (-signal.SIGINT, "stopped\n")


def test_a_sign_that_the_terminal_lacks_ends_no_command(tmp_path: Path) -> None:
    path = tmp_path / "command.py"
    path.write_text(BEGIN + "print('97.84 \u2013')\n", encoding="utf-8")
    latin = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, path], capture_output=True, env=latin)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"97.84 \\u2013\n", b"")


def test_a_command_whose_streams_were_closed_before_it_began_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "command.py"
    end = "print('told')\nprint('told', file=sys.stderr)\nsys.stdout.write('told')\nsys.exit(3)\n"
    path.write_text(BEGIN + end)
    shell = 'exec "$0" "$1" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", shell, sys.executable, str(path)]).returncode == 3
