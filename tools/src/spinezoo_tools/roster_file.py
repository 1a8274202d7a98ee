"""The roster as text that a swap edits, and the file that the gateway follows.

Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from spinezoo_tools.checkout import ToolError


class SwapError(ToolError):
    """Something the user has to know, worded for the user."""


def target_of(text: str, name: str) -> str:
    """The target of a member in a roster's text.

    Raises:
        SwapError: The member is not there exactly once.
    """
    return _place(text, name)[0]


def with_target(text: str, name: str, target: str) -> str:
    """The roster's text with another target for one member; all else stays, comments too.

    Raises:
        SwapError: The member is not there exactly once.
    """
    _, start, end = _place(text, name)
    return f"{text[:start]}{target}{text[end:]}"


def _place(text: str, name: str) -> tuple[str, int, int]:
    """Target of a member, and where in the text it stands.

    Not a YAML reader: it finds the entry, and the gateway, which is one, judges the result.
    """
    # Comments are blanked, not cut out: places must stay those of the text.
    plain = re.sub(r"(?:^|(?<=\s))#[^\n]*", lambda found: " " * len(found[0]), text, flags=re.M)
    entries = list(re.finditer(r"^[ \t]*-[^\n]*\n?(?:(?![ \t]*-)[^\n]*\n?)*", plain, re.M))
    key = r"(?:^|[\s{{,-]){}[ \t]*:[ \t]*(?P<quote>['\"]?)(?P<value>[^\s'\",}}]+)(?P=quote)"
    found = []
    for entry in entries:
        named = re.search(key.format("name"), entry[0])
        if named is None or named["value"] != name:
            continue
        target = re.search(key.format("target"), entry[0])
        if target is not None:
            start, end = target.span("value")
            found.append((target["value"], entry.start() + start, entry.start() + end))
    if len(found) != 1:
        what = "no member" if not found else f"{len(found)} members"
        raise SwapError(
            f"the roster has {what} {name!r} with a target on lines of its own; correct it"
        )
    return found[0]


class RosterFile:
    """The file that the gateway follows."""

    def __init__(self, path: Path) -> None:
        """Reads nothing yet."""
        self.path = path

    def read(self) -> str:
        """Its text.

        Raises:
            SwapError: It cannot be read.
        """
        try:
            return self.path.read_text(encoding="utf-8")
        except OSError as error:
            raise SwapError(f"cannot read the roster {self.path}: {error.strerror}") from None

    def target(self, name: str) -> str:
        """Where a member is now."""
        return target_of(self.read(), name)

    def point(self, name: str, target: str) -> None:
        """Gives a member another target, in one step: the gateway never sees half a file."""
        write_at_once(self.path, with_target(self.read(), name, target))

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps every other swap away from this roster; the kernel lets go when we end.

        Raises:
            SwapError: Another swap is under way, or there is no such folder.
        """
        try:
            # The folder, because the file is replaced by another with each edit.
            handle = os.open(self.path.parent, os.O_RDONLY)
        except OSError as error:
            raise SwapError(f"cannot read {self.path.parent}: {error.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SwapError("another swap is under way here; try again when it is done") from None
        else:
            yield
        finally:
            os.close(handle)


def write_at_once(path: Path, text: str) -> None:
    """Replaces a file in one step, keeping its permissions.

    Raises:
        SwapError: It cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        if path.exists():
            shutil.copymode(path, partial)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise SwapError(f"cannot write {path}: {error.strerror}") from None
