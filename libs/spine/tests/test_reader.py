"""The reader's card, its weights, and what it says through ONNX Runtime."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from spinezoo_contract.errors import CardError, InvalidOutputError, WeightsError
from spinezoo_spine.column.reader.card import (
    FOLDER,
    MOST_BYTES,
    RECORD_FILE,
    WEIGHTS_FILE,
    load_reader_card,
)
from spinezoo_spine.column.reader.looking import blank_input
from spinezoo_spine.column.reader.network import ColumnReader, built_in_reader


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "reader"
    (copy / "weights").mkdir(parents=True)
    for name in ("card.yaml", RECORD_FILE, WEIGHTS_FILE):
        shutil.copy(FOLDER / name, copy / name)
    return copy


def test_the_built_in_card_is_whole():
    card = built_in_reader().card
    assert card.weights_path.stat().st_size < MOST_BYTES
    assert card.training["real_films_trained_on"] == 0
    assert 0.5 <= card.calibration.threshold < 1.0
    assert card.calibration.temperature > 0.0
    assert built_in_reader() is built_in_reader()


def test_other_weights_than_the_cards_are_refused(folder):
    path = folder / WEIGHTS_FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match="make train NETWORK=namer"):
        load_reader_card(folder)
    path.unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        load_reader_card(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views_id": "column-views-0"}, "column-views-0"),
        ({"extra": 1}, "extra"),
        ({"calibration": {"temperature": 1.0}}, "calibration"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(folder, change, message):
    path = folder / RECORD_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CardError, match=message):
        load_reader_card(folder)


def test_a_card_that_is_no_card_is_refused(folder):
    (folder / "card.yaml").write_text("- a list\n")
    with pytest.raises(CardError, match="no keys"):
        load_reader_card(folder)
    (folder / "card.yaml").unlink()
    with pytest.raises(CardError, match="cannot be read"):
        load_reader_card(folder)


def test_threads_get_the_same_answers():
    reader = ColumnReader(load_reader_card())
    given = blank_input(np.random.default_rng(0).integers(0, 255, (200, 150), dtype=np.uint8))
    alone = reader(given)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(reader(given))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    for said in answers:
        np.testing.assert_array_equal(said.views, alone.views)
        np.testing.assert_array_equal(said.evidence.below, alone.evidence.below)
    assert alone.views.sum() == pytest.approx(1.0)


def test_numbers_that_are_not_finite_are_an_error_with_a_name():
    given = blank_input(np.zeros((100, 100), np.uint8))
    given.facts[:] = np.nan
    with pytest.raises(InvalidOutputError, match="not finite"):
        built_in_reader()(given)
