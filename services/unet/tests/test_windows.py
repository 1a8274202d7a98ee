"""U-Net's last steps, computed for a part of the film."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from spinezoo_contract.errors import InvalidOutputError
from spinezoo_contract.types import Film, PredictOptions
from spinezoo_phantom.make import make_film
from spinezoo_phantom.settings import PhantomSettings
from spinezoo_unet.predictor import UNetPredictor, load_predictor
from spinezoo_unet.regions import Rule, _regression
from spinezoo_unet.windows import HALO, MARGIN, SCALE, STEPS, box_of, right_part, window_of

CARD = Path(__file__).parents[1] / "card.yaml"


@pytest.fixture(scope="module")
def predictor() -> UNetPredictor:
    found = load_predictor(CARD, device="cpu")
    assert isinstance(found, UNetPredictor)
    return found


@pytest.fixture(scope="module")
def films() -> list[Film]:
    size = PhantomSettings(height_px=600, width_px=480, implant_share=1.0)
    return [Film(make_film(seed, size).pixels) for seed in range(3)]


class _Told:
    """The first graph, with another map of where structures may be."""

    def __init__(self, graph: Any, told: Any) -> None:
        self._graph, self._told = graph, told

    def run(self, *inputs: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        found = dict(self._graph.run(*inputs))
        found["structures"] = self._told(found["structures"])
        return found


class _Counted:
    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self.shapes: list[tuple[int, ...]] = []

    def run(self, *inputs: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        self.shapes.append(inputs[0].shape[2:])
        answer: Mapping[str, NDArray[Any]] = self._graph.run(*inputs)
        return answer


def test_an_answer_is_that_of_the_whole_film(
    predictor: UNetPredictor, films: list[Film], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = _Counted(predictor.finest)
    monkeypatch.setattr(predictor, "finest", counted)
    found = [predictor.predict(film, PredictOptions()).segments for film in films]
    assert all(len(segments) >= 2 for segments in found)
    whole = _Told(predictor.network, np.ones_like)
    monkeypatch.setattr(predictor, "network", whole)
    windows, counted.shapes = counted.shapes, []
    assert [predictor.predict(film, PredictOptions()).segments for film in films] == found
    sizes = [np.prod(size) for size in counted.shapes]
    assert sizes == [128 * 96] * len(films)
    assert sum(np.prod(size) for size in windows) < 0.7 * sum(sizes)


def test_a_window_that_cuts_a_structure_is_not_believed(
    predictor: UNetPredictor, films: list[Film], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = predictor.predict(films[0], PredictOptions()).segments

    def one_cell(structures: NDArray[np.float32]) -> NDArray[np.float32]:
        told = np.full_like(structures, -1.0)
        row, column = np.argwhere(structures[0, 0] > 0.0)[40]
        told[0, 0, row, column] = 1.0
        return told

    monkeypatch.setattr(predictor, "network", _Told(predictor.network, one_cell))
    counted = _Counted(predictor.finest)
    monkeypatch.setattr(predictor, "finest", counted)
    assert predictor.predict(films[0], PredictOptions()).segments == wanted
    assert counted.shapes[-1] == (128, 96)
    assert len(counted.shapes) == 2


def test_nothing_told_is_no_structure_and_nonsense_is_an_error(
    predictor: UNetPredictor, films: list[Film], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = predictor.network
    monkeypatch.setattr(predictor, "network", _Told(network, lambda each: each * 0.0 - 1.0))
    assert predictor.predict(films[0], PredictOptions()).segments == ()
    monkeypatch.setattr(predictor, "network", _Told(network, lambda each: each * np.nan))
    with pytest.raises(InvalidOutputError, match="not finite"):
        predictor.predict(films[0], PredictOptions())


def test_windows_hold_the_box_with_its_surroundings() -> None:
    rng = np.random.default_rng(0)
    size = (128, 90)
    for _ in range(300):
        there = np.zeros(size, dtype=bool)
        low = rng.integers(0, size)
        high = np.minimum(low + rng.integers(1, 60, 2), size)
        there[low[0] : high[0], low[1] : high[1]] = True
        box = box_of(there)
        assert box == ((low[0], high[0]), (low[1], high[1]))
        window = window_of(box, size)
        right = right_part(window, size)
        for span, cells, pixels, whole, step in zip(box, window, right, size, STEPS, strict=True):
            assert 0 <= cells[0] < cells[1] <= whole
            assert (cells[1] - cells[0]) % step == 0 or cells[1] - cells[0] == whole
            # What is right on the film holds the box and its margin.
            first, last = (SCALE * cells[0] + each for each in pixels)
            assert first <= SCALE * max(0, span[0] - MARGIN)
            assert last >= SCALE * min(whole, span[1] + MARGIN)
            assert first == 0 or pixels[0] == SCALE * HALO
    assert box_of(np.zeros(size, dtype=bool)) is None


def test_the_shipped_rule_is_one_and_a_regression_tells_apart() -> None:
    graph = onnx.load(CARD.parent / "weights" / "lite.network.onnx", load_external_data=False).graph
    kernel = next(each for each in graph.initializer if each.name == "rule.kernel")
    assert numpy_helper.to_array(kernel).any()
    assert not Rule.everywhere(3).weights.any()
    rng = np.random.default_rng(1)
    values = rng.normal(size=(4000, 3)).astype(np.float32)
    there = values @ np.array([2.0, 0.0, -1.0]) > 0.5
    weights, bias = _regression(values, there)
    assert ((values @ weights + bias > 0.0) == there).mean() > 0.98
