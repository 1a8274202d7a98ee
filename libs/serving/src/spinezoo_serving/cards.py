"""Model cards: what a network is, read from ``card.yaml`` and checked key by key.

A card is strict. An unknown key, a wrong type or a missing entry is a :class:`CardError` that
names the key and says how to mend it, because a misspelt key that is ignored changes a network in
silence. The schema stands in ``docs/architecture.md``. Needs PyYAML (the extra ``server``).
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import tempfile
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import yaml
from spinezoo_contract.errors import CardError, WeightsError
from spinezoo_contract.types import ModelFamily, ModelInfo, Structure

PRESET_VARIABLE = "SPINEZOO_PRESET"
"""Environment variable that overrides the card's preset; empty counts as not set."""

WEIGHTS_SUFFIXES = (".safetensors", ".h5", ".hdf5")
"""File name endings that weights may have: forms that cannot carry code."""

MAX_CARD_BYTES = 1 << 20
"""Most bytes of a card: 1 MiB. A larger file is not a card."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_PRESET = re.compile(r"[a-z0-9][a-z0-9_-]*")
_VERSION = re.compile(r"\d+\.\d+\.\d+([-+.][0-9A-Za-z.+-]+)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+() -]*")

_STRUCTURES = {structure.name.lower(): structure for structure in Structure}
_FAMILIES = {family.name.lower(): family for family in ModelFamily}

_CARD_KEYS = (
    "name",
    "version",
    "architecture",
    "family",
    "reference",
    "license",
    "preset",
    "preprocessing_id",
    "structures",
    "defaults",
    "presets",
)
_CARD_OPTIONAL_KEYS = ("training", "metrics")


@dataclass(frozen=True, slots=True)
class CardInput:
    """Size of the network's input.

    Attributes:
        height: Rows, in pixels.
        width: Columns, in pixels.
        channels: Planes of the input tensor.
    """

    height: int
    width: int
    channels: int


@dataclass(frozen=True, slots=True)
class CardProbe:
    """What the loaded network must answer to a seeded input; see the network's loader.

    Attributes:
        seed: Seed of the input.
        values: Expected numbers, in the order in which the loader takes them.
        tolerance: Largest absolute difference of a value that passes.
    """

    seed: int
    values: tuple[float, ...]
    tolerance: float


@dataclass(frozen=True, slots=True)
class CardWeights:
    """One weights file.

    Attributes:
        file: Path relative to the card's folder, with forward slashes.
        sha256: Lower-case hexadecimal SHA-256 of the file.
        bytes: Size of the file, in bytes.
        dtype: How the numbers are stored, such as ``"float16"``.
        probe: Expected answer to a seeded input.
    """

    file: str
    sha256: str
    bytes: int
    dtype: str
    probe: CardProbe


@dataclass(frozen=True, slots=True)
class CardDefaults:
    """Options used when a request gives none.

    Attributes:
        score_threshold: 0 to 1.
        suppression_iou: 0 to 1, or None where the network suppresses nothing.
        max_segments: 1 to 1000.
    """

    score_threshold: float
    suppression_iou: float | None
    max_segments: int


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
        weights: Weights of the preset; None until somebody has trained it.
        training: How the preset's weights were trained; empty until they were.
        metrics: What was measured with the preset's weights.
        card_sha256: SHA-256 of the card file as read.
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
    weights: CardWeights | None
    training: Mapping[str, Any]
    metrics: Mapping[str, Any]
    card_sha256: str

    @property
    def input_height(self) -> int:
        """Rows of the network's input, in pixels."""
        return self.input.height

    @property
    def input_width(self) -> int:
        """Columns of the network's input, in pixels."""
        return self.input.width

    @property
    def input_channels(self) -> int:
        """Planes of the network's input."""
        return self.input.channels

    @property
    def default_score_threshold(self) -> float:
        """Score threshold used when a request gives none, 0 to 1."""
        return self.defaults.score_threshold

    @property
    def default_suppression_iou(self) -> float | None:
        """Suppression overlap used when a request gives none, 0 to 1; None: no suppression."""
        return self.defaults.suppression_iou

    @property
    def default_max_segments(self) -> int:
        """Most outlines in an answer when a request gives no number."""
        return self.defaults.max_segments

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights file.

        Raises:
            WeightsError: The preset has no weights yet.
        """
        return _weights_of(self).sha256

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


class _StrictLoader(yaml.SafeLoader):
    """Safe loader that refuses what PyYAML would let pass in silence: repeated keys and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            message = "aliases are not allowed in a card; write the value out"
            raise yaml.composer.ComposerError(None, None, message, event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is not text; put it in quotes", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice; remove one", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def load_card(path: Path | str, preset: str | None = None) -> ModelCard:
    """Reads and checks a model card.

    All presets are checked, not only the chosen one.

    Args:
        path: The ``card.yaml``.
        preset: Preset to choose. None: ``SPINEZOO_PRESET`` where set, else the card's own.

    Raises:
        CardError: The file cannot be read, or a key is missing, unknown or wrong; the message
            names file, key and mend.
    """
    path = Path(path)
    content = _read(path)
    return _card_from(path, content, preset or os.environ.get(PRESET_VARIABLE) or None)


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
        f"`make train NETWORK={card.name}`, which writes file and card together"
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
    training: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Writes weights, training record and metrics of one preset into a card.

    Only the given entries change; comments and order of everything else stay. The new text is
    checked as a card before it takes the old file's place in one step, so a stop at any moment
    leaves a whole card.

    Args:
        path: The ``card.yaml``.
        preset: The preset, which must exist.
        weights: New weights entry, see :func:`describe_weights`; None leaves it.
        training: New training record of the preset; None leaves it.
        metrics: New measured metrics of the preset; None leaves them.

    Returns:
        The card as written, with ``preset`` chosen.

    Raises:
        CardError: The card or a new entry is wrong; the file is left as it was.
    """
    path = Path(path)
    content = _read(path)
    _card_from(path, content, preset)
    text = content.decode("utf-8")
    if weights is not None:
        entry = {
            "file": weights.file,
            "sha256": weights.sha256,
            "bytes": int(weights.bytes),
            "dtype": weights.dtype,
            "probe": {
                "seed": int(weights.probe.seed),
                "values": [float(value) for value in weights.probe.values],
                "tolerance": float(weights.probe.tolerance),
            },
        }
        text = _set_entry(text, ("presets", preset, "weights"), entry)
    if training is not None:
        text = _set_entry(text, ("training", preset), _plain(training, f"training.{preset}"))
    if metrics is not None:
        text = _set_entry(text, ("metrics", preset), _plain(metrics, f"metrics.{preset}"))
    written = text.encode("utf-8")
    card = _card_from(path, written, preset)
    _replace_file(path, written)
    return card


def _weights_of(card: ModelCard) -> CardWeights:
    if card.weights is None:
        raise WeightsError(
            f"{card.name}: preset {card.preset!r} has no weights; train them with "
            f"`make train NETWORK={card.name} PRESET={card.preset}`, or choose another preset "
            f"with {PRESET_VARIABLE}"
        )
    return card.weights


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_CARD_BYTES + 1)
    except OSError as error:
        raise CardError(f"card {path} cannot be read ({error.strerror}); check the path") from error
    if len(content) > MAX_CARD_BYTES:
        raise CardError(f"card {path} is larger than {MAX_CARD_BYTES} bytes; this is not a card")
    return content


def _card_from(path: Path, content: bytes, preset: str | None) -> ModelCard:
    try:
        document = yaml.load(content.decode("utf-8"), Loader=_StrictLoader)
    except UnicodeDecodeError as error:
        raise CardError(f"card {path} is not UTF-8 text; save it as UTF-8") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CardError(f"card {path} is not the YAML of a card: {error}") from error
    root = _Reader(path, "", document).mapping(_CARD_KEYS, _CARD_OPTIONAL_KEYS)

    presets_reader = root["presets"]
    presets = {
        name: entry.mapping(("input", "network", "weights"))
        for name, entry in presets_reader.any_mapping(_PRESET).items()
    }
    if not presets:
        presets_reader.fail("is empty", "add at least one preset")
    own_preset = root["preset"].text(_PRESET, "a preset's name such as lite")
    if own_preset not in presets:
        root["preset"].fail(f"names {own_preset!r}", f"use one of {', '.join(presets)}")
    chosen = preset or own_preset
    if chosen not in presets:
        raise CardError(
            f"card {path} has no preset {chosen!r}; choose one of {', '.join(presets)} "
            f"(argument or {PRESET_VARIABLE})"
        )
    inputs = {name: _input_from(entry["input"]) for name, entry in presets.items()}
    networks = {
        name: {key: value.anything() for key, value in entry["network"].any_mapping(_NAME).items()}
        for name, entry in presets.items()
    }
    weights = {name: _weights_from(entry["weights"]) for name, entry in presets.items()}
    records: dict[str, Mapping[str, Any]] = {}
    for section in _CARD_OPTIONAL_KEYS:
        by_preset: dict[str, _Reader] = {}
        if section in root and root[section].value is not None:
            by_preset = root[section].any_mapping(_PRESET)
        for name, entry in by_preset.items():
            if name not in presets:
                entry.fail(
                    "is not a preset",
                    f"file what was recorded under a preset's name ({', '.join(presets)}), as in "
                    f"`{section}: {{{own_preset}: {{...}}}}`",
                )
        found = by_preset.get(chosen)
        records[section] = {} if found is None else _record_from(found)
    return ModelCard(
        path=path,
        name=root["name"].text(_NAME, "the name of the network's folder, such as mask_rcnn"),
        version=root["version"].text(_VERSION, "a version such as 0.1.0"),
        architecture=root["architecture"].text(),
        family=_FAMILIES[root["family"].choice(_FAMILIES)],
        reference=root["reference"].text(re.compile(r"https?://\S+"), "an http(s) address"),
        license=root["license"].text(_SPDX, "an SPDX identifier such as Apache-2.0"),
        preprocessing_id=root["preprocessing_id"].text(re.compile(r"[\w.-]+"), "a name"),
        structures=_structures_from(root["structures"]),
        defaults=_defaults_from(root["defaults"]),
        preset=chosen,
        input=inputs[chosen],
        network=networks[chosen],
        weights=weights[chosen],
        training=records["training"],
        metrics=records["metrics"],
        card_sha256=hashlib.sha256(content).hexdigest(),
    )


class _Reader:
    """One value of a card together with its dotted key, for messages."""

    def __init__(self, path: Path, key: str, value: Any) -> None:
        self.path = path
        self.key = key
        self.value = value

    def fail(self, what: str, mend: str) -> None:
        """Raises the :class:`CardError` of this key."""
        where = f"key {self.key!r} " if self.key else ""
        raise CardError(f"card {self.path}: {where}{what}; {mend}")

    def _child(self, name: str) -> _Reader:
        key = f"{self.key}.{name}" if self.key else name
        return _Reader(self.path, key, self.value[name])

    def _wrong_type(self, wanted: str) -> None:
        kind = "nothing" if self.value is None else f"{type(self.value).__name__} {self.value!r}"
        self.fail(f"is {kind[:80]}", f"write {wanted}")

    def any_mapping(self, names: re.Pattern[str]) -> dict[str, _Reader]:
        """A mapping of free keys that match ``names``."""
        if not isinstance(self.value, dict):
            self._wrong_type("a mapping")
        for name in self.value:
            if not names.fullmatch(name):
                self._child(name).fail("has a wrong name", f"names match {names.pattern}")
        return {name: self._child(name) for name in self.value}

    def mapping(self, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, _Reader]:
        """A mapping with exactly these keys."""
        if not isinstance(self.value, dict):
            self._wrong_type(f"a mapping with {', '.join(required)}")
        known = (*required, *optional)
        for name in self.value:
            if name not in known:
                self._child(name).fail("is unknown", f"remove it, or use one of {', '.join(known)}")
        for name in required:
            if name not in self.value:
                key = f"{self.key}.{name}" if self.key else name
                _Reader(self.path, key, None).fail("is missing", "add it (docs/architecture.md)")
        return {name: self._child(name) for name in self.value}

    def text(self, pattern: re.Pattern[str] | None = None, wanted: str = "text") -> str:
        """Text that is not blank and matches the whole pattern."""
        if not isinstance(self.value, str):
            self._wrong_type(f"{wanted}, in quotes if YAML takes it for something else")
        if not self.value.strip():
            self.fail("is empty", f"write {wanted}")
        if pattern is not None and not pattern.fullmatch(self.value):
            self.fail(f"is {self.value[:80]!r}", f"write {wanted}")
        return str(self.value)

    def choice(self, choices: Mapping[str, Any]) -> str:
        """One of the given words."""
        wanted = f"one of {', '.join(choices)}"
        if not isinstance(self.value, str) or self.value not in choices:
            self._wrong_type(wanted)
        return str(self.value)

    def integer(self, minimum: int, maximum: int) -> int:
        """An integer within a range."""
        wanted = f"an integer from {minimum} to {maximum}"
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            self._wrong_type(wanted)
        if not minimum <= self.value <= maximum:
            self.fail(f"is {self.value}", f"write {wanted}")
        return int(self.value)

    def number(self, minimum: float = -math.inf, maximum: float = math.inf) -> float:
        """A finite number within a range."""
        wanted = "a number"
        if (minimum, maximum) != (-math.inf, math.inf):
            wanted += f" from {minimum:g} to {maximum:g}"
        if isinstance(self.value, str):
            self._wrong_type(f"{wanted} (YAML takes 1e-3 for text; write 0.001 or 1.0e-3)")
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            self._wrong_type(wanted)
        if not math.isfinite(self.value) or not minimum <= self.value <= maximum:
            self.fail(f"is {self.value}", f"write {wanted}")
        return float(self.value)

    def items(self, wanted: str) -> list[_Reader]:
        """The entries of a list that is not empty."""
        if not isinstance(self.value, list):
            self._wrong_type(wanted)
        if not self.value:
            self.fail("is empty", f"write {wanted}")
        return [
            _Reader(self.path, f"{self.key}[{index}]", value)
            for index, value in enumerate(self.value)
        ]

    def anything(self) -> Any:
        """The value as YAML gave it, made of plain types only."""
        return _plain(self.value, f"{self.path}: {self.key}")


def _input_from(reader: _Reader) -> CardInput:
    entry = reader.mapping(("height", "width", "channels"))
    return CardInput(
        entry["height"].integer(16, 8192),
        entry["width"].integer(16, 8192),
        entry["channels"].integer(1, 64),
    )


def _weights_from(reader: _Reader) -> CardWeights | None:
    if reader.value is None:
        return None
    entry = reader.mapping(("file", "sha256", "bytes", "dtype", "probe"))
    file = entry["file"].text()
    parts = PurePosixPath(file)
    if parts.is_absolute() or ".." in parts.parts or "\\" in file:
        entry["file"].fail(f"is {file!r}", "write a path below the card's folder")
    if parts.suffix not in WEIGHTS_SUFFIXES:
        entry["file"].fail(
            f"is {file!r}", f"use a form that cannot carry code: {', '.join(WEIGHTS_SUFFIXES)}"
        )
    probe = entry["probe"].mapping(("seed", "values", "tolerance"))
    return CardWeights(
        file=file,
        sha256=entry["sha256"].text(_SHA256, "64 lower-case hexadecimal digits, in quotes"),
        bytes=entry["bytes"].integer(1, 1 << 40),
        dtype=entry["dtype"].text(re.compile(r"[a-z]+[0-9]+"), "a type such as float16"),
        probe=CardProbe(
            seed=probe["seed"].integer(0, 2**63 - 1),
            values=tuple(value.number() for value in probe["values"].items("the expected numbers")),
            tolerance=probe["tolerance"].number(0.0),
        ),
    )


def _structures_from(reader: _Reader) -> tuple[Structure, ...]:
    items = reader.items(f"a list of {', '.join(_STRUCTURES)}")
    names = [item.choice(_STRUCTURES) for item in items]
    for item, name in zip(items, names, strict=True):
        if names.count(name) > 1:
            item.fail(f"repeats {name}", "name each structure once")
    return tuple(_STRUCTURES[name] for name in names)


def _defaults_from(reader: _Reader) -> CardDefaults:
    entry = reader.mapping(("score_threshold", "suppression_iou", "max_segments"))
    iou = entry["suppression_iou"]
    return CardDefaults(
        score_threshold=entry["score_threshold"].number(0.0, 1.0),
        suppression_iou=None if iou.value is None else iou.number(0.0, 1.0),
        max_segments=entry["max_segments"].integer(1, 1000),
    )


def _record_from(reader: _Reader) -> Mapping[str, Any]:
    if reader.value is None:
        return {}
    if not isinstance(reader.value, dict):
        reader.fail("is not a mapping", "write one entry a line, such as `epochs: 40`")
    record = reader.anything()
    return dict(record)


def _plain(value: Any, key: str) -> Any:
    """The value as dict, list, str, int, float, bool or None; numpy numbers become Python's.

    Raises:
        CardError: Something else, or a number that is not finite.
    """
    if isinstance(value, Mapping):
        return {str(name): _plain(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{key}[{index}]") for index, item in enumerate(value)]
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise CardError(f"{key}: {value} is not finite; leave the entry out instead")
        return value
    if hasattr(value, "isoformat"):  # YAML reads 2026-11-23 as a date.
        return value.isoformat()
    raise CardError(
        f"{key}: a {type(value).__name__} cannot stand in a card; use text, numbers, lists and "
        "mappings"
    )


class _FlowList(list):  # type: ignore[type-arg]
    """A list that is written on one line."""


class _CardDumper(yaml.SafeDumper):
    """Writes lists of numbers on one line and mappings one key a line."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


_CardDumper.add_representer(
    _FlowList,
    lambda dumper, value: dumper.represent_sequence(
        "tag:yaml.org,2002:seq", value, flow_style=True
    ),
)


def _dump(value: Any, *, flow: bool) -> str:
    def mark(item: Any) -> Any:
        if isinstance(item, dict):
            return {name: mark(entry) for name, entry in item.items()}
        if isinstance(item, list):
            plain = all(not isinstance(entry, dict | list) for entry in item)
            return _FlowList(item) if plain else [mark(entry) for entry in item]
        return item

    text = yaml.dump(
        value if flow else mark(value),
        Dumper=_CardDumper,
        default_flow_style=flow,
        sort_keys=False,
        allow_unicode=True,
        width=10**9 if flow else 96,
    )
    return str(text).rstrip("\n")


def _set_entry(text: str, keys: tuple[str, ...], value: Any) -> str:
    """The YAML text with one nested entry set; everything around it stays as it was."""
    root = yaml.compose(text, Loader=_StrictLoader)
    node = root
    for depth, key in enumerate(keys):
        pair = None
        if isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == key), None)
        if pair is None:
            for missing in reversed(keys[depth:]):
                value = {missing: value}
            if depth == 0:
                return text.rstrip("\n") + "\n\n" + _dump(value, flow=False) + "\n"
            # The parent is written anew with the new entry in it.
            parent = yaml.load(text, Loader=_StrictLoader)
            for name in keys[:depth]:
                parent = parent[name]
            return _set_entry(text, keys[:depth], {**_plain(parent or {}, key), **value})
        parent_node, (key_node, node) = node, pair
    assert isinstance(parent_node, yaml.MappingNode)
    assert node is not None
    return _replace_value(text, parent_node, key_node, node, value)


def _replace_value(
    text: str, parent: yaml.MappingNode, key: yaml.Node, old: yaml.Node, value: Any
) -> str:
    start = text.index(":", key.end_mark.index) + 1
    end = max(start, _end_of(old))
    if parent.flow_style or not isinstance(value, dict) or not value:
        return f"{text[:start]} {_dump(value, flow=True)}{text[end:]}"
    line_end = text.find("\n", end)
    line_end = len(text) if line_end < 0 else line_end
    rest = text[end:line_end]
    # A comment behind a value of one line belongs to the key, so it stays on the key's line.
    comment = ""
    if rest.strip() and rest.lstrip().startswith("#"):
        comment, end = "  " + rest.strip(), line_end
    indent = " " * (key.start_mark.column + 2)
    block = "\n".join(indent + line for line in _dump(value, flow=False).split("\n"))
    return f"{text[:start]}{comment}\n{block}{text[end:]}"


def _end_of(node: yaml.Node) -> int:
    """Index behind the last character of a value, without comments and blank lines after it.

    The end mark of a block collection lies at the next key, behind such comments.
    """
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end_of(last[1] if isinstance(last, tuple) else last)
    end = int(node.end_mark.index)
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        end -= 1  # The newline that closes a block scalar stays in the text.
    return end


def _replace_file(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(path.stat().st_mode & 0o777)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
