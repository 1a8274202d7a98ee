from spinezoo.v1 import labelling_pb2 as _labelling_pb2
from spinezoo.v1 import measures_pb2 as _measures_pb2
from spinezoo.v1 import segment_pb2 as _segment_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FusionRule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FUSION_RULE_UNSPECIFIED: _ClassVar[FusionRule]
    FUSION_RULE_UNION: _ClassVar[FusionRule]
    FUSION_RULE_INTERSECTION: _ClassVar[FusionRule]
    FUSION_RULE_MAJORITY: _ClassVar[FusionRule]
    FUSION_RULE_WEIGHTED_VOTE: _ClassVar[FusionRule]
FUSION_RULE_UNSPECIFIED: FusionRule
FUSION_RULE_UNION: FusionRule
FUSION_RULE_INTERSECTION: FusionRule
FUSION_RULE_MAJORITY: FusionRule
FUSION_RULE_WEIGHTED_VOTE: FusionRule

class FusionOptions(_message.Message):
    __slots__ = ("rule", "weights")
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    RULE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    rule: FusionRule
    weights: _containers.ScalarMap[str, float]
    def __init__(self, rule: _Optional[_Union[FusionRule, str]] = ..., weights: _Optional[_Mapping[str, float]] = ...) -> None: ...

class FusedImplant(_message.Message):
    __slots__ = ("segment", "touches", "member_names")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    TOUCHES_FIELD_NUMBER: _ClassVar[int]
    MEMBER_NAMES_FIELD_NUMBER: _ClassVar[int]
    segment: _segment_pb2.Segment
    touches: _containers.RepeatedScalarFieldContainer[str]
    member_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, segment: _Optional[_Union[_segment_pb2.Segment, _Mapping]] = ..., touches: _Optional[_Iterable[str]] = ..., member_names: _Optional[_Iterable[str]] = ...) -> None: ...

class FusedAnswer(_message.Message):
    __slots__ = ("segments", "merged_mask", "rule", "member_names", "labelling", "implants", "measures")
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    MERGED_MASK_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    MEMBER_NAMES_FIELD_NUMBER: _ClassVar[int]
    LABELLING_FIELD_NUMBER: _ClassVar[int]
    IMPLANTS_FIELD_NUMBER: _ClassVar[int]
    MEASURES_FIELD_NUMBER: _ClassVar[int]
    segments: _containers.RepeatedCompositeFieldContainer[_segment_pb2.Segment]
    merged_mask: _segment_pb2.RunLengthMask
    rule: FusionRule
    member_names: _containers.RepeatedScalarFieldContainer[str]
    labelling: _labelling_pb2.Labelling
    implants: _containers.RepeatedCompositeFieldContainer[FusedImplant]
    measures: _measures_pb2.FilmMeasures
    def __init__(self, segments: _Optional[_Iterable[_Union[_segment_pb2.Segment, _Mapping]]] = ..., merged_mask: _Optional[_Union[_segment_pb2.RunLengthMask, _Mapping]] = ..., rule: _Optional[_Union[FusionRule, str]] = ..., member_names: _Optional[_Iterable[str]] = ..., labelling: _Optional[_Union[_labelling_pb2.Labelling, _Mapping]] = ..., implants: _Optional[_Iterable[_Union[FusedImplant, _Mapping]]] = ..., measures: _Optional[_Union[_measures_pb2.FilmMeasures, _Mapping]] = ...) -> None: ...
