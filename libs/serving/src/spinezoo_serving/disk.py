"""Folders of commands: what the disk says as an error with a name, and one process at a time."""

from __future__ import annotations

import fcntl
import os
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
        error = _first_of(group)
        if error is None:
            raise
        raise _named(error) from group


def _named(error: OSError) -> ConfigurationError:
    what = "a file" if error.filename is None else str(error.filename)
    why = error.strerror or type(error).__name__
    return ConfigurationError(
        f"{what} cannot be read or written ({why}); look at the path, its rights and the room on "
        "the disk"
    )


def _first_of(group: BaseExceptionGroup[BaseException]) -> OSError | None:
    """The first ``OSError`` of a group whose leaves are all such errors."""
    of_the_disk, others = group.split(OSError)
    while isinstance(of_the_disk, BaseExceptionGroup):
        of_the_disk = of_the_disk.exceptions[0]
    return of_the_disk if others is None and isinstance(of_the_disk, OSError) else None


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
