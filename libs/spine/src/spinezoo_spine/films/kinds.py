"""Of which kind a film's bytes are, by their first ones."""

from __future__ import annotations

import struct

from spinezoo_contract.types import FilmKind

FILM_SUFFIXES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Endings of film files. DICOM files without an ending are found by their content."""

_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

_LONG_VRS = frozenset(
    ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
)

_SHORT_VRS = frozenset(
    ("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL")
) | frozenset(("SS", "ST", "TM", "UI", "UL", "US"))


_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive (or an Office document)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a bare JPEG 2000 stream"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document or thumbnail cache"),
    (b"{\\rtf", "a text document (RTF)"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"SQLite format 3", "a database"),
    (b"NRRD", "an NRRD volume"),
    (b"ObjectType =", "a MetaImage (MHA, MHD)"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"P5", "a PGM image"),
    (b"P6", "a PPM image"),
)
"""How other files begin that people take for films, and what they are."""

_TEXTS: tuple[tuple[bytes, str], ...] = (
    (b"<!doctype html", "a web page (HTML), perhaps the log-in page of the system it came from"),
    (b"<html", "a web page (HTML), perhaps the log-in page of the system it came from"),
    (b"<head", "a web page (HTML), perhaps the log-in page of the system it came from"),
    (b"<body", "a web page (HTML), perhaps the log-in page of the system it came from"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML file"),
    (b"<", "an XML or HTML file"),
    (b"{", "a JSON file"),
    (b"[", "a JSON file"),
    (b"version https://git-lfs", "a placeholder of Git LFS; fetch the file itself"),
)


def foreign_kind(data: bytes) -> str:
    """What bytes are that are no film, in words: "a PDF document"; empty where not known."""
    for start, name in _STARTS:
        if data.startswith(start):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "a WebP image"
    if data[4:8] == b"ftyp":
        heif = data[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"avif")
        return "a HEIC or AVIF image" if heif else "a video"
    if data[344:348] in (b"n+1\0", b"ni1\0"):
        return "a NIfTI volume"
    if data[257:262] == b"ustar":
        return "a tar archive"
    head = data[:4096]
    if not any(head):
        return "empty: it begins with zeros only"
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "a text file (UTF-16)"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"\0" not in head and all(byte >= 32 or byte in b"\t\r\n\f" for byte in head):
        return next((name for start, name in _TEXTS if text.startswith(start)), "a text file")
    return ""


def is_tiff(data: bytes) -> bool:
    """Whether bytes begin as TIFF or BigTIFF does."""
    return data.startswith((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"))


def kind_of(data: bytes) -> FilmKind | None:
    """How these bytes are to be read, by their first ones; None where they are no film."""
    if data[128:132] == b"DICM":
        return "dicom"
    if data.startswith(_MAGIC):
        return "encoded"
    if looks_like_dicom(data):
        return "dicom"
    return None


def looks_like_dicom(data: bytes) -> bool:
    """Whether bytes without preamble begin with data elements of group 2 or 8.

    Two elements must follow each other in ascending order of their tags, the first of group 2 or
    8; chance and other file kinds do not pass that.
    """
    for order in ("<", ">"):
        position, previous = 0, -1
        for _ in range(2):
            if position + 12 > len(data):
                return False
            group, element = struct.unpack_from(f"{order}HH", data, position)
            tag = (group << 16) | element
            if (previous < 0 and group not in (2, 8)) or tag <= previous or group > 0x7FE0:
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
