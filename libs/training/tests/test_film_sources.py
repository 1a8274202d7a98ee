"""Where the films of a training come from: pure in their numbers, bounded, and never held-out."""

from __future__ import annotations

import argparse
import pickle
from collections import Counter
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from spinezoo_contract.errors import ConfigurationError
from spinezoo_testing.predictors import prepared_block_film
from spinezoo_training.augmentation import AugmentSettings
from spinezoo_training.batches_ahead import batches_ahead
from spinezoo_training.data_options import add_data_arguments, open_data
from spinezoo_training.film_sources import FilmSource, FolderFilms, augmented_batch
from spinezoo_training.phantom_films import training_films
from spinezoo_training.phantom_sources import HELD_OUT_START, LANES, PhantomFilms
from spinezoo_training.prepared_set import PreparedFilm, open_film_set, prepare_films


class Generator:
    """Makes flat films at once and remembers of whom."""

    def __init__(self) -> None:
        self.patients: list[int] = []

    def __call__(
        self, seed: int, index: int, height: int, width: int, looks: int
    ) -> list[PreparedFilm]:
        self.patients.append(index)
        return [
            PreparedFilm(
                f"{seed}-{index}-{look}",
                np.full((height, width), (index * looks + look) % 251, np.uint8),
                (),
            )
            for look in range(looks)
        ]


def blocks(seed: int, index: int, height: int, width: int, looks: int) -> list[PreparedFilm]:
    """At module level, so that it can be sent to a worker."""
    assert (height, width) == (96, 80)
    return [prepared_block_film(index * looks + look)[0] for look in range(looks)]


def phantoms(**changes: object) -> PhantomFilms:
    values = {"seed": 3, "height": 16, "width": 8, "epoch_films": 40, "make": Generator()}
    return PhantomFilms(**{**values, **changes})  # type: ignore[arg-type]


def names(source: FilmSource, epoch: int, step: int) -> list[str]:
    return [film.name for film, _ in source.batch(0, 4, epoch, step)]


# ---------------------------------------------------------------------------------- the sources


def test_a_folder_gives_each_film_once_an_epoch(film_folder: Path) -> None:
    source = FolderFilms(prepare_films(open_film_set(film_folder), 48, 40, progress=False))
    assert source.steps(4) == 1
    assert source.steps(2) == 3
    epochs = [
        [film.name for step in range(3) for film, _ in source.batch(5, 2, epoch, step)]
        for epoch in (0, 1)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(source.films.names)
    assert epochs[0] != epochs[1]
    assert source.different_films(5, 2, 2) == 4
    assert source.different_films(5, 2, 90) == 6


def test_a_batch_depends_on_its_place_only() -> None:
    whole = phantoms()
    every = [names(whole, *divmod(n, 10)) for n in range(200)]
    for start in (1, 57, 123):
        late = phantoms()
        assert [names(late, *divmod(n, 10)) for n in range(start, start + 40)] == every[
            start : start + 40
        ]


@pytest.mark.parametrize("workers", [2, 3, 24])
def test_workers_share_the_work_and_change_nothing(workers: int) -> None:
    alone = phantoms()
    expected = [names(alone, *divmod(n, 10)) for n in range(240)]
    each = [phantoms(make=Generator()) for _ in range(workers)]
    assert [names(each[n % workers], *divmod(n, 10)) for n in range(240)] == expected
    made = [patient for source in each for patient in source._make.patients]  # type: ignore[attr-defined]
    assert len(made) == len(set(made)), "a patient was made twice"
    assert set(made) == set(alone._make.patients)  # type: ignore[attr-defined]


def test_films_are_used_a_few_times_and_then_replaced() -> None:
    source = phantoms(looks=2, uses=3)
    steps = 6000
    uses = Counter(pick for n in range(steps) for pick in source.picks(0, 4, n))
    assert source.different_films(0, 4, steps) == len(uses)
    # All films but those of the first and last pools: three uses each on average.
    films = 4 * steps / 3
    assert 0.9 * films < len(uses) < 1.1 * films
    assert max(uses.values()) < 15
    batches = [source.picks(0, 4, n) for n in range(steps)]
    assert all(len({patient for patient, _ in batch}) == 4 for batch in batches)


def test_the_pool_stays_within_its_stated_size() -> None:
    source = phantoms(looks=2, uses=1)
    for number in range(1500):
        source.batch(0, 4, *divmod(number, 10))
        held = sum(film.grey.nbytes for pool in source._pools for f in pool.values() for film in f)
        assert held <= source.pool_bytes(4)
    assert source.pool_bytes(4) == LANES * 8 * 2 * 16 * 8
    made = source._make.patients  # type: ignore[attr-defined]
    assert len(made) == len(set(made)) > LANES * 8 * 10


def test_a_source_travels_without_its_pool() -> None:
    source = PhantomFilms(3, 96, 80, epoch_films=40, make=blocks)
    before = names(source, 0, 0)
    content = pickle.dumps(source)
    assert len(content) < 2000
    assert names(pickle.loads(content), 0, 0) == before


def test_held_out_patients_are_others_and_always_the_same() -> None:
    source = phantoms()
    first, second = source.held_out(5), phantoms().held_out(5)
    assert [film.name for film in first] == [film.name for film in second]
    assert min(source._make.patients) == HELD_OUT_START  # type: ignore[attr-defined]
    assert all(patient < HELD_OUT_START for patient, _ in source.picks(0, 4, 10**7)), (
        "ten million batches do not reach them"
    )


def test_augmentation_is_fresh_on_every_use_and_exact_on_return() -> None:
    source = PhantomFilms(3, 96, 80, epoch_films=40, make=blocks)

    def batch(epoch: int, step: int) -> list[PreparedFilm]:
        return augmented_batch(
            source, seed=1, batch_size=4, epoch=epoch, step=step, settings=AugmentSettings()
        )

    looks: dict[str, set[bytes]] = {}
    for number in range(3 * LANES):
        for film in batch(*divmod(number, 10)):
            looks.setdefault(film.name, set()).add(film.grey.tobytes())
    assert any(len(each) > 1 for each in looks.values())
    for a, b in zip(batch(2, 3), batch(2, 3), strict=True):
        assert (a.grey == b.grey).all()
        assert all((p == q).all() for (_, p), (_, q) in zip(a.regions, b.regions, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_from_any_place(workers: int) -> None:
    source = PhantomFilms(3, 96, 80, epoch_films=40, make=blocks)
    expected = [names(source, *divmod(n, 10)) for n in range(13, 19)]
    with closing(batches_ahead(Names(source), 1, 3, 10, workers)) as stream:
        assert list(islice(stream, 6)) == expected


class Names:
    """Encodes a batch as its names."""

    def __init__(self, source: FilmSource) -> None:
        self.source = source

    def __call__(self, epoch: int, step: int) -> list[str]:
        return names(self.source, epoch, step)


# ---------------------------------------------------------------------------------- what is refused


def test_limits_are_checked() -> None:
    source = phantoms(height=550, width=550, pool_mib=100)
    with pytest.raises(ConfigurationError, match=r"pool of phantoms needs .* --pool-mib"):
        source.check(8, 0)
    phantoms().check(8, 12)
    with pytest.raises(ConfigurationError, match="0 or one of 1, 2, 3, 4, 6, 8, 12, 24"):
        phantoms().check(8, 5)
    with pytest.raises(ConfigurationError, match="smaller batches"):
        phantoms(epoch_films=4).check(8, 0)
    for name in ("epoch_films", "looks", "uses", "pool_mib"):
        with pytest.raises(ConfigurationError, match=name):
            phantoms(**{name: 0})
    with pytest.raises(ConfigurationError, match="seed"):
        phantoms(seed=-1)


def test_a_generator_that_gives_something_else_is_named() -> None:
    def too_few(seed: int, index: int, height: int, width: int, looks: int) -> list[PreparedFilm]:
        return Generator()(seed, index, height, width, looks - 1)

    with pytest.raises(ConfigurationError, match="gave 2 films"):
        phantoms(make=too_few).batch(0, 4, 0, 0)


# ---------------------------------------------------------------------------------- command line


def opened(*options: str) -> object:
    parser = argparse.ArgumentParser()
    add_data_arguments(parser)
    return open_data(parser.parse_args(options), 96, 96, 1, progress=False)


def test_data_names_a_folder_or_phantoms(film_folder: Path) -> None:
    data = opened("--data", str(film_folder))
    assert data.name == film_folder.name
    assert data.record["film_set"]["folder"] == film_folder.name
    assert len(data.record["film_set"]["annotations_sha256"]) == 64
    assert (data.source.epoch_films, len(data.validation)) == (5, 1)
    data = opened("--data", "phantoms:7", "--epoch-films", "20", "--validation-films", "2")
    assert (data.name, data.source.epoch_films, len(data.validation)) == ("phantoms:7", 20, 2)
    assert data.record["phantoms"]["seed"] == 7


def test_options_of_the_other_kind_are_refused(film_folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="--epoch-films goes with --data phantoms:SEED"):
        opened("--data", str(film_folder), "--epoch-films", "20")
    with pytest.raises(ConfigurationError, match="--validation-share goes with a folder"):
        opened("--data", "phantoms:7", "--validation-share", "0.2")
    with pytest.raises(ConfigurationError, match="such as phantoms:730"):
        opened("--data", "phantoms:many")


# ---------------------------------------------------------------------------------- the generator


def test_the_generator_gives_films_on_the_canvas_with_outlines() -> None:
    first, again = (training_films(5, 2, 160, 128, looks=2) for _ in range(2))
    assert len(first) == 2
    for film, same in zip(first, again, strict=True):
        assert (film.grey.shape, film.grey.dtype) == ((160, 128), np.uint8)
        assert (film.grey == same.grey).all()
        assert len(film.regions) >= 4
        assert all(isinstance(polygon, np.ndarray) for _, polygon in film.regions)
    assert (first[0].grey != first[1].grey).any()
    assert (training_films(6, 2, 160, 128, looks=1)[0].grey != first[0].grey).any()
