"""Terminals and pipes of commands: a reader that goes, as of ``make status | head -1``, and others.

Standard library only, and nothing of this package: the tools load this file before anything is
installed.
"""

from __future__ import annotations

import atexit
import io
import os
import sys
from types import TracebackType

UNREAD = 128 + 13
"""Exit code of a command whose output nobody reads any more: a shell's for SIGPIPE."""


class _Output(io.TextIOWrapper):
    """A standard stream that goes nowhere once its reader has gone; may end the program then."""

    ends = False

    def write(self, text: str, /) -> int:
        """As of any stream.

        Raises:
            SystemExit: Its reader has gone. It passes what catches errors of files.
        """
        try:
            return super().write(text)
        except BrokenPipeError:
            self._leave()
        return len(text)

    def flush(self) -> None:
        """As of any stream.

        Raises:
            SystemExit: Its reader has gone.
        """
        try:
            super().flush()
        except BrokenPipeError:
            self._leave()

    def _leave(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        if self.ends:
            raise SystemExit(UNREAD) from None

    def last(self) -> None:
        """What was printed last, at the end: nothing is left to be stopped."""
        self.ends = False
        self.flush()


def _say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What is said of an error that nobody caught."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("stopped\n")
    else:
        sys.__excepthook__(kind, error, trace)


def end_with_reader() -> None:
    """From now on the program ends without a word when nobody reads its output any more.

    What it prints to stderr goes nowhere once nobody reads that, and it goes on. A sign that the
    terminal's encoding lacks is printed as its number, and Ctrl-C is told in a word. For commands,
    in the lines that run them as a program; not for servers.
    """
    sys.excepthook = _say
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by who started the program
            stream = open(os.devnull, "w")  # noqa: SIM115
            setattr(sys, name, stream)
        if type(stream) is not io.TextIOWrapper:  # somebody else's
            continue
        output = _Output(
            stream.detach(),
            encoding=stream.encoding,
            errors="backslashreplace" if stream.errors == "strict" else stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        output.ends = name == "stdout"
        setattr(sys, name, output)
        setattr(sys, f"__{name}__", output)
        atexit.register(output.last)
