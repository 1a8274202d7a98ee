"""The reader's card, its weights, and what it says through ONNX Runtime."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from spinezoo_contract.errors import InvalidOutputError
from spinezoo_spine.built_in import load_built_in_card
from spinezoo_spine.column.reader.card import READER
from spinezoo_spine.column.reader.looking import blank_input
from spinezoo_spine.column.reader.network import ColumnReader, built_in_reader


def test_the_calibration_is_of_use():
    calibration = built_in_reader().calibration
    assert 0.5 <= calibration.threshold < 1.0
    assert calibration.temperature > 0.0


def test_threads_get_the_same_answers():
    reader = ColumnReader(load_built_in_card(READER))
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


@pytest.mark.parametrize("part", ["views", "facts", "film"])
def test_numbers_that_are_not_finite_are_an_error_with_a_name(part):
    given = blank_input(np.zeros((100, 100), np.uint8))
    getattr(given, part)[:] = np.nan
    with pytest.raises(InvalidOutputError, match="not finite"):
        built_in_reader()(given)
