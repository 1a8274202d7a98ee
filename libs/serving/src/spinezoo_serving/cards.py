"""Model cards: what a network is, from ``card.yaml`` and the records beside its weights.

People write ``card.yaml``; training writes ``weights/<preset>.json``. Both are strict: an unknown
key, a wrong type or a missing entry is a :class:`CardError` that names the key and says how to mend
it, because a misspelt key that is ignored changes a network in silence. What may stand where:
:mod:`spinezoo_serving.card_models` and ``docs/architecture.md``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from spinezoo_contract.errors import CardError, WeightsError
from spinezoo_contract.types import ModelFamily, ModelInfo, Provenance, Structure, Timing

from spinezoo_serving.card_models import (
    WEIGHTS_SUFFIXES,
    CardDefaults,
    CardFile,
    CardGraph,
    CardGraphs,
    CardInput,
    CardProbe,
    CardWeights,
    TrainingRecord,
    validated,
)
from spinezoo_serving.card_reading import (
    MAX_CARD_BYTES,
    parse_card,
    parse_record,
    plain,
    read_bytes,
)
from spinezoo_serving.disk import replace_file
from spinezoo_serving.settings import NetworkSettings

__all__ = [
    "MAX_CARD_BYTES",
    "PRESET_VARIABLE",
    "WEIGHTS_SUFFIXES",
    "CardDefaults",
    "CardGraph",
    "CardGraphs",
    "CardInput",
    "CardProbe",
    "CardWeights",
    "ModelCard",
    "describe_graphs",
    "describe_weights",
    "file_sha256",
    "load_card",
    "record_path",
    "update_card",
    "verify_graphs",
    "verify_weights",
    "weights_path",
]

PRESET_VARIABLE = "SPINEZOO_PRESET"
"""What messages tell to set; :class:`NetworkSettings` reads it."""


class ServingLimits(Protocol):
    """The part of the server's settings that a card's :meth:`ModelCard.info` tells the caller."""

    @property
    def max_message_bytes(self) -> int:
        """Largest message taken and sent, in bytes."""

    @property
    def queue_limit(self) -> int:
        """Requests that may wait at the same time."""

    @property
    def image(self) -> str:
        """Tag of the container's image; empty outside a container."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A card with one preset chosen. Valid once constructed by :func:`load_card`.

    Attributes:
        path: The card file.
        name: Name of the network, the name of its folder.
        version: Version of the card.
        architecture: The network in words.
        family: Semantic or instance.
        reference: Where the architecture was published, as an address.
        license: Licence of the weights, an SPDX expression.
        preprocessing_id: Name of the way from film to network input.
        structures: What the network can answer, in the order of its output planes or classes.
        defaults: Options used when a request gives none.
        preset: Name of the chosen preset.
        input: Input size of the preset.
        network: Keyword arguments of the network's constructor for the preset.
        engine: What runs the network where no setting says so; empty leaves it to the device.
        precision: ``int8`` where it computes so unless a setting says otherwise, else empty.
        weights: Weights of the preset; None until somebody has trained it.
        graphs: The preset as it was exported for engines that need no framework; None until then.
        training: How the preset's weights were trained; empty until they were.
        metrics: What was measured with the preset's weights.
        notes: What people have to say of the preset's weights; empty where nobody did.
        card_sha256: SHA-256 of ``card.yaml`` as read.
    """

    path: Path
    name: str
    version: str
    architecture: str
    family: ModelFamily
    reference: str
    license: str
    preprocessing_id: str
    structures: tuple[Structure, ...]
    defaults: CardDefaults
    preset: str
    input: CardInput
    network: Mapping[str, Any]
    engine: str
    precision: str
    weights: CardWeights | None
    graphs: CardGraphs | None
    training: Mapping[str, Any]
    metrics: Mapping[str, Any]
    notes: str
    card_sha256: str

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights file.

        Raises:
            WeightsError: The preset has no weights yet.
        """
        return _weights_of(self).sha256

    def provenance(
        self, device: str, timing: Timing, *, engine: str = "", precision: str = ""
    ) -> Provenance:
        """What an answer says of the network.

        Args:
            device: Where it ran, such as ``cpu``.
            timing: Of the answer.
            engine: What ran it; empty: its framework.
            precision: What it computed in; empty: not told.

        Raises:
            WeightsError: The preset has no weights yet.
        """
        return Provenance(
            model_name=self.name,
            model_version=self.version,
            preset=self.preset,
            weights_sha256=self.weights_sha256,
            preprocessing_id=self.preprocessing_id,
            device=device,
            timing=timing,
            engine=engine,
            precision=precision,
        )

    def info(self, settings: ServingLimits) -> ModelInfo:
        """What the container says of itself.

        Raises:
            WeightsError: The preset has no weights yet.
        """
        return ModelInfo(
            name=self.name,
            version=self.version,
            architecture=self.architecture,
            family=self.family,
            preset=self.preset,
            structures=self.structures,
            input_height=self.input.height,
            input_width=self.input.width,
            weights_sha256=self.weights_sha256,
            card_sha256=self.card_sha256,
            license=self.license,
            default_score_threshold=self.defaults.score_threshold,
            default_suppression_iou=self.defaults.suppression_iou,
            max_message_bytes=settings.max_message_bytes,
            queue_limit=settings.queue_limit,
            image=settings.image,
        )


def load_card(path: Path | str, preset: str | None = None) -> ModelCard:
    """Reads and checks a model card.

    All presets and their records are checked, not only the chosen one's.

    Args:
        path: The ``card.yaml``.
        preset: Preset to choose. None: ``SPINEZOO_PRESET`` where set, else the card's own.

    Raises:
        CardError: The file cannot be read, or a key is missing, unknown or wrong; the message
            names file, key and mend.
    """
    path = Path(path)
    return _card_from(path, preset or NetworkSettings.from_env().preset or None)


def record_path(path: Path | str, preset: str) -> Path:
    """Where the record of a preset's training lies, for the ``card.yaml`` at ``path``."""
    return Path(path).parent / "weights" / f"{preset}.json"


def weights_path(card: ModelCard) -> Path:
    """Where the weights file of the chosen preset lies; the file is not checked.

    Raises:
        WeightsError: The preset has no weights yet.
    """
    return card.path.parent / _weights_of(card).file


def verify_weights(card: ModelCard) -> Path:
    """Path of the weights file after its size and SHA-256 were found equal to the card's.

    Raises:
        WeightsError: No weights yet, file missing, or another size or digest.
    """
    weights = _weights_of(card)
    path = weights_path(card)
    restore = (
        f"restore the file that belongs to card version {card.version}, or train again with "
        f"`make train NETWORK={card.name}`, which writes file and record together"
    )
    if not path.is_file():
        raise WeightsError(f"{card.name}: weights file {path} is missing; {restore}")
    size = path.stat().st_size
    if size != weights.bytes:
        raise WeightsError(
            f"{card.name}: {path} has {size} bytes, the card says {weights.bytes}; {restore}"
        )
    digest = file_sha256(path)
    if digest != weights.sha256:
        raise WeightsError(
            f"{card.name}: {path} has SHA-256 {digest}, the card says {weights.sha256}; {restore}"
        )
    return path


def verify_graphs(card: ModelCard, *, int8: bool = False) -> dict[str, Path]:
    """Paths of the exported network's parts after they were found to be those of the record.

    Args:
        card: The card.
        int8: Whether the parts that there are for 8-bit integers are wanted so.

    Raises:
        WeightsError: Not exported, exported for other weights, no part is there for 8-bit integers
            where they are wanted, or a file is missing or changed.
    """
    mend = (
        f"export the weights again with `make export NETWORK={card.name}`, or serve with the "
        "network's framework (SPINEZOO_ENGINE)"
    )
    graphs = card.graphs
    if graphs is None:
        raise WeightsError(f"{card.name}: preset {card.preset!r} was never exported; {mend}")
    if graphs.weights_sha256 != card.weights_sha256:
        raise WeightsError(
            f"{card.name}: the graphs of preset {card.preset!r} were exported for weights "
            f"{graphs.weights_sha256[:12]}, the card has {card.weights_sha256[:12]}; {mend}"
        )
    if int8 and not graphs.int8:
        raise WeightsError(
            f"{card.name}: preset {card.preset!r} was never exported for int8; write its graphs "
            f"with `make export NETWORK={card.name} ARGS=--int8`, or set SPINEZOO_PRECISION to auto"
        )
    found = {}
    for part, graph in (graphs.parts | (graphs.int8 if int8 else {})).items():
        path = card.path.parent / graph.file
        if not path.is_file():
            raise WeightsError(f"{card.name}: graph {path} is missing; {mend}")
        if file_sha256(path) != graph.sha256:
            raise WeightsError(f"{card.name}: graph {path} is not the exported one; {mend}")
        found[part] = path
    return found


def describe_graphs(
    card: ModelCard, files: Mapping[str, Path], int8: Mapping[str, Path] | None = None
) -> CardGraphs:
    """The record's entry of an export that was just written.

    Args:
        card: The card whose weights were exported.
        files: The files by the name of the part, below the card's folder.
        int8: Those of the parts that were also written for 8-bit integers.
    """
    folder = card.path.resolve().parent

    def described(some: Mapping[str, Path]) -> dict[str, CardGraph]:
        return {
            part: CardGraph(
                file=file.resolve().relative_to(folder).as_posix(),
                sha256=file_sha256(file),
                bytes=file.stat().st_size,
            )
            for part, file in some.items()
        }

    return CardGraphs(card.weights_sha256, described(files), described(int8 or {}))


def describe_weights(
    card_path: Path | str,
    weights_file: Path | str,
    *,
    dtype: str,
    probe_seed: int,
    probe_values: Sequence[float],
    probe_tolerance: float,
) -> CardWeights:
    """The card entry of a weights file that has just been written.

    Args:
        card_path: The card; the file must lie below its folder.
        weights_file: The weights file.
        dtype: How the numbers are stored, such as ``"float16"``.
        probe_seed: Seed of the probe's input.
        probe_values: What the network answered to the probe.
        probe_tolerance: Largest absolute difference that passes.

    Raises:
        CardError: The file lies outside the card's folder.
        WeightsError: The file is missing.
    """
    folder = Path(card_path).resolve().parent
    file = Path(weights_file).resolve()
    if not file.is_relative_to(folder):
        raise CardError(f"weights file {file} is outside {folder}; write it below that folder")
    if not file.is_file():
        raise WeightsError(f"weights file {file} is missing; write it before describing it")
    return CardWeights(
        file=file.relative_to(folder).as_posix(),
        sha256=file_sha256(file),
        bytes=file.stat().st_size,
        dtype=dtype,
        probe=CardProbe(
            int(probe_seed), tuple(float(value) for value in probe_values), float(probe_tolerance)
        ),
    )


def file_sha256(path: Path | str) -> str:
    """Lower-case hexadecimal SHA-256 of a file, read in pieces."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def update_card(
    path: Path | str,
    preset: str,
    *,
    weights: CardWeights | None = None,
    graphs: CardGraphs | None = None,
    training: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Writes weights, training record and metrics of one preset into its record.

    ``card.yaml`` is left as it is. The new record is checked before it takes the old file's place
    in one step, so a stop at any moment leaves a whole record.

    Args:
        path: The ``card.yaml``.
        preset: The preset, which must exist.
        weights: New weights entry, see :func:`describe_weights`; None leaves it.
        graphs: New entry of the exported network, see :func:`describe_graphs`; None leaves it.
        training: New training record of the preset; None leaves it.
        metrics: New measured metrics of the preset; None leaves them.

    Returns:
        The card with its new record, with ``preset`` chosen.

    Raises:
        CardError: The card or a new entry is wrong; the files are left as they were.
    """
    path = Path(path)
    card = _card_from(path, preset)
    described, exported = weights or card.weights, graphs or card.graphs
    entries: dict[str, Any] = {
        "weights": None if described is None else dataclasses.asdict(described),
        **({} if exported is None else {"graphs": _graphs_entry(exported)}),
        "training": card.training if training is None else training,
        "metrics": card.metrics if metrics is None else metrics,
    }
    document = {section: plain(entry, f"{section}.{preset}") for section, entry in entries.items()}
    place = record_path(path, preset)
    record = validated(TrainingRecord, "record", place, document)
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    replace_file(place, text.encode("utf-8"))
    return dataclasses.replace(
        card,
        weights=record.weights,
        graphs=record.graphs,
        training=record.training,
        metrics=record.metrics,
    )


def _graphs_entry(graphs: CardGraphs) -> dict[str, Any]:
    """An export as its record holds it: without ``int8`` where there is none."""
    entry = dataclasses.asdict(graphs)
    return entry if entry["int8"] else {k: v for k, v in entry.items() if k != "int8"}


def _weights_of(card: ModelCard) -> CardWeights:
    if card.weights is None:
        raise WeightsError(
            f"{card.name}: preset {card.preset!r} has no weights; train them with "
            f"`make train NETWORK={card.name} PRESET={card.preset}`, or choose another preset "
            f"with {PRESET_VARIABLE}"
        )
    return card.weights


def _card_from(path: Path, preset: str | None) -> ModelCard:
    content = read_bytes(path, "card")
    card = validated(CardFile, "card", path, parse_card(path, content))
    for index, structure in enumerate(card.structures):
        if card.structures.count(structure) > 1:
            raise CardError(
                f"card {path}: key 'structures[{index}]' repeats {structure.name.lower()}; "
                "name each structure once"
            )
    names = ", ".join(card.presets)
    if card.preset not in card.presets:
        raise CardError(f"card {path}: key 'preset' names {card.preset!r}; use one of {names}")
    networks = {
        name: plain(entry.network, f"{path}: presets.{name}.network")
        for name, entry in card.presets.items()
    }
    chosen = preset or card.preset
    if chosen not in card.presets:
        raise CardError(
            f"card {path} has no preset {chosen!r}; choose one of {names} "
            f"(argument or {PRESET_VARIABLE})"
        )
    record = _records_of(path, tuple(card.presets)).get(chosen) or TrainingRecord()
    return ModelCard(
        path=path,
        name=card.name,
        version=card.version,
        architecture=card.architecture,
        family=card.family,
        reference=card.reference,
        license=card.license,
        preprocessing_id=card.preprocessing_id,
        structures=card.structures,
        defaults=card.defaults,
        preset=chosen,
        input=card.presets[chosen].input,
        network=networks[chosen],
        engine=card.presets[chosen].engine or "",
        precision=card.presets[chosen].precision or "",
        weights=record.weights,
        graphs=record.graphs,
        training=record.training,
        metrics=record.metrics,
        notes=(card.presets[chosen].notes or "").strip(),
        card_sha256=hashlib.sha256(content).hexdigest(),
    )


def _records_of(path: Path, presets: Sequence[str]) -> dict[str, TrainingRecord]:
    """The record of every preset that has one."""
    records = {}
    for place in sorted((path.parent / "weights").glob("*.json")):
        if place.stem not in presets:
            raise CardError(
                f"record {place} is of no preset of {path}; name it after a preset "
                f"({', '.join(presets)}), or remove it"
            )
        document = parse_record(place, read_bytes(place, "record"))
        records[place.stem] = validated(TrainingRecord, "record", place, document)
    return records
