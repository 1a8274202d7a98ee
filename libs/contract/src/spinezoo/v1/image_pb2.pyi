from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PixelType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PIXEL_TYPE_UNSPECIFIED: _ClassVar[PixelType]
    PIXEL_TYPE_UINT8: _ClassVar[PixelType]
    PIXEL_TYPE_UINT16: _ClassVar[PixelType]
    PIXEL_TYPE_FLOAT32: _ClassVar[PixelType]

class FilmNoteCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FILM_NOTE_CODE_UNSPECIFIED: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_OTHER: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_LOSSY_COMPRESSION: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_NO_SPACING: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_SPACING_IMAGER: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_SPACING_PIXEL: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_SPACING_NOMINAL_SCANNED: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_SPACING_IGNORED: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_WINDOW_IGNORED: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_LOOK_UP_TABLE_IGNORED: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_RESCALE_IGNORED: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_ORIENTATION_APPLIED: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_FOR_PROCESSING: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_POLARITY_DOUBTFUL: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_PADDING_DOUBTFUL: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_NOT_LATERAL: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_NOT_LUMBAR: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_NOT_RADIOGRAPH: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_NOT_UPRIGHT: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_CHANNELS_MERGED: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_BITS_MASKED: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_END_MARKER_MISSING: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_STREAM_REPAIRED: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_OVERLAY_NOT_SHOWN: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_SEVERAL_WINDOWS: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_SINGLE_LEVEL: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_PAGES_IGNORED: _ClassVar[FilmNoteCode]
    FILM_NOTE_CODE_SPACING_CALIBRATED: _ClassVar[FilmNoteCode]
PIXEL_TYPE_UNSPECIFIED: PixelType
PIXEL_TYPE_UINT8: PixelType
PIXEL_TYPE_UINT16: PixelType
PIXEL_TYPE_FLOAT32: PixelType
FILM_NOTE_CODE_UNSPECIFIED: FilmNoteCode
FILM_NOTE_CODE_OTHER: FilmNoteCode
FILM_NOTE_CODE_LOSSY_COMPRESSION: FilmNoteCode
FILM_NOTE_CODE_NO_SPACING: FilmNoteCode
FILM_NOTE_CODE_SPACING_IMAGER: FilmNoteCode
FILM_NOTE_CODE_SPACING_PIXEL: FilmNoteCode
FILM_NOTE_CODE_SPACING_NOMINAL_SCANNED: FilmNoteCode
FILM_NOTE_CODE_SPACING_IGNORED: FilmNoteCode
FILM_NOTE_CODE_WINDOW_IGNORED: FilmNoteCode
FILM_NOTE_CODE_LOOK_UP_TABLE_IGNORED: FilmNoteCode
FILM_NOTE_CODE_RESCALE_IGNORED: FilmNoteCode
FILM_NOTE_CODE_ORIENTATION_APPLIED: FilmNoteCode
FILM_NOTE_CODE_FOR_PROCESSING: FilmNoteCode
FILM_NOTE_CODE_POLARITY_DOUBTFUL: FilmNoteCode
FILM_NOTE_CODE_PADDING_DOUBTFUL: FilmNoteCode
FILM_NOTE_CODE_NOT_LATERAL: FilmNoteCode
FILM_NOTE_CODE_NOT_LUMBAR: FilmNoteCode
FILM_NOTE_CODE_NOT_RADIOGRAPH: FilmNoteCode
FILM_NOTE_CODE_NOT_UPRIGHT: FilmNoteCode
FILM_NOTE_CODE_CHANNELS_MERGED: FilmNoteCode
FILM_NOTE_CODE_BITS_MASKED: FilmNoteCode
FILM_NOTE_CODE_END_MARKER_MISSING: FilmNoteCode
FILM_NOTE_CODE_STREAM_REPAIRED: FilmNoteCode
FILM_NOTE_CODE_OVERLAY_NOT_SHOWN: FilmNoteCode
FILM_NOTE_CODE_SEVERAL_WINDOWS: FilmNoteCode
FILM_NOTE_CODE_SINGLE_LEVEL: FilmNoteCode
FILM_NOTE_CODE_PAGES_IGNORED: FilmNoteCode
FILM_NOTE_CODE_SPACING_CALIBRATED: FilmNoteCode

class RawPixels(_message.Message):
    __slots__ = ("pixel_type", "height", "width", "data", "row_spacing_mm", "column_spacing_mm")
    PIXEL_TYPE_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    ROW_SPACING_MM_FIELD_NUMBER: _ClassVar[int]
    COLUMN_SPACING_MM_FIELD_NUMBER: _ClassVar[int]
    pixel_type: PixelType
    height: int
    width: int
    data: bytes
    row_spacing_mm: float
    column_spacing_mm: float
    def __init__(self, pixel_type: _Optional[_Union[PixelType, str]] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., data: _Optional[bytes] = ..., row_spacing_mm: _Optional[float] = ..., column_spacing_mm: _Optional[float] = ...) -> None: ...

class FilmNote(_message.Message):
    __slots__ = ("code", "text")
    CODE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    code: FilmNoteCode
    text: str
    def __init__(self, code: _Optional[_Union[FilmNoteCode, str]] = ..., text: _Optional[str] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("dicom", "encoded", "raw")
    DICOM_FIELD_NUMBER: _ClassVar[int]
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    dicom: bytes
    encoded: bytes
    raw: RawPixels
    def __init__(self, dicom: _Optional[bytes] = ..., encoded: _Optional[bytes] = ..., raw: _Optional[_Union[RawPixels, _Mapping]] = ...) -> None: ...
