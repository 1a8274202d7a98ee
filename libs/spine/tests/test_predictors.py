"""What all predictors share: settings, film, preparation, provenance; device and threads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from spinezoo_contract.errors import (
    CardError,
    ConfigurationError,
    FilmError,
    InvalidOutputError,
)
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.types import Film, PredictOptions, Structure
from spinezoo_serving.cards import CardDefaults, CardInput, ModelCard, load_card
from spinezoo_spine.inference.device import device_name, thread_count
from spinezoo_spine.inference.options import ResolvedOptions, resolve_options
from spinezoo_spine.inference.predictors import SemanticPredictor
from spinezoo_spine.inference.preprocess import PREPROCESSING_ID, letterbox, shrunk
from spinezoo_testing.threshold import CARD_PATH


def card(**changes: Any) -> ModelCard:
    """The card of a network that finds screws and rods."""
    known = load_card(CARD_PATH)
    assert known.weights is not None
    values: dict[str, Any] = {
        "name": "demo",
        "preprocessing_id": PREPROCESSING_ID,
        "structures": (Structure.SCREW, Structure.ROD),
        "input": CardInput(64, 48, 2),
        "defaults": CardDefaults(0.4, None, 10),
        "weights": replace(known.weights, sha256="ab" * 32),
    }
    return replace(known, **values | changes)


class Halves(SemanticPredictor):
    """Finds a screw in the upper half of the canvas and a rod in the lower one."""

    answer = 0.7

    def probabilities(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        assert inputs.shape == (2, 64, 48)
        planes = np.zeros((3, 32, 24), np.float32)
        planes[1, :16] = self.answer
        planes[2, 16:] = 0.9
        return planes


FILM = Film(np.arange(128 * 96, dtype=np.uint16).reshape(128, 96))


def test_absent_settings_are_the_cards() -> None:
    assert resolve_options(PredictOptions(), card()) == ResolvedOptions(0.4, 1.0, 10)
    given = PredictOptions(0.0, 0.0, 1, include_probability_maps=True)
    assert resolve_options(given, card()) == ResolvedOptions(0.0, 0.0, 1, True)
    most = PredictOptions(1.0, 1.0, 1000)
    assert resolve_options(most, card()) == ResolvedOptions(1.0, 1.0, 1000)


def test_answer_has_the_films_size_and_says_who_gave_it() -> None:
    answer = Halves(card(), "cpu").predict(FILM, PredictOptions(include_probability_maps=True))
    assert [segment.structure for segment in answer.segments] == [Structure.ROD, Structure.SCREW]
    rod, screw = (decode_mask(segment.mask) for segment in answer.segments)
    assert rod.shape == screw.shape == (128, 96)
    assert screw[10, 50]
    assert rod[110, 50]
    assert not (rod & screw).any()
    assert [each.structure for each in answer.probability_maps] == [Structure.SCREW, Structure.ROD]
    source = answer.provenance
    assert (source.model_name, source.model_version, source.preset) == ("demo", "1.2.3", "lite")
    assert (source.weights_sha256, source.device) == ("ab" * 32, "cpu")
    assert source.preprocessing_id == PREPROCESSING_ID
    assert min(source.timing.prepare_ms, source.timing.infer_ms, source.timing.finish_ms) > 0.0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_film_shrunk_beforehand_is_prepared_as_the_whole_one(dtype: type[np.generic]) -> None:
    whole = np.random.default_rng(2).integers(0, 250, (333, 200)).astype(dtype)
    small = shrunk(whole, 64, 48)
    assert small is not None
    assert small.dtype == dtype
    assert small.shape == (64, 38)
    canvas, fit = letterbox(whole, 64, 48)
    again, same = letterbox(small, 64, 48, shrunk_from=(333, 200))
    assert (canvas == again).all()
    assert fit == same


@pytest.mark.parametrize("size", [(64, 48), (50, 40), (5000, 40)])
def test_films_that_would_not_become_smaller_or_too_thin_stay_whole(size: tuple[int, int]) -> None:
    assert shrunk(np.zeros(size, np.uint8), 64, 48) is None


@pytest.mark.parametrize("shrunk_from", [(333, 201 + 200), (64, 38), (60, 30)])
def test_a_film_shrunk_to_another_canvas_is_refused(shrunk_from: tuple[int, int]) -> None:
    film = Film(np.zeros((64, 38), np.uint8), shrunk_from=shrunk_from)
    with pytest.raises(FilmError, match="send the whole film"):
        Halves(card(), "cpu").predict(film, PredictOptions())


def test_threshold_and_most_segments_are_kept() -> None:
    predictor = Halves(card(), "cpu")
    (first,) = predictor.predict(FILM, PredictOptions(max_segments=1)).segments
    (sure,) = predictor.predict(FILM, PredictOptions(score_threshold=0.8)).segments
    assert first.structure is sure.structure is Structure.ROD


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_an_error(value: float) -> None:
    predictor = Halves(card(), "cpu")
    predictor.answer = value
    with pytest.raises(InvalidOutputError, match="demo"):
        predictor.predict(FILM, PredictOptions())


@pytest.mark.parametrize(
    "wrong",
    [
        {"preprocessing_id": "letterbox-3ch-v9"},
        {"input": CardInput(64, 48, 3)},
    ],
    ids=["another id", "another number of channels"],
)
def test_card_for_another_preprocessing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(CardError, match="train again"):
        Halves(card(**wrong), "cpu")


@pytest.mark.parametrize(
    ("setting", "found", "name"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda:0"),
        (" CPU ", 2, "cpu"),
        ("cuda", 2, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
        (None, 2, "cuda:1"),
    ],
)
def test_device(
    setting: str | None, found: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPINEZOO_DEVICE", "cuda:1")
    assert device_name(setting, found, "torch") == name


@pytest.mark.parametrize(
    ("setting", "found", "message"),
    [
        ("gpu", 1, "auto, cpu, cuda"),
        ("cuda:-1", 1, "auto, cpu, cuda"),
        ("cuda", 0, "SPINEZOO_DEVICE=cpu"),
        ("cuda:2", 2, "cuda:0 .. cuda:1"),
    ],
)
def test_device_that_is_not_there_is_an_error(setting: str, found: int, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        device_name(setting, found, "torch")


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPINEZOO_THREADS", "")
    assert thread_count() == 0
    monkeypatch.setenv("SPINEZOO_THREADS", "3")
    assert (thread_count(), thread_count(1)) == (3, 1)
    monkeypatch.setenv("SPINEZOO_THREADS", "many")
    with pytest.raises(ConfigurationError, match="many"):
        thread_count()
    with pytest.raises(ConfigurationError, match="-1"):
        thread_count(-1)


def test_several_films_at_once_are_answered_as_one_by_one() -> None:
    predictor = Halves(card(), "cpu")
    small = Film(np.arange(40 * 70, dtype=np.uint16).reshape(40, 70))
    options = PredictOptions(include_probability_maps=True), PredictOptions(score_threshold=0.8)
    together = predictor.predict_many((FILM, small), options)
    for film, settings, answer in zip((FILM, small), options, together, strict=True):
        alone = predictor.predict(film, settings)
        assert (answer.height, answer.width) == (film.height, film.width)
        assert answer.segments == alone.segments
        assert len(answer.probability_maps) == len(alone.probability_maps)
        assert answer.provenance.model_name == "demo"
