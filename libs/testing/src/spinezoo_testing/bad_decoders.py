"""A decoder of JPEG-LS that does what the stream says: hang, panic, crash, allocate without end.

Decoding processes load it by ``SPINEZOO_DECODER_IMPORT=spinezoo_testing.bad_decoders``; importing
it adds it to pydicom's decoders.
"""

from __future__ import annotations

import ctypes
import io
import os
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders import JPEGLSLosslessDecoder
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

DECODER_DEPENDENCIES: dict[str, tuple[str, ...]] = {JPEGLSLossless: ()}
"""pydicom asks a module of decoders for this."""

FAULTS = (
    "sleep",
    "native sleep",
    "spin",
    "panic",
    "exit",
    "interrupt",
    "abort",
    "segfault",
    "allocate",
    "allocate natively",
    "too little",
)
"""What a stream may say."""

SETTINGS = {"SPINEZOO_DECODER_IMPORT": "spinezoo_testing.bad_decoders"}
"""Settings of a process whose decoding processes are to load it."""

HEIGHT, WIDTH = 64, 48


class PanicException(BaseException):
    """As a decoder written in Rust raises it: no Exception."""


def is_available(uid: str) -> bool:
    """As pydicom asks."""
    return True


def decode(frame: bytes, runner: Any) -> bytes:
    """What a stream of :func:`film_that_says` asks for; black pixels where it asks for nothing."""
    word = bytes(frame)[20:].split(b"\xff")[0].rstrip(b"\0").decode()
    native = ctypes.CDLL(None)
    if word == "sleep":
        time.sleep(1000)
    elif word == "native sleep":
        native.sleep(1000)
    elif word == "spin":
        while True:
            pass
    elif word == "panic":
        raise PanicException("patient Testperson^Geheim")
    elif word == "exit":
        raise SystemExit(0)
    elif word == "interrupt":
        raise KeyboardInterrupt
    elif word == "abort":
        os.abort()
    elif word == "segfault":
        ctypes.string_at(0)
    elif word == "allocate":
        pieces = []
        while True:
            pieces.append(bytearray(64 << 20))
    elif word == "allocate natively":
        native.malloc.restype = ctypes.c_void_p
        while address := native.malloc(ctypes.c_size_t(64 << 20)):
            ctypes.memset(address, 1, 64 << 20)
        os.abort()
    elif word == "too little":
        return bytes(100)
    return bytes(runner.rows * runner.columns)


def _film(pixels: NDArray[np.uint8]) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = JPEGLSLossless
    film = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    film.SOPClassUID = meta.MediaStorageSOPClassUID
    film.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 8, 8, 7, 0
    return film


def _bytes(film: FileDataset) -> bytes:
    buffer = io.BytesIO()
    film.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def film_that_says(word: str) -> bytes:
    """A JPEG-LS film whose stream is a valid header and a word for the decoder."""
    head = b"\xff\xd8\xff\xf7\x00\x0b\x08\x00\x40\x00\x30\x01\x01\x11\x00\xff\xda\x00\x02\x00"
    film = _film(np.zeros((HEIGHT, WIDTH), np.uint8))
    film.PixelData = encapsulate([head + word.encode()])
    film["PixelData"].VR = "OB"
    film["PixelData"].is_undefined_length = True
    return _bytes(film)


def rle_film(pixels: NDArray[np.uint8]) -> bytes:
    """A good compressed film, whose decoder is not touched."""
    film = _film(pixels)
    film.compress(RLELossless, pixels)
    return _bytes(film)


JPEGLSLosslessDecoder.add_plugin("bad", (__name__, "decode"))
