"""Files of commands: whole or not at all, what the disk says by name, one process in a folder."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spinezoo_contract.errors import ConfigurationError


@contextmanager
def disk_errors_named() -> Iterator[None]:
    """Turns an ``OSError``, also one out of a group of tasks, into an error with a name.

    For commands, around all they do: whatever else is an ``OSError`` of theirs has its own error
    where it happens.

    Raises:
        ConfigurationError: A file or folder cannot be read or written; the message names it.
    """
    try:
        yield
    except OSError as error:
        raise _named(error) from error
    except BaseExceptionGroup as group:
        of_the_disk = _first_of(group)
        if of_the_disk is None:
            raise
        raise _named(of_the_disk) from group


def _named(error: OSError) -> ConfigurationError:
    what = "a file" if error.filename is None else str(error.filename)
    why = error.strerror or type(error).__name__
    return ConfigurationError(
        f"{what} cannot be read or written ({why}); look at the path, its rights and the room on "
        "the disk"
    )


def _first_of(group: BaseExceptionGroup[BaseException]) -> OSError | None:
    """The first ``OSError`` of a group whose leaves are all such errors."""
    _, others = group.split(OSError)
    if others is not None:
        return None
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first if isinstance(first, OSError) else None


def replace_file(path: Path, content: bytes | str, *, mode: int | None = None) -> None:
    """Puts a whole file in place in one step: a full disk or a stop leaves the old one.

    Args:
        path: The file; its folder is made where it is missing.
        content: All of it; text is written as UTF-8.
        mode: Its rights, of a secret from the first byte on; None: one that exists keeps its own.

    Raises:
        OSError: It cannot be written; nothing is left of it.
    """
    with replacing(path, mode=mode) as beside:
        beside.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path, *, mode: int | None = None) -> Iterator[Path]:
    """As :func:`replace_file`, for what writes a file by itself.

    Args:
        path: The file.
        mode: Its rights.

    Yields:
        Where to write; it is put in place at the end, and removed where that is not reached.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        if mode is not None:
            beside.touch(0o600)
        yield beside
        if mode is None and path.exists():
            mode = path.stat().st_mode & 0o777
        if mode is not None:
            beside.chmod(mode)
        with beside.open("rb") as stream:
            os.fsync(stream.fileno())
        beside.replace(path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(beside)):
            error.filename = str(path)  # a full disk names no file
        raise


def append_line(path: Path, text: str) -> None:
    """Adds a line to a file; on return it is on the disk.

    Args:
        path: The file; made where it is missing.
        text: The line, without its end.

    Raises:
        OSError: It cannot be written; the file is as it was, so that no line is glued to half of
            this one.
    """
    with path.open("ab", buffering=0) as file:
        end = os.fstat(file.fileno()).st_size
        left = memoryview(f"{text}\n".encode())
        try:
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError as error:
            file.truncate(end)
            error.filename = str(path)
            raise


@contextmanager
def alone_in(folder: Path, what: str) -> Iterator[None]:
    """Holds a folder against a second process that would work in it at the same time.

    The folder itself is locked: nothing is left in it, and a process that is killed holds nothing.
    Where the file system knows no locks, nobody is held back.

    Args:
        folder: Made if missing.
        what: Who works in it, for the message.

    Raises:
        ConfigurationError: Another process holds it.
        OSError: It cannot be made or opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"{what} is at work in {folder} already; wait for its end, or give another folder"
            ) from None
        except OSError:
            pass
        yield
    finally:
        os.close(held)
