"""docs/pacs.md names every setting with its default, and every status and reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydicom.uid import UID
from pynetdicom import ALL_TRANSFER_SYNTAXES
from spinezoo_pacs.node import intake
from spinezoo_pacs.node.settings import Limits, NodeSettings, Peer, Retry, Tls

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/pacs.md").read_text()
SOURCES = "\n".join(path.read_text() for path in (ROOT / "pacs/src").rglob("*.py"))


def named(word: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w])", PAGE) is not None


@pytest.mark.parametrize("model", [NodeSettings, Peer, Limits, Retry, Tls])
def test_every_setting_is_explained(model: type[BaseModel]) -> None:
    missing = [name for name in model.model_fields if not named(name)]
    assert not missing


def test_defaults_are_those_of_the_settings() -> None:
    for model in (Limits, Retry):
        for name, field in model.model_fields.items():
            assert f"{name} {field.default:g}" in PAGE, name
    for name in ("ae_title", "host", "port", "http_port", "gateway", "viewer", "workers"):
        assert named(str(NodeSettings.model_fields[name].default)), name
    for name in ("retention_h", "aside_retention_h", "gateway_s"):
        assert named(f"{NodeSettings.model_fields[name].default:g}"), name


def test_every_reason_for_which_a_film_is_set_aside_is_explained() -> None:
    reasons = set(re.findall(r'SourceError\(\s*"([a-z-]+)"', SOURCES))
    reasons |= set(re.findall(r'SetAsideError\("([a-z-]+)"\)', SOURCES))
    assert {"value-too-long", "text-left", "no-image"} <= reasons
    for reason in reasons:
        family = f"`{reason.partition('-')[0]}-...`"
        assert f"`{reason}`" in PAGE or family in PAGE, reason


def test_every_status_and_class_stands_in_the_conformance_statement() -> None:
    for name in ("NO_ROOM", "NOT_AUTHORIZED", "NOT_SUPPORTED", "NOT_UNDERSTOOD", "NO_MATCH"):
        assert f"{getattr(intake, name):04X}" in PAGE, name
    words = {"Computed Radiography", "Digital X-Ray", "Secondary Capture", "Radiofluoroscopic"}
    for film_class in intake.FILM_CLASSES:
        assert any(word in UID(film_class).name for word in words), film_class
    assert all(word in PAGE for word in words)
    assert len(ALL_TRANSFER_SYNTAXES) >= 30
