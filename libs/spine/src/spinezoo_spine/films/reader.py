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

import os
from functools import cache
from pathlib import Path

from spinezoo_contract.errors import FilmError, SpineZooError
from spinezoo_contract.types import Film, FilmKind
from spinezoo_serving.settings import ServerSettings

from spinezoo_spine.films.dicom import parse_dicom, read_dicom
from spinezoo_spine.films.encoded import open_encoded, read_encoded
from spinezoo_spine.films.kinds import FILM_SUFFIXES, kind_of
from spinezoo_spine.films.limits import DEFAULT_LIMITS, FilmLimits, check_bytes

__all__ = [
    "DEFAULT_LIMITS",
    "FILM_SUFFIXES",
    "FilmKind",
    "FilmLimits",
    "kind_of",
    "read_film",
    "read_film_file",
    "read_film_file_size",
    "read_film_size",
    "read_served_film",
]


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
    check_bytes(len(data), limits)
    found = kind or kind_of(data)
    if found == "dicom":
        return read_dicom(data, limits)
    return read_encoded(data, limits)


def read_served_film(data: bytes, *, kind: FilmKind | None = None) -> Film:
    """:func:`read_film` within the limits of a server's settings (``SPINEZOO_MAX_PIXELS``).

    Raises:
        FilmError: The bytes are no film.
        TooLargeError: It is over a limit.
    """
    return read_film(data, kind=kind, limits=_served_limits())


@cache
def _served_limits() -> FilmLimits:
    """The limits of this process's settings; read once, as a server reads them at its start."""
    return FilmLimits(max_pixels=ServerSettings.from_env().max_pixels)


def read_film_size(
    data: bytes, *, kind: FilmKind | None = None, limits: FilmLimits = DEFAULT_LIMITS
) -> tuple[int, int]:
    """(height, width) of a film by its header, without decoding it.

    Raises:
        FilmError: As :func:`read_film`, as far as the header shows it.
        TooLargeError: Over a limit.
    """
    check_bytes(len(data), limits)
    if (kind or kind_of(data)) == "dicom":
        dataset = parse_dicom(data, limits)
        return int(dataset.Rows), int(dataset.Columns)
    image = open_encoded(data, limits)
    return image.height, image.width


def _bytes_of(path: Path, limits: FilmLimits) -> bytes:
    try:
        check_bytes(path.stat().st_size, limits)
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
