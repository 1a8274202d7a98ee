"""Files that would take minutes in the process that reads them: stopped, or refused at once.

None of these tests measures time: at version 46be441 the inputs, made larger, took 8 to 76 s.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from spinezoo_contract.errors import FilmError
from spinezoo_spine.films import isolation
from spinezoo_spine.films.header import HeavyHeaderError, parse_light_dicom
from spinezoo_spine.films.limits import DEFAULT_LIMITS
from spinezoo_spine.films.reader import read_film, read_film_size

Make = Callable[..., bytes]
GREY = (np.arange(48 * 64) % 251).astype(np.uint8).reshape(48, 64)
DEEP = GREY.astype(np.uint16) * 16


def saved(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, kind, quality=95)
    return buffer.getvalue()


def with_elements(data: bytes, count: int) -> bytes:
    """A DICOM film with that many empty private elements."""
    place = data.index(b"\x10\x00\x10\x00PN")
    added = (struct.pack("<HH2sH", 9 + 2 * (n >> 16), n & 0xFFFF, b"LO", 0) for n in range(count))
    return data[:place] + b"".join(added) + data[place:]


def with_long_window(data: bytes, count: int) -> bytes:
    """A DICOM film in implicit VR with that many windows' centres."""
    place = data.index(struct.pack("<HH", 0x0028, 0x1050))
    (length,) = struct.unpack_from("<I", data, place + 4)
    value = b"9\\" * count
    return data[: place + 4] + struct.pack("<I", len(value)) + value + data[place + 8 + length :]


def is_heavy(data: bytes) -> bool:
    try:
        parse_light_dicom(data, DEFAULT_LIMITS)
    except HeavyHeaderError:
        return True
    return False


def test_a_header_of_many_elements_is_read_in_a_decoding_process(make_dicom: Make) -> None:
    data = make_dicom(DEEP)
    assert not is_heavy(data)
    assert not is_heavy(with_elements(data, 1000))
    heavy = with_elements(data, 120_000)
    assert is_heavy(heavy)
    assert (read_film(heavy).pixels == DEEP).all()
    assert read_film_size(heavy) == DEEP.shape


def test_a_header_of_long_values_is_read_in_a_decoding_process(make_dicom: Make) -> None:
    data = make_dicom(DEEP, syntax=ImplicitVRLittleEndian, WindowCenter="2000", WindowWidth="4000")
    assert not is_heavy(data)
    heavy = with_long_window(data, 1 << 20)
    assert is_heavy(heavy)
    assert read_film_size(heavy) == DEEP.shape


def test_a_deflated_header_is_read_in_a_decoding_process(make_dicom: Make) -> None:
    plain = with_elements(make_dicom(DEEP), 200_000)
    deflated = make_dicom(DEEP, syntax=DeflatedExplicitVRLittleEndian)
    ends = [144 + struct.unpack_from("<I", each, 140)[0] for each in (plain, deflated)]
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(plain[ends[0] :]) + deflate.flush()
    data = deflated[: ends[1]] + packed
    assert is_heavy(data)
    assert (read_film(data).pixels == DEEP).all()


def test_a_header_that_takes_too_long_is_stopped(
    make_dicom: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPINEZOO_DECODER_S", "0.1")
    monkeypatch.setenv("SPINEZOO_DECODER_PER_MEGAPIXEL_S", "0")
    data = with_elements(make_dicom(DEEP), 600_000)
    isolation.close()
    try:
        with pytest.raises(FilmError, match="stopped after"):
            read_film(data)
        with pytest.raises(FilmError, match="stopped after"):
            read_film_size(data)
    finally:
        isolation.close()


def test_native_pixels_in_millions_of_pieces(make_dicom: Make) -> None:
    data = make_dicom(DEEP, syntax=ExplicitVRLittleEndian)
    start = data.rindex(b"\xe0\x7f\x10\x00OW")
    pieces = b"\xfe\xff\x00\xe0\0\0\0\0" * 200_000
    content = b"\xfe\xff\x00\xe0" + struct.pack("<I", DEEP.nbytes) + DEEP.tobytes()
    head = data[:start] + b"\xe0\x7f\x10\x00OW\0\0\xff\xff\xff\xff"
    with pytest.raises(FilmError, match="too many pieces"):
        read_film(head + pieces + content + b"\xfe\xff\xdd\xe0\0\0\0\0")


@pytest.mark.parametrize("behind", [True, False])
def test_a_png_of_many_chunks(behind: bool) -> None:
    data = saved("PNG")
    chunk = struct.pack(">I", 0) + b"prVt" + struct.pack(">I", zlib.crc32(b"prVt"))
    place = len(data) - 12 if behind else 33
    assert (read_film(data[:place] + chunk * 1000 + data[place:]).pixels == GREY).all()
    many = data[:place] + chunk * 150_000 + data[place:]
    for read in (read_film, read_film_size):
        with pytest.raises(FilmError, match="more than 100000 chunks"):
            read(many)


@pytest.mark.parametrize("piece", [b"\xff\xe5\x00\x02", b"\xff"])
def test_a_jpeg_of_many_segments(piece: bytes) -> None:
    data = saved("JPEG")
    assert read_film(data[:2] + piece * 100 + data[2:]).pixels.shape == GREY.shape
    many = data[:2] + piece * 100_000 + data[2:]
    for read in (read_film, read_film_size):
        with pytest.raises(FilmError, match="more than 50000 header segments"):
            read(many)
    frame = data.index(b"\xff\xda")
    between = data[:frame] + piece * 100_000 + data[frame:]
    for read in (read_film, read_film_size):
        with pytest.raises(FilmError, match="more than 50000 header segments"):
            read(between)
