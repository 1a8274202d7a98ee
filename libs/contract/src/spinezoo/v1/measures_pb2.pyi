from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MeasureKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEASURE_KIND_UNSPECIFIED: _ClassVar[MeasureKind]
    MEASURE_KIND_LORDOSIS: _ClassVar[MeasureKind]
    MEASURE_KIND_SEGMENTAL_ANGLE: _ClassVar[MeasureKind]
    MEASURE_KIND_DISC_ANGLE: _ClassVar[MeasureKind]
    MEASURE_KIND_LUMBOSACRAL_ANGLE: _ClassVar[MeasureKind]
    MEASURE_KIND_SACRAL_SLOPE: _ClassVar[MeasureKind]
    MEASURE_KIND_PELVIC_INCIDENCE: _ClassVar[MeasureKind]
    MEASURE_KIND_PELVIC_TILT: _ClassVar[MeasureKind]
    MEASURE_KIND_DISC_HEIGHT_ANTERIOR: _ClassVar[MeasureKind]
    MEASURE_KIND_DISC_HEIGHT_MIDDLE: _ClassVar[MeasureKind]
    MEASURE_KIND_DISC_HEIGHT_POSTERIOR: _ClassVar[MeasureKind]
    MEASURE_KIND_DISC_INDEX_HURXTHAL: _ClassVar[MeasureKind]
    MEASURE_KIND_DISC_INDEX_FARFAN: _ClassVar[MeasureKind]
    MEASURE_KIND_BODY_HEIGHT_ANTERIOR: _ClassVar[MeasureKind]
    MEASURE_KIND_BODY_HEIGHT_MIDDLE: _ClassVar[MeasureKind]
    MEASURE_KIND_BODY_HEIGHT_POSTERIOR: _ClassVar[MeasureKind]
    MEASURE_KIND_BODY_WEDGING: _ClassVar[MeasureKind]
    MEASURE_KIND_BODY_HEIGHT_LOSS: _ClassVar[MeasureKind]
    MEASURE_KIND_SLIP: _ClassVar[MeasureKind]
    MEASURE_KIND_SLIP_PERCENT: _ClassVar[MeasureKind]
    MEASURE_KIND_CAGE_POSITION: _ClassVar[MeasureKind]
    MEASURE_KIND_CAGE_TO_POSTERIOR_WALL: _ClassVar[MeasureKind]
    MEASURE_KIND_CAGE_SUBSIDENCE: _ClassVar[MeasureKind]
    MEASURE_KIND_SCREW_COUNT: _ClassVar[MeasureKind]
    MEASURE_KIND_SCREW_ANGLE: _ClassVar[MeasureKind]
    MEASURE_KIND_SCREW_BREACH: _ClassVar[MeasureKind]
    MEASURE_KIND_ROD_LEVELS: _ClassVar[MeasureKind]
    MEASURE_KIND_ROD_BREAKS: _ClassVar[MeasureKind]
    MEASURE_KIND_ROD_BREAK_GAP: _ClassVar[MeasureKind]
    MEASURE_KIND_DOUBLE_CONTOUR_UPPER: _ClassVar[MeasureKind]
    MEASURE_KIND_DOUBLE_CONTOUR_LOWER: _ClassVar[MeasureKind]

class MeasureUnit(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEASURE_UNIT_UNSPECIFIED: _ClassVar[MeasureUnit]
    MEASURE_UNIT_DEGREE: _ClassVar[MeasureUnit]
    MEASURE_UNIT_MILLIMETRE: _ClassVar[MeasureUnit]
    MEASURE_UNIT_PERCENT: _ClassVar[MeasureUnit]
    MEASURE_UNIT_RATIO: _ClassVar[MeasureUnit]
    MEASURE_UNIT_COUNT: _ClassVar[MeasureUnit]

class WithheldReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WITHHELD_REASON_UNSPECIFIED: _ClassVar[WithheldReason]
    WITHHELD_REASON_NO_VERTEBRA: _ClassVar[WithheldReason]
    WITHHELD_REASON_DUPLICATE: _ClassVar[WithheldReason]
    WITHHELD_REASON_CUT_BY_FILM: _ClassVar[WithheldReason]
    WITHHELD_REASON_TOO_LITTLE_BORDER: _ClassVar[WithheldReason]
    WITHHELD_REASON_NOT_UPRIGHT_LATERAL: _ClassVar[WithheldReason]
    WITHHELD_REASON_FACING_UNSURE: _ClassVar[WithheldReason]
    WITHHELD_REASON_NO_SPACING: _ClassVar[WithheldReason]
    WITHHELD_REASON_NO_FEMORAL_HEADS: _ClassVar[WithheldReason]
    WITHHELD_REASON_DISORDER: _ClassVar[WithheldReason]
    WITHHELD_REASON_TOO_UNSURE: _ClassVar[WithheldReason]
    WITHHELD_REASON_NOT_SHOWN: _ClassVar[WithheldReason]

class Facing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FACING_UNSPECIFIED: _ClassVar[Facing]
    FACING_LEFT: _ClassVar[Facing]
    FACING_RIGHT: _ClassVar[Facing]

class MeasurePlane(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEASURE_PLANE_UNSPECIFIED: _ClassVar[MeasurePlane]
    MEASURE_PLANE_DETECTOR: _ClassVar[MeasurePlane]
    MEASURE_PLANE_PATIENT: _ClassVar[MeasurePlane]
    MEASURE_PLANE_UNSAID: _ClassVar[MeasurePlane]

class BodyCorner(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BODY_CORNER_UNSPECIFIED: _ClassVar[BodyCorner]
    BODY_CORNER_SUPERIOR_POSTERIOR: _ClassVar[BodyCorner]
    BODY_CORNER_SUPERIOR_ANTERIOR: _ClassVar[BodyCorner]
    BODY_CORNER_INFERIOR_ANTERIOR: _ClassVar[BodyCorner]
    BODY_CORNER_INFERIOR_POSTERIOR: _ClassVar[BodyCorner]
MEASURE_KIND_UNSPECIFIED: MeasureKind
MEASURE_KIND_LORDOSIS: MeasureKind
MEASURE_KIND_SEGMENTAL_ANGLE: MeasureKind
MEASURE_KIND_DISC_ANGLE: MeasureKind
MEASURE_KIND_LUMBOSACRAL_ANGLE: MeasureKind
MEASURE_KIND_SACRAL_SLOPE: MeasureKind
MEASURE_KIND_PELVIC_INCIDENCE: MeasureKind
MEASURE_KIND_PELVIC_TILT: MeasureKind
MEASURE_KIND_DISC_HEIGHT_ANTERIOR: MeasureKind
MEASURE_KIND_DISC_HEIGHT_MIDDLE: MeasureKind
MEASURE_KIND_DISC_HEIGHT_POSTERIOR: MeasureKind
MEASURE_KIND_DISC_INDEX_HURXTHAL: MeasureKind
MEASURE_KIND_DISC_INDEX_FARFAN: MeasureKind
MEASURE_KIND_BODY_HEIGHT_ANTERIOR: MeasureKind
MEASURE_KIND_BODY_HEIGHT_MIDDLE: MeasureKind
MEASURE_KIND_BODY_HEIGHT_POSTERIOR: MeasureKind
MEASURE_KIND_BODY_WEDGING: MeasureKind
MEASURE_KIND_BODY_HEIGHT_LOSS: MeasureKind
MEASURE_KIND_SLIP: MeasureKind
MEASURE_KIND_SLIP_PERCENT: MeasureKind
MEASURE_KIND_CAGE_POSITION: MeasureKind
MEASURE_KIND_CAGE_TO_POSTERIOR_WALL: MeasureKind
MEASURE_KIND_CAGE_SUBSIDENCE: MeasureKind
MEASURE_KIND_SCREW_COUNT: MeasureKind
MEASURE_KIND_SCREW_ANGLE: MeasureKind
MEASURE_KIND_SCREW_BREACH: MeasureKind
MEASURE_KIND_ROD_LEVELS: MeasureKind
MEASURE_KIND_ROD_BREAKS: MeasureKind
MEASURE_KIND_ROD_BREAK_GAP: MeasureKind
MEASURE_KIND_DOUBLE_CONTOUR_UPPER: MeasureKind
MEASURE_KIND_DOUBLE_CONTOUR_LOWER: MeasureKind
MEASURE_UNIT_UNSPECIFIED: MeasureUnit
MEASURE_UNIT_DEGREE: MeasureUnit
MEASURE_UNIT_MILLIMETRE: MeasureUnit
MEASURE_UNIT_PERCENT: MeasureUnit
MEASURE_UNIT_RATIO: MeasureUnit
MEASURE_UNIT_COUNT: MeasureUnit
WITHHELD_REASON_UNSPECIFIED: WithheldReason
WITHHELD_REASON_NO_VERTEBRA: WithheldReason
WITHHELD_REASON_DUPLICATE: WithheldReason
WITHHELD_REASON_CUT_BY_FILM: WithheldReason
WITHHELD_REASON_TOO_LITTLE_BORDER: WithheldReason
WITHHELD_REASON_NOT_UPRIGHT_LATERAL: WithheldReason
WITHHELD_REASON_FACING_UNSURE: WithheldReason
WITHHELD_REASON_NO_SPACING: WithheldReason
WITHHELD_REASON_NO_FEMORAL_HEADS: WithheldReason
WITHHELD_REASON_DISORDER: WithheldReason
WITHHELD_REASON_TOO_UNSURE: WithheldReason
WITHHELD_REASON_NOT_SHOWN: WithheldReason
FACING_UNSPECIFIED: Facing
FACING_LEFT: Facing
FACING_RIGHT: Facing
MEASURE_PLANE_UNSPECIFIED: MeasurePlane
MEASURE_PLANE_DETECTOR: MeasurePlane
MEASURE_PLANE_PATIENT: MeasurePlane
MEASURE_PLANE_UNSAID: MeasurePlane
BODY_CORNER_UNSPECIFIED: BodyCorner
BODY_CORNER_SUPERIOR_POSTERIOR: BodyCorner
BODY_CORNER_SUPERIOR_ANTERIOR: BodyCorner
BODY_CORNER_INFERIOR_ANTERIOR: BodyCorner
BODY_CORNER_INFERIOR_POSTERIOR: BodyCorner

class Point(_message.Message):
    __slots__ = ("x", "y")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ...) -> None: ...

class MeasureOptions(_message.Message):
    __slots__ = ("magnification",)
    MAGNIFICATION_FIELD_NUMBER: _ClassVar[int]
    magnification: float
    def __init__(self, magnification: _Optional[float] = ...) -> None: ...

class Landmark(_message.Message):
    __slots__ = ("corner", "place", "radius_px")
    CORNER_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    RADIUS_PX_FIELD_NUMBER: _ClassVar[int]
    corner: BodyCorner
    place: Point
    radius_px: float
    def __init__(self, corner: _Optional[_Union[BodyCorner, str]] = ..., place: _Optional[_Union[Point, _Mapping]] = ..., radius_px: _Optional[float] = ...) -> None: ...

class Osteophyte(_message.Message):
    __slots__ = ("corner", "length_mm", "length_share", "area_share", "tip")
    CORNER_FIELD_NUMBER: _ClassVar[int]
    LENGTH_MM_FIELD_NUMBER: _ClassVar[int]
    LENGTH_SHARE_FIELD_NUMBER: _ClassVar[int]
    AREA_SHARE_FIELD_NUMBER: _ClassVar[int]
    TIP_FIELD_NUMBER: _ClassVar[int]
    corner: BodyCorner
    length_mm: float
    length_share: float
    area_share: float
    tip: Point
    def __init__(self, corner: _Optional[_Union[BodyCorner, str]] = ..., length_mm: _Optional[float] = ..., length_share: _Optional[float] = ..., area_share: _Optional[float] = ..., tip: _Optional[_Union[Point, _Mapping]] = ...) -> None: ...

class BodyLandmarks(_message.Message):
    __slots__ = ("level", "vertebra_index", "corners", "contour", "upper_middle", "lower_middle", "waviness", "osteophytes", "upper_refined", "lower_refined")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    VERTEBRA_INDEX_FIELD_NUMBER: _ClassVar[int]
    CORNERS_FIELD_NUMBER: _ClassVar[int]
    CONTOUR_FIELD_NUMBER: _ClassVar[int]
    UPPER_MIDDLE_FIELD_NUMBER: _ClassVar[int]
    LOWER_MIDDLE_FIELD_NUMBER: _ClassVar[int]
    WAVINESS_FIELD_NUMBER: _ClassVar[int]
    OSTEOPHYTES_FIELD_NUMBER: _ClassVar[int]
    UPPER_REFINED_FIELD_NUMBER: _ClassVar[int]
    LOWER_REFINED_FIELD_NUMBER: _ClassVar[int]
    level: str
    vertebra_index: int
    corners: _containers.RepeatedCompositeFieldContainer[Landmark]
    contour: _containers.RepeatedCompositeFieldContainer[Point]
    upper_middle: Point
    lower_middle: Point
    waviness: float
    osteophytes: _containers.RepeatedCompositeFieldContainer[Osteophyte]
    upper_refined: bool
    lower_refined: bool
    def __init__(self, level: _Optional[str] = ..., vertebra_index: _Optional[int] = ..., corners: _Optional[_Iterable[_Union[Landmark, _Mapping]]] = ..., contour: _Optional[_Iterable[_Union[Point, _Mapping]]] = ..., upper_middle: _Optional[_Union[Point, _Mapping]] = ..., lower_middle: _Optional[_Union[Point, _Mapping]] = ..., waviness: _Optional[float] = ..., osteophytes: _Optional[_Iterable[_Union[Osteophyte, _Mapping]]] = ..., upper_refined: _Optional[bool] = ..., lower_refined: _Optional[bool] = ...) -> None: ...

class RodBreak(_message.Message):
    __slots__ = ("implant_indices", "levels", "upper_end", "lower_end")
    IMPLANT_INDICES_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    UPPER_END_FIELD_NUMBER: _ClassVar[int]
    LOWER_END_FIELD_NUMBER: _ClassVar[int]
    implant_indices: _containers.RepeatedScalarFieldContainer[int]
    levels: _containers.RepeatedScalarFieldContainer[str]
    upper_end: Point
    lower_end: Point
    def __init__(self, implant_indices: _Optional[_Iterable[int]] = ..., levels: _Optional[_Iterable[str]] = ..., upper_end: _Optional[_Union[Point, _Mapping]] = ..., lower_end: _Optional[_Union[Point, _Mapping]] = ...) -> None: ...

class RefinerProvenance(_message.Message):
    __slots__ = ("name", "version", "weights_sha256")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    weights_sha256: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., weights_sha256: _Optional[str] = ...) -> None: ...

class Measure(_message.Message):
    __slots__ = ("kind", "levels", "unit", "value", "low", "high", "grade", "withheld_reason", "vertebra_indices", "implant_index")
    KIND_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    GRADE_FIELD_NUMBER: _ClassVar[int]
    WITHHELD_REASON_FIELD_NUMBER: _ClassVar[int]
    VERTEBRA_INDICES_FIELD_NUMBER: _ClassVar[int]
    IMPLANT_INDEX_FIELD_NUMBER: _ClassVar[int]
    kind: MeasureKind
    levels: _containers.RepeatedScalarFieldContainer[str]
    unit: MeasureUnit
    value: float
    low: float
    high: float
    grade: int
    withheld_reason: WithheldReason
    vertebra_indices: _containers.RepeatedScalarFieldContainer[int]
    implant_index: int
    def __init__(self, kind: _Optional[_Union[MeasureKind, str]] = ..., levels: _Optional[_Iterable[str]] = ..., unit: _Optional[_Union[MeasureUnit, str]] = ..., value: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., grade: _Optional[int] = ..., withheld_reason: _Optional[_Union[WithheldReason, str]] = ..., vertebra_indices: _Optional[_Iterable[int]] = ..., implant_index: _Optional[int] = ...) -> None: ...

class FilmMeasures(_message.Message):
    __slots__ = ("facing", "facing_probability", "plane", "bodies", "measures", "refiner", "rod_breaks")
    FACING_FIELD_NUMBER: _ClassVar[int]
    FACING_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    PLANE_FIELD_NUMBER: _ClassVar[int]
    BODIES_FIELD_NUMBER: _ClassVar[int]
    MEASURES_FIELD_NUMBER: _ClassVar[int]
    REFINER_FIELD_NUMBER: _ClassVar[int]
    ROD_BREAKS_FIELD_NUMBER: _ClassVar[int]
    facing: Facing
    facing_probability: float
    plane: MeasurePlane
    bodies: _containers.RepeatedCompositeFieldContainer[BodyLandmarks]
    measures: _containers.RepeatedCompositeFieldContainer[Measure]
    refiner: RefinerProvenance
    rod_breaks: _containers.RepeatedCompositeFieldContainer[RodBreak]
    def __init__(self, facing: _Optional[_Union[Facing, str]] = ..., facing_probability: _Optional[float] = ..., plane: _Optional[_Union[MeasurePlane, str]] = ..., bodies: _Optional[_Iterable[_Union[BodyLandmarks, _Mapping]]] = ..., measures: _Optional[_Iterable[_Union[Measure, _Mapping]]] = ..., refiner: _Optional[_Union[RefinerProvenance, _Mapping]] = ..., rod_breaks: _Optional[_Iterable[_Union[RodBreak, _Mapping]]] = ...) -> None: ...
