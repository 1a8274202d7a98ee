"""Calibration of names on answers that were kept of phantoms."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from spinezoo_contract.errors import ConfigurationError
from spinezoo_evaluator.benchmark.measuring import load_film
from spinezoo_evaluator.names.__main__ import main
from spinezoo_evaluator.names.calibrate import (
    LEAST_THRESHOLD,
    TEMPERATURES,
    curve,
    fit_names,
    kept_columns,
)
from spinezoo_evaluator.results.records import FUSED, RunFolder, named
from spinezoo_phantom import PhantomSettings, write_film_set
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.column.reader.card import READER


def test_the_threshold_is_the_lowest_that_keeps_wrong_names_rare() -> None:
    names = [(0.9, True)] * 990 + [(0.8, False)] * 6 + [(0.7, False)] * 4
    fitted = fit_names({1.0: names})
    assert (fitted.threshold, fitted.wrong) == (0.81, 0.0)  # six of a thousand are too many
    assert fitted.right == pytest.approx(0.99)
    fitted = fit_names({1.0: names[:-10] + [(0.8, False)] * 4})
    assert fitted.threshold == LEAST_THRESHOLD  # four are not, and nothing below is ever given
    with pytest.raises(ConfigurationError, match="at any threshold"):
        fit_names({1.0: [(1.0, False)] * 10})
    with pytest.raises(ConfigurationError, match="no film holds"):
        fit_names({1.0: []})


def test_the_temperature_is_the_one_whose_confidences_hold() -> None:
    right = [True] * 9 + [False]
    by_temperature = {t: [(c, ok) for ok in right] for t, c in ((1.0, 0.99), (1.5, 0.9), (2, 0.7))}
    fitted = fit_names(by_temperature)
    assert fitted.temperature == 1.5  # nine of ten are right, and it says 0.9
    assert (fitted.threshold, fitted.right) == (0.91, 0.0)  # a tenth wrong is too much


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folder of three phantoms, and a report that kept their true outlines as the fused ones."""
    data, run = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("run")
    settings = PhantomSettings(height_px=640, width_px=480, transitional_share=0.0, tight_share=0.0)
    write_film_set(data, count=3, seed=41, settings=settings)
    films, folder = FilmSet.open(data), RunFolder(run)
    for name in films.names:
        outlines = load_film(films, name).vertebrae()
        bare = tuple(replace(segment, level=None) for segment in outlines)
        kept = {"b": bare[:1], "a": bare, FUSED: (), named("a"): (), named(FUSED): bare}
        folder.write_answer(name, kept)
    return data, run


def test_what_single_networks_said_goes_with_the_fused_column(phantoms: tuple[Path, Path]) -> None:
    data, run = phantoms
    for column in kept_columns(run, data):
        assert column.others == (column.outlines, column.outlines[:1])  # by name
        assert all(segment.level is not None for segment in column.true)


def test_the_curve_says_what_each_threshold_lets_through() -> None:
    five, others = [(0.99, True), (0.86, True), (0.1, False), (0.2, True)], [(0.9, False)]
    rows = {line.split("|")[1].strip(): line for line in curve(five, others)}
    assert rows["0.7"] == "| 0.7 | 50.0 | 0.0 | 0.0 | 100.0 |"
    assert rows["0.9"] == "| 0.9 | 25.0 | 0.0 | 0.0 | 100.0 |"
    assert rows["0.93"] == "| 0.93 | 25.0 | 0.0 | 0.0 | 0.0 |"


def test_the_command_writes_the_record_and_nothing_else(
    phantoms: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = phantoms
    card = tmp_path / "card"
    shutil.copytree(READER.folder, card, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    path = card / READER.record_file
    before = json.loads(path.read_text())
    before["calibration"] |= {"temperature": 3.21, "threshold": 0.99}
    path.write_text(json.dumps(before))
    assert main(["--run", str(run), "--data", str(data), "--card", str(card)]) == 0
    after = json.loads(path.read_text())
    assert after["calibration"]["temperature"] in TEMPERATURES
    assert LEAST_THRESHOLD <= after["calibration"]["threshold"] < 0.99
    assert after["metrics"]["fused_columns"]["films"] == 3
    assert after["metrics"]["fused_columns"]["five_lumbar"]["named_wrong"] <= 0.005
    assert "names from" in capsys.readouterr().out
    for key in ("weights", "training", "views_id"):
        assert after[key] == before[key]


def test_the_command_says_what_is_missing(
    phantoms: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = phantoms
    assert main(["--run", str(tmp_path), "--data", str(data)]) == 2
    assert "run make benchmark on them first" in capsys.readouterr().err
    assert main(["--run", str(run), str(run), "--data", str(data)]) == 2
    assert "as many folders" in capsys.readouterr().err
