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

class FilmView(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FILM_VIEW_UNSPECIFIED: _ClassVar[FilmView]
    FILM_VIEW_LATERAL: _ClassVar[FilmView]
    FILM_VIEW_UPSIDE_DOWN: _ClassVar[FilmView]
    FILM_VIEW_TURNED: _ClassVar[FilmView]
    FILM_VIEW_NO_LATERAL_COLUMN: _ClassVar[FilmView]
UNNAMED_REASON_UNSPECIFIED: UnnamedReason
UNNAMED_REASON_NO_SACRUM: UnnamedReason
UNNAMED_REASON_SACRUM_UNSURE: UnnamedReason
UNNAMED_REASON_SPACING: UnnamedReason
UNNAMED_REASON_DUPLICATE: UnnamedReason
UNNAMED_REASON_OFF_COLUMN: UnnamedReason
UNNAMED_REASON_FRAGMENT: UnnamedReason
UNNAMED_REASON_SEVERAL: UnnamedReason
UNNAMED_REASON_BEYOND: UnnamedReason
FILM_VIEW_UNSPECIFIED: FilmView
FILM_VIEW_LATERAL: FilmView
FILM_VIEW_UPSIDE_DOWN: FilmView
FILM_VIEW_TURNED: FilmView
FILM_VIEW_NO_LATERAL_COLUMN: FilmView

class FilmReading(_message.Message):
    __slots__ = ("view", "lateral_probability", "upside_down_probability", "turned_probability", "no_lateral_column_probability", "sacrum_not_in_view_probability")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    LATERAL_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    UPSIDE_DOWN_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    TURNED_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    NO_LATERAL_COLUMN_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    SACRUM_NOT_IN_VIEW_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    view: FilmView
    lateral_probability: float
    upside_down_probability: float
    turned_probability: float
    no_lateral_column_probability: float
    sacrum_not_in_view_probability: float
    def __init__(self, view: _Optional[_Union[FilmView, str]] = ..., lateral_probability: _Optional[float] = ..., upside_down_probability: _Optional[float] = ..., turned_probability: _Optional[float] = ..., no_lateral_column_probability: _Optional[float] = ..., sacrum_not_in_view_probability: _Optional[float] = ...) -> None: ...

class ReaderProvenance(_message.Message):
    __slots__ = ("name", "version", "weights_sha256", "threshold")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    weights_sha256: str
    threshold: float
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., weights_sha256: _Optional[str] = ..., threshold: _Optional[float] = ...) -> None: ...

class NamedVertebra(_message.Message):
    __slots__ = ("segment", "confidence", "unnamed_reason", "level_probabilities", "no_vertebra_probability")
    class LevelProbabilitiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    UNNAMED_REASON_FIELD_NUMBER: _ClassVar[int]
    LEVEL_PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    NO_VERTEBRA_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    segment: _segment_pb2.Segment
    confidence: float
    unnamed_reason: UnnamedReason
    level_probabilities: _containers.ScalarMap[str, float]
    no_vertebra_probability: float
    def __init__(self, segment: _Optional[_Union[_segment_pb2.Segment, _Mapping]] = ..., confidence: _Optional[float] = ..., unnamed_reason: _Optional[_Union[UnnamedReason, str]] = ..., level_probabilities: _Optional[_Mapping[str, float]] = ..., no_vertebra_probability: _Optional[float] = ...) -> None: ...

class Labelling(_message.Message):
    __slots__ = ("vertebrae", "sacrum_in_view", "missing_levels", "lumbar_count", "suspected_lumbar_count", "count_reason", "film", "reader")
    VERTEBRAE_FIELD_NUMBER: _ClassVar[int]
    SACRUM_IN_VIEW_FIELD_NUMBER: _ClassVar[int]
    MISSING_LEVELS_FIELD_NUMBER: _ClassVar[int]
    LUMBAR_COUNT_FIELD_NUMBER: _ClassVar[int]
    SUSPECTED_LUMBAR_COUNT_FIELD_NUMBER: _ClassVar[int]
    COUNT_REASON_FIELD_NUMBER: _ClassVar[int]
    FILM_FIELD_NUMBER: _ClassVar[int]
    READER_FIELD_NUMBER: _ClassVar[int]
    vertebrae: _containers.RepeatedCompositeFieldContainer[NamedVertebra]
    sacrum_in_view: bool
    missing_levels: _containers.RepeatedScalarFieldContainer[str]
    lumbar_count: int
    suspected_lumbar_count: int
    count_reason: str
    film: FilmReading
    reader: ReaderProvenance
    def __init__(self, vertebrae: _Optional[_Iterable[_Union[NamedVertebra, _Mapping]]] = ..., sacrum_in_view: _Optional[bool] = ..., missing_levels: _Optional[_Iterable[str]] = ..., lumbar_count: _Optional[int] = ..., suspected_lumbar_count: _Optional[int] = ..., count_reason: _Optional[str] = ..., film: _Optional[_Union[FilmReading, _Mapping]] = ..., reader: _Optional[_Union[ReaderProvenance, _Mapping]] = ...) -> None: ...
