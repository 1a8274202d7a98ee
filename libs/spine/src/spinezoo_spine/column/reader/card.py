"""The reader's card: what it is (``card.yaml``), and how its weights came about (``weights``).

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

from spinezoo_spine.column.reader.looking import VIEWS_ID

FOLDER = Path(__file__).parent
"""Where the card and the weights lie: they travel with the package."""

WEIGHTS_FILE = "weights/reader.onnx"
RECORD_FILE = "weights/reader.json"

MOST_BYTES = 4 * 2**20
"""Size of the weights at most."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Numbers fitted on phantoms.

    Attributes:
        temperature: Evidence is divided by it.
        threshold: A name is given when its probability reaches this.
        count_threshold: The number of lumbar vertebrae counts as read when its probability does.
        view_threshold: Names are given when the probability of an upright lateral film does.
    """

    temperature: float
    threshold: float
    count_threshold: float
    view_threshold: float


@dataclass(frozen=True, slots=True)
class ReaderCard:
    """A checked card.

    Attributes:
        name: Name of the reader.
        version: Version of the card.
        license: Of the weights, an SPDX expression.
        notes: What people have to say.
        weights_sha256: Of the weights file.
        weights_path: The file, its size and digest checked.
        calibration: Fitted numbers.
        training: How the weights came about.
        metrics: What was measured.
    """

    name: str
    version: str
    license: str
    notes: str
    weights_sha256: str
    weights_path: Path
    calibration: Calibration
    training: Mapping[str, Any]
    metrics: Mapping[str, Any]


def load_reader_card(folder: Path = FOLDER) -> ReaderCard:
    """Reads and checks card, record and weights file.

    Raises:
        CardError: A file is missing or a key is missing, unknown or wrong.
        WeightsError: The weights are not those of the record.
    """
    card = _read(folder / "card.yaml")
    record = _read(folder / RECORD_FILE)
    _check_keys(folder / "card.yaml", card, {"name", "version", "license", "notes"})
    wanted = {"weights", "views_id", "calibration", "training", "metrics"}
    _check_keys(folder / RECORD_FILE, record, wanted)
    if record["views_id"] != VIEWS_ID:
        raise CardError(
            f"{RECORD_FILE}: the reader was trained on {record['views_id']!r}, this version makes "
            f"{VIEWS_ID!r}; install the version that trained it, or `make train NETWORK=namer`"
        )
    path = folder / WEIGHTS_FILE
    restore = "restore the file, or train again: `make train NETWORK=namer`"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"reader: {WEIGHTS_FILE} cannot be read ({error}); {restore}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != record["weights"]["sha256"] or len(content) > MOST_BYTES:
        raise WeightsError(
            f"reader: {WEIGHTS_FILE} has {len(content)} bytes and SHA-256 {digest}, the record "
            f"says {record['weights']['sha256']}; {restore}"
        )
    try:
        calibration = Calibration(**record["calibration"])
    except TypeError as error:
        raise CardError(f"{RECORD_FILE}: calibration: {error}; correct it") from None
    return ReaderCard(
        card["name"],
        card["version"],
        card["license"],
        card["notes"],
        digest,
        path,
        calibration,
        record["training"],
        record["metrics"],
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        said = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CardError(f"reader: {path.name} cannot be read ({error}); restore it") from None
    if not isinstance(said, dict):
        raise CardError(f"reader: {path.name} holds no keys; restore it")
    return said


def _check_keys(path: Path, said: Mapping[str, Any], wanted: set[str]) -> None:
    if set(said) != wanted:
        odd = ", ".join(sorted(set(said) ^ wanted))
        raise CardError(f"reader: {path.name}: missing or unknown: {odd}; correct it")
