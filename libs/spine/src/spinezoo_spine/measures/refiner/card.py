"""The refiner's card: what it is (``card.yaml``), and how its weights came about (``weights``).

People write the card, training the record beside the weights, as for a network.
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

from spinezoo_spine.measures.refiner.looking import LOOK_ID

FOLDER = Path(__file__).parent
"""Where the card and the weights lie: they travel with the package."""

WEIGHTS_FILE = "weights/refiner.onnx"
RECORD_FILE = "weights/refiner.json"

MOST_BYTES = 2 * 2**20
"""Size of the weights at most."""


@dataclass(frozen=True, slots=True)
class RefinerCard:
    """A checked card.

    Attributes:
        name: Name of the refiner.
        version: Version of the card.
        license: Of the weights, an SPDX expression.
        notes: What people have to say.
        weights_sha256: Of the weights file.
        weights_path: The file, its size and digest checked.
        training: How the weights came about.
        metrics: What was measured.
    """

    name: str
    version: str
    license: str
    notes: str
    weights_sha256: str
    weights_path: Path
    training: Mapping[str, Any]
    metrics: Mapping[str, Any]


def load_refiner_card(folder: Path = FOLDER) -> RefinerCard:
    """Reads and checks card, record and weights file.

    Raises:
        CardError: A file is missing or a key is missing, unknown or wrong.
        WeightsError: The weights are not those of the record.
    """
    card = _read(folder / "card.yaml")
    record = _read(folder / RECORD_FILE)
    _check_keys(folder / "card.yaml", card, {"name", "version", "license", "notes"})
    _check_keys(folder / RECORD_FILE, record, {"weights", "look_id", "training", "metrics"})
    if record["look_id"] != LOOK_ID:
        raise CardError(
            f"{RECORD_FILE}: the refiner was trained on {record['look_id']!r}, this version makes "
            f"{LOOK_ID!r}; install the version that trained it, or `make train NETWORK=refiner`"
        )
    path = folder / WEIGHTS_FILE
    again = "restore the file, or train again: `make train NETWORK=refiner`"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"refiner: {WEIGHTS_FILE} cannot be read ({error}); {again}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != record["weights"]["sha256"] or len(content) > MOST_BYTES:
        raise WeightsError(
            f"refiner: {WEIGHTS_FILE} has {len(content)} bytes and SHA-256 {digest}, the record "
            f"says {record['weights']['sha256']}; {again}"
        )
    return RefinerCard(
        card["name"],
        card["version"],
        card["license"],
        card["notes"],
        digest,
        path,
        record["training"],
        record["metrics"],
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        said = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CardError(f"refiner: {path.name} cannot be read ({error}); restore it") from None
    if not isinstance(said, dict):
        raise CardError(f"refiner: {path.name} holds no keys; restore it")
    return said


def _check_keys(path: Path, said: Mapping[str, Any], wanted: set[str]) -> None:
    if set(said) != wanted:
        odd = ", ".join(sorted(set(said) ^ wanted))
        raise CardError(f"refiner: {path.name}: missing or unknown: {odd}; correct it")
