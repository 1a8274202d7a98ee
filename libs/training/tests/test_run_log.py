"""TensorBoard logs are read back with TensorBoard's own reader."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from spinezoo_contract.types import Structure
from spinezoo_testing.predictors import prepared_block_film
from spinezoo_training.run_log import COLOURS_RGB, LOG_FOLDER, RunLog, prediction_strip
from spinezoo_training.targets import label_map_of


def test_scalars_and_pictures_come_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    film, _ = prepared_block_film()
    strip = prediction_strip([film], [label_map_of(film)])
    log = RunLog(tmp_path)
    assert not (tmp_path / LOG_FOLDER).exists(), "an unused log leaves nothing"
    log.epoch(1, {"loss": 0.75}, strip)
    log.epoch(2, {"loss": 0.5})
    log.close()
    again = RunLog(tmp_path)  # as after a stop
    again.epoch(3, {"loss": 0.25})
    again.close()
    read = EventAccumulator(str(tmp_path / LOG_FOLDER)).Reload()
    assert [(e.step, e.value) for e in read.Scalars("loss")] == [(1, 0.75), (2, 0.5), (3, 0.25)]
    (picture,) = read.Images("film, truth, answer")
    decoded = cv2.imdecode(np.frombuffer(picture.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert (decoded[..., ::-1] == strip).all()


def test_without_tensorboard_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name.startswith("tensorboard"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    log = RunLog(tmp_path)
    for epoch in (1, 2):
        log.epoch(epoch, {"loss": 1.0})
    log.close()
    assert capsys.readouterr().err.count("install tensorboard") == 1
    RunLog(tmp_path, quiet=True).epoch(1, {"loss": 1.0})
    assert capsys.readouterr().err == ""
    assert not (tmp_path / LOG_FOLDER).exists()


def test_the_strip_shows_truth_above_and_answer_below() -> None:
    film, _ = prepared_block_film()
    height, width = film.grey.shape
    wrong = np.full((height, width), int(Structure.CAGE))
    strip = prediction_strip([film, film], [label_map_of(film), wrong])
    assert strip.shape == (2 * height, 2 * width, 3)
    assert (strip[:height, :width] == strip[height:, :width]).all(), "a perfect answer"
    below = strip[height:, width:].astype(int)
    expected = film.grey[..., None] * 0.6 + 0.4 * np.array(COLOURS_RGB[Structure.CAGE])
    assert np.abs(below - expected).max() <= 1
    background = label_map_of(film) == 0
    assert (strip[:height, :width][background] == film.grey[background][:, None]).all()
