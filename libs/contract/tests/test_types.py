"""The types: a value that can be constructed keeps the contract."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from spinezoo_contract.errors import (
    AnnotationError,
    FilmError,
    InvalidOutputError,
    MaskError,
    OptionError,
    SpineZooError,
    TooLargeError,
)
from spinezoo_contract.masks import encode_mask
from spinezoo_contract.types import (
    Box,
    EnsembleAnswer,
    EnsembleOptions,
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
    ModelMetrics,
    NamedVertebra,
    Prediction,
    PredictOptions,
    ProbabilityMap,
    Provenance,
    RunLengthMask,
    Segment,
    SegmentKind,
    Structure,
    Timing,
    UnnamedReason,
)

MASK = encode_mask(np.eye(20, 30, dtype=bool))
SMALL = encode_mask(np.eye(16, dtype=bool))
SEGMENT = Segment(Structure.SCREW, SegmentKind.INSTANCE, MASK, 0.5, MASK.box)
REGION = replace(SEGMENT, kind=SegmentKind.REGION)
NAMED = replace(SEGMENT, level="L4")
SMALL_SEGMENT = Segment(Structure.SCREW, SegmentKind.INSTANCE, SMALL, 0.5, SMALL.box)
PROVENANCE = Provenance("unet", "0.1.0", "lite", "", "", "cpu")
PREDICTION = Prediction(20, 30, (SEGMENT,), PROVENANCE)
OK = MemberStatus("a", MemberCode.OK, 1.0)
DOWN = MemberStatus("a", MemberCode.UNAVAILABLE, 1.0)
FUSED = FusedAnswer((SEGMENT,), MASK, FusionRule.UNION, ("a",))
TIMES = GatewayTiming(1.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Film(np.zeros((15, 64), np.uint8)), FilmError, "at least 16 x 16"),
        (lambda: Film(np.zeros((64, 64, 3), np.uint8)), FilmError, "one grey plane"),
        (lambda: Film(np.zeros((64, 64), np.int64)), FilmError, "int64; convert"),
        (lambda: Film(np.full((64, 64), np.inf, np.float32)), FilmError, "4096 pixels that are"),
        (lambda: Film(np.zeros((20_001, 16), np.uint8)), TooLargeError, "20000 a side"),
        (lambda: Film(np.zeros((16, 16), np.uint8), 0.0), FilmError, "row_spacing_mm is 0.0"),
        (lambda: Film(np.zeros((16, 16), np.uint8), 1.4e-4), FilmError, "send 0.001 to 30 mm"),
        (lambda: Film(np.zeros((16, 16), np.uint8), 0.1, 140.0), FilmError, "column.* is 140.0"),
        (lambda: PredictOptions(score_threshold=-0.1), OptionError, "score_threshold is -0.1"),
        (lambda: PredictOptions(score_threshold=1.01), OptionError, "score_threshold is 1.01"),
        (lambda: PredictOptions(score_threshold=math.nan), OptionError, "score_threshold is nan"),
        (lambda: PredictOptions(suppression_iou=-0.01), OptionError, "suppression_iou"),
        (lambda: PredictOptions(suppression_iou=2.0), OptionError, "suppression_iou"),
        (lambda: PredictOptions(max_segments=0), OptionError, "send 1 to 1000"),
        (lambda: PredictOptions(max_segments=1001), OptionError, "send 1 to 1000"),
        (lambda: FusionOptions(weights={"a": 0.0}), OptionError, "'a' is 0.0"),
        (lambda: FusionOptions(weights={"a": math.inf}), OptionError, "'a' is inf"),
        (
            lambda: FusionOptions(weights={"a": 1e308}),
            OptionError,
            "greater than 0, at most 1e.300",
        ),
        (lambda: EnsembleOptions(quorum=0), OptionError, "quorum is 0"),
        (lambda: EnsembleOptions(member_deadline_ms=0), OptionError, "member_deadline_ms is 0"),
        (lambda: EnsembleOptions(member_names=("a", "a")), OptionError, "named twice"),
        (lambda: Box(math.nan, 0.0, 1.0, 1.0), MaskError, "NaN"),
        (lambda: Box(math.inf, -math.inf, 1.0, 1.0), MaskError, "NaN or infinite"),
        (lambda: Box(0.0, 0.0, 1.0, -1.0), MaskError, "extents of 0 or more"),
        (lambda: replace(SEGMENT, score=1.5), MaskError, "score of a screw is 1.5"),
        (lambda: replace(SEGMENT, level="Mrs Example"), MaskError, "level is not of the form"),
        (lambda: replace(SEGMENT, box=Box(0, 0, 32, 5)), MaskError, "is not around the mask"),
        (lambda: replace(SEGMENT, mask=RunLengthMask(20, 30, b"o")), MaskError, "cut off"),
        (
            lambda: replace(SEGMENT, mask=encode_mask(np.zeros((20, 30), bool))),
            MaskError,
            "mask is empty",
        ),
        (
            lambda: ProbabilityMap(Structure.ROD, np.zeros((2, 2), np.int64), MASK.box),  # type: ignore[arg-type]
            MaskError,
            "int64",
        ),
        (lambda: Timing(infer_ms=-1.0), InvalidOutputError, "infer_ms is -1.0"),
        (lambda: replace(PROVENANCE, model_name=""), InvalidOutputError, "names no model"),
        (lambda: replace(PROVENANCE, image="two words"), InvalidOutputError, "SPINEZOO_IMAGE"),
        (lambda: replace(PREDICTION, height=21), MaskError, "segment 0.*the film 21 x 30"),
        (
            lambda: replace(PREDICTION, segments=(REGION, REGION)),
            InvalidOutputError,
            "two regions of one structure",
        ),
        (lambda: MemberStatus("", MemberCode.OK, 1.0), InvalidOutputError, "names no member"),
        (lambda: MemberStatus("a", MemberCode.OK, math.nan), InvalidOutputError, "latency_ms"),
        (lambda: MemberAnswer(DOWN, PREDICTION), InvalidOutputError, "yet carries outlines"),
        (lambda: MemberAnswer(OK, None), InvalidOutputError, "without provenance"),
        (lambda: NamedVertebra(SEGMENT, 0.5, None), InvalidOutputError, "or the reason"),
        (
            lambda: NamedVertebra(NAMED, 0.5, UnnamedReason.BEYOND),
            InvalidOutputError,
            "or the reason",
        ),
        (lambda: NamedVertebra(NAMED, 1.5, None), InvalidOutputError, "confidence is 1.5"),
        (lambda: Labelling((), True, ("left one",)), InvalidOutputError, "missing level"),
        (lambda: FusedImplant(SEGMENT, ("left one",)), InvalidOutputError, "touched level"),
        (
            lambda: FusedImplant(replace(SEGMENT, structure=Structure.SACRAL_VERTEBRA)),
            InvalidOutputError,
            "cage, screw or rod",
        ),
        (
            lambda: replace(FUSED, implants=(FusedImplant(SMALL_SEGMENT),)).check_size(20, 30),
            MaskError,
            "16 x 16",
        ),
        (
            lambda: replace(FUSED, merged_mask=encode_mask(np.zeros((20, 30), bool))),
            MaskError,
            "mask is empty",
        ),
        (lambda: EnsembleAnswer(2, 30, (), FUSED, TIMES), FilmError, "at least 16"),
        (lambda: EnsembleAnswer(30, 30, (), FUSED, TIMES), MaskError, "the film 30 x 30"),
        (
            lambda: EvaluationPair("", "m", 20, 30, (), ()),
            AnnotationError,
            "film_id has 0 characters",
        ),
        (
            lambda: EvaluationPair("f", "m", 20, 30, (SEGMENT,), (SMALL_SEGMENT,)),
            MaskError,
            "'f', model 'm', prediction: segment 0: mask is 16 x 16",
        ),
        (
            lambda: EvaluationPair("f", "m", 20, 30, np.full((20, 30), 6, np.uint8), ()),
            MaskError,
            "truth: label map holds values 6 to 6",
        ),
        (
            lambda: Metric("", None, None, 0, MetricDirection.LOWER_IS_BETTER, 0.0, 1.0),
            InvalidOutputError,
            "no name",
        ),
        (lambda: ModelMetrics("", 0, ()), InvalidOutputError, "no name"),
    ],
)
def test_what_breaks_the_contract_cannot_be_made(
    make: Callable[[], Any], error: type[SpineZooError], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        make()
    assert type(caught.value) is error
    assert "Example" not in str(caught.value)
