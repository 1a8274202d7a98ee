"""The models that travel with this package: card, record and weights belong together."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from spinezoo_contract.errors import CardError, WeightsError
from spinezoo_spine.built_in import BuiltInModel, load_built_in_card
from spinezoo_spine.column.reader.card import READER
from spinezoo_spine.column.reader.network import ColumnReader, built_in_reader
from spinezoo_spine.measures.refiner.card import REFINER
from spinezoo_spine.measures.refiner.network import built_in_refiner


def copied(model: BuiltInModel, to: Path) -> BuiltInModel:
    """A copy of a model that may be damaged."""
    (to / "weights").mkdir(parents=True)
    for name in ("card.yaml", model.record_file, model.weights_file):
        shutil.copy(model.folder / name, to / name)
    return replace(model, folder=to)


@pytest.fixture(params=[READER, REFINER], ids=lambda model: model.kind)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> BuiltInModel:
    return copied(request.param, tmp_path / "copy")


def change(model: BuiltInModel, **keys: Any) -> None:
    path = model.folder / model.record_file
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def test_the_cards_are_whole_and_loaded_once(model: BuiltInModel) -> None:
    card = load_built_in_card(model)
    assert card.weights_path.stat().st_size < model.most_bytes
    assert card.training["real_films_trained_on"] == 0
    assert built_in_reader() is built_in_reader()
    assert built_in_refiner() is built_in_refiner()


def test_other_weights_than_the_cards_are_refused(model: BuiltInModel) -> None:
    path = model.folder / model.weights_file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match=f"make train NETWORK={model.network}"):
        load_built_in_card(model)
    path.unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        load_built_in_card(model)


def test_weights_that_are_too_large_are_refused(model: BuiltInModel) -> None:
    with pytest.raises(WeightsError, match="1000 bytes are the most"):
        load_built_in_card(replace(model, most_bytes=1000))


@pytest.mark.parametrize("key", ["input", "extra"])
def test_a_record_that_does_not_fit_is_refused(model: BuiltInModel, key: str) -> None:
    change(model, **{model.input_key if key == "input" else key: "older-0"})
    with pytest.raises(CardError, match="older-0" if key == "input" else "extra"):
        load_built_in_card(model)


def test_a_card_that_is_no_card_is_refused(model: BuiltInModel) -> None:
    (model.folder / "card.yaml").write_text("- a list\n")
    with pytest.raises(CardError, match="no keys"):
        load_built_in_card(model)
    (model.folder / "card.yaml").unlink()
    with pytest.raises(CardError, match="cannot be read"):
        load_built_in_card(model)


def test_a_calibration_that_lacks_a_number_is_refused(tmp_path: Path) -> None:
    reader = copied(READER, tmp_path / "copy")
    change(reader, calibration={"temperature": 1.0})
    with pytest.raises(CardError, match="calibration"):
        ColumnReader(load_built_in_card(reader))
