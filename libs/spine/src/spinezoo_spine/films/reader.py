"""Reads films: DICOM, PNG, JPEG and TIFF into grey levels where bright is dense.

DICOM
    MONOCHROME1 and MONOCHROME2, 8 to 16 bits, signed or not, native or compressed (JPEG, JPEG
    lossless, JPEG-LS, JPEG 2000, RLE, deflated), with or without preamble. The stored values go
    through the modality LUT or rescale and the VOI LUT or window (linear, linear exact, sigmoid);
    MONOCHROME1 is inverted; padding becomes the darkest level. A file without VOI and with an
    identity rescale keeps its integers, any other result is spread over 16 bits.
PNG, JPEG, TIFF
    One grey channel of 8 or 16 bits (TIFF also 32-bit float), taken as it is displayed.

Spacing is that of the detector plane: Imager Pixel Spacing where the file has it, else Pixel
Spacing, else Nominal Scanned Pixel Spacing. No correction for magnification is made: a length in
the patient is shorter than in the detector plane by the magnification (1.1 to 1.4 in practice).

Sizes are checked in the header, before anything is decoded. Messages name technical attributes
only; patient attributes are not even read.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments
from pydicom.multival import MultiValue
from pydicom.pixels import apply_modality_lut, apply_voi
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless
from spinezoo_contract.errors import FilmError, SpineZooError, TooLargeError
from spinezoo_contract.limits import MIN_SIDE_PX
from spinezoo_contract.types import Film, FilmKind
from spinezoo_serving.settings import ServerSettings

FILM_SUFFIXES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Endings of film files. DICOM files without an ending are found by their content."""

_ENCODED_FORMATS = ("PNG", "JPEG", "TIFF")
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

# Everything that decoding needs; other attributes, the patient's above all, are skipped unread.
_DICOM_TAGS = [
    "SpecificCharacterSet",
    "SOPClassUID",
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
    "NominalScannedPixelSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
]
_LONG_VRS = frozenset(
    ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
)
_SHORT_VRS = frozenset(
    ("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL")
) | frozenset(("SS", "ST", "TM", "UI", "UL", "US"))
_MAX_STREAM_HEAD_BYTES = 1 << 20  # how far into compressed pixel data its size is looked for
_TO_ONE_GREY = "convert it to one grey channel of 8 or 16 bits"


@dataclass(frozen=True, slots=True)
class FilmLimits:
    """What is refused before it is decoded.

    Attributes:
        max_pixels: Most pixels (rows times columns).
        max_bytes: Most bytes of the file.
    """

    max_pixels: int = 67_108_864
    max_bytes: int = 67_108_864


DEFAULT_LIMITS = FilmLimits()
"""The limits where none are given."""


# ---------------------------------------------------------------------------------------- shared


def _check_size(height: int, width: int, limits: FilmLimits) -> None:
    """Refuses a film by the size that its header states.

    Raises:
        TooLargeError: More pixels than allowed.
        FilmError: A side below :data:`MIN_SIDE_PX`.
    """
    if height * width > limits.max_pixels:
        raise TooLargeError(
            f"film is {height} x {width} pixels, more than the {limits.max_pixels} allowed; "
            "scale it down or raise SPINEZOO_MAX_PIXELS"
        )
    if height < MIN_SIDE_PX or width < MIN_SIDE_PX:
        raise FilmError(
            f"film is {height} x {width} pixels; send one of at least {MIN_SIDE_PX} x {MIN_SIDE_PX}"
        )


def kind_of(data: bytes) -> FilmKind | None:
    """How these bytes are to be read, by their first ones; None where they are no film."""
    if data[128:132] == b"DICM":
        return "dicom"
    if data.startswith(_MAGIC):
        return "encoded"
    if _looks_like_dicom(data):
        return "dicom"
    return None


def _looks_like_dicom(data: bytes) -> bool:
    """Whether bytes without preamble begin with data elements of group 2 or 8.

    Two elements must follow each other in ascending order of their tags; chance and other file
    kinds do not pass that.
    """
    for order in ("<", ">"):
        position, previous = 0, -1
        for _ in range(2):
            if position + 12 > len(data):
                return False
            group, element = struct.unpack_from(f"{order}HH", data, position)
            tag = (group << 16) | element
            if group not in (2, 8) or tag <= previous:
                break
            representation = data[position + 4 : position + 6].decode("latin-1")
            if representation in _LONG_VRS:
                (length,) = struct.unpack_from(f"{order}I", data, position + 8)
                position += 12 + length
            elif representation in _SHORT_VRS:
                (length,) = struct.unpack_from(f"{order}H", data, position + 6)
                position += 8 + length
            else:
                (length,) = struct.unpack_from(f"{order}I", data, position + 4)
                position += 8 + length
            if length > 65536 or position > len(data):
                break
            previous = tag
        else:
            return True
    return False


# ----------------------------------------------------------------------------------------- DICOM


def _refuse_deflate_bomb(data: bytes, limits: FilmLimits) -> None:
    """A deflated data set may be a thousand times its file: measure it piece by piece."""
    meta_length = struct.unpack_from("<I", data, 140)[0] if len(data) > 144 else 0
    if str(DeflatedExplicitVRLittleEndian).encode() not in data[144 : 144 + meta_length]:
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    pending, inflated = data[144 + meta_length :], 0
    while pending and not inflater.eof:
        inflated += len(inflater.decompress(pending, 1 << 20))
        pending = inflater.unconsumed_tail
        if inflated > 2 * limits.max_pixels + (1 << 20):
            raise TooLargeError(
                "deflated DICOM data is larger than the largest film allowed; "
                "scale the film down or save it without deflation"
            )


def _parse_dicom(data: bytes, limits: FilmLimits) -> Dataset:
    """The data set, read but not decoded, its kind and size checked.

    Raises:
        FilmError: Not DICOM, damaged, or not one grey film.
        TooLargeError: Over the pixel limit.
    """
    has_preamble = data[128:132] == b"DICM"
    if not has_preamble and not _looks_like_dicom(data):
        raise FilmError("is not a DICOM file; send DICOM, PNG, JPEG or TIFF")
    try:
        if has_preamble:
            _refuse_deflate_bomb(data, limits)
        dataset = pydicom.dcmread(
            io.BytesIO(data), force=not has_preamble, specific_tags=list(_DICOM_TAGS)
        )
        return _check_dicom(dataset, limits)
    except SpineZooError:
        raise
    except Exception as error:  # hostile bytes reach deep into the parser: name the class only
        raise FilmError(
            f"DICOM file is damaged ({type(error).__name__} while reading its header); "
            "export it again"
        ) from None


def _check_dicom(dataset: Dataset, limits: FilmLimits) -> Dataset:
    if "PixelData" not in dataset:
        raise FilmError(
            "DICOM file has no pixel data; send the image itself, not a report, a presentation "
            "state or a truncated file"
        )
    for keyword in ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation"):
        if dataset.get(keyword) is None:
            raise FilmError(f"DICOM file has no {keyword}; export it again as a complete image")
    _check_size(int(dataset.Rows), int(dataset.Columns), limits)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise FilmError(f"DICOM file has {frames} frames; send one film a file")
    photometric = str(dataset.PhotometricInterpretation)
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise FilmError(f"DICOM file is {photometric[:16]}, not grey; {_TO_ONE_GREY}")
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise FilmError(f"DICOM file has {dataset.SamplesPerPixel} channels; {_TO_ONE_GREY}")
    allocated = int(dataset.BitsAllocated)
    stored = int(dataset.get("BitsStored") or allocated)
    if allocated not in (8, 16) or not 8 <= stored <= allocated:
        raise FilmError(
            f"DICOM file stores {stored} in {allocated} bits a pixel; export it with 8 to 16 bits"
        )
    meta = getattr(dataset, "file_meta", None)
    if meta is None or meta.get("TransferSyntaxUID") is None:
        _assume_native_syntax(dataset)
    return dataset


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


def _codestream_size(stream: bytes) -> tuple[int, int] | None:
    """(height, width) that a JPEG, JPEG-LS or JPEG 2000 stream states, or None if it states none.

    A decoder allocates by this, whatever the DICOM header says.
    """
    start = stream.find(b"\xff\x4f\xff\x51")
    if start >= 0 and len(stream) >= start + 24:  # JPEG 2000: size and offset of the image area
        width, height, left, top = struct.unpack_from(">IIII", stream, start + 8)
        return height - top, width - left
    if not stream.startswith(b"\xff\xd8"):
        return None
    position = 2
    while position + 9 <= len(stream):
        if stream[position] != 0xFF:
            return None
        marker = stream[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            height, width = struct.unpack_from(">HH", stream, position + 5)
            return height, width
        position += 2 + struct.unpack_from(">H", stream, position + 2)[0]
    return None


def _check_pixel_data(dataset: Dataset, limits: FilmLimits) -> None:
    """Refuses pixel data that is cut off, or whose stream states another size than the header."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if not dataset.file_meta.TransferSyntaxUID.is_compressed:
        needed = rows * columns * int(dataset.BitsAllocated) // 8
        found = len(dataset.PixelData)
        if found < needed:
            raise FilmError(
                f"DICOM file is truncated: {found} of {needed} bytes of pixel data are there; "
                "send the whole file"
            )
        if found >= 2 * needed:
            raise FilmError(
                f"DICOM file holds {found} bytes of pixel data, a film of {rows} x {columns} has "
                f"{needed}; export it again as one film"
            )
        if found > needed:  # trailing padding, which has no meaning
            dataset.PixelData = dataset.PixelData[: needed + needed % 2]
        return
    # The first fragment is the offset table, possibly empty; the stream itself begins after it.
    head = bytearray()
    for fragment in itertools.islice(generate_fragments(dataset.PixelData), 1, None):
        head += fragment
        if len(head) >= _MAX_STREAM_HEAD_BYTES:
            break
    if not head:
        raise FilmError("DICOM file is truncated: its pixel data is empty; send the whole file")
    size = _codestream_size(bytes(head))
    if size is None and dataset.file_meta.TransferSyntaxUID != RLELossless:
        raise FilmError("DICOM pixel data does not begin with a JPEG header; export the film again")
    if size is not None and size != (rows, columns):
        _check_size(*size, limits)
        raise FilmError(
            f"DICOM header says {rows} x {columns}, its compressed image {size[0]} x {size[1]} "
            "pixels; export the film again"
        )


def _spread(values: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Values spread linearly over 0 to 65535; one single value becomes 0."""
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise FilmError("DICOM display transform gives values that are not finite; export again")
    if high <= low:
        return np.zeros(values.shape, dtype=np.uint16)
    return np.rint((values - low) * (65535.0 / (high - low))).astype(np.uint16)


def _padding(dataset: Dataset, stored: NDArray[np.integer]) -> NDArray[np.bool_] | None:
    """Pixels that the file marks as padding, or None where it marks none."""
    value = dataset.get("PixelPaddingValue")
    if value is None or isinstance(value, bytes):
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = sorted((int(value), int(value if limit is None or isinstance(limit, bytes) else limit)))
    mask = (stored >= ends[0]) & (stored <= ends[1])
    return mask if mask.any() and not mask.all() else None


def _first_number(value: object) -> float | None:
    """The first of the values of an attribute, or None where there is none."""
    if isinstance(value, (MultiValue, list, tuple)):
        value = value[0] if value else None
    return None if value is None or value == "" else float(str(value))


def _window(dataset: Dataset) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window, or None where there is none."""
    centre = _first_number(dataset.get("WindowCenter"))
    width = _first_number(dataset.get("WindowWidth"))
    if centre is None or width is None:
        return None
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise FilmError("DICOM VOI LUT function is unknown; export the film with a linear window")
    if not ((math.isfinite(centre) and width >= 1.0) or (function != "LINEAR" and width > 0.0)):
        raise FilmError("DICOM window width is not positive; export the film again")
    return centre, width, function


def _apply_window(
    values: NDArray[np.floating], centre: float, width: float, function: str
) -> NDArray[np.floating]:
    """Values as 0 to 1 through a window, by PS3.3 C.11.2.1.2 and C.11.2.1.3.

    Not pydicom's: its output range follows the rescale slope, so that a negative slope would turn
    the film over.
    """
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(-4.0 * (values - centre) / width))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0.0, 1.0)
    if width == 1.0:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)


def _display(dataset: Dataset, stored: NDArray[np.integer]) -> NDArray[np.generic]:
    """Stored values as display levels, bright is dense."""
    padding = _padding(dataset, stored)
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    identity = (slope is None or float(slope) == 1.0) and (
        intercept is None or float(intercept) == 0.0
    )
    invert = dataset.PhotometricInterpretation == "MONOCHROME1"
    window = _window(dataset)
    has_tables = dataset.get("ModalityLUTSequence") or dataset.get("VOILUTSequence")
    if identity and not has_tables and window is None:
        bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
        lowest = -(1 << (bits - 1)) if int(dataset.get("PixelRepresentation") or 0) else 0
        levels = np.clip(stored.astype(np.int32) - lowest, 0, (1 << bits) - 1)
        levels = (1 << bits) - 1 - levels if invert else levels
        shown: NDArray[np.generic] = levels.astype(np.uint8 if bits <= 8 else np.uint16)
        if padding is not None:
            shown[padding] = shown[~padding].min()
        return shown
    values = apply_modality_lut(stored, dataset)
    if dataset.get("VOILUTSequence"):
        values = apply_voi(values, dataset, index=0)
    elif window is not None:
        values = _apply_window(np.asarray(values, dtype=np.float64), *window)
    values = np.array(values, dtype=np.float64)
    if values.min() == values.max() and stored.min() != stored.max():
        raise FilmError(
            "DICOM window leaves a single grey level of the film; export it with the window it "
            "was read at"
        )
    if invert:
        values = -values
    if padding is not None:
        values[padding] = values[~padding].min()
    return _spread(values)


def _spacing(dataset: Dataset) -> tuple[float | None, float | None]:
    """Row and column spacing in mm at the detector plane, or None twice where unknown."""
    for keyword in ("ImagerPixelSpacing", "PixelSpacing", "NominalScannedPixelSpacing"):
        value = dataset.get(keyword)
        if not isinstance(value, (MultiValue, list, tuple)) or len(value) != 2:
            continue
        row, column = (float(part) for part in value)
        if all(math.isfinite(part) and part > 0.0 for part in (row, column)):
            return row, column
    return None, None


def _read_dicom(data: bytes, limits: FilmLimits) -> Film:
    dataset = _parse_dicom(data, limits)
    try:
        _check_pixel_data(dataset, limits)
        stored = dataset.pixel_array
        if stored.shape != (int(dataset.Rows), int(dataset.Columns)):
            raise FilmError("DICOM pixel data is not of the size of its header; export it again")
    except SpineZooError:
        raise
    except Exception as error:  # decoders raise anything on damaged streams
        raise FilmError(
            f"DICOM pixel data cannot be decoded ({type(error).__name__}): it is truncated, "
            "damaged or of an unknown transfer syntax; export it as Explicit VR Little Endian"
        ) from None
    try:
        pixels = _display(dataset, stored)
    except SpineZooError:
        raise
    except Exception as error:
        raise FilmError(
            f"DICOM display transform (rescale, window or LUT) is wrong ({type(error).__name__}); "
            "export the film again"
        ) from None
    row_spacing_mm, column_spacing_mm = _spacing(dataset)
    return Film(np.ascontiguousarray(pixels), row_spacing_mm, column_spacing_mm)


# --------------------------------------------------------------------------------------- encoded


def _open_encoded(data: bytes, limits: FilmLimits) -> Image.Image:
    """The image, header read and judged, pixels not decoded."""
    if kind_of(data) == "dicom":
        raise FilmError("is a DICOM file, said to be PNG, JPEG or TIFF; send it as dicom")
    try:
        image = Image.open(io.BytesIO(data), formats=_ENCODED_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLargeError(
            f"film has more than the {limits.max_pixels} pixels allowed; scale it down"
        ) from None
    except Exception:
        raise FilmError(
            "is neither DICOM nor a readable PNG, JPEG or TIFF; send one of these, whole"
        ) from None
    _check_size(image.height, image.width, limits)
    frames = int(getattr(image, "n_frames", 1))
    if frames != 1:
        raise FilmError(f"{image.format} has {frames} frames; send one film a file")
    if image.mode == "1":
        raise FilmError(f"{image.format} has one bit a pixel; {_TO_ONE_GREY}")
    if image.mode not in ("L", "I", "F") and not image.mode.startswith("I;16"):
        raise FilmError(f"{image.format} is {image.mode}, not grey; {_TO_ONE_GREY}")
    return image


def _read_encoded(data: bytes, limits: FilmLimits) -> Film:
    image = _open_encoded(data, limits)
    try:
        image.load()
        pixels = np.array(image)
    except Exception as error:
        raise FilmError(
            f"{image.format} is truncated or damaged ({type(error).__name__}); send the whole file"
        ) from None
    if pixels.dtype == np.uint8:
        return Film(pixels)
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all():
            raise FilmError("TIFF has pixels that are not finite; replace NaN and infinities")
        return Film(pixels.astype(np.float32))
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise FilmError(f"{image.format} has levels from {low} to {high}; save it with 16 bits")
    levels = pixels.astype(np.uint16)
    # Photometric 0 is white-is-zero; Pillow turns 8-bit images over, but not 16-bit ones.
    if image.format == "TIFF" and image.tag_v2.get(262) == 0:  # type: ignore[attr-defined]
        levels = np.uint16(65535) - levels
    return Film(levels)


# -------------------------------------------------------------------------------------- the doors


def _check_bytes(size: int, limits: FilmLimits) -> None:
    if size == 0:
        raise FilmError("film has 0 bytes; send the whole file")
    if size > limits.max_bytes:
        raise TooLargeError(f"film file has {size} bytes; at most {limits.max_bytes} are taken")


def read_film(
    data: bytes, *, kind: FilmKind | None = None, limits: FilmLimits = DEFAULT_LIMITS
) -> Film:
    """Decodes a film.

    Args:
        data: A whole file: DICOM, PNG, JPEG or TIFF.
        kind: What it is said to be; None finds out by its first bytes.
        limits: What is refused by size.

    Returns:
        The film: ``uint8``, ``uint16`` or (float TIFF only) ``float32``, bright is dense.

    Raises:
        FilmError: Not a film, damaged, or not one grey frame.
        TooLargeError: Over a limit; nothing has been decoded then.
    """
    _check_bytes(len(data), limits)
    found = kind or kind_of(data)
    if found == "dicom":
        return _read_dicom(data, limits)
    return _read_encoded(data, limits)


def read_served_film(data: bytes, *, kind: FilmKind | None = None) -> Film:
    """:func:`read_film` within the limits of a server's settings (``SPINEZOO_MAX_PIXELS``).

    Raises:
        FilmError: The bytes are no film.
        TooLargeError: It is over a limit.
    """
    limits = FilmLimits(max_pixels=ServerSettings.from_env().max_pixels)
    return read_film(data, kind=kind, limits=limits)


def read_film_size(
    data: bytes, *, kind: FilmKind | None = None, limits: FilmLimits = DEFAULT_LIMITS
) -> tuple[int, int]:
    """(height, width) of a film by its header, without decoding it.

    Raises:
        FilmError: As :func:`read_film`, as far as the header shows it.
        TooLargeError: Over a limit.
    """
    _check_bytes(len(data), limits)
    if (kind or kind_of(data)) == "dicom":
        dataset = _parse_dicom(data, limits)
        return int(dataset.Rows), int(dataset.Columns)
    image = _open_encoded(data, limits)
    return image.height, image.width


def _bytes_of(path: Path, limits: FilmLimits) -> bytes:
    try:
        _check_bytes(path.stat().st_size, limits)
        return path.read_bytes()
    except OSError as error:
        raise FilmError(f"cannot be read ({error.strerror}); check the path") from error


def read_film_file(path: str | os.PathLike[str], *, limits: FilmLimits = DEFAULT_LIMITS) -> Film:
    """Decodes a film file; see :func:`read_film`. Messages begin with the file's name.

    Raises:
        FilmError: As :func:`read_film`, or the file cannot be read.
        TooLargeError: Over a limit.
    """
    path = Path(path)
    try:
        return read_film(_bytes_of(path, limits), limits=limits)
    except SpineZooError as error:
        raise type(error)(f"{path.name}: {error}") from error


def read_film_file_size(
    path: str | os.PathLike[str], *, limits: FilmLimits = DEFAULT_LIMITS
) -> tuple[int, int]:
    """(height, width) of a film file by its header; messages begin with the file's name.

    Raises:
        FilmError: As :func:`read_film_file`.
        TooLargeError: Over a limit.
    """
    path = Path(path)
    try:
        return read_film_size(_bytes_of(path, limits), limits=limits)
    except SpineZooError as error:
        raise type(error)(f"{path.name}: {error}") from error
