"""PNG, JPEG and TIFF files into films, turned as their orientation says."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from spinezoo_contract.errors import FilmError, SpineZooError, TooLargeError
from spinezoo_contract.types import NO_SPACING_NOTE, Film, FilmNoteCode
from spinezoo_contract.words import counted

from spinezoo_spine.films.colour import check_opaque, grey_of
from spinezoo_spine.films.damage import decode_strictly, warnings_heard
from spinezoo_spine.films.kinds import foreign_kind, is_tiff, kind_of
from spinezoo_spine.films.limits import TO_ONE_GREY, FilmLimits, check_raw_size, check_size
from spinezoo_spine.films.notes import LOSSY_NOTE, NoteBook
from spinezoo_spine.films.streams import (
    check_complete,
    check_progressive,
    check_segments,
    ended_stream,
    stream_head,
)
from spinezoo_spine.films.tiff import read_tiff, tiff_size
from spinezoo_spine.films.upright import finished, note_shape, upright_size

_ENCODED_FORMATS = ("PNG", "JPEG")
_ORIENTATION = 0x0112

_MAX_CHUNKS = 100_000
"""Most chunks of a PNG: one of the largest size taken, in pieces of less than 1 KiB."""

_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_EXIF_TEXTS = (b"Raw profile type exif", b"XML:com.adobe.xmp")


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, content) of a PNG's chunks, without those of its pixels.

    Raises:
        FilmError: There are more than any film has: going through them would take seconds.
    """
    position = 8
    for _ in range(_MAX_CHUNKS):
        if position + 12 > len(data):
            return
        (length,) = struct.unpack_from(">I", data, position)
        name = data[position + 4 : position + 8]
        if name == b"IDAT":
            yield name, b""
        else:
            yield name, data[position + 8 : position + 8 + length]
        position += 12 + length
    raise FilmError(f"PNG has more than {_MAX_CHUNKS} chunks; it is damaged: save the film again")


def is_plain_png(data: bytes) -> bool:
    """Whether a file is a PNG of one grey channel of 8 or 16 bits."""
    return data.startswith(b"\x89PNG\r\n\x1a\n") and data[24:26] in (b"\x08\x00", b"\x10\x00")


def _open(data: bytes, limits: FilmLimits) -> Image.Image:
    """The image, header read and judged, pixels not decoded."""
    if kind_of(data) == "dicom":
        raise FilmError("the file is DICOM, said to be PNG, JPEG or TIFF; send it as dicom")
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        for _ in png_chunks(data):  # counts them, before a library goes through them
            pass
    if data.startswith(b"\xff\xd8"):
        check_segments(data)
        head = stream_head(data)
        if head is not None and (head.kind not in ("jpeg", "jpeg-progressive") or head.depth != 8):
            raise FilmError(
                f"the file is {head.kind} of {head.depth} bits a pixel, which viewers cannot show "
                "either; save it as PNG or TIFF, or send the DICOM file"
            )
        if head is not None and not (head.height and head.width):
            raise FilmError("JPEG states no size in its header, as some cameras do; save it again")
    try:
        image = Image.open(io.BytesIO(data), formats=_ENCODED_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLargeError(
            f"film has more than the {limits.max_pixels} pixels allowed; scale it down"
        ) from None
    except Exception:
        if data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
            raise FilmError(
                "the file is a PNG or JPEG whose header is damaged or cut off; send the whole file"
            ) from None
        kind = foreign_kind(data)
        said = f"the file is {kind}, neither DICOM" if kind else "the file is neither DICOM"
        raise FilmError(
            f"{said} nor a readable PNG, JPEG or TIFF; send one of these, whole"
        ) from None
    check_size(image.height, image.width, limits)
    frames = int(getattr(image, "n_frames", 1))
    if frames != 1:
        raise FilmError(f"{image.format} has {frames} frames; send one film a file")
    if image.mode == "1":
        raise FilmError(f"{image.format} has one bit a pixel; {TO_ONE_GREY}")
    return image


def _number(value: Any) -> int:
    """A number of EXIF; some programs write it as a byte."""
    return value[0] if isinstance(value, bytes) and len(value) == 1 else int(value)


def _orientation_of(image: Image.Image, data: bytes) -> int:
    """The EXIF (or XMP) orientation; 1 where there is none."""
    try:
        if image.format == "PNG":
            texts = False
            for name, content in png_chunks(data):
                if name == b"eXIf":  # may stand behind the pixels too
                    exif = Image.Exif()
                    exif.load(b"Exif\x00\x00" + content)
                    return _number(exif.get(_ORIENTATION, 1))
                texts = texts or (name in _TEXT_CHUNKS and content.startswith(_EXIF_TEXTS))
            if not texts:
                return 1  # Pillow would decode the whole film to find out
        return _number(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1  # damaged EXIF says nothing


def encoded_size(data: bytes, limits: FilmLimits) -> tuple[int, int]:
    """(height, width) of a PNG, JPEG or TIFF film as it will be shown, by its header.

    Raises:
        FilmError: As :func:`read_encoded`, as far as the header shows it.
        TooLargeError: Over a limit.
    """
    if is_tiff(data):
        return tiff_size(data, limits)
    image = _open(data, limits)
    return upright_size(image.height, image.width, _orientation_of(image, data))


def read_encoded(data: bytes, limits: FilmLimits) -> Film:
    """Decodes a PNG, JPEG or TIFF file.

    Raises:
        FilmError: None of these, damaged, or not one grey frame.
        TooLargeError: Over a limit.
    """
    if is_tiff(data):
        return read_tiff(data, limits)
    book = NoteBook()
    ended = True
    if data.startswith(b"\xff\xd8"):
        data, ended = ended_stream(data)
    image = _open(data, limits)
    orientation = _orientation_of(image, data)
    deep = image.format == "PNG" and len(data) > 25 and data[24] == 16
    check_raw_size(image.height, image.width, 2 if deep else 1, limits)
    try:
        if image.format == "JPEG":
            pixels = _jpeg_pixels(image, data, book, ended=ended)
        else:
            pixels = _png_pixels(image, data, book)
    except (SpineZooError, MemoryError):
        raise
    except Exception as error:
        raise FilmError(
            f"{image.format} is truncated or damaged ({type(error).__name__}); send the whole file"
        ) from None
    if image.format == "JPEG":
        book.add(LOSSY_NOTE.code, LOSSY_NOTE.text)
        across, down = image.info.get("jfif_density", (0, 0))
        note_shape(across, down, book)
    else:
        _note_shape_of_png(data, book)
    book.add(NO_SPACING_NOTE.code, NO_SPACING_NOTE.text)
    return finished(pixels, orientation, book)


def _png_pixels(image: Image.Image, data: bytes, book: NoteBook) -> NDArray[np.generic]:
    """The grey channel of a PNG; transparency and palettes become channels."""
    # Pillow keeps 8 of 16 bits in colour and fills in rows that are not there.
    with warnings_heard() as heard:
        pixels = np.asarray(imagecodecs.png_decode(data))
    if any("Too much image data" in text for text in heard):
        raise FilmError(
            f"PNG holds more pixels than the {image.height} x {image.width} of its header, which "
            "is of another film or damaged; save the film again"
        )
    if all(name != b"IEND" for name, _ in png_chunks(data)):
        book.add(
            FilmNoteCode.END_MARKER_MISSING,
            "The file lacks its end; all of the film is there, but not what may stand behind it, "
            "such as that it is to be turned.",
        )
    if image.mode == "P":
        _check_palette(image)
    if pixels.ndim == 3:
        pixels = _merged(pixels, image, book)
    if data[24] == 1:
        raise FilmError(f"PNG has one bit a pixel; {TO_ONE_GREY}")
    return pixels


def _note_shape_of_png(data: bytes, book: NoteBook) -> None:
    for name, content in png_chunks(data):
        if name == b"pHYs" and len(content) == 9:
            across, down = struct.unpack_from(">II", content)
            note_shape(across, down, book)


def _check_palette(image: Image.Image) -> None:
    """Refuses a palette that lacks entries that are used: decoders show them black."""
    palette = image.palette
    entries = 256 if palette is None else len(palette.palette) // len(palette.mode)
    if entries < 256 and int(np.asarray(image).max()) >= entries:
        raise FilmError(
            f"PNG palette has {counted(entries, 'entry')}, fewer than used; {TO_ONE_GREY}"
        )


def _jpeg_pixels(
    image: Image.Image, data: bytes, book: NoteBook, *, ended: bool
) -> NDArray[np.generic]:
    """The grey channel of a JPEG, of which all is there."""
    check_progressive(data)
    head = stream_head(data)
    if head is None:
        raise FilmError("JPEG has no frame header; send the whole file")

    def decode(stream: bytes) -> NDArray[np.generic]:
        if head.samples in (1, 3):
            wanted = "RGB" if head.samples == 3 else None
            return np.asarray(imagecodecs.jpeg8_decode(stream, outcolorspace=wanted))
        return np.asarray(Image.open(io.BytesIO(stream), formats=("JPEG",)))

    strict = decode_strictly(data, head.samples)
    pixels = decode(data) if strict is None or head.samples not in (1, 3) else strict
    check_complete(data, head, pixels, decode, ended=ended)
    if not ended:
        book.add(
            FilmNoteCode.END_MARKER_MISSING,
            "The compressed stream lacks its end marker; all of the film is there.",
        )
    if pixels.ndim == 2:
        return pixels
    if head.samples == 4:
        cmyk = Image.frombytes(image.mode, image.size, pixels.tobytes())
        pixels = np.asarray(cmyk.convert("RGB"))
    return _merged(pixels, image, book)


def _merged(
    channels: NDArray[np.generic], image: Image.Image, book: NoteBook
) -> NDArray[np.generic]:
    """One grey channel of grey with alpha, RGB or RGBA."""
    full = 255.0 if channels.dtype == np.uint8 else 65535.0
    kind = f"{image.format} is {image.mode}"
    if channels.ndim == 3 and channels.shape[2] in (2, 4):
        check_opaque(channels[..., -1], full, kind)
        channels = channels[..., :-1]
    if channels.ndim == 2 or channels.shape[2] == 1:
        book.add(
            FilmNoteCode.CHANNELS_MERGED,
            "The film has an alpha channel, all of it opaque; it was left out.",
        )
        return np.ascontiguousarray(channels.reshape(channels.shape[:2]))
    return grey_of(channels, full, kind, book)
