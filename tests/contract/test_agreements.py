"""Names and numbers that several rooms have to write down alike."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from spinezoo.v1 import segment_pb2
from spinezoo_contract.types import Structure
from spinezoo_serving.cards import load_card
from spinezoo_serving.settings import ServerSettings
from spinezoo_spine.inference.preprocess import PREPROCESSING_ID

ROOT = Path(__file__).resolve().parents[2]
CARDS = sorted(ROOT.glob("services/*/card.yaml"))
_VARIABLE = re.compile(r"SPINEZOO_[A-Z0-9_]+[A-Z0-9]\b")


def shipped() -> dict[str, str]:
    """The lines of ``.env``."""
    lines = (ROOT / ".env").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {key: value for key, _, value in pairs}


def test_shipped_settings_are_the_defaults_of_the_code() -> None:
    values = shipped()
    default = ServerSettings()
    for name in ("max_message_bytes", "max_pixels", "queue_limit", "drain_seconds", "threads"):
        assert float(values[f"SPINEZOO_{name.upper()}"]) == getattr(default, name), name
    assert values["SPINEZOO_DEVICE"] == default.device
    gateway = (ROOT / "gateway/src/spinezoo_gateway/settings.py").read_text()
    for name in ("quorum", "member_deadline_ms"):
        match = re.search(rf"^    {name}: int = ([\d_]+)$", gateway, re.MULTILINE)
        assert match is not None, name
        assert values[f"SPINEZOO_{name.upper()}"] == match[1].replace("_", ""), name


def test_every_setting_that_is_read_is_documented() -> None:
    documented = (ROOT / "docs" / "architecture.md").read_text()
    missing = set()
    sources = [
        *ROOT.glob("libs/*/src/**/*.py"),
        *ROOT.glob("services/*/src/**/*.py"),
        *ROOT.glob("gateway/src/**/*.py"),
        *ROOT.glob("evaluator/src/**/*.py"),
        *ROOT.glob("tools/src/**/*.py"),
    ]
    assert len(sources) > 50
    for path in sources:
        for name in _VARIABLE.findall(path.read_text()):
            # Ports and targets stand there once, as SPINEZOO_<NAME>_...
            if re.fullmatch(r"SPINEZOO_[A-Z0-9_]+_(GRPC_PORT|HTTP_PORT|TARGET)", name):
                continue
            # Marks of our own tools, which nobody sets.
            if name.startswith("SPINEZOO_TEST_") or name == "SPINEZOO_ZOO_ID":
                continue
            if name not in documented:
                missing.add(f"{name} ({path.relative_to(ROOT)})")
    assert not missing


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


def test_gateway_and_benchmark_name_failed_members_under_one_key() -> None:
    keys = set()
    for source in (
        "gateway/src/spinezoo_gateway/service.py",
        "evaluator/src/spinezoo_evaluator/runner.py",
    ):
        match = re.search(r'^MEMBERS_KEY = "([a-z-]+)"$', (ROOT / source).read_text(), re.MULTILINE)
        assert match is not None, source
        keys.add(match[1])
    assert len(keys) == 1
