"""Requests of the wire that break the contract are refused by name."""

from __future__ import annotations

import math
from typing import Any

import pytest
from messages import TURNED, changed, pair
from spinezoo.v1 import (
    ensemble_pb2,
    evaluation_pb2,
    fusion_pb2,
    model_pb2,
)
from spinezoo_contract import codec
from spinezoo_contract.errors import (
    AnnotationError,
    FilmError,
    InvalidOutputError,
    MaskError,
    OptionError,
    TooLargeError,
)
from spinezoo_contract.types import (
    EnsembleOptions,
    FusionOptions,
    ModelInfo,
)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (evaluation_pb2.FuseRequest(height=20, width=30), OptionError),
        (evaluation_pb2.FuseRequest(height=2, width=30), FilmError),
        (evaluation_pb2.FuseRequest(height=20000, width=20000), TooLargeError),
        (
            evaluation_pb2.FuseRequest(
                height=20,
                width=30,
                inputs=[
                    evaluation_pb2.FusionInput(member_name="a"),
                    evaluation_pb2.FusionInput(member_name="a"),
                ],
            ),
            OptionError,
        ),
        (
            evaluation_pb2.FuseRequest(height=20, width=30, inputs=[evaluation_pb2.FusionInput()]),
            OptionError,
        ),
        (
            evaluation_pb2.FuseRequest(
                height=20,
                width=30,
                inputs=[
                    evaluation_pb2.FusionInput(member_name="a", segments=[changed(mask=TURNED)])
                ],
            ),
            MaskError,
        ),
    ],
)
def test_wrong_fuse_requests(message: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        codec.fuse_request_from_proto(message)


@pytest.mark.parametrize(
    "message",
    [
        fusion_pb2.FusionOptions(rule=9),
        fusion_pb2.FusionOptions(weights={"a": 0.0}),
        fusion_pb2.FusionOptions(weights={"a": math.nan}),
        fusion_pb2.FusionOptions(weights={"a": math.inf}),
    ],
)
def test_wrong_fusion_options(message: fusion_pb2.FusionOptions) -> None:
    with pytest.raises(OptionError):
        codec.from_proto(FusionOptions, message)


@pytest.mark.parametrize(
    "message",
    [
        ensemble_pb2.SegmentRequest(quorum=0),
        ensemble_pb2.SegmentRequest(member_deadline_ms=0),
        ensemble_pb2.SegmentRequest(member_names=["a", "a"]),
    ],
)
def test_wrong_ensemble_options(message: ensemble_pb2.SegmentRequest) -> None:
    with pytest.raises(OptionError):
        codec.from_proto(EnsembleOptions, message)


@pytest.mark.parametrize(
    ("message", "error", "says"),
    [
        (pair(film_id=""), AnnotationError, "film_id"),
        (pair(model_name="m" * 201), AnnotationError, "model_name has 201"),
        (pair(truth=None), AnnotationError, "'film 7', model 'pspnet', truth: no outlines"),
        (pair(prediction=None), AnnotationError, "prediction"),
        (pair(height=40), MaskError, "'film 7'.*truth: segment 0.*20 x 30, the film 40 x 30"),
        (pair(height=1), FilmError, "film 7"),
        (pair(height=30000), TooLargeError, "film 7"),
    ],
)
def test_wrong_pairs_name_the_film(message: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        codec.evaluation_pair_from_proto(message)


@pytest.mark.parametrize(
    "message",
    [
        model_pb2.ModelInfo(),
        model_pb2.ModelInfo(name="a"),
        model_pb2.ModelInfo(name="a", family=1, structures=[0]),
        model_pb2.ModelInfo(name="a", family=1, default_score_threshold=2),
    ],
)
def test_wrong_model_info(message: model_pb2.ModelInfo) -> None:
    with pytest.raises(InvalidOutputError):
        codec.from_proto(ModelInfo, message)
