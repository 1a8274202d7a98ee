"""Messages of the wire from and to :mod:`spinezoo_contract.types`: films, requests, answers, JSON.

:func:`to_proto` and :func:`from_proto` serve every type that has a message of its own. Films and
requests have functions of their own: a film comes in three forms, and how many pixels it may have
is a setting of the process that takes it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, cast

import numpy as np
from spinezoo.v1 import ensemble_pb2, evaluation_pb2, image_pb2, segmenter_pb2

from spinezoo_contract.converter import (
    annotation_from_proto,
    annotation_to_proto,
    fields_to_proto,
    from_proto,
    named,
    plain_from_proto,
    segments_from_proto,
    to_proto,
)
from spinezoo_contract.errors import FilmError, OptionError
from spinezoo_contract.limits import DEFAULT_MAX_PIXELS, check_film_size
from spinezoo_contract.types import (
    NO_SPACING_NOTE,
    Box,
    EnsembleOptions,
    EvaluationPair,
    Film,
    FilmKind,
    FusedAnswer,
    FusionOptions,
    MemberAnswer,
    Prediction,
    PredictOptions,
    Provenance,
    RunLengthMask,
    Segment,
    check_pair_names,
)
from spinezoo_contract.words import counted

__all__ = [
    "ReadFilm",
    "annotation_to_proto",
    "asked_film_from_proto",
    "ensemble_request_to_proto",
    "evaluation_pair_from_proto",
    "film_file_to_proto",
    "film_from_proto",
    "film_to_proto",
    "from_proto",
    "fuse_request_from_proto",
    "fuse_request_to_proto",
    "predict_request_to_proto",
    "segments_from_proto",
    "to_json",
    "to_proto",
]

ReadFilm = Callable[..., Film]
"""``read_film(data: bytes, *, kind: "dicom" | "encoded" | None) -> Film``; None looks at the
bytes. Raises ``FilmError`` or ``TooLargeError``. Injected: no image reader is needed here."""

# --- Films ----------------------------------------------------------------------------------------

_PIXEL_TYPES: dict[str, tuple[image_pb2.PixelType, np.dtype[Any]]] = {
    "uint8": (image_pb2.PIXEL_TYPE_UINT8, np.dtype("u1")),
    "uint16": (image_pb2.PIXEL_TYPE_UINT16, np.dtype("<u2")),
    "float32": (image_pb2.PIXEL_TYPE_FLOAT32, np.dtype("<f4")),
}
_PIXEL_DTYPES: dict[int, np.dtype[Any]] = dict(_PIXEL_TYPES.values())


def film_to_proto(film: Film, image: image_pb2.Image | None = None) -> image_pb2.Image:
    """A decoded film as raw pixels.

    Args:
        film: The film.
        image: A message to be filled, such as one within a request; None makes one. Pixels are
            copied once more with every message that a film is passed on to.
    """
    pixel_type, dtype = _PIXEL_TYPES[film.pixels.dtype.name]
    image = image_pb2.Image() if image is None else image
    raw = image.raw
    raw.pixel_type = pixel_type
    raw.height, raw.width = film.height, film.width
    raw.data = np.ascontiguousarray(film.pixels, dtype=dtype).tobytes()
    if film.row_spacing_mm is not None:
        raw.row_spacing_mm = film.row_spacing_mm
    if film.column_spacing_mm is not None:
        raw.column_spacing_mm = film.column_spacing_mm
    return image


def film_file_to_proto(data: bytes, kind: FilmKind) -> image_pb2.Image:
    """A film file as it is, to be decoded by the server."""
    return image_pb2.Image(dicom=data) if kind == "dicom" else image_pb2.Image(encoded=data)


def film_from_proto(
    image: image_pb2.Image,
    read_film: ReadFilm | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Film:
    """The film of a request.

    Raw pixels are not copied: the film's pixels are a read-only view of the message.

    Args:
        image: The message.
        read_film: Decoder of DICOM and encoded files; None takes raw pixels only.
        max_pixels: Most pixels of a film.

    Raises:
        FilmError: The film is absent or broken; the message says what to do.
        TooLargeError: Over a size limit.
    """
    form = image.WhichOneof("form")
    if form is None:
        raise FilmError("the request holds no film; set one of dicom, encoded or raw")
    if form == "raw":
        return _raw_film(image.raw, max_pixels)
    data = image.dicom if form == "dicom" else image.encoded
    if not data:
        raise FilmError("the film is 0 bytes long; send the whole file")
    if read_film is None:
        raise FilmError("this server takes raw pixels only; send the film through the gateway")
    film = read_film(data, kind=form)
    check_film_size(film.height, film.width, max_pixels)
    return film


def asked_film_from_proto(
    request: segmenter_pb2.PredictRequest,
    read_film: ReadFilm | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Film:
    """The film of a question to one network, which may have been shrunk beforehand.

    Args:
        request: The message.
        read_film: As for :func:`film_from_proto`.
        max_pixels: Most pixels of the whole film.

    Raises:
        FilmError: As :func:`film_from_proto`.
        TooLargeError: Over a size limit; the whole film counts.
    """
    film = film_from_proto(request.image, read_film, max_pixels)
    if not (request.HasField("whole_height") or request.HasField("whole_width")):
        return film
    whole = request.whole_height, request.whole_width
    check_film_size(*whole, max_pixels)
    return dataclasses.replace(film, shrunk_from=whole)


def _raw_film(raw: image_pb2.RawPixels, max_pixels: int) -> Film:
    dtype = _PIXEL_DTYPES.get(raw.pixel_type)
    if dtype is None:
        raise FilmError(
            f"pixel_type is {raw.pixel_type}, which names none; send UINT8, UINT16 or FLOAT32"
        )
    check_film_size(raw.height, raw.width, max_pixels)
    expected = raw.height * raw.width * dtype.itemsize
    data = raw.data
    if len(data) != expected:
        raise FilmError(
            f"raw film has {counted(len(data), 'byte')}, but {raw.height} x {raw.width} pixels of "
            f"{dtype.itemsize} bytes are {expected}; send height * width pixels, row by row"
        )
    row_spacing_mm = raw.row_spacing_mm if raw.HasField("row_spacing_mm") else None
    column_spacing_mm = raw.column_spacing_mm if raw.HasField("column_spacing_mm") else None
    return Film(
        np.frombuffer(data, dtype=dtype).reshape(raw.height, raw.width),
        row_spacing_mm,
        column_spacing_mm,
        (NO_SPACING_NOTE,) if row_spacing_mm is None or column_spacing_mm is None else (),
    )


# --- Requests -------------------------------------------------------------------------------------


def predict_request_to_proto(
    film: Film | image_pb2.Image, options: PredictOptions = PredictOptions()
) -> segmenter_pb2.PredictRequest:
    """A question to one network."""
    image = film_to_proto(film) if isinstance(film, Film) else film
    return segmenter_pb2.PredictRequest(image=image, options=to_proto(options))


def ensemble_request_to_proto(
    film: Film | image_pb2.Image, options: EnsembleOptions = EnsembleOptions()
) -> ensemble_pb2.SegmentRequest:
    """A question to the gateway."""
    image = film_to_proto(film) if isinstance(film, Film) else film
    return ensemble_pb2.SegmentRequest(image=image, **fields_to_proto(options))


def fuse_request_to_proto(
    inputs: Mapping[str, Sequence[Segment]],
    height: int,
    width: int,
    options: FusionOptions = FusionOptions(),
) -> evaluation_pb2.FuseRequest:
    """Masks of several members, by name, to be fused."""
    return evaluation_pb2.FuseRequest(
        height=height,
        width=width,
        inputs=[
            evaluation_pb2.FusionInput(
                member_name=name, segments=[to_proto(segment) for segment in segments]
            )
            for name, segments in inputs.items()
        ],
        options=to_proto(options),
    )


def fuse_request_from_proto(
    message: evaluation_pb2.FuseRequest, max_pixels: int = DEFAULT_MAX_PIXELS
) -> tuple[dict[str, tuple[Segment, ...]], int, int, FusionOptions]:
    """Masks of several members by name, height, width and how to fuse.

    Raises:
        MaskError: A mask is wrong; the message names the member.
        OptionError: No member, a name stands twice or is empty, or a setting is wrong.
        FilmError: The size is below the least.
        TooLargeError: The size is over a limit.
    """
    check_film_size(message.height, message.width, max_pixels)
    options = from_proto(FusionOptions, message.options)
    inputs: dict[str, tuple[Segment, ...]] = {}
    for item in message.inputs:
        if not item.member_name:
            raise OptionError("a member has no name; name every member")
        if item.member_name in inputs:
            raise OptionError(f"member {item.member_name!r} stands twice; send each member once")
        with named(f"member {item.member_name!r}"):
            inputs[item.member_name] = segments_from_proto(
                item.segments, message.height, message.width
            )
    if not inputs:
        raise OptionError("no member to fuse; send at least one")
    return inputs, message.height, message.width, options


def evaluation_pair_from_proto(
    message: evaluation_pb2.EvaluateRequest, max_pixels: int = DEFAULT_MAX_PIXELS
) -> EvaluationPair:
    """One film's truth and prediction.

    Raises:
        AnnotationError: A name or one of the two is missing.
        MaskError: A mask is wrong; the message names film, model and side.
        FilmError: The size is below the least.
        TooLargeError: The size is over a limit.
    """
    check_pair_names(message.film_id, message.model_name)
    film = f"film {message.film_id!r}, model {message.model_name!r}"
    with named(film):
        check_film_size(message.height, message.width, max_pixels)
    sides = {}
    for side in ("truth", "prediction"):
        with named(f"{film}, {side}"):
            sides[side] = annotation_from_proto(
                getattr(message, side), message.height, message.width
            )
    return plain_from_proto(EvaluationPair, message, (message.height, message.width), **sides)


# --- JSON, for the HTTP endpoints -----------------------------------------------------------------

_JSON_WITHOUT: dict[type, frozenset[str]] = {
    FusedAnswer: frozenset({"labelling", "implants", "measures"}),
    Prediction: frozenset({"probability_maps"}),
}
"""Fields that are left to gRPC."""

_JSON_LAST: dict[type, tuple[str, ...]] = {
    FusedAnswer: ("segments", "merged_mask"),
    Provenance: ("timing",),
    Segment: ("mask", "level"),
}
"""Fields that come last in JSON, long ones after short ones."""


@functools.cache
def _json_names(kind: Any) -> tuple[str, ...]:
    last = _JSON_LAST.get(kind, ())
    without = _JSON_WITHOUT.get(kind, frozenset())
    names = [field.name for field in dataclasses.fields(kind)]
    return (*(name for name in names if name not in (*last, *without)), *last)


def to_json(value: Any) -> Any:
    """A value of :mod:`spinezoo_contract.types` as plain values.

    Masks and boxes are as COCO writes them: ``{"size": [height, width], "counts": text}`` and
    [x, y, width, height] in pixels. Probability maps are left to gRPC.
    """
    if value is None or isinstance(value, str | bool | float):
        return value
    if isinstance(value, IntEnum):
        return value.name.lower()
    if isinstance(value, int):
        return value
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    if isinstance(value, RunLengthMask):
        return {"size": [value.height, value.width], "counts": value.counts.decode("ascii")}
    if isinstance(value, Box):
        return [value.x, value.y, value.width, value.height]
    if isinstance(value, MemberAnswer):
        return _member_to_json(value)
    return {name: to_json(getattr(value, name)) for name in _json_names(cast(Any, type(value)))}


def _member_to_json(member: MemberAnswer) -> dict[str, Any]:
    status = to_json(member.status)
    entry = {"name": status.pop("member_name"), **status}
    if member.prediction is not None:
        answered = to_json(member.prediction)
        entry["segments"], entry["provenance"] = answered["segments"], answered["provenance"]
    return entry
