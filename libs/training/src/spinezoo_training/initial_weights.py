"""Training that begins with weights that are there: which file, and what is known of it.

A run keeps a copy of the file it began with, because finishing replaces a card's weights: the same
command must still go on with the same run.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinezoo_contract.errors import CardError, ConfigurationError, WeightsError
from spinezoo_serving.cards import ModelCard, file_sha256, load_card, verify_weights
from spinezoo_serving.disk import replace_file

CARD = "card"
"""``--start-from card``: the weights that the card names for the preset."""

COPY_STEM = "start-from"
RECORD_FILE = "start-from.json"


def add_start_argument(parser: argparse.ArgumentParser) -> None:
    """Adds ``--start-from`` to a training's command line."""
    parser.add_argument(
        "--start-from",
        metavar="WEIGHTS",
        help=f"begin with the weights of the card ({CARD}) or of a file instead of random ones",
    )


@dataclass(frozen=True, slots=True)
class Start:
    """Weights that a training begins with.

    Attributes:
        path: The run's own copy.
        sha256: Its digest.
        origin: For the new card: ``sha256``, ``file`` and what the old card's training record says
            (``films_seen``, ``films_seen_total``, ``data``, ``minutes``, ``started_from``);
            nothing but the first two where no card names the file.
    """

    path: Path
    sha256: str
    origin: dict[str, Any]


def find_start(asked: str | None, card: ModelCard, run_dir: Path, suffix: str) -> Start | None:
    """The weights that ``--start-from`` names, copied into the run's folder at its first start.

    Args:
        asked: ``card``, a file, or None for random weights.
        card: The card of the network that is trained.
        run_dir: Folder of the run; made if missing.
        suffix: Of the framework's weights files, such as ``.safetensors``.

    Raises:
        WeightsError: The file is missing or damaged, or the card has no weights.
        ConfigurationError: The file is of another kind, or the run began with other weights.
    """
    copy, record = run_dir / f"{COPY_STEM}{suffix}", run_dir / RECORD_FILE
    kept = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else None
    if asked is None:
        if kept is not None:
            raise ConfigurationError(
                f"the run in {run_dir} began with weights {kept['sha256'][:12]}; give the same "
                "--start-from, or choose another --run-dir"
            )
        return None
    if kept is not None and asked == CARD == kept["asked"]:
        return _kept(copy, kept)
    path = verify_weights(card) if asked == CARD else Path(asked)
    if path.suffix != suffix:
        raise ConfigurationError(f"--start-from {path.name}: this network reads {suffix} files")
    if not path.is_file():
        raise WeightsError(f"weights file {path} is missing; give {CARD!r} or a file that exists")
    sha256 = file_sha256(path)
    if kept is not None:
        if kept["sha256"] != sha256:
            raise ConfigurationError(
                f"the run in {run_dir} began with weights {kept['sha256'][:12]}, not "
                f"{sha256[:12]}; choose another --run-dir, or give the file it began with"
            )
        return _kept(copy, kept)
    if run_dir.is_dir() and any(path.name.startswith("state.") for path in run_dir.iterdir()):
        raise ConfigurationError(
            f"{run_dir} holds a run that began with random weights; choose another --run-dir"
        )
    origin = {"sha256": sha256, "file": path.name, **_told_by_cards(path, sha256, card)}
    run_dir.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, copy)
    # The record comes last: without it the copy counts as not made.
    text = json.dumps({"asked": CARD if asked == CARD else "file", **origin}, indent=1) + "\n"
    replace_file(record, text)
    return Start(copy, sha256, origin)


def _kept(copy: Path, record: dict[str, Any]) -> Start:
    if not copy.is_file() or file_sha256(copy) != record["sha256"]:
        raise WeightsError(
            f"{copy} is missing or changed; remove the run's folder to train from the beginning"
        )
    origin = {key: value for key, value in record.items() if key != "asked"}
    return Start(copy, record["sha256"], origin)


def _told_by_cards(path: Path, sha256: str, card: ModelCard) -> dict[str, Any]:
    """What the card that names the file says of its training: this network's, or one beside it."""
    for place in (card.path, path.resolve().parent.parent / "card.yaml"):
        try:
            found = load_card(place, card.preset)
        except CardError:
            continue
        if found.weights is None or found.weights.sha256 != sha256:
            continue
        told: dict[str, Any] = {
            key: found.training[key]
            for key in ("data", "films_seen", "films_seen_total", "minutes", "started_from")
            if key in found.training
        }
        if "films_seen" in told:
            told.setdefault("films_seen_total", told["films_seen"])
        return told
    return {}


def start_record(start: Start | None, films_seen: int) -> dict[str, Any]:
    """Entries for the new card's training record: the chain, and all films seen along it.

    Args:
        start: What the run began with.
        films_seen: Films seen by the run itself.

    Returns:
        Nothing for random weights. ``films_seen_total`` is left out where a link of the chain is
        unknown.
    """
    if start is None:
        return {}
    entry: dict[str, Any] = {"started_from": start.origin}
    before = start.origin.get("films_seen_total")
    if before is not None:
        entry["films_seen_total"] = int(before) + films_seen
    return entry
