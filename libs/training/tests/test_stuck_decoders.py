"""Preparing a training set whose films' decoders hang or crash: the film is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from spinezoo_contract.errors import FilmError
from spinezoo_contract.types import Structure
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.annotations.regions import FilmAnnotation, Region
from spinezoo_spine.annotations.via import write_via
from spinezoo_spine.films import isolation
from spinezoo_testing.bad_decoders import HEIGHT, SETTINGS, WIDTH, film_that_says
from spinezoo_training.prepared_set import open_film_set, prepare_films


@pytest.fixture
def folder(film_folder: Path) -> Path:
    """Good films and one whose stream a test writes."""
    edges = ((5.0, 5.0), (WIDTH - 5.0, 5.0), (WIDTH - 5.0, HEIGHT - 5.0), (5.0, HEIGHT - 5.0))
    region = Region(Structure.LUMBAR_VERTEBRA, np.array(edges))
    annotations = [*FilmSet.open(film_folder).annotations.values()]
    annotations.append(FilmAnnotation("stuck.dcm", (region,)))
    (film_folder / "via.json").unlink()
    write_via(film_folder / "via.json", annotations)
    return film_folder


@pytest.fixture(autouse=True)
def bad_decoders(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SPINEZOO_DECODER_S", "1")
    isolation.close()
    yield
    isolation.close()


@pytest.mark.parametrize("fault", ["sleep", "panic", "abort", "allocate natively"])
def test_the_film_is_named(folder: Path, fault: str) -> None:
    (folder / "stuck.dcm").write_bytes(film_that_says(fault))
    with pytest.raises(FilmError, match=r"^stuck\.dcm: film's decoder (was stopped|broke off)"):
        prepare_films(open_film_set(folder), 64, 64, workers=2, progress=False)
    (folder / "stuck.dcm").write_bytes(film_that_says("nothing"))
    assert "stuck.dcm" in prepare_films(open_film_set(folder), 64, 64, progress=False).names
