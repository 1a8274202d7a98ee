from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Structure(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STRUCTURE_UNSPECIFIED: _ClassVar[Structure]
    STRUCTURE_LUMBAR_VERTEBRA: _ClassVar[Structure]
    STRUCTURE_SACRAL_VERTEBRA: _ClassVar[Structure]
    STRUCTURE_CAGE: _ClassVar[Structure]
    STRUCTURE_SCREW: _ClassVar[Structure]
    STRUCTURE_ROD: _ClassVar[Structure]

class SegmentKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEGMENT_KIND_UNSPECIFIED: _ClassVar[SegmentKind]
    SEGMENT_KIND_INSTANCE: _ClassVar[SegmentKind]
    SEGMENT_KIND_REGION: _ClassVar[SegmentKind]
STRUCTURE_UNSPECIFIED: Structure
STRUCTURE_LUMBAR_VERTEBRA: Structure
STRUCTURE_SACRAL_VERTEBRA: Structure
STRUCTURE_CAGE: Structure
STRUCTURE_SCREW: Structure
STRUCTURE_ROD: Structure
SEGMENT_KIND_UNSPECIFIED: SegmentKind
SEGMENT_KIND_INSTANCE: SegmentKind
SEGMENT_KIND_REGION: SegmentKind

class RunLengthMask(_message.Message):
    __slots__ = ("height", "width", "counts")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    counts: bytes
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., counts: _Optional[bytes] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("x", "y", "width", "height")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    width: float
    height: float
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ..., width: _Optional[float] = ..., height: _Optional[float] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("structure", "kind", "score", "box", "mask", "level")
    STRUCTURE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    structure: Structure
    kind: SegmentKind
    score: float
    box: Box
    mask: RunLengthMask
    level: str
    def __init__(self, structure: _Optional[_Union[Structure, str]] = ..., kind: _Optional[_Union[SegmentKind, str]] = ..., score: _Optional[float] = ..., box: _Optional[_Union[Box, _Mapping]] = ..., mask: _Optional[_Union[RunLengthMask, _Mapping]] = ..., level: _Optional[str] = ...) -> None: ...

class SegmentList(_message.Message):
    __slots__ = ("segments",)
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    segments: _containers.RepeatedCompositeFieldContainer[Segment]
    def __init__(self, segments: _Optional[_Iterable[_Union[Segment, _Mapping]]] = ...) -> None: ...

class LabelMap(_message.Message):
    __slots__ = ("height", "width", "data")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    data: bytes
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class ProbabilityMap(_message.Message):
    __slots__ = ("structure", "height", "width", "data", "film_box")
    STRUCTURE_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FILM_BOX_FIELD_NUMBER: _ClassVar[int]
    structure: Structure
    height: int
    width: int
    data: bytes
    film_box: Box
    def __init__(self, structure: _Optional[_Union[Structure, str]] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., data: _Optional[bytes] = ..., film_box: _Optional[_Union[Box, _Mapping]] = ...) -> None: ...
