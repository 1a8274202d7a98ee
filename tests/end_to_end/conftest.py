"""The zoo that most tests share, and the films they send."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from end_to_end.support import Zoo, call_probe, phantom_file


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zoo]:
    """All seven processes, up and ready; each notes whom it calls (see ``test_no_calls_home``)."""
    folder = tmp_path_factory.mktemp("zoo")
    zoo = Zoo.prepare(folder, **call_probe(folder / "probe"))
    zoo.up()
    try:
        yield zoo
    finally:
        zoo.down()


@pytest.fixture(scope="session")
def film_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small phantom film as DICOM."""
    return phantom_file(tmp_path_factory.mktemp("film") / "phantom.dcm", seed=3)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """The test run itself must end with as many children as it began with."""
    me = psutil.Process(os.getpid())
    before = {child.pid for child in me.children(recursive=True)}
    yield
    left = [
        child
        for child in me.children(recursive=True)
        if child.pid not in before and child.status() != psutil.STATUS_ZOMBIE
    ]
    assert not left


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with a zoo of their own go first, before the shared one is up beside it.

    The test that looks at every call the shared zoo has made goes last.
    """

    def place(item: pytest.Item) -> int:
        if item.path.name == "test_no_calls_home.py":
            return 2
        return int("zoo" in getattr(item, "fixturenames", ()))

    items.sort(key=place)
