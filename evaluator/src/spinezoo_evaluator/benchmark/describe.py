"""What a run is: its films, networks and surroundings, so that it can be repeated."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spinezoo_contract.errors import ConfigurationError
from spinezoo_contract.types import Roster
from spinezoo_contract.words import counted
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.annotations.text import shown
from spinezoo_spine.column.naming import reader_provenance
from spinezoo_spine.column.reader.network import built_in_reader

VERSIONED = (
    "spinezoo-contract",
    "spinezoo-spine",
    "spinezoo-evaluator",
    "numpy",
    "scipy",
    "opencv-python-headless",
    "pillow",
    "pycocotools",
    "pydicom",
    "grpcio",
    "protobuf",
)
"""Distributions whose versions a report names."""


def file_sha256(path: Path) -> str:
    """Lower-case hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shown_path(path: Path) -> str:
    """A path as a report may name it: relative to where the command ran, or its last part."""
    with contextlib.suppress(ValueError):
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix()
    return path.name


def shown_command(argv: Sequence[str]) -> str:
    """The command line without absolute paths."""
    words = ["python", "-m", "spinezoo_evaluator.benchmark"]
    for word in argv:
        option, equals, value = word.partition("=")
        if equals and option.startswith("--") and Path(value).is_absolute():
            word = f"{option}={shown_path(Path(value))}"
        elif Path(word).is_absolute():
            word = shown_path(Path(word))
        words.append(word)
    return shlex.join(words)


def describe_findings(films: FilmSet, names: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    """What a reader of the figures must know of films and outlines.

    Args:
        films: The films, opened.
        names: Those that are measured.

    Returns:
        ``skipped``: regions and films with errors, on which ``--skip-bad-regions`` went on;
        ``warnings``; ``left_out``: films of the folder that are not measured. Each entry has
        ``place`` and ``why``.
    """
    skipped: list[dict[str, str]] = []
    warnings: list[dict[str, str]] = []
    for finding in films.findings:
        entry = {"place": finding.place, "why": f"{finding.rule}: {finding.message}"}
        if finding.rule in ("no-entry", "not-taken"):
            continue  # these are left out, below
        (skipped if finding.is_error and finding.rule != "unreadable-film" else warnings).append(
            entry
        )
    left_out = [{"place": shown(name), "why": why} for name, why in films.left_out.items()]
    measured = set(names)
    left_out += [
        {"place": shown(name), "why": "is behind the first films that --limit asks for"}
        for name in films.names
        if name not in measured
    ]
    return {"skipped": skipped, "warnings": warnings, "left_out": left_out}


def describe_data(films: FilmSet, names: Sequence[str]) -> dict[str, Any]:
    """The films of a run: enough to know the same ones again, and what is odd about them.

    Args:
        films: The films, opened.
        names: Those that are measured.
    """
    assert films.annotations_path is not None
    every = "\n".join(f"{name} {films.path(name).stat().st_size}" for name in films.names)
    described: dict[str, Any] = {
        "name": films.folder.resolve().name,
        "annotations": films.annotations_path.name,
        "annotations_sha256": file_sha256(films.annotations_path),
        "film_count": len(films.names),
        "names_and_sizes_sha256": hashlib.sha256(
            every.encode("utf-8", "surrogateescape")
        ).hexdigest(),
        "unannotated": [shown(name) for name in films.unannotated],
        **describe_findings(films, names),
    }
    phantom = films.folder / "phantom.json"
    if phantom.is_file():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            record = json.loads(phantom.read_text())
            described["phantom"] = {
                key: record[key] for key in ("generator", "seed", "count", "file_format")
            }
    return described


def describe_models(roster: Roster) -> dict[str, Any]:
    """What each member says of itself; None where it has not been reached."""
    return {
        member.member_name: None
        if member.model is None
        else {
            "version": member.model.version,
            "architecture": member.model.architecture,
            "family": member.model.family.name.lower(),
            "preset": member.model.preset,
            "weights_sha256": member.model.weights_sha256,
            "card_sha256": member.model.card_sha256,
        }
        for member in roster.members
    }


def describe_reader(roster: Roster) -> dict[str, Any]:
    """Which reader named, for the report.

    Raises:
        ConfigurationError: The gateway's reader is not the one here, which names single networks.
    """
    own = reader_provenance(built_in_reader())
    if roster.reader is not None and roster.reader != own:
        raise ConfigurationError(
            f"the gateway names with reader {roster.reader.weights_sha256[:12]}, this evaluator "
            f"with {own.weights_sha256[:12]}; run both from one checkout"
        )
    return dataclasses.asdict(own)


def describe_machine() -> str:
    """Processor architecture, number of processors and system, without the machine's name."""
    return (
        f"{platform.system()} {platform.machine()}, {counted(os.cpu_count() or 1, 'processor')}, "
        f"Python {platform.python_version()}"
    )


def versions() -> dict[str, str]:
    """Versions of what measures."""
    found = {}
    for name in VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def why_another(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Why a run cannot be continued as another, or None where it can."""
    for key in ("annotations_sha256", "names_and_sizes_sha256"):
        if old.get("data", {}).get(key) != new["data"][key]:
            return "the films or their outlines are others"
    plain: dict[str, Any] = {"class_attribute": None, "map": {}, "skip_bad_regions": False}
    if old.get("options", {}).get("outlines", plain) != new["options"].get("outlines", plain):
        return "--class-attribute, --map or --skip-bad-regions is another"
    for key in ("fusion", "members", "quorum", "member_deadline_ms"):
        if old.get("options", {}).get(key) != new["options"][key]:
            option = "networks" if key == "members" else key.replace("_", "-")
            return f"--{option} is another"
    for name, model in new["models"].items():
        before = old.get("models", {}).get(name)
        if before and model and before["weights_sha256"] != model["weights_sha256"]:
            return f"{name} has other weights"
    reader = old.get("reader", {}).get("weights_sha256")
    if reader and reader != new["reader"]["weights_sha256"]:
        return "the reader has other weights"
    return None
