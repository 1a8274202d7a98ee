"""The codec: everything survives the way there and back; everything wrong has its name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from messages import HEIGHT, TURNED, WIDTH, changed, pair, segment
from spinezoo.v1 import (
    ensemble_pb2,
    image_pb2,
    segment_pb2,
    segmenter_pb2,
)
from spinezoo_contract import codec
from spinezoo_contract.errors import (
    FilmError,
    InvalidOutputError,
    MaskError,
    OptionError,
    TooLargeError,
)
from spinezoo_contract.masks import encode_mask
from spinezoo_contract.types import (
    NO_SPACING_NOTE,
    Box,
    EnsembleAnswer,
    EnsembleOptions,
    EnsembleSummary,
    EvaluationPair,
    Film,
    FusedAnswer,
    FusedImplant,
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
    NewcomerState,
    NewcomerStatus,
    Prediction,
    PredictOptions,
    ProbabilityMap,
    Provenance,
    Roster,
    RosterMember,
    Segment,
    Structure,
    Timing,
    UnnamedReason,
)


def wire(message: Any) -> Any:
    """A message as the other side of a wire gets it."""
    return type(message).FromString(message.SerializeToString())


PROVENANCE = Provenance(
    "pspnet",
    "0.1.0",
    "lite",
    "ab" * 32,
    "p-v1",
    "cpu",
    Timing(1, 2, 3, 4, 5),
    "spinezoo/pspnet:0.1.0",
)
PREDICTION = Prediction(HEIGHT, WIDTH, (segment(), segment(None, Structure.ROD)), PROVENANCE)
INFO = ModelInfo(
    "pspnet",
    "0.1.0",
    "PSPNet",
    ModelFamily.SEMANTIC,
    "lite",
    (Structure.ROD, Structure.CAGE),
    320,
    256,
    "ab" * 32,
    "cd" * 32,
    "Apache-2.0",
    0.5,
    None,
    1 << 26,
    16,
    "spinezoo/pspnet:0.1.0",
    "area-letterbox-1",
)
LABELLING = Labelling(
    (
        NamedVertebra(segment("L4", Structure.LUMBAR_VERTEBRA), 0.9, None),
        NamedVertebra(segment(None, Structure.LUMBAR_VERTEBRA), 0.3, UnnamedReason.SPACING),
    ),
    True,
    ("L3",),
    None,
    6,
    "seven vertebrae above S1",
)
IMPLANT = FusedImplant(segment(structure=Structure.SCREW), ("L4", "S1"), ("a",))
FUSED = FusedAnswer(
    (segment(),), segment().mask, FusionRule.UNION, ("a", "b"), LABELLING, (IMPLANT,)
)
GATEWAY = GatewayTiming(1.0, 2.0, 3.0, 4.0)
CHECKING, REFUSED = NewcomerState.CHECKING, NewcomerState.REFUSED
OK = MemberStatus("a", MemberCode.OK, 12.5)
DOWN = MemberStatus("b", MemberCode.UNAVAILABLE, 1.5, "not reached; start it")
ANSWER = EnsembleAnswer(
    HEIGHT, WIDTH, (MemberAnswer(OK, PREDICTION), MemberAnswer(DOWN, None)), FUSED, GATEWAY
)


def test_labelling_there_and_back() -> None:
    for labelling in (LABELLING, Labelling((), False), replace(LABELLING, lumbar_count=5)):
        message = wire(codec.to_proto(labelling))
        assert codec.from_proto(Labelling, message, HEIGHT, WIDTH) == labelling
    bare = replace(FUSED, labelling=None)
    message = wire(codec.to_proto(bare))
    assert codec.from_proto(FusedAnswer, message, HEIGHT, WIDTH).labelling is None


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda m: m.vertebrae[0].segment.ClearField("level"), "vertebra 0"),
        (lambda m: setattr(m.vertebrae[0], "unnamed_reason", 3), "vertebra 0"),
        (lambda m: setattr(m.vertebrae[1], "unnamed_reason", 99), "reason"),
        (lambda m: setattr(m.vertebrae[1], "confidence", 1.5), "confidence"),
        (lambda m: m.vertebrae[1].segment.mask.ClearField("counts"), "vertebra 1"),
        (lambda m: m.missing_levels.append("left one"), "missing level"),
    ],
)
def test_a_labelling_that_contradicts_itself_is_refused(change: Any, what: str) -> None:
    message = codec.to_proto(LABELLING)
    change(message)
    with pytest.raises(InvalidOutputError, match=what):
        codec.from_proto(Labelling, message, HEIGHT, WIDTH)


# --- there and back ------------------------------------------------------------------------------


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.float32]),
        st.tuples(st.integers(16, 40), st.integers(16, 40)),
        elements=st.integers(0, 200),
        fill=st.just(7),
    ),
    st.none() | st.floats(1e-3, 10),
    st.none() | st.floats(1e-3, 10),
)
def test_film(pixels: np.ndarray, row: float | None, column: float | None) -> None:
    film = Film(pixels, row, column)
    back = codec.film_from_proto(wire(codec.film_to_proto(film)))
    assert back.pixels.dtype == pixels.dtype
    assert np.array_equal(back.pixels, pixels)
    assert (back.row_spacing_mm, back.column_spacing_mm) == (row, column)
    request = segmenter_pb2.PredictRequest()
    codec.film_to_proto(film, request.image)
    assert request.image == codec.film_to_proto(film)


@pytest.mark.parametrize("side", ["row_spacing_mm", "column_spacing_mm"])
def test_half_a_spacing_is_none(side: str) -> None:
    pixels = np.zeros((20, 30), np.uint8)
    film = codec.film_from_proto(codec.film_to_proto(Film(pixels, **{side: 0.2})))
    assert film.notes == (NO_SPACING_NOTE,)


def test_film_of_another_byte_order_or_layout() -> None:
    pixels = np.arange(20 * 24, dtype=">u2").reshape(24, 20).T
    back = codec.film_from_proto(wire(codec.film_to_proto(Film(pixels))))
    assert np.array_equal(back.pixels, pixels)
    with pytest.raises(ValueError, match="read-only"):
        back.pixels[0, 0] = 1


def test_a_shrunk_film_keeps_the_whole_films_size() -> None:
    request = codec.predict_request_to_proto(Film(np.zeros((20, 16), np.uint8)))
    assert codec.asked_film_from_proto(request).whole_size == (20, 16)
    request.whole_height, request.whole_width = 200, 160
    film = codec.asked_film_from_proto(request)
    assert (film.height, film.whole_size) == (20, (200, 160))
    with pytest.raises(TooLargeError):
        codec.asked_film_from_proto(request, max_pixels=200 * 160 - 1)
    request.ClearField("whole_width")
    with pytest.raises(FilmError, match="200 x 0"):
        codec.asked_film_from_proto(request)


def test_file_goes_to_the_reader_with_its_kind() -> None:
    seen = []

    def read(data: bytes, *, kind: str) -> Film:
        seen.append((data, kind))
        return Film(np.zeros((16, 16), np.uint8))

    for kind in ("dicom", "encoded"):
        codec.film_from_proto(wire(codec.film_file_to_proto(b"x", kind)), read)
    assert seen == [(b"x", "dicom"), (b"x", "encoded")]


@pytest.mark.parametrize(
    ("value", "there", "back"),
    [
        (PredictOptions(), codec.to_proto, partial(codec.from_proto, PredictOptions)),
        (
            PredictOptions(0.0, 0.5, 1, True),
            codec.to_proto,
            partial(codec.from_proto, PredictOptions),
        ),
        (PROVENANCE, codec.to_proto, partial(codec.from_proto, Provenance)),
        (PREDICTION, codec.to_proto, partial(codec.from_proto, Prediction)),
        (INFO, codec.to_proto, partial(codec.from_proto, ModelInfo)),
        (
            FusionOptions(FusionRule.WEIGHTED_VOTE, {"a": 0.5}),
            codec.to_proto,
            partial(codec.from_proto, FusionOptions),
        ),
        (DOWN, codec.to_proto, partial(codec.from_proto, MemberStatus)),
        (ANSWER, codec.to_proto, partial(codec.from_proto, EnsembleAnswer)),
        (
            EnsembleSummary(HEIGHT, WIDTH, (OK, DOWN), FUSED, GATEWAY),
            codec.to_proto,
            partial(codec.from_proto, EnsembleSummary),
        ),
        (
            Roster(
                (
                    RosterMember("a", "h:1", OK, INFO),
                    RosterMember("b", "h:2", DOWN),
                    RosterMember("c", "h:3", OK, INFO, NewcomerStatus("h:4", CHECKING)),
                    RosterMember("d", "h:5", OK, INFO, NewcomerStatus("h:6", REFUSED, "C06")),
                ),
                3,
                60000,
            ),
            codec.to_proto,
            partial(codec.from_proto, Roster),
        ),
        (
            EvaluationPair("f", "m", HEIGHT, WIDTH, (segment(),), ()),
            codec.to_proto,
            codec.evaluation_pair_from_proto,
        ),
        (
            ModelMetrics(
                "m",
                3,
                (
                    Metric("iou", 0.0, None, 3, MetricDirection.HIGHER_IS_BETTER, 0.0, 1.0),
                    Metric("gap", None, 2.0, 0, MetricDirection.LOWER_IS_BETTER, 0.0, 9.0),
                ),
            ),
            codec.to_proto,
            partial(codec.from_proto, ModelMetrics),
        ),
        (
            MemberAnswer(OK, PREDICTION),
            codec.to_proto,
            partial(codec.from_proto, MemberAnswer),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_there_and_back(value: Any, there: Callable, back: Callable) -> None:
    assert back(wire(there(value))) == value


def test_ensemble_request() -> None:
    film = Film(np.zeros((16, 16), np.uint8))
    for options in (
        EnsembleOptions(),
        EnsembleOptions(PredictOptions(0.5), ("a", "b"), FusionOptions(), 100, 2),
    ):
        request = wire(codec.ensemble_request_to_proto(film, options))
        assert codec.from_proto(EnsembleOptions, request) == options
        assert codec.film_from_proto(request.image).height == 16


def test_fuse_request() -> None:
    inputs = {"a": (segment(),), "b": ()}
    options = FusionOptions(FusionRule.INTERSECTION)
    request = wire(codec.fuse_request_to_proto(inputs, HEIGHT, WIDTH, options))
    assert codec.fuse_request_from_proto(request) == (inputs, HEIGHT, WIDTH, options)


def test_label_and_probability_maps() -> None:
    labels = (np.arange(HEIGHT * WIDTH) % 6).astype(np.uint8).reshape(HEIGHT, WIDTH)
    pair = EvaluationPair("f", "m", HEIGHT, WIDTH, labels, ())
    got = codec.evaluation_pair_from_proto(wire(codec.to_proto(pair)))
    assert np.array_equal(got.truth, labels)
    grid = ProbabilityMap(Structure.CAGE, labels, Box(-1.5, 0, 40, 20))
    again = codec.from_proto(ProbabilityMap, wire(codec.to_proto(grid)))
    assert np.array_equal(again.values, labels)
    assert (again.structure, again.film_box) == (grid.structure, grid.film_box)


def test_an_absent_box_is_computed() -> None:
    message = codec.to_proto(segment())
    message.ClearField("box")
    assert codec.from_proto(Segment, message, HEIGHT, WIDTH) == segment()


def test_json_forms_are_plain() -> None:
    import json

    answer = json.loads(json.dumps(codec.to_json(ANSWER)))
    assert answer["members"][0]["segments"][0]["mask"]["size"] == [HEIGHT, WIDTH]
    assert answer["members"][1] == {
        "name": "b",
        "code": "unavailable",
        "latency_ms": 1.5,
        "message": "not reached; start it",
    }
    assert answer["fused"]["rule"] == "union"
    provenance = codec.to_json(PREDICTION)["provenance"]
    assert provenance["timing"]["infer_ms"] == 4
    assert provenance["image"] == "spinezoo/pspnet:0.1.0"


# --- what is refused -----------------------------------------------------------------------------


def raw(**changes: Any) -> image_pb2.Image:
    fields = {
        "pixel_type": image_pb2.PIXEL_TYPE_UINT8,
        "height": HEIGHT,
        "width": WIDTH,
        "data": bytes(HEIGHT * WIDTH),
    }
    return image_pb2.Image(raw=image_pb2.RawPixels(**{**fields, **changes}))


def floats(value: float) -> image_pb2.Image:
    pixels = np.zeros((HEIGHT, WIDTH), "<f4")
    pixels[3, 4] = value
    return raw(pixel_type=image_pb2.PIXEL_TYPE_FLOAT32, data=pixels.tobytes())


@pytest.mark.parametrize(
    ("image", "error", "says"),
    [
        (image_pb2.Image(), FilmError, "set one of dicom, encoded or raw"),
        (image_pb2.Image(dicom=b""), FilmError, "0 bytes"),
        (image_pb2.Image(encoded=b""), FilmError, "0 bytes"),
        (image_pb2.Image(dicom=b"x"), FilmError, "raw pixels only"),
        (raw(pixel_type=0), FilmError, "pixel_type is 0"),
        (raw(pixel_type=77), FilmError, "pixel_type is 77"),
        (raw(data=b"123"), FilmError, "has 3 bytes.*are 600"),
        (raw(pixel_type=image_pb2.PIXEL_TYPE_UINT16), FilmError, "has 600 bytes.*are 1200"),
        (raw(height=1, width=1, data=b"x"), FilmError, "at least 16 x 16"),
        (raw(height=20_001), TooLargeError, "20000 a side"),
        (raw(height=20_000, width=20_000), TooLargeError, "SPINEZOO_MAX_PIXELS"),
        (raw(height=2**32 - 1, width=2**32 - 1), TooLargeError, "reduce it"),
        (floats(math.nan), FilmError, "1 pixel that is NaN"),
        (floats(math.inf), FilmError, "NaN or infinite"),
        (raw(row_spacing_mm=0.0), FilmError, "row_spacing_mm"),
        (raw(column_spacing_mm=math.nan), FilmError, "column_spacing_mm"),
    ],
)
def test_wrong_films(image: image_pb2.Image, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        codec.film_from_proto(wire(image))


@pytest.mark.parametrize(
    ("pixels", "error"),
    [
        (np.zeros((20, 20, 3), np.uint8), FilmError),
        (np.zeros((20, 20), np.int32), FilmError),
        (np.zeros((20, 20), np.float64), FilmError),
        (np.zeros((8, 20), np.uint8), FilmError),
        (np.zeros((300, 300), np.uint8), TooLargeError),
    ],
)
def test_what_a_reader_returns_is_checked(pixels: np.ndarray, error: type[Exception]) -> None:
    with pytest.raises(error):
        codec.film_from_proto(
            codec.film_file_to_proto(b"x", "dicom"), lambda _, kind: Film(pixels), 80_000
        )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"score_threshold": 1.1}, "score_threshold is 1.1"),
        ({"score_threshold": math.nan}, "score_threshold is nan"),
        ({"suppression_iou": -0.1}, "suppression_iou"),
        ({"max_segments": 0}, "max_segments is 0"),
        ({"max_segments": 1001}, "1 to 1000"),
    ],
)
def test_wrong_options(fields: dict, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        codec.from_proto(PredictOptions, segmenter_pb2.PredictOptions(**fields))


EMPTY = codec.to_proto(encode_mask(np.zeros((HEIGHT, WIDTH), bool)))
HOSTILE = segment_pb2.RunLengthMask(height=HEIGHT, width=WIDTH, counts=b"\xff\x00oooo")


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (changed(structure=0), "structure is 0"),
        (changed(structure=99), "structure is 99"),
        (changed(kind=0), "kind is 0"),
        (changed(score=1.5), "score of a screw is 1.5"),
        (changed(score=math.nan), "score of a screw is nan"),
        (changed(score=-0.5), "0 to 1"),
        (changed(mask=EMPTY), "mask is empty"),
        (changed(mask=TURNED), "30 x 20, the film 20 x 30"),
        (changed(mask=HOSTILE), "outside"),
        (changed(mask=segment_pb2.RunLengthMask()), "0 x 0"),
        (changed(box=segment_pb2.Box(x=math.nan)), "NaN"),
        (changed(box=segment_pb2.Box(x=1, y=1, width=-1, height=2)), "extents of 0 or more"),
        (
            changed(box=segment_pb2.Box(x=0, y=0, width=32, height=5)),
            "is not around the mask, box 4, 3, 7 x 6 is",
        ),
        (changed(box=segment_pb2.Box(x=4, y=3, height=6)), "box 4, 3, 0 x 6 is not around"),
        (changed(level="Mrs Example"), "level is not of the form"),
    ],
)
def test_wrong_segments(message: segment_pb2.Segment, says: str) -> None:
    with pytest.raises(MaskError, match=says) as caught:
        codec.segments_from_proto([codec.to_proto(segment()), message], HEIGHT, WIDTH)
    assert str(caught.value).startswith("segment 1: ")
    assert "Example" not in str(caught.value)


def label_map(**changes: Any) -> segment_pb2.LabelMap:
    fields = {"height": HEIGHT, "width": WIDTH, "data": bytes(HEIGHT * WIDTH)}
    return segment_pb2.LabelMap(**{**fields, **changes})


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (label_map(height=21), "21 x 30, the film 20 x 30"),
        (label_map(data=b"1"), "1 byte, expected 600"),
        (label_map(data=b"\x06" * 600), "0 to 5"),
        (label_map(data=b"\xff" + bytes(599)), "0/255 mask is no label map"),
    ],
)
def test_wrong_label_maps(message: segment_pb2.LabelMap, says: str) -> None:
    wrong = pair()
    wrong.truth.label_map.CopyFrom(message)
    with pytest.raises(MaskError, match=says):
        codec.evaluation_pair_from_proto(wrong)


def probability_map(**changes: Any) -> segment_pb2.ProbabilityMap:
    fields: dict[str, Any] = {"structure": 1, "height": 2, "width": 2, "data": b"1234"}
    return segment_pb2.ProbabilityMap(**{**fields, "film_box": segment_pb2.Box(), **changes})


@pytest.mark.parametrize(
    "message",
    [
        probability_map(structure=0),
        probability_map(data=b"1"),
        probability_map(height=0, data=b""),
        probability_map(film_box=None),
        probability_map(film_box=segment_pb2.Box(x=math.inf)),
    ],
)
def test_wrong_probability_maps(message: segment_pb2.ProbabilityMap) -> None:
    with pytest.raises(MaskError):
        codec.from_proto(ProbabilityMap, message)


def response(**changes: Any) -> segmenter_pb2.PredictResponse:
    message = codec.to_proto(PREDICTION)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def without_provenance() -> segmenter_pb2.PredictResponse:
    message = response()
    message.ClearField("provenance")
    return message


def negative_time() -> segmenter_pb2.PredictResponse:
    message = response()
    message.provenance.timing.infer_ms = -1
    return message


def image_tag(tag: str) -> segmenter_pb2.PredictResponse:
    message = response()
    message.provenance.image = tag
    return message


@pytest.mark.parametrize(
    "message",
    [
        response(height=21),
        response(width=0),
        without_provenance(),
        negative_time(),
        image_tag("x" * 256),
        image_tag("zoo\nx"),
        image_tag("two words"),
    ],
)
def test_wrong_answers_are_the_networks_fault(message: segmenter_pb2.PredictResponse) -> None:
    with pytest.raises(InvalidOutputError):
        codec.from_proto(Prediction, message, HEIGHT, WIDTH)


@pytest.mark.parametrize("side", ["height", "width"])
def test_an_answer_about_a_film_without_pixels_is_none(side: str) -> None:
    """Of a film's file the client knows no size: the server says it."""
    message = response(**{side: 0})
    message.ClearField("segments")
    message.ClearField("probability_maps")
    with pytest.raises(InvalidOutputError, match="but the film is"):
        codec.from_proto(Prediction, message)


def test_a_wrong_mask_in_an_answer_names_the_segment() -> None:
    message = response()
    message.segments[1].mask.CopyFrom(HOSTILE)
    with pytest.raises(InvalidOutputError, match="segment 1"):
        codec.from_proto(Prediction, message, HEIGHT, WIDTH)


def test_a_failed_member_has_no_outlines() -> None:
    message = codec.to_proto(MemberAnswer(OK, PREDICTION))
    message.status.code = ensemble_pb2.MEMBER_CODE_INTERNAL
    with pytest.raises(InvalidOutputError, match="yet carries outlines"):
        codec.from_proto(MemberAnswer, message)
