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
