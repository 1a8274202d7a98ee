"""What may stand in a card and in a record of training, as pydantic models.

A type says which values pass, and its :class:`Wanted` says in words what to write instead.
:func:`validated` turns the first thing that pydantic finds into a :class:`CardError` that names
file, key and mend.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import ErrorDetails, PydanticCustomError
from spinezoo_contract.errors import CardError
from spinezoo_contract.limits import MAX_SEGMENTS_LIMIT
from spinezoo_contract.types import ModelFamily, Structure

WEIGHTS_SUFFIXES = (".safetensors", ".h5", ".hdf5")
"""File name endings that weights may have: forms that cannot carry code."""

GRAPH_SUFFIXES = (".onnx",)
"""File name endings that a graph may have."""

STRUCTURES = {structure.name.lower(): structure for structure in Structure}
FAMILIES = {family.name.lower(): family for family in ModelFamily}

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Says in words what a value should be; part of the message when it is not."""

    text: str


def _mend(what: str, mend: str) -> PydanticCustomError:
    """A refusal in our own words."""
    return PydanticCustomError("card", "{what}; {mend}", {"what": what, "mend": mend})


def _kind(value: Any) -> str:
    kind = "nothing" if value is None else f"{type(value).__name__} {value!r}"
    return kind[:80]


def _wrong_type(value: Any, wanted: str) -> PydanticCustomError:
    return _mend(f"is {_kind(value)}", f"write {wanted}")


def _below_the_folder(suffixes: tuple[str, ...]) -> Callable[[str], str]:
    """Makes the check of a file's path, which ends in one of some endings."""

    def check(file: str) -> str:
        parts = PurePosixPath(file)
        if parts.is_absolute() or ".." in parts.parts or "\\" in file:
            raise _mend(f"is {file!r}", "write a path below the card's folder")
        if parts.suffix not in suffixes:
            raise _mend(f"is {file!r}", f"use a form that cannot carry code: {', '.join(suffixes)}")
        return file

    return check


# Strict: true passes for no number, and a number for no text.
Text = Annotated[str, Strict(), Field(pattern=r"\S"), Wanted("text")]
Name = Annotated[
    str,
    Strict(),
    Field(pattern=r"^[a-z][a-z0-9_]*$"),
    Wanted("the name of the network's folder, such as mask_rcnn"),
]
PresetName = Annotated[
    str, Strict(), Field(pattern=r"^[a-z0-9][a-z0-9_-]*$"), Wanted("a preset's name such as lite")
]
Version = Annotated[
    str,
    Strict(),
    Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+([-+.][0-9A-Za-z.+-]+)?$"),
    Wanted("a version such as 0.1.0"),
]
Address = Annotated[str, Strict(), Field(pattern=r"^https?://\S+$"), Wanted("an http(s) address")]
Licence = Annotated[
    str,
    Strict(),
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+() -]*$"),
    Wanted("an SPDX identifier such as Apache-2.0"),
]
PreprocessingId = Annotated[str, Strict(), Field(pattern=r"^[\w.-]+$"), Wanted("a name")]
Sha256 = Annotated[
    str,
    Strict(),
    Field(pattern=r"^[0-9a-f]{64}$"),
    Wanted("64 lower-case hexadecimal digits, in quotes"),
]
Dtype = Annotated[str, Strict(), Field(pattern=r"^[a-z]+[0-9]+$"), Wanted("a type such as float16")]
File = Annotated[
    str,
    Strict(),
    Field(pattern=r"\S"),
    AfterValidator(_below_the_folder(WEIGHTS_SUFFIXES)),
    Wanted("text"),
]
GraphPath = Annotated[
    str,
    Strict(),
    Field(pattern=r"\S"),
    AfterValidator(_below_the_folder(GRAPH_SUFFIXES)),
    Wanted("text"),
]
Argument = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]

Pixels = Annotated[int, Strict(), Field(ge=16, le=8192), Wanted("an integer from 16 to 8192")]
Channels = Annotated[int, Strict(), Field(ge=1, le=64), Wanted("an integer from 1 to 64")]
Bytes = Annotated[int, Strict(), Field(ge=1, le=1 << 40), Wanted(f"an integer from 1 to {1 << 40}")]
Seed = Annotated[
    int, Strict(), Field(ge=0, le=2**63 - 1), Wanted(f"an integer from 0 to {2**63 - 1}")
]
Segments = Annotated[
    int,
    Strict(),
    Field(ge=1, le=MAX_SEGMENTS_LIMIT),
    Wanted(f"an integer from 1 to {MAX_SEGMENTS_LIMIT}"),
]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False), Wanted("a number")]
Share = Annotated[
    float, Strict(), Field(ge=0, le=1, allow_inf_nan=False), Wanted("a number from 0 to 1")
]
Tolerance = Annotated[
    float, Strict(), Field(ge=0, allow_inf_nan=False), Wanted("a number from 0 to inf")
]


def _one_of(choices: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Makes a word the member of an enum that it names."""

    def choose(word: Any) -> Any:
        if not isinstance(word, str) or word not in choices:
            raise _wrong_type(word, f"one of {', '.join(choices)}")
        return choices[word]

    return choose


StructureName = Annotated[Structure, BeforeValidator(_one_of(STRUCTURES))]
FamilyName = Annotated[ModelFamily, BeforeValidator(_one_of(FAMILIES))]


_STRICT = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class CardInput:
    """Size of the network's input.

    Attributes:
        height: Rows, in pixels.
        width: Columns, in pixels.
        channels: Planes of the input tensor.
    """

    __pydantic_config__ = _STRICT

    height: Pixels
    width: Pixels
    channels: Channels


@dataclass(frozen=True, slots=True)
class CardProbe:
    """What the loaded network must answer to a seeded input; see the network's loader.

    Attributes:
        seed: Seed of the input.
        values: Expected numbers, in the order in which the loader takes them.
        tolerance: Largest absolute difference of a value that passes.
    """

    __pydantic_config__ = _STRICT

    seed: Seed
    values: Annotated[tuple[Number, ...], Field(min_length=1), Wanted("the expected numbers")]
    tolerance: Tolerance


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

    __pydantic_config__ = _STRICT

    file: File
    sha256: Sha256
    bytes: Bytes
    dtype: Dtype
    probe: CardProbe


@dataclass(frozen=True, slots=True)
class CardGraph:
    """One file of an exported network.

    Attributes:
        file: Path relative to the card's folder, with forward slashes.
        sha256: Lower-case hexadecimal SHA-256 of the file.
        bytes: Size of the file, in bytes.
    """

    __pydantic_config__ = _STRICT

    file: GraphPath
    sha256: Sha256
    bytes: Bytes


@dataclass(frozen=True, slots=True)
class CardGraphs:
    """A network as it was exported for the engines that need no framework.

    Attributes:
        weights_sha256: SHA-256 of the weights file that it was exported for.
        parts: Its files by the name of the part.
        int8: Those of the parts that there are for 8-bit integers too; empty where none is.
    """

    __pydantic_config__ = _STRICT

    weights_sha256: Sha256
    parts: Annotated[dict[Argument, CardGraph], Field(min_length=1), Wanted("at least one part")]
    int8: dict[Argument, CardGraph] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CardDefaults:
    """Options used when a request gives none.

    Attributes:
        score_threshold: 0 to 1.
        suppression_iou: 0 to 1, or None where the network suppresses nothing.
        max_segments: 1 to :data:`~spinezoo_contract.limits.MAX_SEGMENTS_LIMIT`.
    """

    __pydantic_config__ = _STRICT

    score_threshold: Share
    suppression_iou: Share | None
    max_segments: Segments


class CardPreset(BaseModel):
    """One preset of a card file.

    Attributes:
        input: Size of the network's input.
        network: Keyword arguments of the network's constructor.
        engine: What runs the network where ``SPINEZOO_ENGINE`` says nothing; None leaves it to
            the device.
        precision: ``int8`` where the network is served so unless ``SPINEZOO_PRECISION`` says
            otherwise, on processors with instructions for it; None leaves it to the engine.
        notes: What people have to say of the preset's weights and how they were made.
    """

    model_config = _STRICT

    input: CardInput
    network: dict[Argument, Any]
    engine: Text | None = None
    precision: Literal["int8"] | None = None
    notes: Text | None = None


class CardFile(BaseModel):
    """What people write: ``card.yaml``; the meaning of a key stands at ``ModelCard``."""

    model_config = _STRICT

    name: Name
    version: Version
    architecture: Text
    family: FamilyName
    reference: Address
    license: Licence
    preset: PresetName
    preprocessing_id: PreprocessingId
    structures: Annotated[
        tuple[StructureName, ...], Field(min_length=1), Wanted(f"a list of {', '.join(STRUCTURES)}")
    ]
    defaults: CardDefaults
    presets: Annotated[
        dict[PresetName, CardPreset], Field(min_length=1), Wanted("at least one preset")
    ]


class TrainingRecord(BaseModel):
    """What training writes: ``weights/<preset>.json``, beside the weights it describes.

    Attributes:
        weights: The weights file; None where there is none.
        graphs: The network as it was exported; None where it was not.
        training: How the weights were trained.
        metrics: What was measured with them.
    """

    model_config = _STRICT

    weights: CardWeights | None = None
    graphs: CardGraphs | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)


def validated(model: type[_T], what: str, path: Path, document: Any) -> _T:
    """A document as its model.

    Args:
        model: :class:`CardFile` or :class:`TrainingRecord`.
        what: What the file is, ``card`` or ``record``, for the message.
        path: The file, for the message.
        document: What the file holds.

    Raises:
        CardError: A key is missing, unknown or wrong; the message names file, key and mend.
    """
    try:
        return TypeAdapter(model).validate_python(document)
    except ValidationError as error:
        found = error.errors(include_url=False)
    # A misspelt key is both unknown and missing; the unknown one says more.
    first = min(found, key=lambda each: each["type"] not in _UNKNOWN)
    key, text = _told(model, first)
    raise CardError(f"{what} {path}: {f'key {key!r} ' if key else ''}{text}") from None


_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_MAPPINGS = ("model_type", "dataclass_type", "dict_type")
_OUT_OF_PLACE = (
    "string_pattern_mismatch",
    "greater_than_equal",
    "less_than_equal",
    "finite_number",
)


def _told(model: Any, error: ErrorDetails) -> tuple[str, str]:
    """The dotted key of an error of pydantic, and what is wrong there with its mend."""
    place, kind, value = error["loc"], error["type"], error["input"]
    key = "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in place if step != "[key]"
    ).removeprefix(".")
    if place and place[-1] == "[key]":
        pattern = error.get("ctx", {}).get("pattern", "")
        return key, f"has a wrong name; names match {pattern}"
    if kind in _UNKNOWN:
        known = ", ".join(_keys(_hint(model, place[:-1])[0]))
        return key, f"is unknown; remove it, or use one of {known}"
    if kind in ("missing", "missing_argument"):
        return key, "is missing; add it (docs/architecture.md)"
    if kind == "card":
        return key, error["msg"]
    hint, wanted = _hint(model, place)
    if kind in _MAPPINGS:
        keys = ", ".join(_keys(hint))
        return key, f"is {_kind(value)}; write a mapping{f' with {keys}' if keys else ''}"
    if kind == "too_short" or (isinstance(value, str) and not value.strip()):
        return key, f"is empty; write {wanted}"
    if kind in _OUT_OF_PLACE:
        shown = repr(value[:80]) if isinstance(value, str) else value
        return key, f"is {shown}; write {wanted}"
    if kind == "string_type" and "in quotes" not in wanted:
        wanted += ", in quotes if YAML takes it for something else"
    if kind == "float_type" and isinstance(value, str):
        wanted += " (YAML takes 1e-3 for text; write 0.001 or 1.0e-3)"
    return key, f"is {_kind(value)}; write {wanted}"


def _hint(model: Any, place: tuple[int | str, ...]) -> tuple[Any, str]:
    """The type at a place of a model, and what its :class:`Wanted` says."""
    hint, wanted = _bare(model)
    for step in place:
        origin = get_origin(hint)
        if origin is tuple:
            inner = get_args(hint)[0]
        elif origin is dict:
            inner = get_args(hint)[1]
        else:
            inner = get_type_hints(hint, include_extras=True).get(str(step), Any)
        hint, wanted = _bare(inner)
    return hint, wanted


def _bare(hint: Any) -> tuple[Any, str]:
    """A type without ``Annotated`` and ``| None``, and what its :class:`Wanted` says."""
    wanted = ""
    while True:
        if get_origin(hint) is Annotated:
            said = [each.text for each in hint.__metadata__ if isinstance(each, Wanted)]
            wanted = wanted or (said[-1] if said else "")
            hint = hint.__origin__
        elif get_origin(hint) in (Union, types.UnionType):
            hint = next(each for each in get_args(hint) if each is not type(None))
        else:
            return hint, wanted


def _keys(hint: Any) -> tuple[str, ...]:
    """The keys that a model or dataclass has; none for other types."""
    fields = getattr(hint, "model_fields", None) or getattr(hint, "__dataclass_fields__", {})
    return tuple(fields)
