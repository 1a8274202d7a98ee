from spinezoo.v1 import fusion_pb2 as _fusion_pb2
from spinezoo.v1 import segment_pb2 as _segment_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MetricDirection(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    METRIC_DIRECTION_UNSPECIFIED: _ClassVar[MetricDirection]
    METRIC_DIRECTION_HIGHER_IS_BETTER: _ClassVar[MetricDirection]
    METRIC_DIRECTION_LOWER_IS_BETTER: _ClassVar[MetricDirection]
METRIC_DIRECTION_UNSPECIFIED: MetricDirection
METRIC_DIRECTION_HIGHER_IS_BETTER: MetricDirection
METRIC_DIRECTION_LOWER_IS_BETTER: MetricDirection

class FusionInput(_message.Message):
    __slots__ = ("member_name", "segments")
    MEMBER_NAME_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    member_name: str
    segments: _containers.RepeatedCompositeFieldContainer[_segment_pb2.Segment]
    def __init__(self, member_name: _Optional[str] = ..., segments: _Optional[_Iterable[_Union[_segment_pb2.Segment, _Mapping]]] = ...) -> None: ...

class FuseRequest(_message.Message):
    __slots__ = ("height", "width", "inputs", "options")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    inputs: _containers.RepeatedCompositeFieldContainer[FusionInput]
    options: _fusion_pb2.FusionOptions
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., inputs: _Optional[_Iterable[_Union[FusionInput, _Mapping]]] = ..., options: _Optional[_Union[_fusion_pb2.FusionOptions, _Mapping]] = ...) -> None: ...

class FuseResponse(_message.Message):
    __slots__ = ("fused",)
    FUSED_FIELD_NUMBER: _ClassVar[int]
    fused: _fusion_pb2.FusedAnswer
    def __init__(self, fused: _Optional[_Union[_fusion_pb2.FusedAnswer, _Mapping]] = ...) -> None: ...

class Annotation(_message.Message):
    __slots__ = ("segments", "label_map")
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    LABEL_MAP_FIELD_NUMBER: _ClassVar[int]
    segments: _segment_pb2.SegmentList
    label_map: _segment_pb2.LabelMap
    def __init__(self, segments: _Optional[_Union[_segment_pb2.SegmentList, _Mapping]] = ..., label_map: _Optional[_Union[_segment_pb2.LabelMap, _Mapping]] = ...) -> None: ...

class EvaluateRequest(_message.Message):
    __slots__ = ("film_id", "model_name", "height", "width", "truth", "prediction")
    FILM_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    TRUTH_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    film_id: str
    model_name: str
    height: int
    width: int
    truth: Annotation
    prediction: Annotation
    def __init__(self, film_id: _Optional[str] = ..., model_name: _Optional[str] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., truth: _Optional[_Union[Annotation, _Mapping]] = ..., prediction: _Optional[_Union[Annotation, _Mapping]] = ...) -> None: ...

class Metric(_message.Message):
    __slots__ = ("name", "film_mean", "pooled", "film_count", "direction", "minimum", "maximum")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FILM_MEAN_FIELD_NUMBER: _ClassVar[int]
    POOLED_FIELD_NUMBER: _ClassVar[int]
    FILM_COUNT_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    name: str
    film_mean: float
    pooled: float
    film_count: int
    direction: MetricDirection
    minimum: float
    maximum: float
    def __init__(self, name: _Optional[str] = ..., film_mean: _Optional[float] = ..., pooled: _Optional[float] = ..., film_count: _Optional[int] = ..., direction: _Optional[_Union[MetricDirection, str]] = ..., minimum: _Optional[float] = ..., maximum: _Optional[float] = ...) -> None: ...

class ModelMetrics(_message.Message):
    __slots__ = ("model_name", "film_count", "metrics")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    FILM_COUNT_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    film_count: int
    metrics: _containers.RepeatedCompositeFieldContainer[Metric]
    def __init__(self, model_name: _Optional[str] = ..., film_count: _Optional[int] = ..., metrics: _Optional[_Iterable[_Union[Metric, _Mapping]]] = ...) -> None: ...

class EvaluateResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelMetrics]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelMetrics, _Mapping]]] = ...) -> None: ...
