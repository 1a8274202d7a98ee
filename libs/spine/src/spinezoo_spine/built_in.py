"""Small models that travel with this package: their card, record and weights, checked.

People write the card (``card.yaml``), training the record and the weights (``weights``), as for a
network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from spinezoo_contract.errors import CardError, WeightsError


@dataclass(frozen=True, slots=True)
class BuiltInModel:
    """Which model it is.

    Attributes:
        kind: What it is called, and its files.
        folder: Where card and weights lie.
        network: What ``make train NETWORK=`` calls it.
        input_key: Key of the record that names the way from a film to its input.
        input_id: The name of that way in this version.
        most_bytes: Size of the weights at most.
        more_keys: Keys of the record beyond those that every model has.
    """

    kind: str
    folder: Path
    network: str
    input_key: str
    input_id: str
    most_bytes: int
    more_keys: frozenset[str] = frozenset()

    @property
    def weights_file(self) -> str:
        """The weights, from the folder."""
        return f"weights/{self.kind}.onnx"

    @property
    def record_file(self) -> str:
        """The record, from the folder."""
        return f"weights/{self.kind}.json"


@dataclass(frozen=True, slots=True)
class BuiltInCard:
    """A checked card.

    Attributes:
        name: Name of the model.
        version: Version of the card.
        license: Of the weights, an SPDX expression.
        notes: What people have to say.
        weights_sha256: Of the weights file.
        weights_path: The file, its size and digest checked.
        training: How the weights came about.
        metrics: What was measured.
        more: The record's further keys.
    """

    name: str
    version: str
    license: str
    notes: str
    weights_sha256: str
    weights_path: Path
    training: Mapping[str, Any]
    metrics: Mapping[str, Any]
    more: Mapping[str, Any]


def load_built_in_card(model: BuiltInModel, folder: Path | None = None) -> BuiltInCard:
    """Reads and checks card, record and weights file.

    Args:
        model: Which one.
        folder: Where they lie, if not in the model's own folder.

    Raises:
        CardError: A file is missing or a key is missing, unknown or wrong.
        WeightsError: The weights are not those of the record.
    """
    folder = model.folder if folder is None else folder
    card = _read(model, folder / "card.yaml")
    record = _read(model, folder / model.record_file)
    _check_keys(model, "card.yaml", card, {"name", "version", "license", "notes"})
    wanted = {"weights", model.input_key, "training", "metrics"} | model.more_keys
    _check_keys(model, model.record_file, record, wanted)
    train = f"`make train NETWORK={model.network}`"
    if record[model.input_key] != model.input_id:
        raise CardError(
            f"{model.record_file}: the {model.kind} was trained on {record[model.input_key]!r}, "
            f"this version makes {model.input_id!r}; install the version that trained it, or "
            f"{train}"
        )
    path = folder / model.weights_file
    again = f"restore the file, or train again: {train}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"{model.kind}: {model.weights_file} cannot be read ({error}); {again}"
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != record["weights"]["sha256"] or len(content) > model.most_bytes:
        raise WeightsError(
            f"{model.kind}: {model.weights_file} has {len(content)} bytes and SHA-256 {digest}, "
            f"the record says {record['weights']['sha256']}, and {model.most_bytes} bytes are the "
            f"most; {again}"
        )
    return BuiltInCard(
        card["name"],
        card["version"],
        card["license"],
        card["notes"],
        digest,
        path,
        record["training"],
        record["metrics"],
        {key: record[key] for key in sorted(model.more_keys)},
    )


def _read(model: BuiltInModel, path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        said = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CardError(f"{model.kind}: {path.name} cannot be read ({error}); restore it") from None
    if not isinstance(said, dict):
        raise CardError(f"{model.kind}: {path.name} holds no keys; restore it")
    return said


def _check_keys(
    model: BuiltInModel, name: str, said: Mapping[str, Any], wanted: set[str] | frozenset[str]
) -> None:
    if set(said) != wanted:
        odd = ", ".join(sorted(set(said) ^ wanted))
        raise CardError(f"{model.kind}: {name}: missing or unknown: {odd}; correct it")
