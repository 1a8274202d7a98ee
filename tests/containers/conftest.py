"""The composition that the tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from spinezoo_phantom import PhantomSettings, make_film, write_dicom
from spinezoo_tools.composition import Composition

from containers.needed import need_images
from containers.newcomers import Newcomers, built


@pytest.fixture(scope="session")
def composition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """All seven containers, up and healthy."""
    need_images()
    composition = Composition.prepare(tmp_path_factory.mktemp("site"))
    try:
        composition.up()
        yield composition
    finally:
        composition.down()


@pytest.fixture(scope="session")
def newcomers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomers]:
    """Images to swap in."""
    need_images()
    with built(tmp_path_factory.mktemp("newcomers")) as newcomers:
        yield newcomers


@pytest.fixture(scope="session")
def film_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small phantom film as DICOM."""
    path = tmp_path_factory.mktemp("film") / "film.dcm"
    write_dicom(make_film(3, PhantomSettings(height_px=512, width_px=384)), path)
    return path
