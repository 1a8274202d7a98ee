"""DICOM headers: what is read of them, what is refused by them, functional groups."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pydicom
from pydicom import config
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian
from spinezoo_contract.errors import FilmError, SpineZooError, TooLargeError

from spinezoo_spine.films.kinds import foreign_kind, kind_of, looks_like_dicom
from spinezoo_spine.films.limits import FilmLimits, check_raw_size, check_size

_PIXEL_DATA = 0x7FE00010
OVERLAY_GROUPS = tuple(range(0x6000, 0x6020, 2))

# Everything that decoding and the notes need; other attributes, the patient's above all, are
# skipped unread.
_DICOM_TAGS: list[str | int] = [
    "SpecificCharacterSet",
    "SOPClassUID",
    "Modality",
    "BodyPartExamined",
    "AnatomicRegionSequence",
    "ViewPosition",
    "ViewCodeSequence",
    "PatientOrientation",
    "PresentationIntentType",
    "PixelIntensityRelationship",
    "PixelIntensityRelationshipSign",
    "PresentationLUTShape",
    "LossyImageCompression",
    "ShutterShape",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ImagerPixelSpacing",
    "PixelSpacing",
    "PixelSpacingCalibrationType",
    "NominalScannedPixelSpacing",
    "PixelAspectRatio",
    "EstimatedRadiographicMagnificationFactor",
    "DistanceSourceToDetector",
    "DistanceSourceToPatient",
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "PresentationLUTSequence",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "PixelDataProviderURL",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelData",
    *((group << 16) | element for group in OVERLAY_GROUPS for element in (0x0010, 0x0102)),
]

GREY = ("MONOCHROME1", "MONOCHROME2")
COLOURED = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
PALETTE = "PALETTE COLOR"

# What is told of a class of DICOM objects that are no images, by words of its name.
_NO_IMAGES: tuple[tuple[str, str], ...] = (
    ("Media Storage Directory", "a DICOMDIR, the table of contents of a disc"),
    ("Encapsulated PDF", "a PDF document in a DICOM wrapping"),
    ("Encapsulated CDA", "a text document in a DICOM wrapping"),
    ("Encapsulated", "a document or model in a DICOM wrapping"),
    ("Presentation State", "a presentation state: how to show an image, not the image"),
    ("Key Object Selection", "a list of key images, not the images"),
    (" SR ", "a structured report"),
    ("SR Storage", "a structured report"),
    ("Structured Report", "a structured report"),
    ("CAD", "a structured report"),
    ("Report", "a report"),
    ("Waveform", "a waveform, such as an ECG"),
    ("ECG", "a waveform, such as an ECG"),
    ("RT Plan", "a radiotherapy plan"),
    ("RT Structure Set", "a radiotherapy structure set"),
    ("RT Dose", "a radiotherapy dose"),
    ("RT Beams", "a radiotherapy record"),
    ("Segmentation", "a segmentation, not the image it belongs to"),
    ("Registration", "a registration, not an image"),
    ("Raw Data", "raw data, not an image"),
    ("Spectroscopy", "spectroscopy data, not an image"),
    ("Video", "a video"),
)


def group_items(dataset: Dataset, sequence: str) -> Iterator[Dataset]:
    """The data set's own attributes, then those of one macro of its functional groups."""
    yield dataset
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        outer = dataset.get(groups)
        for item in list(outer)[:1] if isinstance(outer, pydicom.Sequence) else ():
            inner = item.get(sequence)
            yield from list(inner)[:1] if isinstance(inner, pydicom.Sequence) else ()


class _Unreadable:
    """Stands for a value that is there but is not what it should be: no number, no text."""

    def __str__(self) -> str:
        return ""

    def __bool__(self) -> bool:
        return False


UNREADABLE = _Unreadable()


def value_of(dataset: Dataset, keyword: str) -> Any:
    """An attribute's value; None where it is absent, :data:`UNREADABLE` where it is damaged."""
    try:
        return dataset.get(keyword)
    except Exception:  # pydicom reads values when they are asked for
        return UNREADABLE


def items_of(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is absent or no sequence in this file."""
    value = value_of(dataset, keyword)
    return list(value) if isinstance(value, pydicom.Sequence) else []


def number_of(value: object) -> float | None:
    """The first of the values of an attribute as a number; None where there is none or NaN."""
    if isinstance(value, (MultiValue, list, tuple)):
        value = value[0] if value else None
    if value is None or isinstance(value, bytes):
        return None
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def word_of(dataset: Dataset, keyword: str) -> str:
    """An attribute of a code string: upper case, one value, at most 32 characters; "" if absent."""
    value = value_of(dataset, keyword)
    if isinstance(value, (MultiValue, list, tuple)):
        value = value[0] if value else ""
    return str(value or "").strip().upper()[:32]


def integer_of(dataset: Dataset, keyword: str, default: int | None) -> int:
    """An integer attribute, or the default where it is absent or empty.

    Raises:
        FilmError: It is no integer, or absent without a default.
    """
    value = dataset.get(keyword)
    if isinstance(value, (MultiValue, list, tuple)) and len(value) == 1:
        value = value[0]
    if value is None or value == "" or (isinstance(value, (MultiValue, list)) and not value):
        if default is None:
            raise FilmError(f"DICOM file has no {keyword}; export it again as a complete image")
        return default
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise FilmError(
            f"DICOM attribute {keyword} is not one whole number; export the film again"
        ) from None


@dataclass(frozen=True, slots=True)
class Bits:
    """How a stored value lies in its cell.

    Attributes:
        allocated: Bits of a cell: 8 or 16.
        stored: Bits of a value.
        high: Place of the value's highest bit.
        signed: Whether values are two's complement.
    """

    allocated: int
    stored: int
    high: int
    signed: bool

    @property
    def shift(self) -> int:
        """Unused bits below the value."""
        return self.high + 1 - self.stored

    @property
    def lowest(self) -> int:
        """The lowest value that can be stored."""
        return -(1 << (self.stored - 1)) if self.signed else 0


def bits_of(dataset: Dataset) -> Bits:
    """The bits of a checked header.

    Raises:
        FilmError: They are impossible, or not of the kind that is taken.
    """
    allocated = integer_of(dataset, "BitsAllocated", None)
    # Where one is missing, the other tells.
    stored = integer_of(dataset, "BitsStored", integer_of(dataset, "HighBit", allocated - 1) + 1)
    high = integer_of(dataset, "HighBit", stored - 1)
    if allocated not in (8, 16) or not 2 <= stored <= allocated:
        raise FilmError(
            f"DICOM file stores {stored} in {allocated} bits a pixel; export it with 2 to 16 bits "
            "stored in 8 or 16 (Bits Allocated)"
        )
    if not stored - 1 <= high < allocated:
        raise FilmError(
            f"DICOM header contradicts itself: {stored} bits with the highest at {high} of "
            f"{allocated}; export the film again"
        )
    signed = integer_of(dataset, "PixelRepresentation", 0)
    if signed not in (0, 1):
        raise FilmError(
            f"DICOM header says PixelRepresentation {signed}; there are only 0 (unsigned) and 1 "
            "(signed); export the film again"
        )
    return Bits(allocated, stored, high, bool(signed))


def _meta_length(data: bytes) -> int:
    return int(struct.unpack_from("<I", data, 140)[0]) if len(data) > 144 else 0


def _is_deflated(data: bytes) -> bool:
    """Whether the meta information says that the data set is deflated."""
    meta = data[144 : 144 + _meta_length(data)]
    return str(DeflatedExplicitVRLittleEndian).encode() in meta


def _not_deflated(head: bytes) -> str:
    """What data that cannot be inflated is, by how it begins."""
    if head[:2] == b"\x1f\x8b":
        return "its data is a gzip file (RFC 1952) where DICOM has a bare stream (RFC 1951)"
    # zlib begins with its method (8) and window, and is a multiple of 31 with the next byte.
    if head[:1] and head[0] & 0x8F == 8 and int.from_bytes(head[:2], "big") % 31 == 0:
        return "its data has the header of zlib (RFC 1950) where DICOM has a bare stream (RFC 1951)"
    if head[1:2] == b"\0" and head[4:6].isalpha() and head[4:6].isupper():
        return "its data is not deflated at all"
    return "its data is damaged"


def _refuse_deflate_bomb(data: bytes, limits: FilmLimits) -> None:
    """A deflated data set may be a thousand times its file: measure it piece by piece."""
    if not _is_deflated(data):
        return
    meta_length = _meta_length(data)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    pending, inflated = data[144 + meta_length :], 0
    said = _not_deflated(pending[:6])
    while pending and not inflater.eof:
        try:
            inflated += len(inflater.decompress(pending, 1 << 20))
        except zlib.error:
            raise FilmError(
                f"DICOM file says that it is deflated, and {said}; export it as Explicit VR Little "
                "Endian"
            ) from None
        pending = inflater.unconsumed_tail
        if inflated > 2 * limits.max_pixels + (1 << 20):
            raise TooLargeError(
                "deflated DICOM data is larger than the largest film allowed; "
                "scale the film down or save it without deflation"
            )
    if not inflater.eof:
        raise FilmError("DICOM file is truncated: its deflated data ends early; send it whole")


_LIGHT_READS = 100_000
_LIGHT_BYTES = 1 << 20
"""A header that takes more reads, or holds more bytes of values beside pixels and overlays, is
heavy: parsing it may take longer than decoding a film."""


class HeavyHeaderError(Exception):
    """A header is not to be parsed here but in a decoding process."""


class _CountedFile(io.BytesIO):
    """A file in memory that is read a limited number of times."""

    left = _LIGHT_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file.

        Raises:
            HeavyHeaderError: It has been read too often.
        """
        self.left -= 1
        if self.left < 0:
            raise HeavyHeaderError
        return super().read(size)


def _value_bytes(dataset: Dataset) -> int:
    """Bytes of all values that have been read but not looked at, without the pixels."""
    total = 0
    for tag in dataset.keys():  # noqa: SIM118  (iterating over the data set would parse its values)
        element = dataset.get_item(tag)
        if isinstance(element, RawDataElement):
            total += 0 if tag == _PIXEL_DATA else len(element.value or b"")
        elif element is not None and element.VR == "SQ":
            total += sum(_value_bytes(item) for item in element.value)
    return total


def parse_light_dicom(data: bytes, limits: FilmLimits) -> Dataset:
    """:func:`parse_dicom` for headers that take little time and memory, as nearly all do.

    Raises:
        HeavyHeaderError: It is heavy, or deflated.
        FilmError: As :func:`parse_dicom`.
        TooLargeError: Over a limit.
    """
    if data[128:132] == b"DICM" and _is_deflated(data):
        raise HeavyHeaderError
    return parse_dicom(data, limits, light=True)


def parse_dicom(data: bytes, limits: FilmLimits, *, light: bool = False) -> Dataset:
    """The data set, read but not decoded, its kind and size checked.

    Args:
        data: The file.
        limits: What is refused by size.
        light: Whether a heavy header is left to a decoding process.

    Raises:
        HeavyHeaderError: It is heavy; only where it is to be light.
        FilmError: Not DICOM, damaged, or not one frame of a kind that is taken.
        TooLargeError: Over a limit.
    """
    has_preamble = data[128:132] == b"DICM"
    if not has_preamble and not looks_like_dicom(data):
        kind = "a PNG, JPEG or TIFF" if kind_of(data) else foreign_kind(data)
        said = f"the file is {kind}, not DICOM" if kind else "the file is not DICOM"
        raise FilmError(f"{said}; send DICOM, PNG, JPEG or TIFF")
    # Its warnings quote values of the header.
    config.settings.reading_validation_mode = config.IGNORE
    try:
        if has_preamble:
            _refuse_deflate_bomb(data, limits)
        dataset = pydicom.dcmread(
            _CountedFile(data) if light else io.BytesIO(data),
            force=not has_preamble,
            specific_tags=[Tag(tag) for tag in _DICOM_TAGS],
        )
        if light and _value_bytes(dataset) > _LIGHT_BYTES:
            raise HeavyHeaderError
        _check_dicom(dataset, limits)
    except (SpineZooError, HeavyHeaderError, MemoryError):
        raise
    except Exception as error:  # hostile bytes reach deep into the parser: name the class only
        raise FilmError(
            f"DICOM file is damaged ({type(error).__name__} while reading its header); "
            "export it again"
        ) from None
    return dataset


def _refuse_no_image(dataset: Dataset) -> None:
    """Refuses objects that are no images, by their class, in words."""
    meta = getattr(dataset, "file_meta", None)
    classes = [dataset.get("SOPClassUID"), meta.get("MediaStorageSOPClassUID") if meta else None]
    for value in classes:
        name = UID(str(value)).name if isinstance(value, str) else ""
        for words, kind in _NO_IMAGES:
            if words in name:
                raise FilmError(f"DICOM file is {kind}, not a film; send the image itself")
    if "PixelData" in dataset:
        return
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise FilmError("DICOM file has pixels with decimals; export it with 8 to 16 bits")
    if "PixelDataProviderURL" in dataset:
        raise FilmError("DICOM file only says where its pixels are kept; send the image itself")
    if "Rows" in dataset or not len(dataset):  # pydicom leaves nothing of a file that ends early
        raise FilmError(
            "DICOM file has no pixel data that can be read: it is truncated, damaged, or was "
            "stored without pixels; send the whole file, or export it again"
        )
    raise FilmError(
        "DICOM file has no pixel data; send the image itself, not a report, a presentation "
        "state or a truncated file"
    )


def _check_dicom(dataset: Dataset, limits: FilmLimits) -> None:
    _refuse_no_image(dataset)
    rows, columns = (integer_of(dataset, keyword, None) for keyword in ("Rows", "Columns"))
    photometric = word_of(dataset, "PhotometricInterpretation")
    if not photometric:
        raise FilmError(
            "DICOM file has no PhotometricInterpretation; export it again as a complete image"
        )
    check_size(rows, columns, limits)
    frames = integer_of(dataset, "NumberOfFrames", 1) or 1
    if frames != 1:
        raise FilmError(f"DICOM file has {frames} frames; send one film a file")
    if photometric not in (*GREY, *COLOURED, PALETTE):
        known = photometric[:16] if photometric.replace("_", "").isalnum() else "of an unknown kind"
        raise FilmError(
            f"DICOM file says that its pixels are {known}, which is not taken; export it as "
            "MONOCHROME2"
        )
    samples = integer_of(dataset, "SamplesPerPixel", 3 if photometric in COLOURED else 1)
    if samples != (3 if photometric in COLOURED else 1):
        raise FilmError(
            f"DICOM header contradicts itself: {photometric} with {samples} channels; "
            "convert it to one grey channel of 8 or 16 bits"
        )
    bits = bits_of(dataset)
    check_raw_size(rows, columns, 1 if bits.stored <= 8 else 2, limits)
    meta = getattr(dataset, "file_meta", None)
    if meta is None or meta.get("TransferSyntaxUID") is None:
        _assume_native_syntax(dataset)
    elif not isinstance(meta.TransferSyntaxUID, UID):  # the element is of another data type
        meta.TransferSyntaxUID = UID(str(meta.TransferSyntaxUID))


def _assume_native_syntax(dataset: Dataset) -> None:
    """A file without meta information says how it is encoded by being readable that way."""
    implicit, little = dataset.original_encoding
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    if implicit:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    elif little:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    else:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
