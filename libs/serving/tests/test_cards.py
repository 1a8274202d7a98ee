"""Model cards: strict reading, weights checks, the record that training writes."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from spinezoo_contract.errors import CardError, WeightsError
from spinezoo_contract.types import ModelFamily, Structure
from spinezoo_serving import cards
from spinezoo_serving.cards import (
    CardWeights,
    describe_graphs,
    describe_weights,
    load_card,
    record_path,
    update_card,
    verify_graphs,
    verify_weights,
    weights_path,
)

WEIGHTS = b"not a network, but bytes with a digest"
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()

CARD = """\
# The card of a network in a test.
name: pspnet                  # the folder's name
version: 0.1.0
architecture: "PSPNet (Zhao 2017), narrow ResNet-18"
family: semantic
reference: "https://arxiv.org/abs/1612.01105"
license: Apache-2.0
preset: lite
preprocessing_id: letterbox-2ch-v1
structures: [lumbar_vertebra, sacral_vertebra, cage, screw, rod]
defaults: {score_threshold: 0.0, suppression_iou: null, max_segments: 100}
presets:
  lite:
    input: {height: 320, width: 256, channels: 2}
    network: {backbone: resnet18, bins: [1, 2, 3, 6]}  # of the constructor
    notes: Trained in no time.

  # The size of the original.
  paper:
    input: {height: 473, width: 473, channels: 2}
    network: {}
"""

RECORD = f"""\
{{
  "weights": {{
    "file": "weights/lite.safetensors",
    "sha256": "{SHA256}",
    "bytes": {len(WEIGHTS)},
    "dtype": "float16",
    "probe": {{"seed": 0, "values": [0.5, 1, -2.25], "tolerance": 0.01}}
  }},
  "training": {{"epochs": 3}},
  "metrics": {{}}
}}
"""


@pytest.fixture(autouse=True)
def _no_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cards.PRESET_VARIABLE, raising=False)


@pytest.fixture
def card_path(tmp_path: Path) -> Path:
    path = tmp_path / "card.yaml"
    path.write_text(CARD, encoding="utf-8")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "lite.safetensors").write_bytes(WEIGHTS)
    (tmp_path / "weights" / "lite.json").write_text(RECORD, encoding="utf-8")
    return path


def test_reads_every_key(card_path: Path) -> None:
    card = load_card(card_path)
    assert (card.name, card.version, card.preset) == ("pspnet", "0.1.0", "lite")
    assert card.family is ModelFamily.SEMANTIC
    assert card.structures == tuple(Structure)
    assert (card.input.height, card.input.width, card.input.channels) == (320, 256, 2)
    assert card.network == {"backbone": "resnet18", "bins": [1, 2, 3, 6]}
    assert card.defaults.score_threshold == 0.0
    assert card.defaults.suppression_iou is None
    assert card.defaults.max_segments == 100
    assert card.license == "Apache-2.0"
    assert card.preprocessing_id == "letterbox-2ch-v1"
    assert card.weights is not None
    assert card.weights.probe.values == (0.5, 1.0, -2.25)
    assert card.weights_sha256 == SHA256
    assert card.training == {"epochs": 3}
    assert card.metrics == {}
    assert card.notes == "Trained in no time."
    assert load_card(card_path, "paper").notes == ""
    assert card.card_sha256 == hashlib.sha256(card_path.read_bytes()).hexdigest()
    assert verify_weights(card) == weights_path(card)


def test_card_is_frozen(card_path: Path) -> None:
    with pytest.raises(AttributeError):
        load_card(card_path).name = "other"  # type: ignore[misc]


def test_info_carries_the_servers_limits(card_path: Path) -> None:
    info = load_card(card_path).info(
        SimpleNamespace(max_message_bytes=7, queue_limit=3, image="zoo/x:1")
    )
    assert (info.name, info.preset, info.weights_sha256) == ("pspnet", "lite", SHA256)
    assert (info.max_message_bytes, info.queue_limit, info.image) == (7, 3, "zoo/x:1")
    assert (info.input_height, info.input_width) == (320, 256)


def test_preset_argument_beats_environment_beats_card(
    card_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_card(card_path, "paper").input.height == 473
    monkeypatch.setenv(cards.PRESET_VARIABLE, "paper")
    assert load_card(card_path).preset == "paper"
    assert load_card(card_path, "lite").preset == "lite"
    monkeypatch.setenv(cards.PRESET_VARIABLE, "")
    assert load_card(card_path).preset == "lite"
    monkeypatch.setenv(cards.PRESET_VARIABLE, "huge")
    with pytest.raises(CardError, match=r"no preset 'huge'; choose one of lite, paper"):
        load_card(card_path)


def test_preset_without_weights_says_how_to_train(card_path: Path) -> None:
    card = load_card(card_path, "paper")
    assert card.weights is None
    for use in (weights_path, verify_weights, lambda card: card.weights_sha256):
        with pytest.raises(WeightsError, match=r"make train NETWORK=pspnet PRESET=paper"):
            use(card)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: pspnet", "nmae: pspnet", r"key 'nmae' is unknown; remove it, or use one of name"),
        ("version: 0.1.0", "version: 0.1", r"key 'version' is float 0.1; write .* in quotes"),
        ("version: 0.1.0", "version: one", r"key 'version' is 'one'; write a version"),
        ("family: semantic\n", "", r"key 'family' is missing; add it"),
        ("family: semantic", "family: both", r"key 'family' .*; write one of semantic, instance"),
        ("cage, screw", "kage, screw", r"key 'structures\[2\]' is str 'kage'; write one of"),
        ("cage, screw", "cage, cage", r"key 'structures\[2\]' repeats cage"),
        ("height: 320", "height: tall", r"key 'presets.lite.input.height' .*an integer from 16"),
        ("height: 320", "height: true", r"key 'presets.lite.input.height' is bool"),
        ("height: 473", "height: 0", r"key 'presets.paper.input.height' is 0"),
        ("height: 320", "hieght: 320", r"key 'presets.lite.input.hieght' is unknown"),
        ("    notes:", "    note:", r"'presets.lite.note' is unknown; .*precision, notes"),
        ("    network: {}", "    weights: null", r"key 'presets.paper.weights' is unknown"),
        ("    network: {}\n", "", r"key 'presets.paper.network' is missing"),
        ("network: {}", "network: 3", r"key 'presets.paper.network' is int 3; write a mapping"),
        ("{backbone:", "{Backbone:", r"'presets.lite.network.Backbone' has a wrong name"),
        ("  paper:", "  Paper:", r"key 'presets.Paper' has a wrong name; names match"),
        ("input: {height: 473, width: 473, channels: 2}", "input: 4",
         r"'presets.paper.input' is int 4; write a mapping with height, width, channels"),
        ("notes: Trained in no time.", "notes: 3", r"'presets.lite.notes' is int 3; write text"),
        ("score_threshold: 0.0", "score_threshold: 1.5", r"write a number from 0 to 1"),
        ("score_threshold: 0.0", "score_threshold: 1e-3", r"is str '1e-3'.*write 0.001"),
        ("score_threshold: 0.0", "score_threshold: .nan", r"score_threshold' is nan"),
        ("suppression_iou: null", "suppression_iou: no", r"suppression_iou' is bool"),
        ("max_segments: 100", "max_segments: 0", r"max_segments' is 0"),
        ("preset: lite", "preset: large", r"key 'preset' names 'large'; use one of lite, paper"),
        ("reference: \"https", "reference: \"ftp", r"key 'reference' .*http"),
        ("license: Apache-2.0", "license: ''", r"key 'license' is empty"),
        ("family: semantic", "family: semantic\nfamily: instance", r"'family' stands twice"),
        ("name: pspnet", "name: &n pspnet\n1: x", r"key 1 is not text"),
        ("network: {}", "network: *n", r"aliases are not allowed"),
        ("network: {}", "network: !!python/object/apply:os.getcwd []", r"not the YAML of a card"),
        ("presets:\n", "presets: [\n", r"not the YAML of a card"),
    ],
)  # fmt: skip
def test_wrong_cards_name_key_and_mend(card_path: Path, old: str, new: str, message: str) -> None:
    assert old in CARD
    card_path.write_text(CARD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(CardError, match=message):
        load_card(card_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (SHA256, SHA256.upper(), r"key 'weights.sha256' is '.*64 lower-case hexa"),
        (f'"{SHA256}"', "1" * 64, r"key 'weights.sha256' is int .*in quotes"),
        ("weights/lite.safetensors", "weights/lite.pth", r"weights.file' .*cannot carry code"),
        ("weights/lite.safetensors", "../lite.safetensors", r"below the card's folder"),
        ("weights/lite.safetensors", "/lite.safetensors", r"below the card's folder"),
        ('"seed": 0,', "", r"key 'weights.probe.seed' is missing; add it"),
        ('"seed": 0,', '"seed": 0, "sead": 0,', r"'weights.probe.sead' is unknown; .*seed, values"),
        ("[0.5, 1, -2.25]", "[]", r"key 'weights.probe.values' is empty"),
        ("[0.5, 1, -2.25]", '[0.5, "1"]', r"key 'weights.probe.values\[1\]' is str '1'; write a"),
        ("0.01", "-0.01", r"tolerance' is -0.01; write a number from 0"),
        ("0.01", "NaN", r"NaN is not finite"),
        ("0.01", "1e999", r"tolerance' is inf"),
        ('"epochs": 3', '"epochs": 3, "epochs": 4', r"key 'epochs' stands twice"),
        ('{"epochs": 3}', "3", r"key 'training' is int 3; write a mapping"),
        ('"metrics"', '"metrix"', r"key 'metrix' is unknown; .*weights, graphs, training, metrics"),
        ("{\n", "[\n", r"not the JSON of a record"),
    ],
)  # fmt: skip
def test_wrong_records_name_file_key_and_mend(
    card_path: Path, old: str, new: str, message: str
) -> None:
    assert old in RECORD
    record_path(card_path, "lite").write_text(RECORD.replace(old, new, 1), encoding="utf-8")
    for preset in ("lite", "paper"):  # All records are checked, not only the chosen one.
        with pytest.raises(CardError, match=message) as caught:
            load_card(card_path, preset)
        assert str(record_path(card_path, "lite")) in str(caught.value)


def test_a_record_of_no_preset_is_refused(card_path: Path) -> None:
    record_path(card_path, "large").write_text("{}", encoding="utf-8")
    with pytest.raises(CardError, match=r"large\.json is of no preset .*\(lite, paper\)"):
        load_card(card_path)


@pytest.mark.parametrize("content", [b"", b"- a list\n", b"text", b"\xff\xfe\x00", b"a: \x00"])
def test_files_that_are_no_cards(card_path: Path, content: bytes) -> None:
    card_path.write_bytes(content)
    with pytest.raises(CardError, match=str(card_path)):
        load_card(card_path)


def test_missing_and_huge_files(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="cannot be read"):
        load_card(tmp_path / "card.yaml")
    (tmp_path / "card.yaml").write_bytes(b"#" * (cards.MAX_CARD_BYTES + 1))
    with pytest.raises(CardError, match="larger than"):
        load_card(tmp_path / "card.yaml")


def test_changed_weights_are_refused(card_path: Path) -> None:
    card = load_card(card_path)
    file = weights_path(card)
    file.write_bytes(WEIGHTS[:-1] + b"T")
    with pytest.raises(WeightsError, match=r"has SHA-256 .* restore the file"):
        verify_weights(card)
    file.write_bytes(WEIGHTS[:-1])
    with pytest.raises(WeightsError, match=f"has {len(WEIGHTS) - 1} bytes, the card says"):
        verify_weights(card)
    file.unlink()
    with pytest.raises(WeightsError, match="is missing; restore the file"):
        verify_weights(card)


def _new_weights(card_path: Path, content: bytes = b"new") -> CardWeights:
    file = card_path.parent / "weights" / "new.safetensors"
    file.write_bytes(content)
    return describe_weights(
        card_path,
        file,
        dtype="float16",
        probe_seed=7,
        probe_values=np.array([0.125, 1e-7], dtype=np.float32),
        probe_tolerance=0.02,
    )


@pytest.mark.parametrize("preset", ["lite", "paper"])
def test_update_writes_the_record_of_its_preset_and_nothing_else(
    card_path: Path, preset: str
) -> None:
    entry = _new_weights(card_path)
    written = update_card(
        card_path,
        preset,
        weights=entry,
        training={"epochs": np.int64(12), "losses": [np.float32(0.5)], "data": {"films": 730}},
        metrics={"mean_iou": 0.875},
    )
    card = load_card(card_path, preset)
    assert card == written
    assert card.weights == entry
    assert card.training == {"epochs": 12, "losses": [0.5], "data": {"films": 730}}
    assert card.metrics == {"mean_iou": 0.875}
    assert verify_weights(card).read_bytes() == b"new"
    assert card_path.read_text(encoding="utf-8") == CARD
    if preset == "paper":
        assert record_path(card_path, "lite").read_text(encoding="utf-8") == RECORD
    else:
        assert not record_path(card_path, "paper").exists()
    text = record_path(card_path, preset).read_text(encoding="utf-8")
    assert list(json.loads(text)) == ["weights", "training", "metrics"]
    folder = record_path(card_path, preset).parent
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


def test_update_leaves_the_entries_that_are_not_given(card_path: Path) -> None:
    before = load_card(card_path)
    card = update_card(card_path, "lite", metrics={"iou": 0.5})
    assert (card.weights, card.training) == (before.weights, before.training)
    assert card == load_card(card_path)


def test_update_twice_gives_the_same_bytes(card_path: Path) -> None:
    entry = _new_weights(card_path)
    arguments = {"weights": entry, "training": {"epochs": 1}, "metrics": {"a": {"b": 0.5}}}
    update_card(card_path, "lite", **arguments)
    first = record_path(card_path, "lite").read_bytes()
    update_card(card_path, "lite", **arguments)
    assert record_path(card_path, "lite").read_bytes() == first


def test_update_makes_the_folder_of_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(CARD, encoding="utf-8")
    card = update_card(path, "lite", training={"epochs": 2})
    assert (card.weights, card.training, card.metrics) == (None, {"epochs": 2}, {})
    assert card == load_card(path)


@pytest.mark.parametrize(
    "training",
    [{"loss": float("nan")}, {"machine": object()}, {"array": np.zeros(3)}],
)
def test_update_refuses_what_is_no_plain_value(
    card_path: Path, training: dict[str, object]
) -> None:
    with pytest.raises(CardError, match=r"^training\.lite\."):
        update_card(card_path, "lite", training=training)
    assert record_path(card_path, "lite").read_text(encoding="utf-8") == RECORD


def test_update_leaves_the_file_when_the_new_record_would_be_wrong(card_path: Path) -> None:
    entry = _new_weights(card_path)
    wrong = CardWeights(entry.file, "abc", entry.bytes, entry.dtype, entry.probe)
    with pytest.raises(CardError, match="sha256"):
        update_card(card_path, "lite", weights=wrong)
    with pytest.raises(CardError, match="no preset 'huge'"):
        update_card(card_path, "huge", metrics={})
    assert record_path(card_path, "lite").read_text(encoding="utf-8") == RECORD


def test_describe_refuses_files_elsewhere(card_path: Path, tmp_path_factory: object) -> None:
    outside = card_path.parent.parent / "outside.safetensors"
    arguments = {"dtype": "float16", "probe_seed": 0, "probe_values": [1.0], "probe_tolerance": 0.1}
    with pytest.raises(CardError, match="outside"):
        describe_weights(card_path, outside, **arguments)
    with pytest.raises(WeightsError, match="missing"):
        describe_weights(card_path, card_path.parent / "gone.safetensors", **arguments)


def test_graphs_for_int8_are_verified_where_they_are_wanted(card_path: Path) -> None:
    folder = card_path.parent / "weights"
    graphs = {part: folder / f"lite.{part}.onnx" for part in ("film", "boxes")}
    rounded = folder / "lite.film.int8.onnx"
    for path in (*graphs.values(), rounded):
        path.write_bytes(path.name.encode())
    card = load_card(card_path, "lite")
    card = update_card(card_path, "lite", graphs=describe_graphs(card, graphs))
    assert "int8" not in record_path(card_path, "lite").read_text(encoding="utf-8")
    assert verify_graphs(card) == graphs
    with pytest.raises(WeightsError, match=r"make export NETWORK=pspnet ARGS=--int8"):
        verify_graphs(card, int8=True)

    update_card(card_path, "lite", graphs=describe_graphs(card, graphs, {"film": rounded}))
    card = load_card(card_path, "lite")
    assert verify_graphs(card) == graphs
    assert verify_graphs(card, int8=True) == graphs | {"film": rounded}
    rounded.write_bytes(b"another")
    assert verify_graphs(card) == graphs
    with pytest.raises(WeightsError, match=r"film\.int8\.onnx is not the exported one"):
        verify_graphs(card, int8=True)


@pytest.mark.parametrize("precision", ["int4", "bfloat16", "8"])
def test_a_card_asks_for_int8_or_nothing(card_path: Path, precision: str) -> None:
    text = CARD.replace("    notes: Trained", f"    precision: {precision}\n    notes: Trained")
    card_path.write_text(text, encoding="utf-8")
    with pytest.raises(CardError, match="precision"):
        load_card(card_path)
    card_path.write_text(text.replace(precision, "int8"), encoding="utf-8")
    assert load_card(card_path, "lite").precision == "int8"
    assert load_card(card_path, "paper").precision == ""
