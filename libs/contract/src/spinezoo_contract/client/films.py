"""Films as a caller has them, as messages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from spinezoo.v1 import (
    image_pb2,
)

from spinezoo_contract import codec
from spinezoo_contract.errors import (
    FilmError,
)
from spinezoo_contract.types import (
    Film,
    FilmKind,
)

FilmSource: TypeAlias = Film | NDArray[np.generic] | bytes | str | os.PathLike[str]
"""A film: decoded, a (height, width) array, the bytes of a file, or the path of a file."""


def image_message(
    film: FilmSource | image_pb2.Image, kind: FilmKind | None = None
) -> image_pb2.Image:
    """A film as it goes on the wire; files are sent as they are and decoded by the server.

    Args:
        film: The film.
        kind: Form of a file; None tells DICOM from the rest by its first bytes.

    Raises:
        FilmError: The file cannot be read, or the pixels break the contract.
        TooLargeError: Over the contract's size limits.
    """
    if isinstance(film, image_pb2.Image):
        return film
    if isinstance(film, np.ndarray):
        film = Film(film)
    if isinstance(film, Film):
        return codec.film_to_proto(film)
    if isinstance(film, str | os.PathLike):
        path = Path(film)
        try:
            film = path.read_bytes()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise FilmError(f"film {path} cannot be read ({reason}); check the path") from error
    if not film:
        raise FilmError("the film is 0 bytes long; send the whole file")
    return codec.film_file_to_proto(bytes(film), kind or film_kind(film))


def film_kind(data: bytes) -> FilmKind:
    """Whether the bytes of a film file are DICOM (with or without preamble) or another form."""
    if data[128:132] == b"DICM":
        return "dicom"
    # Without a preamble a file opens with its first group, 0002 or 0008, in either byte order.
    if data[:2] in (b"\x02\x00", b"\x08\x00"):
        return "dicom"
    return "dicom" if data[:3] in (b"\x00\x02\x00", b"\x00\x08\x00") else "encoded"


def raw_size(image: image_pb2.Image) -> tuple[int | None, int | None]:
    """Height and width where the message says them; those of a file only its reader knows."""
    if image.WhichOneof("form") == "raw":
        return image.raw.height, image.raw.width
    return None, None
