"""Answers of a zoo whose networks know the truth of phantom films."""

from __future__ import annotations

from functools import cache
from io import BytesIO

import numpy as np
from pydicom import dcmread
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.types import (
    EnsembleAnswer,
    Film,
    FusedAnswer,
    FusionOptions,
    GatewayTiming,
    MemberAnswer,
    MemberCode,
    MemberStatus,
    Prediction,
    Provenance,
    Segment,
    SegmentKind,
    Structure,
    Timing,
)
from spinezoo_gateway.members import vote_of
from spinezoo_gateway.service import fuse_and_name
from spinezoo_phantom import make_film
from spinezoo_phantom.records import PhantomFilm
from spinezoo_phantom.settings import PhantomSettings
from spinezoo_phantom.write import _dicom_content
from spinezoo_spine.annotations.raster import rasterise
from spinezoo_spine.column.reader.network import built_in_reader
from spinezoo_spine.films.reader import read_film

NAMES = ("deeplabv3", "mask_rcnn", "pspnet")
SMALL = PhantomSettings(height_px=512, width_px=384)


@cache
def phantom(seed: int, settings: PhantomSettings = SMALL) -> PhantomFilm:
    """A phantom, made once."""
    return make_film(seed, settings)


@cache
def dicom_of(seed: int, settings: PhantomSettings = SMALL) -> bytes:
    """Its DICOM file."""
    return _dicom_content(phantom(seed, settings), monochrome1=False)


def changed(data: bytes, **values: object) -> bytes:
    """A DICOM file with other values; None removes one."""
    dataset = dcmread(BytesIO(data))
    for name, value in values.items():
        if value is None:
            del dataset[name]
        else:
            setattr(dataset, name, value)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def truth_segments(film: PhantomFilm) -> tuple[Segment, ...]:
    """Its outlines as a network would answer them, without levels."""
    height, width = film.pixels.shape
    found = []
    for region in film.regions:
        pixels = rasterise(region.polygon_xy, height, width)
        if pixels.any():
            mask = encode_mask(pixels)
            structure = Structure[str(region.structure).upper()]
            found.append(Segment(structure, SegmentKind.INSTANCE, mask, 0.9, mask_box(mask), None))
    return tuple(found)


def answer_of(film: Film, segments: tuple[Segment, ...]) -> EnsembleAnswer:
    """What the gateway answers when every network says the same; the reader is the real one."""
    height, width = film.height, film.width
    votes = {name: vote_of(list(segments), height, width) for name in NAMES}
    fused: FusedAnswer = fuse_and_name(votes, FusionOptions(), film, built_in_reader())
    members = tuple(
        MemberAnswer(
            MemberStatus(name, MemberCode.OK, 1.0),
            Prediction(
                height, width, segments,
                Provenance(name, "0.1.0", "lite", "ab" * 32, "letterbox-v1", "cpu", Timing()),
            ),
        )
        for name in NAMES
    )  # fmt: skip
    timing = GatewayTiming(1.0, 1.0, 1.0, 1.0)
    return EnsembleAnswer(height, width, members, fused, timing, film.notes)


@cache
def answered(seed: int) -> tuple[bytes, Film, EnsembleAnswer]:
    """A phantom's file, its film and its answer."""
    data = dicom_of(seed)
    film = read_film(data)
    return data, film, answer_of(film, truth_segments(phantom(seed)))


def blank(height: int = 64, width: int = 48) -> np.ndarray:
    """Pixels of one level."""
    return np.full((height, width), 7, np.uint8)
