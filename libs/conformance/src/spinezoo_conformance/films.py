"""Small films made from numbers: what the conformance suite sends. No image library, no phantom.

They are drawn, not physical; a network need not find anything on them. ``spinezoo_phantom``
makes films with exact truth.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_UID_ROOT = "2.25.31057129414"
"""Root of the identifiers in synthetic DICOM files; derived from no person and no device."""

_DX_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.1.1"
_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_LONG_FORMS = (b"OB", b"OW")


def spine_like_pixels(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A column of bright blocks with two brighter bars on a graded, noisy ground.

    The same arguments give the same pixels.

    Args:
        height: Rows, in pixels.
        width: Columns, in pixels.
        seed: Seed of the noise.
    """
    rng = np.random.default_rng(seed)
    y = (np.arange(height, dtype=np.float32) + 0.5)[:, None] / height
    x = (np.arange(width, dtype=np.float32) + 0.5)[None, :] / width
    pixels = 40.0 + 50.0 * x * np.ones_like(y)
    pixels += rng.integers(-6, 7, size=(height, width)).astype(np.float32)
    for level in range(5):
        centre_y = 0.12 + 0.18 * level
        centre_x = 0.5 - 0.08 * np.cos(np.pi * centre_y)
        block = (np.abs(y - centre_y) < 0.07) & (np.abs(x - centre_x) < 0.16)
        pixels[block] += 90.0
        if level in (2, 3):
            screw = (np.abs(y - centre_y) < 0.012) & (np.abs(x - centre_x - 0.1) < 0.18)
            pixels[screw] = 250.0
    rod = (np.abs(x - 0.78) < 0.015) & (np.abs(y - 0.57) < 0.14)
    pixels[rod] = 250.0
    return np.clip(pixels, 0, 255).astype(np.uint8)


def png_bytes(
    pixels: NDArray[np.uint8] | NDArray[np.uint16], size: tuple[int, int] | None = None
) -> bytes:
    """A PNG file.

    Args:
        pixels: (height, width) grey or (height, width, 3) colours, 8 or 16 bits a sample.
        size: Height and width that the header claims; None tells the truth.
    """
    height, width = size or pixels.shape[:2]
    rows = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder(">"))
    scanlines = b"".join(b"\x00" + row.tobytes() for row in rows)
    colour_type = 2 if pixels.ndim == 3 else 0
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _png_chunk(b"IHDR", header)
        + _png_chunk(b"IDAT", zlib.compress(scanlines, 1))
        + _png_chunk(b"IEND", b"")
    )


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def dicom_bytes(
    pixels: NDArray[np.uint8] | NDArray[np.uint16] | None,
    *,
    photometric: str = "MONOCHROME2",
    frames: int | None = None,
    size: tuple[int, int] | None = None,
) -> bytes:
    """A DICOM Part 10 file, explicit little-endian, with no patient in it.

    Args:
        pixels: (height, width) or (height, width, 3), 8 or 16 bits; None leaves pixels out.
        photometric: Photometric interpretation.
        frames: Number of frames that the header claims; the pixels are repeated as often.
        size: Height and width that the header claims; None tells the truth.
    """
    shown = np.zeros((16, 16), dtype=np.uint8) if pixels is None else pixels
    height, width = size or shown.shape[:2]
    bits = 8 * shown.itemsize
    elements: dict[tuple[int, int], tuple[bytes, bytes]] = {
        (0x0008, 0x0016): (b"UI", _DX_IMAGE_STORAGE.encode()),
        (0x0008, 0x0018): (b"UI", f"{_UID_ROOT}.1".encode()),
        (0x0008, 0x0060): (b"CS", b"DX"),
        (0x0028, 0x0002): (b"US", struct.pack("<H", 3 if shown.ndim == 3 else 1)),
        (0x0028, 0x0004): (b"CS", photometric.encode()),
        (0x0028, 0x0010): (b"US", struct.pack("<H", height)),
        (0x0028, 0x0011): (b"US", struct.pack("<H", width)),
        (0x0028, 0x0100): (b"US", struct.pack("<H", bits)),
        (0x0028, 0x0101): (b"US", struct.pack("<H", bits)),
        (0x0028, 0x0102): (b"US", struct.pack("<H", bits - 1)),
        (0x0028, 0x0103): (b"US", struct.pack("<H", 0)),
    }
    if shown.ndim == 3:
        elements[(0x0028, 0x0006)] = (b"US", struct.pack("<H", 0))
    if frames is not None:
        elements[(0x0028, 0x0008)] = (b"IS", str(frames).encode())
    if pixels is not None:
        stored = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<")).tobytes()
        elements[(0x7FE0, 0x0010)] = (b"OB" if bits == 8 else b"OW", stored * (frames or 1))
    meta = {
        (0x0002, 0x0001): (b"OB", b"\x00\x01"),
        (0x0002, 0x0002): (b"UI", _DX_IMAGE_STORAGE.encode()),
        (0x0002, 0x0003): (b"UI", f"{_UID_ROOT}.1".encode()),
        (0x0002, 0x0010): (b"UI", _EXPLICIT_LITTLE_ENDIAN.encode()),
        (0x0002, 0x0012): (b"UI", f"{_UID_ROOT}.2".encode()),
    }
    group = _dicom_elements(meta)
    length = _dicom_elements({(0x0002, 0x0000): (b"UL", struct.pack("<I", len(group)))})
    return bytes(128) + b"DICM" + length + group + _dicom_elements(elements)


def _dicom_elements(elements: Mapping[tuple[int, int], tuple[bytes, bytes]]) -> bytes:
    parts = []
    for tag, (kind, value) in sorted(elements.items()):
        if len(value) % 2:
            value += b"\x00" if kind in (b"UI", *_LONG_FORMS) else b" "
        if kind in _LONG_FORMS:
            parts.append(struct.pack("<HH2sHI", *tag, kind, 0, len(value)) + value)
        else:
            parts.append(struct.pack("<HH2sH", *tag, kind, len(value)) + value)
    return b"".join(parts)
