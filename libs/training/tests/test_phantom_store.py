"""Films made beforehand: those of the generator, whole or not at all, of no other stream."""

from __future__ import annotations

import argparse
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from spinezoo_contract.errors import ConfigurationError
from spinezoo_training.data_options import add_data_arguments, open_data
from spinezoo_training.phantom_films import training_films
from spinezoo_training.phantom_sources import StoredPhantoms
from spinezoo_training.phantom_store import RECORD_FILE, main, make_store, open_store

SIZE = {"height": 112, "width": 96}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films") / "store"
    arguments = ["--out", str(folder), "--seed", "5", "--patients", "9", "--looks", "2"]
    assert main([*arguments, "--height", "112", "--width", "96", "--workers", "2"]) == 0
    return folder


def test_a_store_holds_the_films_of_the_generator(store: Path) -> None:
    films = open_store(store, seed=5, **SIZE)
    assert len(films) == 18
    for patient in (0, 8):  # of two workers' tasks
        for look, made in enumerate(training_films(5, patient, 112, 96, 2)):
            kept = films[2 * patient + look]
            assert kept.name == made.name
            np.testing.assert_array_equal(kept.grey, made.grey)
            assert [kind for kind, _ in kept.regions] == [kind for kind, _ in made.regions]
            for (_, ours), (_, theirs) in zip(kept.regions, made.regions, strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_every_film_comes_once_a_round_and_a_batch_depends_on_its_place_only(store: Path) -> None:
    films = open_store(store, seed=5, **SIZE)
    source = StoredPhantoms(films, epoch_films=12)
    assert source.steps(4) == 3
    drawn = [
        film.name for n in range(9) for film, _ in source.batch(7, 4, *divmod(n, source.steps(4)))
    ]
    assert sorted(drawn[:18]) == sorted(drawn[18:]) == sorted(films.names)
    assert drawn[:18] != drawn[18:]
    late = pickle.loads(pickle.dumps(source))
    assert [film.name for film, _ in late.batch(7, 4, 1, 2)] == drawn[20:24]
    keys = [key for n in range(9) for _, key in source.batch(7, 4, *divmod(n, 3))]
    assert len(set(keys)) == 36
    assert source.different_films(7, 4, 3) == 12
    assert source.different_films(7, 4, 30) == 18


def test_a_store_is_made_once_and_never_mixed(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (store / "grey.npy").stat().st_mtime_ns
    make_store(store, seed=5, patients=9, looks=2, **SIZE)
    assert (store / "grey.npy").stat().st_mtime_ns == before
    with pytest.raises(ConfigurationError, match="holds other films"):
        make_store(store, seed=6, patients=9, looks=2, **SIZE)
    with pytest.raises(ConfigurationError, match=r"GiB, more than the limit of 1e-05"):
        make_store(tmp_path / "x", seed=5, patients=9, looks=2, most_gib=1e-5, **SIZE)
    with pytest.raises(ConfigurationError, match="patients is 0"):
        make_store(tmp_path / "x", seed=5, patients=0, looks=2, **SIZE)
    arguments = ["--out", str(tmp_path / "x"), "--seed", "5", "--patients", "1"]
    with pytest.raises(SystemExit):
        main([*arguments, "--height", "20", "--width", "96"])
    assert "canvas 20 x 96" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"seed": 6}, "seed 5, this training asks for 6"),
        ({"height": 96}, "height 112, this training asks for 96"),
    ],
)
def test_a_store_of_other_films_is_refused(
    store: Path, asked: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        open_store(store, **{"seed": 5, **SIZE, **asked})


def test_a_store_of_another_generator_or_none_is_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no store"):
        open_store(tmp_path, seed=5, **SIZE)
    for path in store.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    record = json.loads((store / RECORD_FILE).read_text(encoding="utf-8"))
    (tmp_path / RECORD_FILE).write_text(json.dumps(record | {"generator": "1"}), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="generator '1'"):
        open_store(tmp_path, seed=5, **SIZE)
    without = {name: value for name, value in record.items() if name != "looks"}
    for other in (record | {"patients": 8}, without):
        (tmp_path / RECORD_FILE).write_text(json.dumps(other), encoding="utf-8")
        with pytest.raises(ConfigurationError, match="damaged"):
            open_store(tmp_path, seed=5, **SIZE)
    (tmp_path / RECORD_FILE).write_text("[]")
    with pytest.raises(ConfigurationError, match="is no store"):
        open_store(tmp_path, seed=5, **SIZE)


def arguments_of(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_data_arguments(parser)
    return parser.parse_args(given)


def test_the_command_line_takes_a_store(store: Path) -> None:
    given = ("--store", str(store), "--epoch-films", "6", "--validation-films", "2")
    data = open_data(arguments_of("--data", "phantoms:5", *given), 112, 96, 0, progress=False)
    assert isinstance(data.source, StoredPhantoms)
    assert data.name == "phantoms:5"
    assert data.record["phantoms"] == {
        "generator": data.record["phantoms"]["generator"],
        "seed": 5,
        "patients": 9,
        "looks": 2,
        "epoch_films": 6,
    }
    stored = set(open_store(store, seed=5, **SIZE).names)
    assert len(data.validation) == 2
    assert not stored & {film.name for film in data.validation}
    with pytest.raises(ConfigurationError, match="--looks goes with phantoms made on the spot"):
        open_data(
            arguments_of("--data", "phantoms:5", "--looks", "2", *given), 112, 96, 0, progress=False
        )
    with pytest.raises(ConfigurationError, match="--store goes with"):
        open_data(
            arguments_of("--data", str(store), "--store", str(store)), 112, 96, 0, progress=False
        )
