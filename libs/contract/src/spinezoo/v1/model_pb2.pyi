from spinezoo.v1 import segment_pb2 as _segment_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelFamily(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_FAMILY_UNSPECIFIED: _ClassVar[ModelFamily]
    MODEL_FAMILY_SEMANTIC: _ClassVar[ModelFamily]
    MODEL_FAMILY_INSTANCE: _ClassVar[ModelFamily]
MODEL_FAMILY_UNSPECIFIED: ModelFamily
MODEL_FAMILY_SEMANTIC: ModelFamily
MODEL_FAMILY_INSTANCE: ModelFamily

class Timing(_message.Message):
    __slots__ = ("decode_ms", "prepare_ms", "queue_ms", "infer_ms", "finish_ms")
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    PREPARE_MS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    INFER_MS_FIELD_NUMBER: _ClassVar[int]
    FINISH_MS_FIELD_NUMBER: _ClassVar[int]
    decode_ms: float
    prepare_ms: float
    queue_ms: float
    infer_ms: float
    finish_ms: float
    def __init__(self, decode_ms: _Optional[float] = ..., prepare_ms: _Optional[float] = ..., queue_ms: _Optional[float] = ..., infer_ms: _Optional[float] = ..., finish_ms: _Optional[float] = ...) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("model_name", "model_version", "preset", "weights_sha256", "preprocessing_id", "device", "timing", "image", "engine", "precision")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    PREPROCESSING_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: str
    preset: str
    weights_sha256: str
    preprocessing_id: str
    device: str
    timing: Timing
    image: str
    engine: str
    precision: str
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., preset: _Optional[str] = ..., weights_sha256: _Optional[str] = ..., preprocessing_id: _Optional[str] = ..., device: _Optional[str] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., image: _Optional[str] = ..., engine: _Optional[str] = ..., precision: _Optional[str] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "version", "architecture", "family", "preset", "structures", "input_height", "input_width", "weights_sha256", "card_sha256", "license", "default_score_threshold", "default_suppression_iou", "max_message_bytes", "queue_limit", "image", "shrinking_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    STRUCTURES_FIELD_NUMBER: _ClassVar[int]
    INPUT_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    INPUT_WIDTH_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    CARD_SHA256_FIELD_NUMBER: _ClassVar[int]
    LICENSE_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_SCORE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_SUPPRESSION_IOU_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    SHRINKING_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    architecture: str
    family: ModelFamily
    preset: str
    structures: _containers.RepeatedScalarFieldContainer[_segment_pb2.Structure]
    input_height: int
    input_width: int
    weights_sha256: str
    card_sha256: str
    license: str
    default_score_threshold: float
    default_suppression_iou: float
    max_message_bytes: int
    queue_limit: int
    image: str
    shrinking_id: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., architecture: _Optional[str] = ..., family: _Optional[_Union[ModelFamily, str]] = ..., preset: _Optional[str] = ..., structures: _Optional[_Iterable[_Union[_segment_pb2.Structure, str]]] = ..., input_height: _Optional[int] = ..., input_width: _Optional[int] = ..., weights_sha256: _Optional[str] = ..., card_sha256: _Optional[str] = ..., license: _Optional[str] = ..., default_score_threshold: _Optional[float] = ..., default_suppression_iou: _Optional[float] = ..., max_message_bytes: _Optional[int] = ..., queue_limit: _Optional[int] = ..., image: _Optional[str] = ..., shrinking_id: _Optional[str] = ...) -> None: ...
