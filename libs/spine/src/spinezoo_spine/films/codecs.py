"""One compressed frame of a DICOM file as cells.

JPEG, JPEG-LS and JPEG 2000 go through imagecodecs and simplejpeg (libjpeg-turbo, CharLS, openjpeg),
RLE through pylibjpeg-rle. A decoder that a module of ``SPINEZOO_DECODER_IMPORT`` adds to pydicom's
(``add_plugin``) comes first. All of it is native code on hostile bytes: it runs in a decoding
process (:mod:`spinezoo_spine.films.isolation`).
"""

from __future__ import annotations

import struct
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_fragments
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)
from rle.rle import decode_segment
from spinezoo_contract.errors import FilmError, SpineZooError
from spinezoo_contract.types import FilmNoteCode

from spinezoo_spine.films.colour import rgb_of_ybr
from spinezoo_spine.films.damage import (
    check_extended,
    check_lossless,
    decode_jpeg2000,
    decode_strictly,
)
from spinezoo_spine.films.header import Bits, word_of
from spinezoo_spine.films.limits import FilmLimits, check_size
from spinezoo_spine.films.notes import LOSSY_NOTE, NoteBook
from spinezoo_spine.films.streams import (
    ARITHMETIC,
    StreamHead,
    check_complete,
    check_jpeg2000,
    check_progressive,
    ended_stream,
    is_irreversible,
    is_near_lossless,
    names_its_colours,
    repaired,
    stream_head,
    transforms_colours,
)

_AGAIN = "export it as Explicit VR Little Endian"

_RETIRED_JPEG = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (52, 53, 54, 55, 56, 58, 59))
"""Processes that the standard no longer has, and that old archives hold: the stream says which."""

_COSINE = ("jpeg", "jpeg-progressive")
"""Kinds of streams that always lose."""

_LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81")
"""Transfer syntaxes that always lose: JPEG baseline and extended, JPEG-LS near-lossless."""


def is_lossy(dataset: Dataset) -> bool:
    """Whether the film has been compressed with loss, by its header or transfer syntax."""
    return (
        word_of(dataset, "LossyImageCompression") == "01"
        or str(dataset.file_meta.TransferSyntaxUID) in _LOSSY
    )


def frame_of(dataset: Dataset) -> bytes:
    """The one compressed frame, its fragments joined.

    Raises:
        FilmError: There is none, it is cut off, or it is not compressed in truth.
    """
    content = dataset.PixelData or b""
    if content[:4] != b"\xfe\xff\x00\xe0":
        raise FilmError(
            "DICOM header says that the pixels are compressed, but they are not, or are missing; "
            "export the film again"
            if content
            else "DICOM file is truncated: its pixel data is empty; send the whole file"
        )
    try:
        fragments = list(generate_fragments(content))
    except Exception:
        raise FilmError(
            "DICOM file is truncated: its pixel data ends within a fragment; send the whole file"
        ) from None
    if _begins_a_frame(fragments[0]):  # written without the offset table that belongs there
        fragments.insert(0, b"")
    starts = sum(_begins_a_frame(fragment) for fragment in fragments[1:])
    if starts > 1:
        raise FilmError(f"DICOM file has {starts} frames in its pixel data; send one film a file")
    if not starts and len(fragments) > 1 and len(fragments[0]) >= 8:
        raise FilmError(
            f"DICOM file has {len(fragments[0]) // 4} frames by its offset table; send one film "
            "a file"
        )
    frame = b"".join(fragments[1:])
    if not frame:
        raise FilmError("DICOM file is truncated: its pixel data is empty; send the whole file")
    return frame


def _begins_a_frame(fragment: bytes) -> bool:
    """Whether a fragment begins as a JPEG, JPEG-LS or JPEG 2000 stream or an RLE header does."""
    if fragment.startswith((b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP")):
        return True
    if len(fragment) < 64:
        return False
    count, first, *others = struct.unpack_from("<16I", fragment)
    return 1 <= count <= 15 and first == 64 and not any(others[count - 1 :])


def compressed_cells(
    dataset: Dataset, bits: Bits, samples: int, limits: FilmLimits, book: NoteBook
) -> NDArray[np.unsignedinteger]:
    """The decoded frame as unsigned cells, (rows, columns) or (rows, columns, samples) in RGB.

    Raises:
        FilmError: It is damaged, incomplete, or not what the header says.
        TooLargeError: The stream is larger than the header says, and over a limit.
    """
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    syntax = dataset.file_meta.TransferSyntaxUID
    frame = frame_of(dataset)
    foreign = _foreign_decoders(syntax)
    if syntax == RLELossless:
        if foreign:
            cells = _by_pydicom(dataset, frame, bits, samples)
        else:
            cells = _rle_cells(frame, rows, columns, samples, bits)
            cells = _in_rgb(cells, dataset, bits.stored)
    else:
        head = stream_head(frame)
        if head is None:
            raise FilmError(
                "DICOM pixel data does not begin with a JPEG header; export the film again"
            )
        if (head.height, head.width) != (rows, columns):
            check_size(head.height, head.width, limits)
            raise FilmError(
                f"DICOM header says {rows} x {columns}, its compressed image {head.height} x "
                f"{head.width} pixels; export the film again"
            )
        if head.samples != samples:
            raise FilmError(
                f"DICOM header says {samples} channels, its compressed image {head.samples}; "
                "export the film again"
            )
        if head.depth > max(8, bits.allocated):
            raise FilmError(
                f"DICOM header says {bits.stored} bits in {bits.allocated}, its compressed image "
                f"has {head.depth}; export the film again"
            )
        cells = _stream_cells(dataset, frame, head, bits, book)
        if any(note.code is FilmNoteCode.LOSSY_COMPRESSION for note in book.notes()) or is_lossy(
            dataset
        ):
            cells = _within(cells, head, bits)
    shape = (rows, columns) if samples == 1 else (rows, columns, samples)
    if cells.shape != shape:
        raise FilmError("DICOM pixel data is not of the size of its header; export it again")
    return cells.view(f"u{cells.dtype.itemsize}")


def _stream_cells(
    dataset: Dataset, frame: bytes, head: StreamHead, bits: Bits, book: NoteBook
) -> NDArray[np.generic]:
    syntax = dataset.file_meta.TransferSyntaxUID
    if head.kind == "jpeg 2000":
        if syntax not in JPEG2000TransferSyntaxes and "JPEG 2000" not in syntax.name:
            raise _mislabelled(syntax.name, head)
        if is_irreversible(frame):
            book.add(LOSSY_NOTE.code, LOSSY_NOTE.text)
        if not check_jpeg2000(frame):
            _note_no_end(book)
            frame = frame.rstrip(b"\x00").removesuffix(b"\xff") + b"\xff\xd9"
        if _foreign_decoders(syntax):
            return _by_pydicom(dataset, frame, bits, head.samples, head)
        return _jpeg2000_cells(dataset, frame, head, bits)
    if head.kind == ARITHMETIC:
        raise FilmError(f"DICOM pixel data is a JPEG with arithmetic coding; {_AGAIN}")
    jpeg = syntax in JPEGTransferSyntaxes or syntax.startswith(_RETIRED_JPEG)
    if not jpeg and syntax not in JPEGLSTransferSyntaxes:
        raise _mislabelled(syntax.name, head)
    stream, ended = ended_stream(frame)
    stream, repair = repaired(stream)
    if _foreign_decoders(syntax):
        return _by_pydicom(dataset, stream, bits, head.samples, head)
    if repair:
        book.add(FilmNoteCode.STREAM_REPAIRED, f"The compressed stream was repaired: {repair}.")
    if head.kind in _COSINE or (head.kind == "jpeg-ls" and is_near_lossless(stream)):
        book.add(LOSSY_NOTE.code, LOSSY_NOTE.text)
    cells = decode_jpeg(stream, head, ended=ended, rgb=word_of(dataset, _PHOTOMETRIC) == "RGB")
    if not ended:
        _note_no_end(book)
    if head.kind in ("jpeg-lossless", "jpeg-ls"):
        return _in_rgb(cells, dataset, bits.stored)
    return cells


def _within(cells: NDArray[np.generic], head: StreamHead, bits: Bits) -> NDArray[np.generic]:
    """Cells of a compression with loss, those a little beyond the header's bits at their end.

    Beside sharp edges such a compression makes values beyond those that were stored, and JPEG knows
    only 8 and 12 bits. Masked, white would become black.
    """
    if bits.shift or head.depth <= bits.stored or head.signed != bits.signed:
        return cells
    signed = cells.view(f"{'i' if head.signed else 'u'}{cells.dtype.itemsize}")
    least, most = bits.lowest, bits.lowest + (1 << bits.stored) - 1
    margin = (most - least) // _OVERSHOOT
    low, high = int(signed.min()), int(signed.max())
    if low < least - margin or high > most + margin or (low >= least and high <= most):
        return cells
    return np.clip(signed, least, most)


_OVERSHOOT = 4
"""Values beyond their range by less than a part in so many are those of a compression with loss."""


def _jpeg2000_cells(
    dataset: Dataset, frame: bytes, head: StreamHead, bits: Bits
) -> NDArray[np.generic]:
    begin = frame.find(b"\xff\x4f\xff\x51")
    if b"pclr" in frame[:begin]:
        raise FilmError(f"DICOM pixel data is a JPEG 2000 file with a palette; {_AGAIN}")
    try:
        image = decode_jpeg2000(frame[begin:])
    except SpineZooError:
        raise
    except Exception as error:
        raise _undecodable(error) from None
    if head.signed and image.dtype.itemsize * 8 < bits.allocated:
        image = image.astype(f"i{bits.allocated // 8}")
    if not transforms_colours(frame):
        unsigned = image.view(f"u{image.dtype.itemsize}")
        return _in_rgb(unsigned, dataset, min(head.depth, bits.stored))
    return image


def _in_rgb(
    cells: NDArray[np.unsignedinteger], dataset: Dataset, depth: int
) -> NDArray[np.unsignedinteger]:
    """Cells of a compression that knows no colours, from YBR to RGB where the header says so."""
    if cells.ndim == 3 and word_of(dataset, _PHOTOMETRIC).startswith("YBR_FULL"):
        return rgb_of_ybr(cells, depth).view(cells.dtype)
    return cells


_PHOTOMETRIC = "PhotometricInterpretation"


def _mislabelled(name: str, head: StreamHead) -> FilmError:
    return FilmError(
        f"DICOM header says {name}, but the pixels are a {head.kind} stream; export the film again"
    )


def _note_no_end(book: NoteBook) -> None:
    book.add(
        FilmNoteCode.END_MARKER_MISSING,
        "The compressed stream lacks its end marker; all of the film is there.",
    )


def decode_jpeg(
    stream: bytes, head: StreamHead, *, ended: bool, rgb: bool
) -> NDArray[np.unsignedinteger]:
    """A JPEG or JPEG-LS stream, known to be complete, as grey or RGB.

    Args:
        stream: With its end marker.
        head: Of the stream.
        ended: Whether it had its end marker.
        rgb: Whether three channels are RGB in the stream too.

    Raises:
        FilmError: It is damaged or ends early.
    """
    if head.kind == "jpeg-ls":
        try:
            return np.asarray(imagecodecs.jpegls_decode(stream))
        except Exception as error:
            raise _undecodable(error) from None
    check_progressive(stream)
    told = names_its_colours(stream)

    def decode(data: bytes) -> NDArray[np.unsignedinteger]:
        # A stream that says its colour space itself is believed before the header.
        space = None if told or head.samples != 3 else "RGB" if rgb else "YCBCR"
        wanted = "RGB" if head.samples == 3 else None
        if head.kind == "jpeg-lossless":
            space = wanted = None  # lossless streams are never turned into another space
        return np.asarray(imagecodecs.jpeg8_decode(data, colorspace=space, outcolorspace=wanted))

    eight = head.depth == 8 and head.kind != "jpeg-lossless"
    image = None
    if eight:
        image = decode_strictly(stream, head.samples, rgb=told)
    if image is None or (head.samples == 3 and not told):
        try:
            image = decode(stream)
        except Exception as error:
            raise _undecodable(error) from None
    check_complete(stream, head, image, decode, ended=ended)
    if head.kind == "jpeg-lossless":
        check_lossless(stream, head, image)
    elif not eight:
        check_extended(stream, image, decode)
    return image


def _undecodable(error: BaseException) -> FilmError:
    return FilmError(
        f"DICOM pixel data cannot be decoded ({type(error).__name__}): it is truncated or "
        f"damaged; {_AGAIN}"
    )


def _rle_cells(
    frame: bytes, rows: int, columns: int, samples: int, bits: Bits
) -> NDArray[np.unsignedinteger]:
    """RLE segments as cells; each has to decode to exactly one byte a pixel (PS3.5 annex G)."""
    width = bits.allocated // 8
    if len(frame) < 64:
        raise FilmError("DICOM pixel data is truncated: its RLE header is cut off; send it whole")
    count, *offsets = struct.unpack_from("<16I", frame)
    if width == 2 and count == samples and bits.stored <= 8:
        width = 1  # without the bytes that are 0 everywhere, as pydicom writes it
    if count != samples * width:
        raise FilmError(
            f"DICOM pixel data has {count} RLE segments, its header asks for {samples * width}; "
            "export the film again"
        )
    ends = [*offsets[1:count], len(frame)]
    planes = np.empty((count, rows, columns), dtype=np.uint8)
    for plane, (begin, end) in enumerate(zip(offsets[:count], ends, strict=True)):
        if not 64 <= begin < end <= len(frame):
            raise FilmError("DICOM pixel data is damaged: its RLE segments overlap; send it whole")
        planes[plane] = _rle_segment(frame[begin:end], rows * columns).reshape(rows, columns)
    # Of each sample the highest byte comes first.
    cells = planes.reshape(samples, width, rows, columns)[:, ::-1]
    cells = np.ascontiguousarray(np.moveaxis(cells, (0, 1), (2, 3)))
    wide = cells.view("<u2")[..., 0] if width == 2 else cells[..., 0]
    return np.ascontiguousarray(wide[..., 0] if samples == 1 else wide)


def _rle_segment(segment: bytes, size: int) -> NDArray[np.uint8]:
    found = 0
    for content in (segment, segment[:-1]):  # it may be padded to an even length
        try:
            plane = np.frombuffer(decode_segment(content), np.uint8)
        except Exception:
            continue
        if plane.size == size:
            return plane
        found = found or plane.size
    said = f"decodes to {found} of {size} bytes" if found else "ends within a run"
    raise FilmError(
        f"DICOM pixel data is truncated or not of the size of its header: an RLE segment {said}; "
        "export the film again"
    )


_KNOWN_DECODERS = frozenset(("gdcm", "pylibjpeg", "pillow", "pyjpegls", "pydicom"))


def _foreign_decoders(syntax: UID) -> list[str]:
    """Decoders that this installation has added to pydicom's for a transfer syntax."""
    try:
        plugins = get_decoder(syntax).available_plugins
    except NotImplementedError:
        return []
    return [name for name in plugins if name not in _KNOWN_DECODERS]


def _by_pydicom(
    dataset: Dataset, frame: bytes, bits: Bits, samples: int, head: StreamHead | None = None
) -> NDArray[np.generic]:
    """The frame through pydicom's decoders, told what the stream says rather than the header."""
    syntax = dataset.file_meta.TransferSyntaxUID
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    depth = bits.stored if head is None else head.depth
    allocated = bits.allocated if head is None else 8 * -(-depth // 8)
    signed = False if head is None else head.signed
    photometric = word_of(dataset, _PHOTOMETRIC)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise FilmError(
            f"DICOM transfer syntax {syntax.name[:64]} is not known; {_AGAIN}"
        ) from None
    options: Any = {
        "rows": rows,
        "columns": columns,
        "samples_per_pixel": samples,
        "photometric_interpretation": photometric,
        "bits_allocated": allocated,
        "bits_stored": min(depth, allocated),
        "pixel_representation": int(signed),
        "planar_configuration": 0,
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
        "decoding_plugin": next(iter(_foreign_decoders(syntax)), ""),
    }
    try:
        image, properties = decoder.as_array(encapsulate([frame]), raw=True, **options)
    except SpineZooError:
        raise
    except Exception as error:
        raise _undecodable(error) from None
    kept = str(properties.get("photometric_interpretation", photometric))
    if samples == 3 and kept in ("YBR_FULL", "YBR_FULL_422") and not transforms_colours(frame):
        image = rgb_of_ybr(image, min(depth, bits.stored))
    if signed and image.dtype.itemsize * 8 < bits.allocated:
        image = image.astype(f"i{bits.allocated // 8}")
    return np.ascontiguousarray(image)
