"""Certificates and what was logged, for this room's tests."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from spinezoo_serving.logs import configure_logging
from spinezoo_testing.certificates import certificates, shared_certificates, tool

__all__ = ["certificates", "lines", "shared_certificates", "tool"]


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Gives the log's lines so far."""
    stream = io.StringIO()
    root = logging.getLogger()
    before = root.handlers[:]
    configure_logging("test", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = before
