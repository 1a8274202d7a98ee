"""Names and numbers that several rooms have to write down alike."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from spinezoo.v1 import segment_pb2
from spinezoo_contract.types import Structure
from spinezoo_serving.cards import load_card
from spinezoo_serving.variables import RENAMED
from spinezoo_spine.inference.preprocess import PREPROCESSING_ID
from spinezoo_tools.checkout import read_env_file
from spinezoo_tools.variables import names

ROOT = Path(__file__).resolve().parents[2]
CARDS = sorted(ROOT.glob("services/*/card.yaml"))
_REFERENCE = re.compile(r"\$\{(SPINEZOO_[A-Z0-9_]+)")


def test_every_variable_of_compositions_and_env_is_documented() -> None:
    services = {path.parent.name.upper() for path in CARDS} | {"GATEWAY", "EVALUATOR"}
    used = set(read_env_file(ROOT / ".env"))
    for path in ROOT.glob("compose*.yaml"):
        used |= set(_REFERENCE.findall(path.read_text()))
        for service in yaml.safe_load(path.read_text())["services"].values():
            used |= set(service.get("environment", {}))
    own = {name for name in used if name.startswith("SPINEZOO_")} - set(RENAMED)
    assert len(own) > 40
    for name in own:
        forms = {name} | {name.replace(f"_{one}_", "_<NAME>_", 1) for one in services}
        assert forms & names(), name


def test_structures_have_the_numbers_of_the_wire() -> None:
    wire = {
        name.removeprefix("STRUCTURE_"): number
        for name, number in segment_pb2.Structure.items()
        if number
    }
    assert wire == {structure.name: int(structure) for structure in Structure}


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.parent.name)
def test_cards_name_the_preparation_there_is(path: Path) -> None:
    card = load_card(path)
    assert card.preprocessing_id == PREPROCESSING_ID
    assert set(card.structures) == set(Structure)
