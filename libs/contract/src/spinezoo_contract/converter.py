"""Between messages of the wire and the dataclasses of :mod:`spinezoo_contract.types`.

A message and its dataclass have the same field names, so :func:`to_proto` and :func:`from_proto`
walk the fields of the dataclass; what differs stands in the tables of this module. A plain new
field needs no line here. The types check themselves, so whatever ``from_proto`` returns keeps the
contract. What is wrong in a caller's message (films, options, outlines) raises
:class:`~spinezoo_contract.errors.BadInputError` or
:class:`~spinezoo_contract.errors.TooLargeError`; what is wrong in a server's answer raises
:class:`~spinezoo_contract.errors.InvalidOutputError`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import types as python_types
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np
from google.protobuf.message import Message
from spinezoo.v1 import (
    ensemble_pb2,
    evaluation_pb2,
    fusion_pb2,
    image_pb2,
    labelling_pb2,
    measures_pb2,
    model_pb2,
    segment_pb2,
    segmenter_pb2,
)

from spinezoo_contract.errors import (
    AnnotationError,
    BadInputError,
    InvalidOutputError,
    MaskError,
    OptionError,
    SpineZooError,
    TooLargeError,
)
from spinezoo_contract.limits import MAX_SEGMENTS_LIMIT, check_film_size
from spinezoo_contract.types import (
    Annotation,
    Box,
    EnsembleAnswer,
    EnsembleOptions,
    EnsembleSummary,
    EvaluationPair,
    FilmNote,
    FilmNoteCode,
    FusedImplant,
    FusionOptions,
    FusionRule,
    MeasureOptions,
    MemberAnswer,
    MemberCode,
    MemberStatus,
    NamedVertebra,
    Prediction,
    PredictOptions,
    ProbabilityMap,
    Roster,
    RunLengthMask,
    Segment,
    UnnamedReason,
    check_mask_size,
    decode_together,
)
from spinezoo_contract.words import counted

Size = tuple[int, int] | None
"""Height and width of the film that masks belong to, in pixels; None: not known yet."""

_T = TypeVar("_T")

_MODULES = (
    ensemble_pb2,
    evaluation_pb2,
    fusion_pb2,
    image_pb2,
    labelling_pb2,
    measures_pb2,
    model_pb2,
    segment_pb2,
    segmenter_pb2,
)

# --- What differs between a message and its dataclass ---------------------------------------------

_MESSAGES: dict[type, type[Message]] = {
    EnsembleAnswer: ensemble_pb2.SegmentResponse,
    EnsembleOptions: ensemble_pb2.SegmentRequest,
    EvaluationPair: evaluation_pb2.EvaluateRequest,
    Prediction: segmenter_pb2.PredictResponse,
    Roster: ensemble_pb2.ListModelsResponse,
}
"""Messages that have another name than their dataclass."""

_ASKED = frozenset(
    {
        Box,
        EnsembleOptions,
        EvaluationPair,
        FusionOptions,
        MeasureOptions,
        PredictOptions,
        ProbabilityMap,
        RunLengthMask,
        Segment,
    }
)
"""What callers send. All else is an answer, and a fault in it is the fault of who answered."""

_OWN: dict[type, frozenset[str]] = {
    EvaluationPair: frozenset({"truth", "prediction"}),
    MemberAnswer: frozenset({"prediction"}),
    Prediction: frozenset({"height", "width", "notes"}),
    ProbabilityMap: frozenset({"values"}),
    Segment: frozenset({"mask", "box"}),
}
"""Fields that a function of this module packs and unpacks in its own way."""

_ENUM_NAMES: dict[type[IntEnum], str] = {
    FusionRule: "fusion rule",
    MemberCode: "member code",
    UnnamedReason: "reason of a missing name",
}
"""What errors call an enum's field that has another name."""

_ITEM_NAMES: dict[type, str] = {
    Segment: "segment",
    NamedVertebra: "vertebra",
    FusedImplant: "implant",
}
"""What errors call an item of a list, beside its place."""

# --- The generic converter ------------------------------------------------------------------------


class _Field(NamedTuple):
    """How one field of a dataclass is packed and unpacked.

    ``pack`` makes the value for the message's constructor; None: the value as it is. ``unpack``
    takes the message and the film's size.
    """

    name: str
    pack: Callable[[Any], Any] | None
    unpack: Callable[[Any, Size], Any]


def to_proto(value: Any) -> Any:
    """The message of a value of :mod:`spinezoo_contract.types`; None stays absent."""
    kind: Any = type(value)
    special = _PACK.get(kind)
    if special is not None:
        return special(value)
    return _message_of(kind)(**fields_to_proto(value))


def from_proto(
    kind: type[_T], message: Any, height: int | None = None, width: int | None = None
) -> _T:
    """The value of a message, which may come from anybody.

    Args:
        kind: The dataclass.
        message: Its message.
        height: Rows of the film that it is about, in pixels; None takes the message's word.
        width: Columns of that film.

    Raises:
        BadInputError: A caller's message breaks the contract; the class says in what.
        InvalidOutputError: A server's answer breaks the contract, or is not of the film's size.
    """
    size = None if height is None or width is None else (height, width)
    if kind in _ASKED:
        return _unpacked(kind, message, size)
    try:
        return _unpacked(kind, message, size)
    except (BadInputError, TooLargeError, InvalidOutputError) as error:
        raise InvalidOutputError(f"the answer breaks the contract: {error}") from error


def _unpacked(kind: type[_T], message: Any, size: Size) -> _T:
    special = _UNPACK.get(kind)
    if special is not None:
        return special(message, size)  # type: ignore[no-any-return]
    return plain_from_proto(kind, message, size)


def plain_from_proto(kind: type[_T], message: Any, size: Size, **own: Any) -> _T:
    """A dataclass from the fields of the same name, and its own ones as they are given."""
    for name, _, unpack in _fields_of(cast(Any, kind)):
        own[name] = unpack(message, size)
    return kind(**own)


def fields_to_proto(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that have the same name in the message."""
    packed = {}
    for name, pack, _ in _fields_of(cast(Any, type(value))):
        field = getattr(value, name)
        if field is not None:
            packed[name] = field if pack is None else pack(field)
    return packed


@functools.cache
def _message_of(kind: Any) -> type[Message]:
    if kind in _MESSAGES:
        return _MESSAGES[kind]
    for module in _MODULES:
        if kind.__name__ in module.DESCRIPTOR.message_types_by_name:
            found: type[Message] = getattr(module, kind.__name__)
            return found
    raise TypeError(f"{kind.__name__} has no message in the contract")


@functools.cache
def _fields_of(kind: Any) -> tuple[_Field, ...]:
    hints = get_type_hints(kind)
    own = _OWN.get(kind, frozenset())
    known = _message_of(kind).DESCRIPTOR.fields_by_name
    found = []
    for field in dataclasses.fields(kind):
        if field.init and field.name not in own:
            if field.name not in known and kind is not MemberAnswer:
                raise TypeError(f"the message of {kind.__name__} has no field {field.name}")
            found.append(_field_of(kind, field, hints[field.name]))
    return tuple(found)


def _is_value(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind)


def _field_of(kind: type, field: dataclasses.Field[Any], hint: Any) -> _Field:
    name = field.name
    optional = False
    if get_origin(hint) in (Union, python_types.UnionType):
        (hint,) = (each for each in get_args(hint) if each is not type(None))
        optional = True
    origin = get_origin(hint)
    if origin is tuple:
        item = get_args(hint)[0]
        if item is Segment:
            return _Field(name, _pack_all, lambda m, size: _segments(getattr(m, name), size))
        if _is_value(item):
            return _Field(name, _pack_all, lambda m, size: _items(item, getattr(m, name), size))
        if issubclass(item, IntEnum):
            read = _enum_reader(kind, item, name.removesuffix("s"), None)
            return _Field(name, None, lambda m, _: tuple(map(read, getattr(m, name))))
        return _Field(name, None, lambda m, _: tuple(getattr(m, name)))
    if origin is not None:
        return _Field(name, None, lambda m, _: dict(getattr(m, name)))
    if _is_value(hint):
        if optional:
            return _Field(
                name,
                to_proto,
                lambda m, size: (
                    _unpacked(hint, getattr(m, name), size) if m.HasField(name) else None
                ),
            )
        return _Field(name, to_proto, lambda m, size: _unpacked(hint, getattr(m, name), size))
    if issubclass(hint, IntEnum):
        default = None if field.default is dataclasses.MISSING else field.default
        read = _enum_reader(kind, hint, name, default, optional=optional)
        return _Field(name, None, lambda m, _: read(getattr(m, name)))
    if optional:
        return _Field(name, None, lambda m, _: getattr(m, name) if m.HasField(name) else None)
    return _Field(name, None, lambda m, _: getattr(m, name))


def _enum_reader(
    owner: type, kind: type[IntEnum], name: str, default: Any, *, optional: bool = False
) -> Callable[[int], Any]:
    """Reads an enum; the unspecified 0 is the default, or None where that is allowed."""
    values: dict[int, Any] = {member.value: member for member in kind}
    if optional or default is not None:
        values[0] = default
    what = _ENUM_NAMES.get(kind, name)
    error: type[SpineZooError] = OptionError if owner is FusionOptions else MaskError

    def read(number: int) -> Any:
        try:
            return values[number]
        except KeyError:
            names = ", ".join(f"{member.name.lower()} = {member.value}" for member in kind)
            raise error(f"{what} is {number}, which names none; send one of: {names}") from None

    return read


def _pack_all(values: Iterable[Any]) -> list[Any]:
    return [to_proto(value) for value in values]


def _items(kind: type[_T], messages: Iterable[Any], size: Size) -> tuple[_T, ...]:
    """The items of a list; an error names the item where it has a name."""
    name = _ITEM_NAMES.get(kind)
    if name is None:
        return tuple([_unpacked(kind, message, size) for message in messages])
    items = []
    for place, message in enumerate(messages):
        with named(f"{name} {place}"):
            items.append(_unpacked(kind, message, size))
    return tuple(items)


@contextlib.contextmanager
def named(what: str) -> Iterator[None]:
    """Says in an error what it is about."""
    try:
        yield
    except (BadInputError, TooLargeError, InvalidOutputError) as error:
        raise type(error)(f"{what}: {error}") from error


# --- Outlines -------------------------------------------------------------------------------------


def _mask(message: Any, size: Size) -> RunLengthMask:
    mask = RunLengthMask(message.height, message.width, message.counts)
    if size is not None:
        check_mask_size(mask, *size)
    return mask


def _segment(message: Any, size: Size, mask: RunLengthMask | None = None) -> Segment:
    """One outline; an absent box is that of the mask."""
    if mask is None:
        mask = RunLengthMask(message.mask.height, message.mask.width, message.mask.counts)
    if size is not None:
        check_mask_size(mask, *size)
    box = plain_from_proto(Box, message.box, size) if message.HasField("box") else mask.box
    return plain_from_proto(Segment, message, size, mask=mask, box=box)


def _segments(messages: Sequence[Any], size: Size) -> tuple[Segment, ...]:
    masks = []
    for message in messages:
        mask = message.mask
        masks.append(RunLengthMask(mask.height, mask.width, mask.counts))
    # A fault is told below, with the place of its segment.
    with contextlib.suppress(MaskError):
        decode_together(m for m in masks if size is None or (m.height, m.width) == size)
    segments = []
    for place, (message, mask) in enumerate(zip(messages, masks, strict=True)):
        try:
            segments.append(_segment(message, size, mask))
        except MaskError as error:
            raise MaskError(f"segment {place}: {error}") from error
    return tuple(segments)


def segments_from_proto(messages: Sequence[Any], height: int, width: int) -> tuple[Segment, ...]:
    """Outlines of one film, in the same order.

    Raises:
        MaskError: One breaks the contract; the message names it by its place, from 0.
    """
    return _segments(messages, (height, width))


def _pack_segment(segment: Segment) -> segment_pb2.Segment:
    return segment_pb2.Segment(
        mask=to_proto(segment.mask), box=to_proto(segment.box), **fields_to_proto(segment)
    )


def _pack_probability_map(grid: ProbabilityMap) -> segment_pb2.ProbabilityMap:
    return segment_pb2.ProbabilityMap(
        height=grid.values.shape[0],
        width=grid.values.shape[1],
        data=np.ascontiguousarray(grid.values).tobytes(),
        **fields_to_proto(grid),
    )


def _probability_map(message: segment_pb2.ProbabilityMap, size: Size) -> ProbabilityMap:
    """One probability map, its values a read-only view of the message."""
    data = message.data
    if message.height == 0 or message.width == 0 or len(data) != message.height * message.width:
        raise MaskError(
            f"probability map of {message.height} x {message.width} has "
            f"{counted(len(data), 'byte')}; send one byte a cell"
        )
    if not message.HasField("film_box"):
        raise MaskError("probability map has no film_box; send the rectangle that it covers")
    values = np.frombuffer(data, dtype=np.uint8).reshape(message.height, message.width)
    return plain_from_proto(ProbabilityMap, message, size, values=values)


def annotation_to_proto(annotation: Annotation) -> evaluation_pb2.Annotation:
    """Outlines of a film: segments or a label map."""
    if isinstance(annotation, tuple):
        segments = segment_pb2.SegmentList(segments=_pack_all(annotation))
        return evaluation_pb2.Annotation(segments=segments)
    label_map = segment_pb2.LabelMap(
        height=annotation.shape[0],
        width=annotation.shape[1],
        data=np.ascontiguousarray(annotation, dtype=np.uint8).tobytes(),
    )
    return evaluation_pb2.Annotation(label_map=label_map)


def annotation_from_proto(
    message: evaluation_pb2.Annotation, height: int, width: int
) -> Annotation:
    """Segments, or a label map as a read-only view of the message.

    Raises:
        AnnotationError: Neither form is set.
        MaskError: A mask is wrong, or the label map's size or length.
    """
    form = message.WhichOneof("form")
    if form == "segments":
        return _segments(message.segments.segments, (height, width))
    if form is None:
        raise AnnotationError(
            "no outlines are set; send segments (an empty list is fine) or label_map"
        )
    labels = message.label_map
    if (labels.height, labels.width) != (height, width):
        raise MaskError(
            f"label map is {labels.height} x {labels.width}, the film {height} x {width}; "
            "resize it to the film without interpolation"
        )
    if len(labels.data) != height * width:
        raise MaskError(
            f"label map has {counted(len(labels.data), 'byte')}, expected {height * width}; send "
            "one byte a pixel"
        )
    return np.frombuffer(labels.data, dtype=np.uint8).reshape(height, width)


# --- Answers --------------------------------------------------------------------------------------


def _pack_prediction(prediction: Prediction) -> segmenter_pb2.PredictResponse:
    return segmenter_pb2.PredictResponse(
        height=prediction.height,
        width=prediction.width,
        notes=_pack_all(prediction.notes),
        **fields_to_proto(prediction),
    )


def _prediction(message: segmenter_pb2.PredictResponse, size: Size) -> Prediction:
    expected = size or (message.height, message.width)
    if (message.height, message.width) != expected or 0 in expected:
        raise MaskError(
            f"size {message.height} x {message.width}, but the film is "
            f"{expected[0]} x {expected[1]}"
        )
    if not message.HasField("provenance"):
        raise MaskError("provenance is missing")
    if len(message.segments) > MAX_SEGMENTS_LIMIT:
        # Before any is decoded: that many may take minutes.
        raise MaskError(
            f"{len(message.segments)} outlines came; send the best {MAX_SEGMENTS_LIMIT} at most"
        )
    return plain_from_proto(
        Prediction,
        message,
        expected,
        height=expected[0],
        width=expected[1],
        notes=tuple(_note(note) for note in message.notes),
    )


def _note(message: image_pb2.FilmNote, _: Size = None) -> FilmNote:
    """One note on a film; a code that this version does not know becomes OTHER."""
    return FilmNote(FilmNoteCode(max(message.code, FilmNoteCode.OTHER.value)), message.text)


def _pack_member_answer(answer: MemberAnswer) -> ensemble_pb2.MemberAnswer:
    # The fields of the prediction stand in the answer itself, but for size and notes, which the
    # gateway gives once for the film.
    prediction = {} if answer.prediction is None else fields_to_proto(answer.prediction)
    return ensemble_pb2.MemberAnswer(**fields_to_proto(answer), **prediction)


def _member_answer(message: ensemble_pb2.MemberAnswer, size: Size) -> MemberAnswer:
    """One member's answer or failure.

    In a stream, before the summary, the size may not be known: it is then that of the first mask,
    and 0 x 0 where there is none.
    """
    status = _unpacked(MemberStatus, message.status, size)
    if status.code != MemberCode.OK:
        if message.segments or message.probability_maps:
            raise MaskError(f"member {status.member_name!r} failed, yet carries outlines")
        return MemberAnswer(status, None)
    if not message.HasField("provenance"):
        raise MaskError(f"member {status.member_name!r} answered without provenance")
    if size is None:
        first = message.segments[0].mask if message.segments else None
        size = (0, 0) if first is None else (first.height, first.width)
    prediction = plain_from_proto(Prediction, message, size, height=size[0], width=size[1])
    return plain_from_proto(MemberAnswer, message, size, prediction=prediction)


def _of_one_film(kind: type[_T]) -> Callable[[Any, Size], _T]:
    """Unpacks an answer that says its film's size itself."""

    def unpack(message: Any, size: Size) -> _T:
        check_film_size(message.height, message.width, None)
        return plain_from_proto(kind, message, (message.height, message.width))

    return unpack


def _pack_pair(pair: EvaluationPair) -> evaluation_pb2.EvaluateRequest:
    return evaluation_pb2.EvaluateRequest(
        truth=annotation_to_proto(pair.truth),
        prediction=annotation_to_proto(pair.prediction),
        **fields_to_proto(pair),
    )


_PACK: dict[type, Callable[[Any], Message]] = {
    EvaluationPair: _pack_pair,
    MemberAnswer: _pack_member_answer,
    Prediction: _pack_prediction,
    ProbabilityMap: _pack_probability_map,
    Segment: _pack_segment,
}

_UNPACK: dict[type, Callable[[Any, Size], Any]] = {
    EnsembleAnswer: _of_one_film(EnsembleAnswer),
    EnsembleSummary: _of_one_film(EnsembleSummary),
    FilmNote: _note,
    MemberAnswer: _member_answer,
    Prediction: _prediction,
    ProbabilityMap: _probability_map,
    RunLengthMask: _mask,
    Segment: _segment,
}
