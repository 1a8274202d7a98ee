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

    Two elements must follow each other in ascending order of their tags; chance and other file
    kinds do not pass that.
    """
    for order in ("<", ">"):
        position, previous = 0, -1
        for _ in range(2):
            if position + 12 > len(data):
                return False
            group, element = struct.unpack_from(f"{order}HH", data, position)
            tag = (group << 16) | element
            if group not in (2, 8) or tag <= previous:
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
