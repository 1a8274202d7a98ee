"""Times on command lines."""

from __future__ import annotations

import argparse

import pytest
from spinezoo_contract.arguments import seconds, seconds_above_0


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("1.5", 1.5), (" 2 ", 2.0), ("1e6", 1e6)])
def test_a_time(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "-1", "nan", "inf", "-inf", "1e7", "5 s", "1,5"])
def test_what_is_no_time(text: str) -> None:
    for read in (seconds, seconds_above_0):
        with pytest.raises(argparse.ArgumentTypeError, match="no time"):
            read(text)


def test_nothing_can_be_done_in_no_time() -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        seconds_above_0("0")
    assert seconds_above_0("0.1") == 0.1
