"""One JSON object a line: what a serving process logs.

A line never holds pixels, and never the text of an error that is not ours, because such a text
may quote the input. An unexpected error is logged by its class and the places it went through.
"""

from __future__ import annotations

import contextvars
import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

REQUEST_ID: contextvars.ContextVar[str] = contextvars.ContextVar("spinezoo_request_id", default="")
"""Identifier of the request that the running task serves; empty outside of one."""

_MOST_PLACES = 30
"""Frames of a traceback that are logged, innermost last."""


def error_fields(error: BaseException) -> dict[str, Any]:
    """Class of an error and the places it went through, without its text."""
    frames = traceback.extract_tb(error.__traceback__)[-_MOST_PLACES:]
    return {
        "error": type(error).__name__,
        "places": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    What a caller passes as ``extra={"fields": {...}}`` stands beside the standard entries.
    """

    def __init__(self, process_name: str) -> None:
        super().__init__()
        self._process_name = process_name

    def format(self, record: logging.LogRecord) -> str:
        """One line, without the newline."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process_name,
            "logger": record.name,
            "message": record.getMessage(),
        }
        request_id = REQUEST_ID.get()
        if request_id:
            line["request_id"] = request_id
        line.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[1] is not None:
            line.update(error_fields(record.exc_info[1]))
        return json.dumps(line, default=str)


def configure_logging(process_name: str, *, stream: TextIO | None = None) -> None:
    """Sends every log line of the process to a stream as JSON; replaces earlier handlers.

    SpineZoo's own lines start at INFO, other libraries' at WARNING.

    Args:
        process_name: Name in every line, such as ``pspnet`` or ``gateway``.
        stream: Where to; None is standard error.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(process_name))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    own = logging.getLogger("spinezoo")
    own.handlers.clear()
    own.propagate = True
    own.disabled = False
    own.setLevel(logging.INFO)
