"""DICOM files into films: header, pixel data, spacing."""

from __future__ import annotations

import io
import itertools
import math
import struct
import zlib

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments
from pydicom.multival import MultiValue
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless
from spinezoo_contract.errors import FilmError, SpineZooError, TooLargeError
from spinezoo_contract.types import Film

from spinezoo_spine.films.display import display_levels
from spinezoo_spine.films.kinds import looks_like_dicom
from spinezoo_spine.films.limits import TO_ONE_GREY, FilmLimits, check_size

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

_MAX_STREAM_HEAD_BYTES = 1 << 20  # how far into compressed pixel data its size is looked for


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


def parse_dicom(data: bytes, limits: FilmLimits) -> Dataset:
    """The data set, read but not decoded, its kind and size checked.

    Raises:
        FilmError: Not DICOM, damaged, or not one grey film.
        TooLargeError: Over the pixel limit.
    """
    has_preamble = data[128:132] == b"DICM"
    if not has_preamble and not looks_like_dicom(data):
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
    check_size(int(dataset.Rows), int(dataset.Columns), limits)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise FilmError(f"DICOM file has {frames} frames; send one film a file")
    photometric = str(dataset.PhotometricInterpretation)
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise FilmError(f"DICOM file is {photometric[:16]}, not grey; {TO_ONE_GREY}")
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise FilmError(f"DICOM file has {dataset.SamplesPerPixel} channels; {TO_ONE_GREY}")
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


def check_pixel_data(dataset: Dataset, limits: FilmLimits) -> None:
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
        check_size(*size, limits)
        raise FilmError(
            f"DICOM header says {rows} x {columns}, its compressed image {size[0]} x {size[1]} "
            "pixels; export the film again"
        )


def spacing_mm(dataset: Dataset) -> tuple[float | None, float | None]:
    """Row and column spacing in mm at the detector plane, or None twice where unknown."""
    for keyword in ("ImagerPixelSpacing", "PixelSpacing", "NominalScannedPixelSpacing"):
        value = dataset.get(keyword)
        if not isinstance(value, (MultiValue, list, tuple)) or len(value) != 2:
            continue
        row, column = (float(part) for part in value)
        if all(math.isfinite(part) and part > 0.0 for part in (row, column)):
            return row, column
    return None, None


def read_dicom(data: bytes, limits: FilmLimits) -> Film:
    """Decodes a DICOM file.

    Raises:
        FilmError: Not DICOM, damaged, or not one grey film.
        TooLargeError: Over the pixel limit.
    """
    dataset = parse_dicom(data, limits)
    try:
        check_pixel_data(dataset, limits)
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
        pixels = display_levels(dataset, stored)
    except SpineZooError:
        raise
    except Exception as error:
        raise FilmError(
            f"DICOM display transform (rescale, window or LUT) is wrong ({type(error).__name__}); "
            "export the film again"
        ) from None
    row_spacing_mm, column_spacing_mm = spacing_mm(dataset)
    return Film(np.ascontiguousarray(pixels), row_spacing_mm, column_spacing_mm)
