"""Reads films: DICOM, PNG, JPEG and TIFF into grey levels where bright is dense.

What is taken, what is refused and what becomes of the levels is in ``docs/data-format.md``.

Where native code of a decoder works on the bytes, it does so in a decoding process that can be
stopped (:mod:`spinezoo_spine.films.isolation`), and so are DICOM headers that are unusually large.
Read here are DICOM and simple TIFF files whose pixels are not compressed, sequential JPEG files and
grey PNG files: the time and memory of their decoders are bounded by the size of the film, and
handing it over would cost a good part of the few ms that they take.

Sizes are checked in the header, before anything is decoded. Messages name technical attributes
only; patient attributes are not even read.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from spinezoo_contract.errors import FilmError, QueueFullError, SpineZooError
from spinezoo_contract.types import Film, FilmKind
from spinezoo_serving.settings import ServerSettings

from spinezoo_spine.films import isolation
from spinezoo_spine.films.dicom import is_compressed, read_dicom
from spinezoo_spine.films.encoded import encoded_size, is_plain_png, read_encoded
from spinezoo_spine.films.header import HeavyHeaderError, parse_light_dicom
from spinezoo_spine.films.kinds import FILM_SUFFIXES, is_tiff, kind_of
from spinezoo_spine.films.limits import DEFAULT_LIMITS, FilmLimits, check_bytes
from spinezoo_spine.films.streams import is_sequential_jpeg
from spinezoo_spine.films.tiff import is_simple_tiff

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
        The film: ``uint8``, ``uint16`` or (float TIFF only) ``float32``, bright is dense, with its
        notes.

    Raises:
        FilmError: Not a film, damaged, or not one grey frame; or its decoder had to be stopped.
        TooLargeError: Over a limit; nothing has been decoded then.
        QueueFullError: No memory, or no further open file, is left for it.
    """
    check_bytes(len(data), limits)
    try:
        return _read_film(data, kind, limits)
    except MemoryError:
        raise QueueFullError(
            "no memory is left to read the film; ask again later, or allow more"
        ) from None


def _read_film(data: bytes, kind: FilmKind | None, limits: FilmLimits) -> Film:
    if (kind or kind_of(data)) == "dicom":
        try:
            dataset = parse_light_dicom(data, limits)
        except HeavyHeaderError:
            return isolation.read(data, "dicom", limits)
        if not is_compressed(dataset):
            return read_dicom(data, limits, dataset)
        return isolation.read(data, "dicom", limits, int(dataset.Rows) * int(dataset.Columns))
    if is_simple_tiff(data) or is_sequential_jpeg(data) or is_plain_png(data):
        return read_encoded(data, limits)
    return isolation.read(data, "encoded", limits)


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
    """(height, width) of a film as it will be shown, by its header, without decoding it.

    Raises:
        FilmError: As :func:`read_film`, as far as the header shows it.
        TooLargeError: Over a limit.
    """
    check_bytes(len(data), limits)
    if (kind or kind_of(data)) == "dicom":
        try:
            dataset = parse_light_dicom(data, limits)
        except HeavyHeaderError:
            return isolation.read_size(data, "dicom", limits)
        return int(dataset.Rows), int(dataset.Columns)
    if is_tiff(data):
        return isolation.read_size(data, "encoded", limits)
    # The headers of PNG and JPEG are short, and read without native code.
    return encoded_size(data, limits)


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
