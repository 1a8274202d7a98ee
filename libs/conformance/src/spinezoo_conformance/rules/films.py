"""Rules C12, C13, C15, C21, C22 and C24: films of all sizes and forms, good and bad."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import numpy as np
from grpc import StatusCode
from spinezoo.v1 import image_pb2, segmenter_pb2
from spinezoo_contract.types import SHRINKING_ID

from spinezoo_conformance import films
from spinezoo_conformance.answers import (
    check_close,
    check_masks,
    check_refused,
    check_size,
    judged_on,
)
from spinezoo_conformance.rule import Rule
from spinezoo_conformance.session import Session, raw_image, standard_pixels, told
from spinezoo_conformance.verdict import RuleBrokenError, expect

LARGE_FILM_BYTES = 24 << 20
"""Pixels of the large film: 24 MiB, a full-size 16-bit radiograph."""


def _judge_film_sizes(session: Session) -> None:
    for height, width in ((640, 64), (64, 640), (16, 16), (17, 301)):
        response = session.predict(raw_image(films.spine_like_pixels(height, width)))
        check_size(response, height, width)
        check_masks(response, height, width)


def _judge_large_film(session: Session) -> str:
    height, width = 4096, LARGE_FILM_BYTES // 2 // 4096
    pixels = np.repeat(np.repeat(films.spine_like_pixels(512, width // 8), 8, 0), 8, 1)
    started = time.perf_counter()
    response = session.predict(raw_image(pixels.astype(np.uint16) * np.uint16(257)))
    elapsed_ms = (time.perf_counter() - started) * 1e3
    check_size(response, height, width)
    check_masks(response, height, width)
    return f"{height} x {width}, 16 bit, in {elapsed_ms:.0f} ms"


def _judge_pixel_types(session: Session) -> str:
    pixels = standard_pixels()
    first = session.default_answer()
    for name, same in (
        ("the film in uint16", pixels.astype(np.uint16) * np.uint16(257)),
        ("the film in float32", pixels.astype(np.float32) / np.float32(255.0)),
    ):
        check_close(first, session.predict(raw_image(same)), name)
    return judged_on(first)


def bad_films() -> Iterator[tuple[str, image_pb2.Image, bool]]:
    """Films that must be refused: name, message, and whether their size is at fault."""
    pixels = films.spine_like_pixels(64, 48)
    colours = np.stack([pixels, pixels // 2, pixels], axis=-1)
    dicom = films.dicom_bytes(pixels)
    png = films.png_bytes(pixels)
    noise = np.random.default_rng(7).integers(0, 256, 500, dtype=np.uint8).tobytes()

    def raw(
        height: int,
        width: int,
        data: bytes,
        pixel_type: image_pb2.PixelType = image_pb2.PIXEL_TYPE_UINT8,
    ) -> image_pb2.Image:
        return image_pb2.Image(
            raw=image_pb2.RawPixels(
                height=height,
                width=width,
                data=data,
                pixel_type=pixel_type,
            )
        )

    untyped, floats = image_pb2.PIXEL_TYPE_UNSPECIFIED, image_pb2.PIXEL_TYPE_FLOAT32
    numbers = pixels.astype("<f4")
    numbers[3, 5] = np.nan
    with_nan = numbers.tobytes()
    numbers[3, 5] = np.inf
    with_infinity = numbers.tobytes()
    spacing = raw(64, 48, pixels.tobytes())
    spacing.raw.row_spacing_mm = -0.2

    yield "no film at all", image_pb2.Image(), False
    yield "a DICOM file of 0 bytes", image_pb2.Image(dicom=b""), False
    yield "an encoded file of 0 bytes", image_pb2.Image(encoded=b""), False
    yield "noise as an encoded file", image_pb2.Image(encoded=noise), False
    yield "noise as a DICOM file", image_pb2.Image(dicom=noise), False
    yield "a text as an encoded file", image_pb2.Image(encoded=b"not an image\n" * 20), False
    yield "a truncated PNG", image_pb2.Image(encoded=png[: len(png) // 2]), False
    yield "a colour PNG", image_pb2.Image(encoded=films.png_bytes(colours)), False
    tiny = films.png_bytes(pixels[:1, :1])
    yield "a PNG of 1 x 1", image_pb2.Image(encoded=tiny), False
    huge = films.png_bytes(pixels, (20_000, 20_000))
    yield "a PNG whose header says 20,000 x 20,000", image_pb2.Image(encoded=huge), True
    yield "a truncated DICOM file", image_pb2.Image(dicom=dicom[: len(dicom) // 2]), False
    bare = films.dicom_bytes(None)
    yield "a DICOM file without pixels", image_pb2.Image(dicom=bare), False
    several = films.dicom_bytes(pixels, frames=3)
    yield "a DICOM file of three frames", image_pb2.Image(dicom=several), False
    coloured = films.dicom_bytes(colours, photometric="RGB")
    yield "a DICOM file in colour", image_pb2.Image(dicom=coloured), False
    claimed = films.dicom_bytes(pixels, size=(20_000, 20_000))
    yield "a DICOM file whose header says 20,000 x 20,000", image_pb2.Image(dicom=claimed), True
    yield "raw pixels of the wrong length", raw(64, 48, pixels.tobytes()[:-1]), False
    yield "raw pixels of 1 x 1", raw(1, 1, b"\x00"), False
    yield "raw pixels of 0 x 0", raw(0, 0, b""), False
    yield "raw pixels of no type", raw(64, 48, pixels.tobytes(), untyped), False
    yield "raw pixels said to be 20,000 x 20,000", raw(20_000, 20_000, b"\x00" * 100), True
    largest = 2**32 - 1
    yield "raw pixels said to be 2^32 - 1 a side", raw(largest, largest, b"\x00" * 100), True
    yield "raw pixels with NaN", raw(64, 48, with_nan, floats), False
    yield "raw pixels with infinity", raw(64, 48, with_infinity, floats), False
    yield "raw pixels with a negative spacing", spacing, False


def _judge_bad_films(session: Session) -> str:
    faults = []
    count = 0
    for what, image, too_large in bad_films():
        count += 1
        codes: tuple[StatusCode, ...] = (StatusCode.INVALID_ARGUMENT,)
        if too_large:
            codes += (StatusCode.RESOURCE_EXHAUSTED,)
        try:
            check_refused(session, image, what, codes)
        except RuleBrokenError as error:
            faults.append(str(error))
        if not session.alive():
            faults.append(f"stopped answering after {what}")
            break
    expect(not faults, "; ".join(faults))
    session.expect_serving("bad films")
    return f"{count} bad films"


def _judge_file_forms(session: Session) -> str:
    pixels = standard_pixels()
    first = session.default_answer()
    wide = pixels.astype(np.uint16) * np.uint16(257)
    inverted = films.dicom_bytes(np.uint8(255) - pixels, photometric="MONOCHROME1")
    for name, image in (
        ("the film as PNG", image_pb2.Image(encoded=films.png_bytes(pixels))),
        ("the film as PNG of 16 bits", image_pb2.Image(encoded=films.png_bytes(wide))),
        ("the film as DICOM", image_pb2.Image(dicom=films.dicom_bytes(pixels))),
        ("the film as DICOM of 16 bits", image_pb2.Image(dicom=films.dicom_bytes(wide))),
        ("the film as DICOM in MONOCHROME1", image_pb2.Image(dicom=inverted)),
    ):
        try:
            response = session.predict(image)
        except grpc.RpcError as error:
            raise RuleBrokenError(f"{name} is answered with {told(error)}") from error
        check_close(first, response, name)
    return judged_on(first)


def _judge_shrunk_film(session: Session) -> str:
    model = session.model()
    if not model.shrinking_id:
        return "takes whole films only"
    if model.shrinking_id != SHRINKING_ID:
        return f"shrinks by {model.shrinking_id!r}, which this suite does not know"
    canvas = films.spine_like_pixels(model.input_height, model.input_width)
    # Of equal pixels every mean is exact, so that this needs no way of shrinking.
    film = raw_image(np.repeat(np.repeat(canvas, 2, 0), 2, 1))
    height, width = film.raw.height, film.raw.width
    first = session.predict(film)
    request = segmenter_pb2.PredictRequest(
        image=raw_image(canvas), whole_height=height, whole_width=width
    )
    check_close(first, session.stub.Predict(request, timeout=session.timeout_s), "the shrunk film")
    request.whole_height = 3 * height
    try:
        session.stub.Predict(request, timeout=session.timeout_s)
    except grpc.RpcError as error:
        expect(
            error.code() is StatusCode.INVALID_ARGUMENT,
            f"a film shrunk to another canvas is answered with {told(error)}",
        )
    else:
        raise RuleBrokenError("a film shrunk to another canvas is not refused")
    return judged_on(first)


FILM_RULES = (
    Rule("C12", "Tall, wide and small films from 16 x 16 are answered.", _judge_film_sizes),
    Rule("C13", "A film in uint8, uint16 or float32 gets one answer.", _judge_pixel_types),
    Rule(
        "C15",
        "A bad film is refused with INVALID_ARGUMENT (for its size also RESOURCE_EXHAUSTED) and a "
        "message, and serving goes on.",
        _judge_bad_films,
        slow=True,
    ),
    Rule(
        "C21",
        "A film as DICOM or PNG is answered like its raw pixels.",
        _judge_file_forms,
        slow=True,
    ),
    Rule("C22", "A film of 24 MiB is answered.", _judge_large_film, slow=True),
    Rule(
        "C24",
        "A film shrunk as `shrinking_id` says is answered like the whole one; none: not judged.",
        _judge_shrunk_film,
    ),
)
