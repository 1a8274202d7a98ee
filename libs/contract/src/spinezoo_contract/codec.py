"""Between messages of the wire and the dataclasses of :mod:`spinezoo_contract.types`.

``x_to_proto`` trusts its argument; ``x_from_proto`` trusts nothing and returns only values that
keep the contract. What a caller sends (films, options, segments, label maps) raises
:class:`~spinezoo_contract.errors.BadInputError` or
:class:`~spinezoo_contract.errors.TooLargeError`; what a server answers (predictions, fused and
ensemble answers, model descriptions, metrics) raises
:class:`~spinezoo_contract.errors.InvalidOutputError`.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Literal, ParamSpec, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from spinezoo.v1 import (
    ensemble_pb2,
    evaluation_pb2,
    fusion_pb2,
    image_pb2,
    labelling_pb2,
    model_pb2,
    segment_pb2,
    segmenter_pb2,
)

from spinezoo_contract.errors import (
    AnnotationError,
    BadInputError,
    FilmError,
    InvalidOutputError,
    MaskError,
    OptionError,
    SpineZooError,
    TooLargeError,
)
from spinezoo_contract.masks import runs_box, validate_mask
from spinezoo_contract.types import (
    IMAGE_TAG,
    Annotation,
    Box,
    EnsembleAnswer,
    EnsembleOptions,
    EnsembleSummary,
    EvaluationPair,
    Film,
    FusedAnswer,
    FusionOptions,
    FusionRule,
    GatewayTiming,
    Labelling,
    MemberAnswer,
    MemberCode,
    MemberStatus,
    Metric,
    MetricDirection,
    ModelFamily,
    ModelInfo,
    ModelMetrics,
    NamedVertebra,
    Prediction,
    PredictOptions,
    ProbabilityMap,
    Provenance,
    Roster,
    RosterMember,
    RunLengthMask,
    Segment,
    SegmentKind,
    Structure,
    Timing,
    UnnamedReason,
)

FilmKind = Literal["dicom", "encoded"]
"""The two forms of a film that a reader has to decode."""

ReadFilm = Callable[..., Film]
"""``read_film(data: bytes, *, kind: "dicom" | "encoded" | None) -> Film``; None looks at the
bytes. Raises ``FilmError`` or ``TooLargeError``. Injected: no image reader is needed here."""

MIN_SIDE_PX = 16
"""Fewest rows and columns of a film, in pixels."""

MAX_SIDE_PX = 20_000
"""Most rows and columns of a film, in pixels."""

DEFAULT_MAX_PIXELS = 67_108_864
"""Most pixels of a film where no setting says otherwise: 64 Mi."""

MAX_SEGMENTS_LIMIT = 1000
"""Most segments that a request may ask for."""

MAX_NAME_LENGTH = 200
"""Most characters of a film or model name."""

_PIXEL_DTYPES: dict[int, np.dtype[Any]] = {
    image_pb2.PIXEL_TYPE_UINT8: np.dtype("u1"),
    image_pb2.PIXEL_TYPE_UINT16: np.dtype("<u2"),
    image_pb2.PIXEL_TYPE_FLOAT32: np.dtype("<f4"),
}
_PIXEL_TYPES = {
    "uint8": image_pb2.PIXEL_TYPE_UINT8,
    "uint16": image_pb2.PIXEL_TYPE_UINT16,
    "float32": image_pb2.PIXEL_TYPE_FLOAT32,
}

_LEVEL = re.compile(r"[TLS][0-9]{1,2}")

_P = ParamSpec("_P")
_T = TypeVar("_T")
_E = TypeVar("_E", bound=IntEnum)


def _of_an_answer(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Names what is wrong with an answer as an error of the one who answered."""

    @functools.wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except (BadInputError, TooLargeError) as error:
            raise InvalidOutputError(f"the answer breaks the contract: {error}") from error

    return checked


def _enum_from_proto(
    kind: type[_E], number: int, what: str, error: type[SpineZooError] = MaskError
) -> _E:
    try:
        return kind(number)
    except ValueError:
        names = ", ".join(f"{member.name.lower()} = {member.value}" for member in kind)
        raise error(f"{what} is {number}, which names none; send one of: {names}") from None


def _share(value: float, what: str, error: type[SpineZooError]) -> float:
    """A number from 0 to 1; NaN is none."""
    if not 0.0 <= value <= 1.0:
        raise error(f"{what} is {value}; send a number from 0 to 1")
    return float(value)


def _not_negative(value: float, what: str, error: type[SpineZooError] = MaskError) -> float:
    if not (math.isfinite(value) and value >= 0.0):
        raise error(f"{what} is {value}; send a finite number of 0 or more")
    return float(value)


# --- films ---------------------------------------------------------------------------------------


def check_film_size(height: int, width: int, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
    """Checks a film's size before anything of that size is allocated.

    Raises:
        FilmError: Fewer than 16 rows or columns.
        TooLargeError: More than 20000 rows or columns, or more than ``max_pixels`` pixels.
    """
    if height < MIN_SIDE_PX or width < MIN_SIDE_PX:
        raise FilmError(
            f"film is {height} x {width} pixels; send at least {MIN_SIDE_PX} x {MIN_SIDE_PX}"
        )
    if height > MAX_SIDE_PX or width > MAX_SIDE_PX:
        raise TooLargeError(
            f"film is {height} x {width} pixels, the limit is {MAX_SIDE_PX} a side; "
            "reduce it before sending"
        )
    if height * width > max_pixels:
        raise TooLargeError(
            f"film has {height * width} pixels, the limit is {max_pixels} "
            "(SPINEZOO_MAX_PIXELS of the server); reduce it before sending"
        )


def check_film(film: Film, max_pixels: int = DEFAULT_MAX_PIXELS) -> Film:
    """Checks a decoded film against the contract and returns it.

    Raises:
        FilmError: Shape, pixel type, value or spacing is wrong.
        TooLargeError: Over a size limit.
    """
    pixels = film.pixels
    if pixels.ndim != 2:
        raise FilmError(f"film has the shape {pixels.shape}; send one grey plane, height x width")
    check_film_size(film.height, film.width, max_pixels)
    if pixels.dtype.name not in _PIXEL_TYPES:
        raise FilmError(
            f"film has pixels of type {pixels.dtype}; convert to uint8, uint16 or float32"
        )
    if pixels.dtype.kind == "f":
        wrong = pixels.size - int(np.count_nonzero(np.isfinite(pixels)))
        if wrong:
            raise FilmError(
                f"film has {wrong} pixels that are NaN or infinite; replace them before sending"
            )
    for what, spacing in (
        ("row_spacing_mm", film.row_spacing_mm),
        ("column_spacing_mm", film.column_spacing_mm),
    ):
        if spacing is not None and not (math.isfinite(spacing) and spacing > 0.0):
            raise FilmError(f"{what} is {spacing}; send mm greater than 0, or leave it out")
    return film


def film_to_proto(film: Film) -> image_pb2.Image:
    """A decoded film as raw pixels.

    Raises:
        FilmError: The film breaks the contract; see :func:`check_film`.
        TooLargeError: Over the contract's size limits.
    """
    check_film(film, max_pixels=MAX_SIDE_PX * MAX_SIDE_PX)
    pixel_type = _PIXEL_TYPES[film.pixels.dtype.name]
    raw = image_pb2.RawPixels(
        pixel_type=pixel_type,
        height=film.height,
        width=film.width,
        data=np.ascontiguousarray(film.pixels, dtype=_PIXEL_DTYPES[pixel_type]).tobytes(),
    )
    if film.row_spacing_mm is not None:
        raw.row_spacing_mm = film.row_spacing_mm
    if film.column_spacing_mm is not None:
        raw.column_spacing_mm = film.column_spacing_mm
    return image_pb2.Image(raw=raw)


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
        return _raw_from_proto(image.raw, max_pixels)
    data = image.dicom if form == "dicom" else image.encoded
    if not data:
        raise FilmError("the film is 0 bytes long; send the whole file")
    if read_film is None:
        raise FilmError("this server takes raw pixels only; send the film through the gateway")
    return check_film(read_film(data, kind=form), max_pixels)


def _raw_from_proto(raw: image_pb2.RawPixels, max_pixels: int) -> Film:
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
            f"raw film has {len(data)} bytes, but {raw.height} x {raw.width} pixels of "
            f"{dtype.itemsize} bytes are {expected}; send height * width pixels, row by row"
        )
    pixels = np.frombuffer(data, dtype=dtype).reshape(raw.height, raw.width)
    film = Film(
        pixels,
        raw.row_spacing_mm if raw.HasField("row_spacing_mm") else None,
        raw.column_spacing_mm if raw.HasField("column_spacing_mm") else None,
    )
    return check_film(film, max_pixels)


# --- options -------------------------------------------------------------------------------------


def check_options(options: PredictOptions) -> PredictOptions:
    """Checks the ranges of a prediction's settings and returns them.

    Raises:
        OptionError: A setting is out of its range.
    """
    if options.score_threshold is not None:
        _share(options.score_threshold, "score_threshold", OptionError)
    if options.suppression_iou is not None:
        _share(options.suppression_iou, "suppression_iou", OptionError)
    if options.max_segments is not None and not 1 <= options.max_segments <= MAX_SEGMENTS_LIMIT:
        raise OptionError(
            f"max_segments is {options.max_segments}; send 1 to {MAX_SEGMENTS_LIMIT}, "
            "or leave it out"
        )
    return options


def options_to_proto(options: PredictOptions) -> segmenter_pb2.PredictOptions:
    """Settings of a prediction; None stays absent."""
    return segmenter_pb2.PredictOptions(
        score_threshold=options.score_threshold,
        suppression_iou=options.suppression_iou,
        max_segments=options.max_segments,
        include_probability_maps=options.include_probability_maps,
    )


def options_from_proto(message: segmenter_pb2.PredictOptions) -> PredictOptions:
    """Settings of a prediction; absent becomes None.

    Raises:
        OptionError: A setting is out of its range.
    """
    return check_options(
        PredictOptions(
            message.score_threshold if message.HasField("score_threshold") else None,
            message.suppression_iou if message.HasField("suppression_iou") else None,
            message.max_segments if message.HasField("max_segments") else None,
            message.include_probability_maps,
        )
    )


# --- segments ------------------------------------------------------------------------------------


def structure_from_proto(number: int) -> Structure:
    """A structure.

    Raises:
        MaskError: The number names none.
    """
    return _enum_from_proto(Structure, number, "structure")


def box_to_proto(box: Box) -> segment_pb2.Box:
    """A box."""
    return segment_pb2.Box(x=box.x, y=box.y, width=box.width, height=box.height)


def box_from_proto(message: segment_pb2.Box) -> Box:
    """A box.

    Raises:
        MaskError: A number is not finite, or an extent is negative.
    """
    box = Box(message.x, message.y, message.width, message.height)
    if not all(map(math.isfinite, (box.x, box.y, box.width, box.height))):
        raise MaskError("box holds a number that is NaN or infinite; send pixels of the film")
    if box.width < 0.0 or box.height < 0.0:
        raise MaskError(f"box is {box.width} x {box.height} pixels; send extents of 0 or more")
    return box


def mask_to_proto(mask: RunLengthMask) -> segment_pb2.RunLengthMask:
    """A mask."""
    return segment_pb2.RunLengthMask(height=mask.height, width=mask.width, counts=mask.counts)


def mask_from_proto(
    message: segment_pb2.RunLengthMask, height: int, width: int
) -> tuple[RunLengthMask, NDArray[np.int64]]:
    """A mask that has foreground, and its run lengths.

    Args:
        message: The message.
        height: Rows of the film, in pixels.
        width: Columns of the film, in pixels.

    Raises:
        MaskError: The mask is not of the film's size, is empty or breaks the contract.
    """
    mask = RunLengthMask(message.height, message.width, message.counts)
    runs = validate_mask(mask, height, width)
    if not runs[1::2].any():
        raise MaskError("mask is empty; leave a segment without pixels out")
    return mask, runs


def segment_to_proto(segment: Segment) -> segment_pb2.Segment:
    """One outline."""
    return segment_pb2.Segment(
        structure=cast(Any, int(segment.structure)),
        kind=cast(Any, int(segment.kind)),
        score=segment.score,
        box=box_to_proto(segment.box),
        mask=mask_to_proto(segment.mask),
        level=segment.level,
    )


def segment_from_proto(message: segment_pb2.Segment, height: int, width: int) -> Segment:
    """One outline of a film.

    An absent box is computed from the mask.

    Args:
        message: The message.
        height: Rows of the film, in pixels.
        width: Columns of the film, in pixels.

    Raises:
        MaskError: A field breaks the contract; the message says which.
    """
    structure = structure_from_proto(message.structure)
    kind = _enum_from_proto(SegmentKind, message.kind, "kind")
    score = _share(message.score, f"score of a {structure.name.lower()}", MaskError)
    mask, runs = mask_from_proto(message.mask, height, width)
    if message.HasField("box"):
        box = box_from_proto(message.box)
        # One pixel of leeway: boxes may come from another grid.
        if (
            box.x < -1.0
            or box.y < -1.0
            or box.x + box.width > width + 1.0
            or box.y + box.height > height + 1.0
        ):
            raise MaskError(
                f"box {box.x}, {box.y}, {box.width} x {box.height} leaves the film of "
                f"{height} x {width}; send pixels of the film"
            )
    else:
        box = runs_box(runs, height)
    level = message.level if message.HasField("level") else None
    if level is not None and _LEVEL.fullmatch(level) is None:
        # Not quoted: it might be free text with a name in it.
        raise MaskError("level is not of the form L4, S1 or T12; correct it or leave it out")
    return Segment(structure, kind, mask, score, box, level)


def segments_to_proto(segments: Iterable[Segment]) -> list[segment_pb2.Segment]:
    """Outlines, in the same order."""
    return [segment_to_proto(segment) for segment in segments]


def segments_from_proto(
    messages: Iterable[segment_pb2.Segment], height: int, width: int
) -> tuple[Segment, ...]:
    """Outlines of one film, in the same order.

    Raises:
        MaskError: One breaks the contract; the message names it by its place, from 0.
    """
    segments = []
    for place, message in enumerate(messages):
        try:
            segments.append(segment_from_proto(message, height, width))
        except MaskError as error:
            raise MaskError(f"segment {place}: {error}") from error
    return tuple(segments)


def label_map_to_proto(labels: NDArray[np.uint8]) -> segment_pb2.LabelMap:
    """A (height, width) label map.

    Raises:
        MaskError: Not two-dimensional, not integer, or a value names no structure.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "ui":
        raise MaskError(
            f"a label map is a (height, width) array of uint8, not {labels.dtype} {labels.shape}"
        )
    _check_labels(labels)
    return segment_pb2.LabelMap(
        height=labels.shape[0],
        width=labels.shape[1],
        data=np.ascontiguousarray(labels, dtype=np.uint8).tobytes(),
    )


def label_map_from_proto(
    message: segment_pb2.LabelMap, height: int, width: int
) -> NDArray[np.uint8]:
    """A (height, width) label map, a read-only view of the message.

    Raises:
        MaskError: Size, length or a value is wrong.
    """
    if (message.height, message.width) != (height, width):
        raise MaskError(
            f"label map is {message.height} x {message.width}, the film {height} x {width}; "
            "resize it to the film without interpolation"
        )
    data = message.data
    if len(data) != height * width:
        raise MaskError(
            f"label map has {len(data)} bytes, expected {height * width}; send one byte a pixel"
        )
    labels = np.frombuffer(data, dtype=np.uint8).reshape(height, width)
    _check_labels(labels)
    return labels


def _check_labels(labels: NDArray[np.integer[Any]]) -> None:
    if labels.size == 0:
        raise MaskError("label map has no pixels; send the film's size")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > max(Structure):
        hint = (
            "a 0/255 mask is no label map: write the number of the structure in place of 255"
            if high == 255
            else "write the number of a structure, or 0 for background"
        )
        raise MaskError(f"label map holds values {low} to {high}, allowed are 0 to 5; {hint}")


def probability_map_to_proto(grid: ProbabilityMap) -> segment_pb2.ProbabilityMap:
    """One probability map."""
    return segment_pb2.ProbabilityMap(
        structure=cast(Any, int(grid.structure)),
        height=grid.values.shape[0],
        width=grid.values.shape[1],
        data=np.ascontiguousarray(grid.values, dtype=np.uint8).tobytes(),
        film_box=box_to_proto(grid.film_box),
    )


def probability_map_from_proto(message: segment_pb2.ProbabilityMap) -> ProbabilityMap:
    """One probability map, its values a read-only view of the message.

    Raises:
        MaskError: Size, length or structure is wrong, or the box is absent.
    """
    structure = structure_from_proto(message.structure)
    data = message.data
    if message.height == 0 or message.width == 0 or len(data) != message.height * message.width:
        raise MaskError(
            f"probability map of {message.height} x {message.width} has {len(data)} bytes; "
            "send one byte a cell"
        )
    if not message.HasField("film_box"):
        raise MaskError("probability map has no film_box; send the rectangle that it covers")
    values = np.frombuffer(data, dtype=np.uint8).reshape(message.height, message.width)
    return ProbabilityMap(structure, values, box_from_proto(message.film_box))


# --- predictions ---------------------------------------------------------------------------------


def timing_to_proto(timing: Timing) -> model_pb2.Timing:
    """Where a member's time went."""
    return model_pb2.Timing(
        decode_ms=timing.decode_ms,
        prepare_ms=timing.prepare_ms,
        queue_ms=timing.queue_ms,
        infer_ms=timing.infer_ms,
        finish_ms=timing.finish_ms,
    )


@_of_an_answer
def timing_from_proto(message: model_pb2.Timing) -> Timing:
    """Where a member's time went.

    Raises:
        InvalidOutputError: A time is negative or not finite.
    """
    return Timing(
        decode_ms=_not_negative(message.decode_ms, "decode_ms"),
        prepare_ms=_not_negative(message.prepare_ms, "prepare_ms"),
        queue_ms=_not_negative(message.queue_ms, "queue_ms"),
        infer_ms=_not_negative(message.infer_ms, "infer_ms"),
        finish_ms=_not_negative(message.finish_ms, "finish_ms"),
    )


def provenance_to_proto(provenance: Provenance) -> model_pb2.Provenance:
    """Who answered."""
    return model_pb2.Provenance(
        model_name=provenance.model_name,
        model_version=provenance.model_version,
        preset=provenance.preset,
        weights_sha256=provenance.weights_sha256,
        preprocessing_id=provenance.preprocessing_id,
        device=provenance.device,
        timing=timing_to_proto(provenance.timing),
        image=provenance.image,
    )


def _image_tag(tag: str) -> str:
    """A container image's tag, fit for a log line and a report."""
    if not IMAGE_TAG.fullmatch(tag):
        raise MaskError(
            f"image is a text of {len(tag)} characters, not a tag of at most 255 printable ones "
            "without spaces; set SPINEZOO_IMAGE of that container right"
        )
    return tag


@_of_an_answer
def provenance_from_proto(message: model_pb2.Provenance) -> Provenance:
    """Who answered.

    Raises:
        InvalidOutputError: The name is missing, a time is wrong or the image is no tag.
    """
    if not message.model_name:
        raise MaskError("provenance names no model")
    return Provenance(
        model_name=message.model_name,
        model_version=message.model_version,
        preset=message.preset,
        weights_sha256=message.weights_sha256,
        preprocessing_id=message.preprocessing_id,
        device=message.device,
        timing=timing_from_proto(message.timing),
        image=_image_tag(message.image),
    )


def predict_request_to_proto(
    film: Film | image_pb2.Image, options: PredictOptions = PredictOptions()
) -> segmenter_pb2.PredictRequest:
    """A question to one network.

    Raises:
        FilmError: The film breaks the contract.
    """
    image = film_to_proto(film) if isinstance(film, Film) else film
    return segmenter_pb2.PredictRequest(image=image, options=options_to_proto(options))


def prediction_to_proto(prediction: Prediction) -> segmenter_pb2.PredictResponse:
    """One network's answer."""
    return segmenter_pb2.PredictResponse(
        height=prediction.height,
        width=prediction.width,
        segments=segments_to_proto(prediction.segments),
        probability_maps=[probability_map_to_proto(grid) for grid in prediction.probability_maps],
        provenance=provenance_to_proto(prediction.provenance),
    )


@_of_an_answer
def prediction_from_proto(
    message: segmenter_pb2.PredictResponse,
    height: int | None = None,
    width: int | None = None,
) -> Prediction:
    """One network's answer.

    Args:
        message: The message.
        height: Rows of the film that was sent, in pixels; None takes the answer's word.
        width: Columns of the film that was sent.

    Raises:
        InvalidOutputError: The answer breaks the contract, or is not of the film's size.
    """
    expected = (height or message.height, width or message.width)
    if (message.height, message.width) != expected or 0 in expected:
        raise MaskError(
            f"size {message.height} x {message.width}, but the film is "
            f"{expected[0]} x {expected[1]}"
        )
    if not message.HasField("provenance"):
        raise MaskError("provenance is missing")
    return Prediction(
        height=message.height,
        width=message.width,
        segments=segments_from_proto(message.segments, message.height, message.width),
        provenance=provenance_from_proto(message.provenance),
        probability_maps=tuple(map(probability_map_from_proto, message.probability_maps)),
    )


# --- models --------------------------------------------------------------------------------------


def model_info_to_proto(info: ModelInfo) -> model_pb2.ModelInfo:
    """What a container says of itself."""
    return model_pb2.ModelInfo(
        name=info.name,
        version=info.version,
        architecture=info.architecture,
        family=cast(Any, int(info.family)),
        preset=info.preset,
        structures=cast(Any, [int(structure) for structure in info.structures]),
        input_height=info.input_height,
        input_width=info.input_width,
        weights_sha256=info.weights_sha256,
        card_sha256=info.card_sha256,
        license=info.license,
        default_score_threshold=info.default_score_threshold,
        default_suppression_iou=info.default_suppression_iou,
        max_message_bytes=info.max_message_bytes,
        queue_limit=info.queue_limit,
        image=info.image,
    )


@_of_an_answer
def model_info_from_proto(message: model_pb2.ModelInfo) -> ModelInfo:
    """What a container says of itself.

    Raises:
        InvalidOutputError: The name is missing, or family, a structure, a default or the image's
            tag is wrong.
    """
    if not message.name:
        raise MaskError("the model has no name")
    return ModelInfo(
        name=message.name,
        version=message.version,
        architecture=message.architecture,
        family=_enum_from_proto(ModelFamily, message.family, "family"),
        preset=message.preset,
        structures=tuple(structure_from_proto(number) for number in message.structures),
        input_height=message.input_height,
        input_width=message.input_width,
        weights_sha256=message.weights_sha256,
        card_sha256=message.card_sha256,
        license=message.license,
        default_score_threshold=_share(
            message.default_score_threshold, "default_score_threshold", MaskError
        ),
        default_suppression_iou=(
            _share(message.default_suppression_iou, "default_suppression_iou", MaskError)
            if message.HasField("default_suppression_iou")
            else None
        ),
        max_message_bytes=message.max_message_bytes,
        queue_limit=message.queue_limit,
        image=_image_tag(message.image),
    )


# --- fusion --------------------------------------------------------------------------------------


def fusion_options_to_proto(options: FusionOptions) -> fusion_pb2.FusionOptions:
    """How to fuse."""
    return fusion_pb2.FusionOptions(rule=cast(Any, int(options.rule)), weights=options.weights)


def fusion_options_from_proto(message: fusion_pb2.FusionOptions) -> FusionOptions:
    """How to fuse; an unspecified rule is majority.

    Raises:
        OptionError: The rule is unknown or a weight is not greater than 0.
    """
    rule = FusionRule.MAJORITY
    if message.rule != fusion_pb2.FUSION_RULE_UNSPECIFIED:
        rule = _enum_from_proto(FusionRule, message.rule, "fusion rule", OptionError)
    weights = dict(message.weights)
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight > 0.0):
            raise OptionError(f"weight of {name!r} is {weight}; send a number greater than 0")
    return FusionOptions(rule, weights)


def labelling_to_proto(labelling: Labelling) -> labelling_pb2.Labelling:
    """The named column of a film."""
    return labelling_pb2.Labelling(
        vertebrae=[
            labelling_pb2.NamedVertebra(
                segment=segment_to_proto(vertebra.segment),
                confidence=vertebra.confidence,
                unnamed_reason=cast(Any, int(vertebra.reason or 0)),
            )
            for vertebra in labelling.vertebrae
        ],
        sacrum_in_view=labelling.sacrum_in_view,
        missing_levels=labelling.missing_levels,
        lumbar_count=labelling.lumbar_count,
        suspected_lumbar_count=labelling.suspected_lumbar_count,
        count_reason=labelling.count_reason,
    )


@_of_an_answer
def labelling_from_proto(message: labelling_pb2.Labelling, height: int, width: int) -> Labelling:
    """The named column of a film of (height, width) pixels.

    Raises:
        InvalidOutputError: The answer breaks the contract; a name without confidence, a reason
            beside a name, or neither of them, breaks it too.
    """
    vertebrae = []
    for place, item in enumerate(message.vertebrae):
        try:
            segment = segment_from_proto(item.segment, height, width)
        except MaskError as error:
            raise MaskError(f"vertebra {place}: {error}") from error
        reason = (
            _enum_from_proto(UnnamedReason, item.unnamed_reason, "reason of a missing name")
            if item.unnamed_reason
            else None
        )
        if (segment.level is None) == (reason is None):
            raise MaskError(f"vertebra {place}: send a level, or the reason why there is none")
        confidence = _share(item.confidence, f"confidence of vertebra {place}", MaskError)
        vertebrae.append(NamedVertebra(segment, confidence, reason))
    if any(_LEVEL.fullmatch(level) is None for level in message.missing_levels):
        raise MaskError("a missing level is not of the form L4, S1 or T12; correct it")
    return Labelling(
        vertebrae=tuple(vertebrae),
        sacrum_in_view=message.sacrum_in_view,
        missing_levels=tuple(message.missing_levels),
        lumbar_count=message.lumbar_count if message.HasField("lumbar_count") else None,
        suspected_lumbar_count=(
            message.suspected_lumbar_count if message.HasField("suspected_lumbar_count") else None
        ),
        count_reason=message.count_reason,
    )


def fused_answer_to_proto(fused: FusedAnswer) -> fusion_pb2.FusedAnswer:
    """A fused answer."""
    return fusion_pb2.FusedAnswer(
        segments=segments_to_proto(fused.segments),
        merged_mask=None if fused.merged_mask is None else mask_to_proto(fused.merged_mask),
        rule=cast(Any, int(fused.rule)),
        member_names=fused.member_names,
        labelling=None if fused.labelling is None else labelling_to_proto(fused.labelling),
    )


@_of_an_answer
def fused_answer_from_proto(
    message: fusion_pb2.FusedAnswer, height: int, width: int
) -> FusedAnswer:
    """A fused answer for a film of (height, width) pixels.

    Raises:
        InvalidOutputError: The answer breaks the contract.
    """
    merged = None
    if message.HasField("merged_mask"):
        merged, _ = mask_from_proto(message.merged_mask, height, width)
    return FusedAnswer(
        segments=segments_from_proto(message.segments, height, width),
        merged_mask=merged,
        rule=_enum_from_proto(FusionRule, message.rule, "fusion rule"),
        member_names=tuple(message.member_names),
        labelling=(
            labelling_from_proto(message.labelling, height, width)
            if message.HasField("labelling")
            else None
        ),
    )


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
            evaluation_pb2.FusionInput(member_name=name, segments=segments_to_proto(segments))
            for name, segments in inputs.items()
        ],
        options=fusion_options_to_proto(options),
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
    options = fusion_options_from_proto(message.options)
    inputs: dict[str, tuple[Segment, ...]] = {}
    for item in message.inputs:
        if not item.member_name:
            raise OptionError("a member has no name; name every member")
        if item.member_name in inputs:
            raise OptionError(f"member {item.member_name!r} stands twice; send each member once")
        try:
            inputs[item.member_name] = segments_from_proto(
                item.segments, message.height, message.width
            )
        except MaskError as error:
            raise MaskError(f"member {item.member_name!r}: {error}") from error
    if not inputs:
        raise OptionError("no member to fuse; send at least one")
    return inputs, message.height, message.width, options


# --- ensemble ------------------------------------------------------------------------------------


def ensemble_request_to_proto(
    film: Film | image_pb2.Image, options: EnsembleOptions = EnsembleOptions()
) -> ensemble_pb2.SegmentRequest:
    """A question to the gateway.

    Raises:
        FilmError: The film breaks the contract.
    """
    return ensemble_pb2.SegmentRequest(
        image=film_to_proto(film) if isinstance(film, Film) else film,
        options=options_to_proto(options.options),
        member_names=options.member_names,
        fusion=None if options.fusion is None else fusion_options_to_proto(options.fusion),
        member_deadline_ms=options.member_deadline_ms,
        quorum=options.quorum,
    )


def ensemble_options_from_proto(message: ensemble_pb2.SegmentRequest) -> EnsembleOptions:
    """What a request asks of the gateway beside the film.

    Raises:
        OptionError: A setting is out of its range.
    """
    if message.HasField("quorum") and message.quorum == 0:
        raise OptionError("quorum is 0; send 1 or more, or leave it out")
    if message.HasField("member_deadline_ms") and message.member_deadline_ms == 0:
        raise OptionError("member_deadline_ms is 0; send 1 or more, or leave it out")
    names = tuple(message.member_names)
    if len(set(names)) != len(names):
        raise OptionError("a member is named twice; name each member once")
    return EnsembleOptions(
        options=options_from_proto(message.options),
        member_names=names,
        fusion=fusion_options_from_proto(message.fusion) if message.HasField("fusion") else None,
        member_deadline_ms=(
            message.member_deadline_ms if message.HasField("member_deadline_ms") else None
        ),
        quorum=message.quorum if message.HasField("quorum") else None,
    )


def member_status_to_proto(status: MemberStatus) -> ensemble_pb2.MemberStatus:
    """How a member fared."""
    return ensemble_pb2.MemberStatus(
        member_name=status.member_name,
        code=cast(Any, int(status.code)),
        latency_ms=status.latency_ms,
        message=status.message,
    )


@_of_an_answer
def member_status_from_proto(message: ensemble_pb2.MemberStatus) -> MemberStatus:
    """How a member fared.

    Raises:
        InvalidOutputError: The name is missing, the code unknown or the latency wrong.
    """
    if not message.member_name:
        raise MaskError("a member status names no member")
    return MemberStatus(
        member_name=message.member_name,
        code=_enum_from_proto(MemberCode, message.code, "member code"),
        latency_ms=_not_negative(message.latency_ms, "latency_ms"),
        message=message.message,
    )


def member_answer_to_proto(answer: MemberAnswer) -> ensemble_pb2.MemberAnswer:
    """One member's answer or failure."""
    message = ensemble_pb2.MemberAnswer(status=member_status_to_proto(answer.status))
    if answer.prediction is not None:
        message.segments.extend(segments_to_proto(answer.prediction.segments))
        message.probability_maps.extend(
            probability_map_to_proto(grid) for grid in answer.prediction.probability_maps
        )
        message.provenance.CopyFrom(provenance_to_proto(answer.prediction.provenance))
    return message


@_of_an_answer
def member_answer_from_proto(
    message: ensemble_pb2.MemberAnswer, height: int | None = None, width: int | None = None
) -> MemberAnswer:
    """One member's answer or failure.

    Args:
        message: The message.
        height: Rows of the film, in pixels. None (in a stream, before the summary) takes the
            size of the first mask; the prediction's size is then 0 x 0 when there is none.
        width: Columns of the film, in pixels.

    Raises:
        InvalidOutputError: The answer breaks the contract.
    """
    status = member_status_from_proto(message.status)
    if status.code != MemberCode.OK:
        if message.segments or message.probability_maps:
            raise MaskError(f"member {status.member_name!r} failed, yet carries outlines")
        return MemberAnswer(status, None)
    if height is None or width is None:
        first = message.segments[0].mask if message.segments else None
        height, width = (first.height, first.width) if first is not None else (0, 0)
    if not message.HasField("provenance"):
        raise MaskError(f"member {status.member_name!r} answered without provenance")
    prediction = Prediction(
        height=height,
        width=width,
        segments=segments_from_proto(message.segments, height, width),
        provenance=provenance_from_proto(message.provenance),
        probability_maps=tuple(map(probability_map_from_proto, message.probability_maps)),
    )
    return MemberAnswer(status, prediction)


def gateway_timing_to_proto(timing: GatewayTiming) -> ensemble_pb2.GatewayTiming:
    """Where the gateway's time went."""
    return ensemble_pb2.GatewayTiming(
        decode_ms=timing.decode_ms,
        fan_out_ms=timing.fan_out_ms,
        fuse_ms=timing.fuse_ms,
        total_ms=timing.total_ms,
    )


@_of_an_answer
def gateway_timing_from_proto(message: ensemble_pb2.GatewayTiming) -> GatewayTiming:
    """Where the gateway's time went.

    Raises:
        InvalidOutputError: A time is negative or not finite.
    """
    return GatewayTiming(
        decode_ms=_not_negative(message.decode_ms, "decode_ms"),
        fan_out_ms=_not_negative(message.fan_out_ms, "fan_out_ms"),
        fuse_ms=_not_negative(message.fuse_ms, "fuse_ms"),
        total_ms=_not_negative(message.total_ms, "total_ms"),
    )


def ensemble_answer_to_proto(answer: EnsembleAnswer) -> ensemble_pb2.SegmentResponse:
    """The gateway's answer."""
    return ensemble_pb2.SegmentResponse(
        height=answer.height,
        width=answer.width,
        members=[member_answer_to_proto(member) for member in answer.members],
        fused=fused_answer_to_proto(answer.fused),
        timing=gateway_timing_to_proto(answer.timing),
    )


@_of_an_answer
def ensemble_answer_from_proto(message: ensemble_pb2.SegmentResponse) -> EnsembleAnswer:
    """The gateway's answer.

    Raises:
        InvalidOutputError: The answer breaks the contract.
    """
    height, width = message.height, message.width
    check_film_size(height, width, MAX_SIDE_PX * MAX_SIDE_PX)
    return EnsembleAnswer(
        height=height,
        width=width,
        members=tuple(member_answer_from_proto(item, height, width) for item in message.members),
        fused=fused_answer_from_proto(message.fused, height, width),
        timing=gateway_timing_from_proto(message.timing),
    )


def ensemble_summary_to_proto(summary: EnsembleSummary) -> ensemble_pb2.EnsembleSummary:
    """The last message of a stream."""
    return ensemble_pb2.EnsembleSummary(
        height=summary.height,
        width=summary.width,
        statuses=[member_status_to_proto(status) for status in summary.statuses],
        fused=fused_answer_to_proto(summary.fused),
        timing=gateway_timing_to_proto(summary.timing),
    )


@_of_an_answer
def ensemble_summary_from_proto(message: ensemble_pb2.EnsembleSummary) -> EnsembleSummary:
    """The last message of a stream.

    Raises:
        InvalidOutputError: The answer breaks the contract.
    """
    height, width = message.height, message.width
    check_film_size(height, width, MAX_SIDE_PX * MAX_SIDE_PX)
    return EnsembleSummary(
        height=height,
        width=width,
        statuses=tuple(map(member_status_from_proto, message.statuses)),
        fused=fused_answer_from_proto(message.fused, height, width),
        timing=gateway_timing_from_proto(message.timing),
    )


def roster_to_proto(roster: Roster) -> ensemble_pb2.ListModelsResponse:
    """Who is in the zoo."""
    return ensemble_pb2.ListModelsResponse(
        members=[
            ensemble_pb2.RosterMember(
                member_name=member.member_name,
                target=member.target,
                status=member_status_to_proto(member.status),
                model=None if member.model is None else model_info_to_proto(member.model),
            )
            for member in roster.members
        ],
        default_quorum=roster.default_quorum,
        default_member_deadline_ms=roster.default_member_deadline_ms,
    )


@_of_an_answer
def roster_from_proto(message: ensemble_pb2.ListModelsResponse) -> Roster:
    """Who is in the zoo.

    Raises:
        InvalidOutputError: The answer breaks the contract.
    """
    return Roster(
        members=tuple(
            RosterMember(
                member_name=member.member_name,
                target=member.target,
                status=member_status_from_proto(member.status),
                model=model_info_from_proto(member.model) if member.HasField("model") else None,
            )
            for member in message.members
        ),
        default_quorum=message.default_quorum,
        default_member_deadline_ms=message.default_member_deadline_ms,
    )


# --- evaluation ----------------------------------------------------------------------------------


def annotation_to_proto(annotation: Annotation) -> evaluation_pb2.Annotation:
    """Outlines of a film: segments or a label map."""
    if isinstance(annotation, tuple):
        segments = segment_pb2.SegmentList(segments=segments_to_proto(annotation))
        return evaluation_pb2.Annotation(segments=segments)
    return evaluation_pb2.Annotation(label_map=label_map_to_proto(annotation))


def annotation_from_proto(
    message: evaluation_pb2.Annotation, height: int, width: int
) -> Annotation:
    """Outlines of a film of (height, width) pixels: segments or a label map.

    Raises:
        AnnotationError: Neither form is set.
        MaskError: A mask or the label map is wrong.
    """
    form = message.WhichOneof("form")
    if form == "segments":
        return segments_from_proto(message.segments.segments, height, width)
    if form == "label_map":
        return label_map_from_proto(message.label_map, height, width)
    raise AnnotationError("no outlines are set; send segments (an empty list is fine) or label_map")


def evaluation_pair_to_proto(pair: EvaluationPair) -> evaluation_pb2.EvaluateRequest:
    """One film's truth and prediction."""
    return evaluation_pb2.EvaluateRequest(
        film_id=pair.film_id,
        model_name=pair.model_name,
        height=pair.height,
        width=pair.width,
        truth=annotation_to_proto(pair.truth),
        prediction=annotation_to_proto(pair.prediction),
    )


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
    for what, name in (("film_id", message.film_id), ("model_name", message.model_name)):
        if not 1 <= len(name) <= MAX_NAME_LENGTH:
            raise AnnotationError(f"{what} has {len(name)} characters; send 1 to {MAX_NAME_LENGTH}")
    film = f"film {message.film_id!r}, model {message.model_name!r}"
    sides: list[Annotation] = []
    try:
        check_film_size(message.height, message.width, max_pixels)
        for what in ("truth", "prediction"):
            film = f"film {message.film_id!r}, model {message.model_name!r}, {what}"
            sides.append(
                annotation_from_proto(getattr(message, what), message.height, message.width)
            )
    except (BadInputError, TooLargeError) as error:
        raise type(error)(f"{film}: {error}") from error
    return EvaluationPair(
        film_id=message.film_id,
        model_name=message.model_name,
        height=message.height,
        width=message.width,
        truth=sides[0],
        prediction=sides[1],
    )


def model_metrics_to_proto(metrics: ModelMetrics) -> evaluation_pb2.ModelMetrics:
    """All metrics of one model."""
    return evaluation_pb2.ModelMetrics(
        model_name=metrics.model_name,
        film_count=metrics.film_count,
        metrics=[
            evaluation_pb2.Metric(
                name=metric.name,
                film_mean=metric.film_mean,
                pooled=metric.pooled,
                film_count=metric.film_count,
                direction=cast(Any, int(metric.direction)),
                minimum=metric.minimum,
                maximum=metric.maximum,
            )
            for metric in metrics.metrics
        ],
    )


@_of_an_answer
def model_metrics_from_proto(message: evaluation_pb2.ModelMetrics) -> ModelMetrics:
    """All metrics of one model.

    Raises:
        InvalidOutputError: A name is missing or a direction unknown.
    """
    if not message.model_name or not all(metric.name for metric in message.metrics):
        raise MaskError("a model or metric has no name")
    return ModelMetrics(
        model_name=message.model_name,
        film_count=message.film_count,
        metrics=tuple(
            Metric(
                name=metric.name,
                film_mean=metric.film_mean if metric.HasField("film_mean") else None,
                pooled=metric.pooled if metric.HasField("pooled") else None,
                film_count=metric.film_count,
                direction=_enum_from_proto(
                    MetricDirection, metric.direction, f"direction of {metric.name}"
                ),
                minimum=metric.minimum,
                maximum=metric.maximum,
            )
            for metric in message.metrics
        ),
    )


# --- JSON, for the HTTP faces --------------------------------------------------------------------


def mask_to_json(mask: RunLengthMask) -> dict[str, Any]:
    """A mask as COCO writes it: ``{"size": [height, width], "counts": text}``."""
    return {"size": [mask.height, mask.width], "counts": mask.counts.decode("ascii")}


def segment_to_json(segment: Segment) -> dict[str, Any]:
    """One outline; the box is [x, y, width, height] in pixels, as COCO writes it."""
    return {
        "structure": segment.structure.name.lower(),
        "kind": segment.kind.name.lower(),
        "score": segment.score,
        "box": [segment.box.x, segment.box.y, segment.box.width, segment.box.height],
        "mask": mask_to_json(segment.mask),
        "level": segment.level,
    }


def provenance_to_json(provenance: Provenance) -> dict[str, Any]:
    """Who answered and where the time went."""
    timing = provenance.timing
    return {
        "model_name": provenance.model_name,
        "model_version": provenance.model_version,
        "preset": provenance.preset,
        "weights_sha256": provenance.weights_sha256,
        "preprocessing_id": provenance.preprocessing_id,
        "device": provenance.device,
        "image": provenance.image,
        "timing": {name: getattr(timing, name) for name in timing.__slots__},
    }


def prediction_to_json(prediction: Prediction) -> dict[str, Any]:
    """One network's answer as plain values; probability maps are left to gRPC."""
    return {
        "height": prediction.height,
        "width": prediction.width,
        "segments": [segment_to_json(segment) for segment in prediction.segments],
        "provenance": provenance_to_json(prediction.provenance),
    }


def ensemble_answer_to_json(answer: EnsembleAnswer) -> dict[str, Any]:
    """The gateway's answer as plain values; probability maps are left to gRPC."""
    members = []
    for member in answer.members:
        status = member.status
        entry: dict[str, Any] = {
            "name": status.member_name,
            "code": status.code.name.lower(),
            "latency_ms": status.latency_ms,
            "message": status.message,
        }
        if member.prediction is not None:
            entry["segments"] = [segment_to_json(item) for item in member.prediction.segments]
            entry["provenance"] = provenance_to_json(member.prediction.provenance)
        members.append(entry)
    fused, timing = answer.fused, answer.timing
    return {
        "height": answer.height,
        "width": answer.width,
        "members": members,
        "fused": {
            "rule": fused.rule.name.lower(),
            "member_names": list(fused.member_names),
            "segments": [segment_to_json(segment) for segment in fused.segments],
            "merged_mask": None if fused.merged_mask is None else mask_to_json(fused.merged_mask),
        },
        "timing": {name: getattr(timing, name) for name in timing.__slots__},
    }
