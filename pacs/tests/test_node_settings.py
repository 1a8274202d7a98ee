"""Settings of the node and of a query that could never work are refused at the start, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from spinezoo_contract.errors import ConfigurationError
from spinezoo_pacs.collect.query import read_query
from spinezoo_pacs.node.settings import NodeSettings, read_settings

PEER = {"ae_title": "PACS", "host": "10.1.2.3", "port": 104}
INFINITE, NO_NUMBER = float("inf"), float("nan")


def node_file(folder: Path, **change: Any) -> Path:
    path = folder / "node.yaml"
    document = {"spool": "/tmp/spool", "peers": [PEER], **change}
    path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "change",
    [
        {"gateway": "zoo"},
        {"gateway": "zoo:0"},
        {"gateway": "zoo:65536"},
        {"gateway": "zoo:" + "9" * 5000},
        {"gateway": "zoo:٣"},
        {"gateway": ""},
        {"gateway": ":50050"},
        {"gateway": "http://zoo:50050"},
        {"gateway": "z" * 64 + ":50050"},
        {"gateway_s": INFINITE},
        {"gateway_s": NO_NUMBER},
        {"retention_h": INFINITE},
        {"aside_retention_h": NO_NUMBER},
        {"host": ""},
        {"host": "10.1.2"},
        {"host": "10.1.2.3:104"},
        {"host": "wörter buch"},
        {"spool": ""},
        {"spool": " "},
        {"spool": None},
    ],
)
def test_a_value_that_cannot_work_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    (name,) = change
    with pytest.raises(ConfigurationError, match=rf"node\.yaml: {name}: ") as refused:
        read_settings(node_file(tmp_path, **change))
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("retry", {"first_s": INFINITE}),
        ("retry", {"most_s": NO_NUMBER}),
        ("limits", {"association_s": NO_NUMBER}),
        ("peers", {"host": "10.1.2.3:104"}),
        ("peers", {"host": "http://pacs"}),
        ("peers", {"host": "p" * 64}),
        ("peers", {"host": "pacs..hospital"}),
        ("peers", {"host": "256.1.2.3"}),
        ("peers", {"host": "bücher.example"}),
        ("peers", {"addresses": ["10.1.0.0/33"]}),
        ("peers", {"addresses": ["10.1.0.0/16", ""]}),
        ("peers", {"addresses": ["10.1.*"]}),
    ],
)
def test_a_value_further_inside_is_named(
    tmp_path: Path, place: str, change: dict[str, Any]
) -> None:
    (name,) = change
    given: Any = [{**PEER, **change}] if place == "peers" else change
    with pytest.raises(ConfigurationError, match=rf"node\.yaml: {place}\.(0\.)?{name}"):
        read_settings(node_file(tmp_path, **{place: given}))


@pytest.mark.parametrize(
    "change",
    [
        {"host": "::1", "gateway": "[::1]:50050"},
        {"host": "0.0.0.0", "gateway": "gateway:50050"},
        {"gateway": "dns:///zoo.hospital:50050", "host": "node-1.hospital."},
        {"gateway": "unix:/run/zoo"},
        {"peers": [{**PEER, "addresses": ["10.1.0.0/16", "fe80::1", "pacs_2", "172.18.0.1"]}]},
        {"peers": [{"ae_title": "A", "web_url": "https://pacs/dicom-web", "addresses": ["a"]}]},
        {"retention_h": 0, "gateway_s": 0.5},
    ],
)
def test_what_can_work_is_taken(tmp_path: Path, change: dict[str, Any]) -> None:
    assert read_settings(node_file(tmp_path, **change)).peers


@pytest.mark.parametrize(
    "change",
    [
        {"films_per_minute": 1e-300},
        {"films_per_minute": NO_NUMBER},
        {"films_per_minute": INFINITE},
        {"films_per_minute": -1},
        {"gateway": "zoo"},
        {"pacs": {**PEER, "host": "http://pacs"}},
        {"pacs": {**PEER, "port": 0}},
        {"pacs": {**PEER, "our_host": "10.1.2.3:104"}},
    ],
)
def test_a_query_that_cannot_work_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "query.yaml"
    path.write_text(yaml.safe_dump({"pacs": PEER, **change}))
    with pytest.raises(ConfigurationError, match="|".join(change)):
        read_query(path)


def test_a_query_that_can_work_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "query.yaml"
    for pace in (0, 0.5, 60):
        path.write_text(yaml.safe_dump({"pacs": PEER, "films_per_minute": pace, "gateway": ""}))
        assert read_query(path).films_per_minute == pace


def test_a_sender_that_is_gone_is_named() -> None:
    settings = NodeSettings.model_validate({"spool": "x", "peers": [PEER]})
    assert [peer.ae_title for peer in settings.destinations("PACS")] == ["PACS"]
    with pytest.raises(ConfigurationError, match="GONE is no peer any more"):
        settings.destinations("GONE")
