"""Files that no reader takes, a kind each of ``docs/data-format.md``: what is refused."""

from __future__ import annotations

import gzip
import io
import zipfile

import numpy as np
from PIL import Image as PillowImage
from pydicom.uid import MPEG4HP41
from test_requests import BAD_FILMS, COLOURS, GREY, dicom, png

FLAT = (GREY >> 4).astype(np.uint8)


def _saved(pixels: np.ndarray, kind: str, **how: object) -> bytes:
    stream = io.BytesIO()
    PillowImage.fromarray(pixels).save(stream, kind, **how)
    return stream.getvalue()


def _zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("film.dcm", dicom(GREY))
    return stream.getvalue()


def _video() -> bytes:
    film = dicom(GREY)
    # Same length, padded as DICOM pads: the header speaks of a video.
    wanted = str(MPEG4HP41).encode().ljust(20, b"\0")
    return film.replace(b"1.2.840.10008.1.2.1\0", wanted, 1)


def refused_films() -> dict[str, bytes]:
    """Name and bytes; those of :data:`test_requests.BAD_FILMS` that are files are among them."""
    found: dict[str, bytes] = {}
    for name, (make, _, _) in BAD_FILMS.items():
        image = make()
        form = image.WhichOneof("form")
        if form in ("dicom", "encoded"):
            found[name] = getattr(image, form)
    see_through = np.dstack([FLAT] * 3 + [np.tile(np.arange(64, dtype=np.uint8) * 3, (96, 1))])
    whole_png = png(GREY)
    pages = [PillowImage.fromarray(FLAT[::step]) for step in (1, 1, 1)]
    film = dicom(GREY)
    found |= {
        "coloured jpeg": _saved(COLOURS, "JPEG"),
        "coloured tiff": _saved(COLOURS, "TIFF"),
        "transparent png": png(see_through),
        "three pages": _saved(FLAT, "TIFF", save_all=True, append_images=pages[1:]),
        "one bit": _saved(FLAT > 127, "PNG"),
        "one bit tiff": _saved(FLAT > 127, "TIFF"),
        "cut png": whole_png[: len(whole_png) // 2],
        "cut jpeg": _saved(FLAT, "JPEG")[:700],
        "cut tiff": _saved(FLAT, "TIFF")[:3000],
        "more rows than pixels": dicom(GREY, Rows=2000),
        "more bits than room": dicom(GREY, BitsStored=20, HighBit=19),
        "video": _video(),
        "web page": b"<!doctype html><title>Log in</title><p>Your session has expired" * 9,
        "archive": _zipped(),
        "packed": gzip.compress(film),
        "moving picture": _saved(FLAT, "GIF", save_all=True, append_images=pages[1:]),
        "text": "Röntgen LWS seitlich: unauffällig\n".encode("latin-1") * 40,
        "zeros": bytes(9000),
    }
    return found
