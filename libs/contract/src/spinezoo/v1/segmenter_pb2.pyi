from spinezoo.v1 import image_pb2 as _image_pb2
from spinezoo.v1 import model_pb2 as _model_pb2
from spinezoo.v1 import segment_pb2 as _segment_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PredictOptions(_message.Message):
    __slots__ = ("score_threshold", "suppression_iou", "max_segments", "include_probability_maps")
    SCORE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    SUPPRESSION_IOU_FIELD_NUMBER: _ClassVar[int]
    MAX_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_PROBABILITY_MAPS_FIELD_NUMBER: _ClassVar[int]
    score_threshold: float
    suppression_iou: float
    max_segments: int
    include_probability_maps: bool
    def __init__(self, score_threshold: _Optional[float] = ..., suppression_iou: _Optional[float] = ..., max_segments: _Optional[int] = ..., include_probability_maps: _Optional[bool] = ...) -> None: ...

class PredictRequest(_message.Message):
    __slots__ = ("image", "options", "whole_height", "whole_width")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    WHOLE_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WHOLE_WIDTH_FIELD_NUMBER: _ClassVar[int]
    image: _image_pb2.Image
    options: PredictOptions
    whole_height: int
    whole_width: int
    def __init__(self, image: _Optional[_Union[_image_pb2.Image, _Mapping]] = ..., options: _Optional[_Union[PredictOptions, _Mapping]] = ..., whole_height: _Optional[int] = ..., whole_width: _Optional[int] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("height", "width", "segments", "probability_maps", "provenance", "notes")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_MAPS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    segments: _containers.RepeatedCompositeFieldContainer[_segment_pb2.Segment]
    probability_maps: _containers.RepeatedCompositeFieldContainer[_segment_pb2.ProbabilityMap]
    provenance: _model_pb2.Provenance
    notes: _containers.RepeatedCompositeFieldContainer[_image_pb2.FilmNote]
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., segments: _Optional[_Iterable[_Union[_segment_pb2.Segment, _Mapping]]] = ..., probability_maps: _Optional[_Iterable[_Union[_segment_pb2.ProbabilityMap, _Mapping]]] = ..., provenance: _Optional[_Union[_model_pb2.Provenance, _Mapping]] = ..., notes: _Optional[_Iterable[_Union[_image_pb2.FilmNote, _Mapping]]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: _model_pb2.ModelInfo
    def __init__(self, model: _Optional[_Union[_model_pb2.ModelInfo, _Mapping]] = ...) -> None: ...
