from spinezoo.v1 import fusion_pb2 as _fusion_pb2
from spinezoo.v1 import image_pb2 as _image_pb2
from spinezoo.v1 import labelling_pb2 as _labelling_pb2
from spinezoo.v1 import measures_pb2 as _measures_pb2
from spinezoo.v1 import model_pb2 as _model_pb2
from spinezoo.v1 import segment_pb2 as _segment_pb2
from spinezoo.v1 import segmenter_pb2 as _segmenter_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MemberCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEMBER_CODE_UNSPECIFIED: _ClassVar[MemberCode]
    MEMBER_CODE_OK: _ClassVar[MemberCode]
    MEMBER_CODE_DEADLINE_EXCEEDED: _ClassVar[MemberCode]
    MEMBER_CODE_UNAVAILABLE: _ClassVar[MemberCode]
    MEMBER_CODE_INVALID_OUTPUT: _ClassVar[MemberCode]
    MEMBER_CODE_RESOURCE_EXHAUSTED: _ClassVar[MemberCode]
    MEMBER_CODE_INVALID_ARGUMENT: _ClassVar[MemberCode]
    MEMBER_CODE_INTERNAL: _ClassVar[MemberCode]

class NewcomerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NEWCOMER_STATE_UNSPECIFIED: _ClassVar[NewcomerState]
    NEWCOMER_STATE_CHECKING: _ClassVar[NewcomerState]
    NEWCOMER_STATE_REFUSED: _ClassVar[NewcomerState]
MEMBER_CODE_UNSPECIFIED: MemberCode
MEMBER_CODE_OK: MemberCode
MEMBER_CODE_DEADLINE_EXCEEDED: MemberCode
MEMBER_CODE_UNAVAILABLE: MemberCode
MEMBER_CODE_INVALID_OUTPUT: MemberCode
MEMBER_CODE_RESOURCE_EXHAUSTED: MemberCode
MEMBER_CODE_INVALID_ARGUMENT: MemberCode
MEMBER_CODE_INTERNAL: MemberCode
NEWCOMER_STATE_UNSPECIFIED: NewcomerState
NEWCOMER_STATE_CHECKING: NewcomerState
NEWCOMER_STATE_REFUSED: NewcomerState

class MemberStatus(_message.Message):
    __slots__ = ("member_name", "code", "latency_ms", "message")
    MEMBER_NAME_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    member_name: str
    code: MemberCode
    latency_ms: float
    message: str
    def __init__(self, member_name: _Optional[str] = ..., code: _Optional[_Union[MemberCode, str]] = ..., latency_ms: _Optional[float] = ..., message: _Optional[str] = ...) -> None: ...

class MemberAnswer(_message.Message):
    __slots__ = ("status", "segments", "probability_maps", "provenance")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_MAPS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    status: MemberStatus
    segments: _containers.RepeatedCompositeFieldContainer[_segment_pb2.Segment]
    probability_maps: _containers.RepeatedCompositeFieldContainer[_segment_pb2.ProbabilityMap]
    provenance: _model_pb2.Provenance
    def __init__(self, status: _Optional[_Union[MemberStatus, _Mapping]] = ..., segments: _Optional[_Iterable[_Union[_segment_pb2.Segment, _Mapping]]] = ..., probability_maps: _Optional[_Iterable[_Union[_segment_pb2.ProbabilityMap, _Mapping]]] = ..., provenance: _Optional[_Union[_model_pb2.Provenance, _Mapping]] = ...) -> None: ...

class GatewayTiming(_message.Message):
    __slots__ = ("decode_ms", "fan_out_ms", "fuse_ms", "total_ms")
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    FAN_OUT_MS_FIELD_NUMBER: _ClassVar[int]
    FUSE_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    decode_ms: float
    fan_out_ms: float
    fuse_ms: float
    total_ms: float
    def __init__(self, decode_ms: _Optional[float] = ..., fan_out_ms: _Optional[float] = ..., fuse_ms: _Optional[float] = ..., total_ms: _Optional[float] = ...) -> None: ...

class SegmentRequest(_message.Message):
    __slots__ = ("image", "options", "member_names", "fusion", "member_deadline_ms", "quorum", "measures")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    MEMBER_NAMES_FIELD_NUMBER: _ClassVar[int]
    FUSION_FIELD_NUMBER: _ClassVar[int]
    MEMBER_DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    QUORUM_FIELD_NUMBER: _ClassVar[int]
    MEASURES_FIELD_NUMBER: _ClassVar[int]
    image: _image_pb2.Image
    options: _segmenter_pb2.PredictOptions
    member_names: _containers.RepeatedScalarFieldContainer[str]
    fusion: _fusion_pb2.FusionOptions
    member_deadline_ms: int
    quorum: int
    measures: _measures_pb2.MeasureOptions
    def __init__(self, image: _Optional[_Union[_image_pb2.Image, _Mapping]] = ..., options: _Optional[_Union[_segmenter_pb2.PredictOptions, _Mapping]] = ..., member_names: _Optional[_Iterable[str]] = ..., fusion: _Optional[_Union[_fusion_pb2.FusionOptions, _Mapping]] = ..., member_deadline_ms: _Optional[int] = ..., quorum: _Optional[int] = ..., measures: _Optional[_Union[_measures_pb2.MeasureOptions, _Mapping]] = ...) -> None: ...

class SegmentResponse(_message.Message):
    __slots__ = ("height", "width", "members", "fused", "timing", "notes")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    FUSED_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    members: _containers.RepeatedCompositeFieldContainer[MemberAnswer]
    fused: _fusion_pb2.FusedAnswer
    timing: GatewayTiming
    notes: _containers.RepeatedCompositeFieldContainer[_image_pb2.FilmNote]
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., members: _Optional[_Iterable[_Union[MemberAnswer, _Mapping]]] = ..., fused: _Optional[_Union[_fusion_pb2.FusedAnswer, _Mapping]] = ..., timing: _Optional[_Union[GatewayTiming, _Mapping]] = ..., notes: _Optional[_Iterable[_Union[_image_pb2.FilmNote, _Mapping]]] = ...) -> None: ...

class SegmentStreamRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: SegmentRequest
    def __init__(self, request: _Optional[_Union[SegmentRequest, _Mapping]] = ...) -> None: ...

class EnsembleSummary(_message.Message):
    __slots__ = ("height", "width", "statuses", "fused", "timing", "notes")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    FUSED_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    statuses: _containers.RepeatedCompositeFieldContainer[MemberStatus]
    fused: _fusion_pb2.FusedAnswer
    timing: GatewayTiming
    notes: _containers.RepeatedCompositeFieldContainer[_image_pb2.FilmNote]
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., statuses: _Optional[_Iterable[_Union[MemberStatus, _Mapping]]] = ..., fused: _Optional[_Union[_fusion_pb2.FusedAnswer, _Mapping]] = ..., timing: _Optional[_Union[GatewayTiming, _Mapping]] = ..., notes: _Optional[_Iterable[_Union[_image_pb2.FilmNote, _Mapping]]] = ...) -> None: ...

class SegmentStreamResponse(_message.Message):
    __slots__ = ("member", "summary")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    member: MemberAnswer
    summary: EnsembleSummary
    def __init__(self, member: _Optional[_Union[MemberAnswer, _Mapping]] = ..., summary: _Optional[_Union[EnsembleSummary, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class NewcomerStatus(_message.Message):
    __slots__ = ("target", "state", "reason")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    target: str
    state: NewcomerState
    reason: str
    def __init__(self, target: _Optional[str] = ..., state: _Optional[_Union[NewcomerState, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class RosterMember(_message.Message):
    __slots__ = ("member_name", "target", "status", "model", "newcomer")
    MEMBER_NAME_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NEWCOMER_FIELD_NUMBER: _ClassVar[int]
    member_name: str
    target: str
    status: MemberStatus
    model: _model_pb2.ModelInfo
    newcomer: NewcomerStatus
    def __init__(self, member_name: _Optional[str] = ..., target: _Optional[str] = ..., status: _Optional[_Union[MemberStatus, _Mapping]] = ..., model: _Optional[_Union[_model_pb2.ModelInfo, _Mapping]] = ..., newcomer: _Optional[_Union[NewcomerStatus, _Mapping]] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("members", "default_quorum", "default_member_deadline_ms", "reader", "refiner")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_QUORUM_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_MEMBER_DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    READER_FIELD_NUMBER: _ClassVar[int]
    REFINER_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[RosterMember]
    default_quorum: int
    default_member_deadline_ms: int
    reader: _labelling_pb2.ReaderProvenance
    refiner: _measures_pb2.RefinerProvenance
    def __init__(self, members: _Optional[_Iterable[_Union[RosterMember, _Mapping]]] = ..., default_quorum: _Optional[int] = ..., default_member_deadline_ms: _Optional[int] = ..., reader: _Optional[_Union[_labelling_pb2.ReaderProvenance, _Mapping]] = ..., refiner: _Optional[_Union[_measures_pb2.RefinerProvenance, _Mapping]] = ...) -> None: ...
