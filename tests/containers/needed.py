"""What the containers' tests need of the machine."""

from __future__ import annotations

import functools
import os

import pytest
from spinezoo_tools.composition import why_not

REQUIRED = os.environ.get("SPINEZOO_REQUIRE_DOCKER") == "1"


@functools.cache
def need_images() -> None:
    """Skips where there is no engine or an image is missing; fails where one was demanded."""
    need(why_not())


def need(reason: str | None) -> None:
    """Skips for a reason; fails where an engine was demanded."""
    if reason and REQUIRED:
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
