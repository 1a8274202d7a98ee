"""Film files made by chance: nothing but our errors, no hang, little memory, no patient's name.

Short in every test run; ``SPINEZOO_FUZZ_MINUTES`` sets how long it goes on. Valid films of every
form are changed in their attributes, in their compressed streams and as bytes (cut, flipped,
doubled). A fault found becomes a small input in ``libs/spine/tests``.
"""

from __future__ import annotations

import importlib.util
import io
import os
import resource
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from fuzz.rounds import guided_by_coverage
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import config, dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from spinezoo_contract.errors import SpineZooError
from spinezoo_spine.films import isolation
from spinezoo_spine.films.reader import FilmLimits, read_film, read_film_size

MINUTES = float(os.environ.get("SPINEZOO_FUZZ_MINUTES", "0"))

MOST_S = 5.0
"""Longest that one film may take, in s. One that takes longer is read again: a machine may be
busy, a decoder that hangs hangs again."""

MOST_MIB = 1024
"""Most memory that this process or a decoding process may ever hold, in MiB."""

PATIENT = "MUSTERMANN^ERIKA"
LIMITS = FilmLimits(max_pixels=4_000_000, max_bytes=8_000_000)

Y, X = np.mgrid[:40, :48]
DEEP = np.rint(1900 + 1400 * np.sin(Y / 9) * np.cos(X / 11)).astype(np.uint16)
GREY = (DEEP >> 4).astype(np.uint8)


def dicom(
    pixels: np.ndarray, syntax: str = ExplicitVRLittleEndian, stream: bytes = b"", **more: Any
) -> bytes:
    """A film with the patient's name in it."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    meta.TransferSyntaxUID = UID(syntax)
    film = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    film.SOPClassUID, film.SOPInstanceUID = meta.MediaStorageSOPClassUID, UID("1.2.3")
    film.PatientName = film.PatientID = PATIENT
    film.Modality, film.PhotometricInterpretation = "DX", "MONOCHROME2"
    film.SamplesPerPixel, film.PixelRepresentation = 1, int(pixels.dtype.kind == "i")
    film.Rows, film.Columns = pixels.shape[:2]
    film.BitsAllocated = 8 * pixels.itemsize
    film.BitsStored = 12 if pixels.itemsize == 2 else 8
    film.HighBit = film.BitsStored - 1
    for keyword, value in more.items():
        setattr(film, keyword, value)
    film.PixelData = encapsulate([stream]) if stream else pixels.tobytes()
    film["PixelData"].VR = "OB" if stream else "OW"
    film["PixelData"].is_undefined_length = bool(stream)
    if syntax == RLELossless:
        film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        film.compress(RLELossless)
    buffer = io.BytesIO()
    film.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def table(entries: np.ndarray) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) & 0xFFFF, 0, 16])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return Sequence([item])


def picture(pixels: np.ndarray | Image.Image, kind: str, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def tiff(pixels: np.ndarray, **more: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **more)
    return buffer.getvalue()


def group() -> Sequence:
    rescale, window, shared = Dataset(), Dataset(), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = "2", "-5"
    window.WindowCenter, window.WindowWidth = "2000", "3000"
    shared.PixelValueTransformationSequence = Sequence([rescale])
    shared.FrameVOILUTSequence = Sequence([window])
    return Sequence([shared])


def seeds() -> list[bytes]:
    """Valid films of every form."""
    rgb = np.dstack([GREY] * 3)
    curve = np.arange(4096) ** 2 // 300
    jpeg, deep = imagecodecs.jpeg8_encode, {"bitspersample": 12}
    colour = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB"}
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        dicom(DEEP),
        dicom(DEEP.astype(np.int16) - 2000, PixelPaddingValue=-2000),
        dicom(DEEP, ImplicitVRLittleEndian, WindowCenter="2000", WindowWidth="3000"),
        dicom(DEEP, DeflatedExplicitVRLittleEndian, RescaleSlope="-2", RescaleIntercept="9"),
        dicom(DEEP, VOILUTSequence=table(curve), ModalityLUTSequence=table(curve)),
        dicom(DEEP, SharedFunctionalGroupsSequence=group()),
        dicom(rgb, **colour),
        dicom(GREY, JPEGBaseline8Bit, jpeg(GREY, level=90)),
        dicom(rgb, JPEGBaseline8Bit, jpeg(rgb, level=90), **colour),
        dicom(DEEP, JPEGExtended12Bit, jpeg(DEEP, level=95, **deep)),
        dicom(DEEP, JPEGLosslessSV1, jpeg(DEEP, lossless=True, **deep)),
        dicom(DEEP, JPEGLSLossless, imagecodecs.jpegls_encode(DEEP)),
        dicom(DEEP, JPEG2000Lossless, imagecodecs.jpeg2k_encode(DEEP, codecformat="j2k", **deep)),
        dicom(DEEP, RLELossless),
        picture(GREY, "PNG"),
        picture(DEEP, "PNG", exif=exif.tobytes()),
        picture(rgb, "PNG"),
        picture(Image.fromarray(GREY).convert("P"), "PNG"),
        picture(np.dstack([GREY, np.full_like(GREY, 255)]), "PNG"),
        picture(GREY, "JPEG", quality=90, exif=exif.tobytes()),
        picture(rgb, "JPEG", quality=90, progressive=True),
        picture(Image.fromarray(rgb).convert("CMYK"), "JPEG"),
        tiff(GREY),
        tiff(DEEP, compression="lzw", predictor=True, rowsperstrip=7),
        tiff(DEEP, compression="zlib", tile=(16, 16), bigtiff=True, byteorder=">"),
        tiff(rgb, photometric="rgb", compression="jpeg"),
        tiff(DEEP.astype(np.float32), photometric="miniswhite"),
        tiff(GREY, photometric="palette", colormap=np.full((3, 256), 7, np.uint16)),
    ]


ODD: list[Any] = [
    None, 0, 1, -1, 2, 7, 8, 12, 15, 16, 32, 255, 256, 65535, 65536, 2**31 - 1, "0", "-1", "1e308",
    "nan", "inf", "", "MONOCHROME1", "RGB", "PALETTE COLOR", "YBR_FULL_422", "INVERSE", "SIGMOID",
    "FOR PROCESSING", ["1", "2", "3"], ["0", "0"], ["L", "H"], [0, 0, 16], [65535, 65535, 8], b"",
    b"\0", b"\xff" * 9, PATIENT,
]  # fmt: skip

KEYWORDS = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "RescaleSlope", "RescaleIntercept",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "PresentationLUTShape", "PixelSpacing",
    "ImagerPixelSpacing", "PatientOrientation", "PixelIntensityRelationshipSign", "Modality",
    "EstimatedRadiographicMagnificationFactor", "BodyPartExamined", "ViewPosition", "PixelData",
    "RedPaletteColorLookupTableDescriptor", "SOPClassUID", "LUTDescriptor", "LUTData",
)  # fmt: skip

config.settings.writing_validation_mode = config.IGNORE
config.settings.reading_validation_mode = config.IGNORE


def _with_odd_attribute(draw: Callable[..., Any], data: bytes) -> bytes:
    """A DICOM film with some attributes changed; as it was where that cannot be written."""
    try:
        film = dcmread(io.BytesIO(data))
        for _ in range(draw(st.integers(1, 4))):
            keyword, value = draw(st.sampled_from(KEYWORDS)), draw(st.sampled_from(ODD))
            target = film
            if keyword.startswith("LUT") and "VOILUTSequence" in film:
                target = film.VOILUTSequence[0]
            if value is None and keyword in target:
                delattr(target, keyword)
            elif value is not None:
                setattr(target, keyword, value)
        buffer = io.BytesIO()
        film.save_as(buffer)
        return buffer.getvalue()
    except Exception:
        return data


@st.composite
def films(draw: Callable[..., Any], valid: list[bytes]) -> bytes:
    """Bytes that are nearly a film."""
    data = draw(st.sampled_from(valid))
    if data[128:132] == b"DICM" and draw(st.booleans()):
        data = _with_odd_attribute(draw, data)
        if draw(st.booleans()):
            return data
    changed = bytearray(data)
    near = draw(st.sampled_from([200, 1200, len(changed)]))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, min(near, len(changed)) - 1)))
        how = draw(st.sampled_from(["flip", "flip", "word", "long", "cut", "double", "remove"]))
        if how == "flip" and changed:
            changed[place] = draw(st.integers(0, 255))
        elif how in ("word", "long"):
            value = draw(st.sampled_from([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1]))
            packed = struct.pack(draw(st.sampled_from(["<I", ">I"])), value)
            size = 2 if how == "word" else 4
            changed[place : place + size] = packed[:size]
        elif how == "cut":
            del changed[draw(st.integers(0, len(changed))) :]
        elif how == "double":
            end = place + draw(st.sampled_from([1, 2, 8, 64, 1000]))
            changed[place:place] = changed[place:end]
        else:
            del changed[place : place + draw(st.sampled_from([1, 2, 8, 64]))]
    return bytes(changed)


def use(data: bytes) -> float:
    """Reads a film as every part of the zoo does; lets our own errors pass. Returns s taken."""
    started = time.monotonic()
    refusal = ""
    try:
        film = read_film(data, limits=LIMITS)
    except SpineZooError as error:
        refusal = str(error)
    else:
        assert min(film.pixels.shape) >= 16
        assert film.pixels.size <= LIMITS.max_pixels
        assert read_film_size(data, limits=LIMITS) == film.pixels.shape
        assert not any("MUSTERMANN" in note.text.upper() for note in film.notes)
    assert "MUSTERMANN" not in refusal.upper()
    return time.monotonic() - started


@pytest.fixture
def decoders() -> Iterator[None]:
    """Decoding processes of this test alone."""
    isolation.close()
    yield
    isolation.close()


@pytest.mark.filterwarnings("ignore")
def test_films_by_chance(decoders: None, capsys: pytest.CaptureFixture[str]) -> None:
    valid = seeds()
    for data in valid:  # the seeds themselves are right
        assert read_film(data, limits=LIMITS).pixels.size
    count, slowest = 0, 0.0

    @settings(
        max_examples=2000 if MINUTES else 250,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(films(valid))
    def one(data: bytes) -> None:
        nonlocal count, slowest
        taken = use(data)
        if taken > MOST_S:
            taken = use(data)
        count, slowest = count + 1, max(slowest, taken)
        assert taken < MOST_S, f"{taken:.1f} s"

    guided = importlib.util.find_spec("atheris") is not None
    end = time.monotonic() + 60.0 * (MINUTES / 2.0 if guided else MINUTES)
    while True:
        one()
        if time.monotonic() >= end:
            break
    isolation.close()  # a child's peak is known once it has ended
    peaks = [
        resource.getrusage(who).ru_maxrss / 1024.0
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    with capsys.disabled():
        print(
            f"\nfilms: {count} files, slowest {slowest:.2f} s, peak {peaks[0]:.0f} MiB here and "
            f"{peaks[1]:.0f} MiB in a decoding process"
        )
    assert max(peaks) < MOST_MIB


def test_films_guided_by_coverage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What looks at the bytes before a decoder does, under atheris, in processes of its own."""
    for number, data in enumerate(seeds()):
        (tmp_path / f"seed-{number}").write_bytes(data)
    seconds = max(10, int(30.0 * MINUTES))
    count = guided_by_coverage("guided_films.py", tmp_path, seconds)
    with capsys.disabled():
        print(f"\nfilms guided by coverage: {count} files in {seconds} s")
