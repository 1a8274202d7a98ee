"""Training that begins with weights that are there: the right file, and an honest record of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from spinezoo_contract.errors import ConfigurationError, WeightsError
from spinezoo_serving.cards import (
    CardProbe,
    CardWeights,
    ModelCard,
    file_sha256,
    load_card,
    update_card,
)
from spinezoo_training.initial_weights import find_start, start_record

CARD = {
    "name": "small",
    "version": "0.1.0",
    "architecture": "a small network",
    "family": "semantic",
    "reference": "https://example.org",
    "license": "Apache-2.0",
    "preset": "lite",
    "preprocessing_id": "letterbox-2ch-v1",
    "structures": ["lumbar_vertebra"],
    "defaults": {"score_threshold": 0.0, "suppression_iou": None, "max_segments": 100},
    "presets": {
        "lite": {
            "input": {"height": 64, "width": 48, "channels": 2},
            "network": {},
        }
    },
}


def trained(folder: Path, content: bytes, **training: object) -> ModelCard:
    """A card whose weights file holds some bytes."""
    card = folder / "card.yaml"
    if not card.exists():
        folder.mkdir(exist_ok=True)
        card.write_text(yaml.safe_dump(CARD, sort_keys=False))
    file = folder / "weights" / "lite.safetensors"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    weights = CardWeights(
        "weights/lite.safetensors",
        file_sha256(file),
        len(content),
        "float16",
        CardProbe(0, (1.0,), 0.1),
    )
    return update_card(card, "lite", weights=weights, training=training)


def test_none_asked_for_none_found(tmp_path: Path) -> None:
    card = trained(tmp_path / "net", b"one")
    assert find_start(None, card, tmp_path / "run", ".safetensors") is None
    assert start_record(None, 100) == {}
    assert not (tmp_path / "run").exists()


def test_the_chain_is_told_with_all_films_seen(tmp_path: Path) -> None:
    card = trained(tmp_path / "net", b"one", films_seen=1000, data="phantoms:1", minutes=5.0)
    first = find_start("card", card, tmp_path / "run1", ".safetensors")
    assert first is not None
    assert first.path.read_bytes() == b"one"
    record = start_record(first, 200)
    assert record["films_seen_total"] == 1200
    assert record["started_from"] == {
        "sha256": first.sha256,
        "file": "lite.safetensors",
        "data": "phantoms:1",
        "films_seen": 1000,
        "films_seen_total": 1000,
        "minutes": 5.0,
    }
    card = trained(tmp_path / "net", b"two", films_seen=200, data="phantoms:2", **record)
    second = find_start("card", card, tmp_path / "run2", ".safetensors")
    record = start_record(second, 30)
    assert record["films_seen_total"] == 1230
    assert record["started_from"]["started_from"]["data"] == "phantoms:1"
    card = trained(tmp_path / "net", b"three", films_seen=30, **record)  # a card can hold it
    assert load_card(card.path).training["films_seen_total"] == 1230


def test_a_stopped_run_goes_on_with_what_it_began_with(tmp_path: Path) -> None:
    card = trained(tmp_path / "net", b"one", films_seen=1000)
    run = tmp_path / "run"
    first = find_start("card", card, run, ".safetensors")
    card = trained(tmp_path / "net", b"two", films_seen=50)  # another run has finished meanwhile
    again = find_start("card", card, run, ".safetensors")
    assert again == first
    with pytest.raises(ConfigurationError, match="began with weights"):
        find_start(str(tmp_path / "net/weights/lite.safetensors"), card, run, ".safetensors")
    with pytest.raises(ConfigurationError, match="give the same --start-from"):
        find_start(None, card, run, ".safetensors")
    first.path.write_bytes(b"spoilt")  # type: ignore[union-attr]
    with pytest.raises(WeightsError, match="missing or changed"):
        find_start("card", card, run, ".safetensors")


def test_a_file_is_known_by_the_card_beside_it_or_not_at_all(tmp_path: Path) -> None:
    other = trained(tmp_path / "copy", b"other", films_seen=70)
    card = trained(tmp_path / "net", b"one", films_seen=1000)
    file = other.path.parent / "weights" / "lite.safetensors"
    start = find_start(str(file), card, tmp_path / "run", ".safetensors")
    assert start is not None
    assert start_record(start, 5)["films_seen_total"] == 75
    file = tmp_path / "net" / "found.safetensors"
    file.write_bytes(b"found somewhere")
    start = find_start(str(file), card, tmp_path / "run2", ".safetensors")
    assert start is not None
    record = start_record(start, 5)
    assert record == {"started_from": {"sha256": file_sha256(file), "file": "found.safetensors"}}


def test_what_cannot_be_begun_with_is_named(tmp_path: Path) -> None:
    card = trained(tmp_path / "net", b"one")
    run = tmp_path / "run"
    with pytest.raises(WeightsError, match="missing"):
        find_start(str(tmp_path / "none.safetensors"), card, run, ".safetensors")
    with pytest.raises(ConfigurationError, match=r"reads \.h5 files"):
        find_start("card", card, run, ".h5")
    run.mkdir()
    (run / "state.safetensors").write_bytes(b"state")
    with pytest.raises(ConfigurationError, match="random weights"):
        find_start("card", card, run, ".safetensors")
    (tmp_path / "net/weights/lite.safetensors").write_bytes(b"oen")
    with pytest.raises(WeightsError, match="SHA-256"):
        find_start("card", card, tmp_path / "run3", ".safetensors")
