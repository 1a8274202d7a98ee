from spinezoo.v1 import segment_pb2 as _segment_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UnnamedReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNNAMED_REASON_UNSPECIFIED: _ClassVar[UnnamedReason]
    UNNAMED_REASON_NO_SACRUM: _ClassVar[UnnamedReason]
    UNNAMED_REASON_SACRUM_UNSURE: _ClassVar[UnnamedReason]
    UNNAMED_REASON_SPACING: _ClassVar[UnnamedReason]
    UNNAMED_REASON_DUPLICATE: _ClassVar[UnnamedReason]
    UNNAMED_REASON_OFF_COLUMN: _ClassVar[UnnamedReason]
    UNNAMED_REASON_FRAGMENT: _ClassVar[UnnamedReason]
    UNNAMED_REASON_SEVERAL: _ClassVar[UnnamedReason]
    UNNAMED_REASON_BEYOND: _ClassVar[UnnamedReason]
UNNAMED_REASON_UNSPECIFIED: UnnamedReason
UNNAMED_REASON_NO_SACRUM: UnnamedReason
UNNAMED_REASON_SACRUM_UNSURE: UnnamedReason
UNNAMED_REASON_SPACING: UnnamedReason
UNNAMED_REASON_DUPLICATE: UnnamedReason
UNNAMED_REASON_OFF_COLUMN: UnnamedReason
UNNAMED_REASON_FRAGMENT: UnnamedReason
UNNAMED_REASON_SEVERAL: UnnamedReason
UNNAMED_REASON_BEYOND: UnnamedReason

class NamedVertebra(_message.Message):
    __slots__ = ("segment", "confidence", "unnamed_reason")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    UNNAMED_REASON_FIELD_NUMBER: _ClassVar[int]
    segment: _segment_pb2.Segment
    confidence: float
    unnamed_reason: UnnamedReason
    def __init__(self, segment: _Optional[_Union[_segment_pb2.Segment, _Mapping]] = ..., confidence: _Optional[float] = ..., unnamed_reason: _Optional[_Union[UnnamedReason, str]] = ...) -> None: ...

class Labelling(_message.Message):
    __slots__ = ("vertebrae", "sacrum_in_view", "missing_levels", "lumbar_count", "suspected_lumbar_count", "count_reason")
    VERTEBRAE_FIELD_NUMBER: _ClassVar[int]
    SACRUM_IN_VIEW_FIELD_NUMBER: _ClassVar[int]
    MISSING_LEVELS_FIELD_NUMBER: _ClassVar[int]
    LUMBAR_COUNT_FIELD_NUMBER: _ClassVar[int]
    SUSPECTED_LUMBAR_COUNT_FIELD_NUMBER: _ClassVar[int]
    COUNT_REASON_FIELD_NUMBER: _ClassVar[int]
    vertebrae: _containers.RepeatedCompositeFieldContainer[NamedVertebra]
    sacrum_in_view: bool
    missing_levels: _containers.RepeatedScalarFieldContainer[str]
    lumbar_count: int
    suspected_lumbar_count: int
    count_reason: str
    def __init__(self, vertebrae: _Optional[_Iterable[_Union[NamedVertebra, _Mapping]]] = ..., sacrum_in_view: _Optional[bool] = ..., missing_levels: _Optional[_Iterable[str]] = ..., lumbar_count: _Optional[int] = ..., suspected_lumbar_count: _Optional[int] = ..., count_reason: _Optional[str] = ...) -> None: ...
