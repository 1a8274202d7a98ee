"""What a caller may send wrong, through the running gateway, which serves on."""

from __future__ import annotations

import io
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pydicom
import pytest
from bench import Bench
from PIL import Image as PillowImage
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from spinezoo.v1 import ensemble_pb2, fusion_pb2, image_pb2, segmenter_pb2
from spinezoo_contract.codec import film_to_proto
from spinezoo_contract.services import ENSEMBLE_SERVICE
from spinezoo_contract.types import Film
from spinezoo_serving import calls
from spinezoo_testing.servers import until

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
INVALID = grpc.StatusCode.INVALID_ARGUMENT
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def dicom(pixels: np.ndarray | None, **attributes: Any) -> bytes:
    """A DICOM file; attributes replace or add elements, None removes one."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID = meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.PatientName = "MUSTERMANN^ERIKA"
    data.Modality = "DX"
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelRepresentation = 0
    data.ImagerPixelSpacing = [0.14, 0.15]
    if pixels is not None:
        data.Rows, data.Columns = pixels.shape[:2]
        data.PixelData = pixels.astype("<u2").tobytes()
    for name, value in attributes.items():
        setattr(data, name, value)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, data, enforce_file_format=True)
    return stream.getvalue()


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    PillowImage.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def huge_png() -> bytes:
    """A few bytes whose header claims 20,000 x 20,000 pixels."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    body = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


GREY = np.random.default_rng(3).integers(0, 4095, (96, 64)).astype(np.uint16)


def raw(**fields: Any) -> image_pb2.Image:
    values = {"pixel_type": 1, "height": 96, "width": 64, "data": bytes(96 * 64), **fields}
    return image_pb2.Image(raw=image_pb2.RawPixels(**values))


def smooth() -> np.ndarray:
    """A film of (96, 64) pixels that changes little from one to the next."""
    rows, columns = np.mgrid[:96, :64]
    return np.rint(30_000 + 20_000 * np.sin(rows / 9) * np.cos(columns / 11)).astype("<u2")


def encoded(data: bytes) -> image_pb2.Image:
    return image_pb2.Image(encoded=data)


def in_dicom(data: bytes) -> image_pb2.Image:
    return image_pb2.Image(dicom=data)


def nan_pixels() -> image_pb2.Image:
    pixels = np.ones((96, 64), dtype="<f4")
    pixels[3, 5] = np.nan
    return raw(pixel_type=3, data=pixels.tobytes())


COLOURS = np.stack([np.arange(96 * 64, dtype=np.uint32).reshape(96, 64)] * 3, axis=-1)
COLOURS = (COLOURS // (1, 3, 7)).astype(np.uint8)

BAD_FILMS: dict[str, tuple[Callable[[], image_pb2.Image], Any, str]] = {
    "no film": (image_pb2.Image, INVALID, "no film"),
    "not an image": (lambda: encoded(b"%PDF-1.7 nothing to see"), INVALID, ""),
    "not a dicom": (lambda: in_dicom(b"%PDF-1.7 nothing to see" * 20), INVALID, ""),
    "truncated dicom": (lambda: in_dicom(dicom(GREY)[:-4000]), INVALID, ""),
    "dicom cut in its header": (lambda: in_dicom(dicom(GREY)[:200]), INVALID, ""),
    "dicom without pixels": (lambda: in_dicom(dicom(None)), INVALID, ""),
    "multi-frame": (
        lambda: in_dicom(dicom(np.vstack([GREY, GREY]), Rows=96, NumberOfFrames=2)),
        INVALID,
        "frame",
    ),
    "rgb": (lambda: encoded(png(COLOURS)), INVALID, ""),
    "rgb dicom": (
        lambda: in_dicom(
            dicom(
                GREY,
                SamplesPerPixel=3,
                PhotometricInterpretation="RGB",
                PlanarConfiguration=0,
                PixelData=bytes(range(256)) * 144,
            )
        ),
        INVALID,
        "",
    ),
    "1 x 1": (lambda: encoded(png(np.zeros((1, 1), np.uint8))), INVALID, "1 x 1"),
    "1 x 1 raw": (lambda: raw(height=1, width=1, data=b"1"), INVALID, "1 x 1"),
    "20,000 x 20,000": (lambda: encoded(huge_png()), EXHAUSTED, "pixels allowed"),
    "20,000 x 20,000 raw": (lambda: raw(height=20_000, width=20_000), EXHAUSTED, "pixels"),
    "0 bytes": (lambda: encoded(b""), INVALID, "0 bytes"),
    "0 bytes of dicom": (lambda: in_dicom(b""), INVALID, "0 bytes"),
    "raw of the wrong length": (lambda: raw(data=bytes(96 * 64 - 1)), INVALID, "6144"),
    "raw without a type": (lambda: raw(pixel_type=0), INVALID, "pixel_type"),
    "raw in the other order of bytes": (
        lambda: raw(pixel_type=2, data=smooth().byteswap().tobytes()),
        INVALID,
        "little-endian",
    ),
    "raw with its sides exchanged": (
        lambda: raw(pixel_type=2, height=64, width=96, data=smooth().tobytes()),
        INVALID,
        "a film of 96 x 64, not of 64 x 96",
    ),
    "raw with signed levels": (
        lambda: raw(pixel_type=2, data=(smooth() // 16 - np.uint16(1800)).tobytes()),
        INVALID,
        "levels from 0 up",
    ),
    "nan pixels": (nan_pixels, INVALID, "NaN"),
    "spacing 0": (lambda: raw(row_spacing_mm=0.0), INVALID, "row_spacing_mm"),
}


def test_every_bad_film_is_refused_by_name_and_the_gateway_serves_on(
    five: Bench, film: Film
) -> None:
    five.segment(film)
    asked = [len(member.seen) for member in five.members.values()]
    wrong = []
    for name, (make, code, says) in BAD_FILMS.items():
        try:
            five.segment(make())
        except grpc.RpcError as error:
            details = error.details()
            if error.code() != code or says not in details or len(details) < 20:
                wrong.append((name, error.code(), details))
            assert "MUSTERMANN" not in details
        else:
            wrong.append((name, "answered"))
    assert not wrong
    assert [len(member.seen) for member in five.members.values()] == asked  # none was bothered
    assert len(five.segment(film).fused.member_names) == 5


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"quorum": 6}, "quorum is 6, but only 5 members are asked"),
        ({"quorum": 0}, "quorum is 0"),
        ({"quorum": 2, "member_names": ["unet"]}, "only 1 member is asked"),
        ({"member_names": ["unet", "resnet"]}, "no member is called 'resnet'"),
        ({"member_names": ["unet", "unet"]}, "named twice"),
        ({"member_deadline_ms": 0}, "member_deadline_ms is 0"),
        ({"member_deadline_ms": 4_000_000_000}, "send at most"),
        ({"options": segmenter_pb2.PredictOptions(score_threshold=1.5)}, "score_threshold"),
        ({"options": segmenter_pb2.PredictOptions(max_segments=0)}, "max_segments"),
        ({"fusion": fusion_pb2.FusionOptions(rule=9)}, "fusion rule is 9"),
        ({"fusion": fusion_pb2.FusionOptions(weights={"unet": -1.0})}, "weight of 'unet'"),
        ({"fusion": fusion_pb2.FusionOptions(weights={"resnet": 1.0})}, "'resnet'"),
    ],
)
def test_bad_settings_are_refused(five: Bench, film: Film, fields: dict, says: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        five.segment(film, **fields)
    assert caught.value.code() == INVALID
    assert says in caught.value.details()
    assert len(five.segment(film).fused.member_names) == 5


def test_a_message_over_the_limit_and_bytes_that_are_no_request(bench: Bench, film: Film) -> None:
    bench.add_member("a")
    bench.start(SPINEZOO_MAX_MESSAGE_BYTES=str(1 << 20))
    with pytest.raises(grpc.RpcError) as caught:
        bench.segment(Film(np.zeros((2048, 1024), np.uint8)))
    assert caught.value.code() == EXHAUSTED
    method = bench.channel.unary_unary(f"/{ENSEMBLE_SERVICE}/Segment")
    with pytest.raises(grpc.RpcError) as caught:
        method(b"\xff\xff no request", timeout=10)
    assert caught.value.code() == INVALID
    assert bench.segment(film).height == 96


@pytest.mark.parametrize("kind", ["dicom", "png"])
def test_a_file_is_decoded_once_and_members_get_its_pixels(bench: Bench, kind: str) -> None:
    member = bench.add_member("a")
    bench.start()
    image = in_dicom(dicom(GREY)) if kind == "dicom" else encoded(png(GREY))
    answer = bench.segment(image)
    seen = member.seen[-1].image.raw
    pixels = np.frombuffer(seen.data, "<u2").reshape(96, 64)
    assert (answer.height, answer.width) == (96, 64)
    assert np.array_equal(pixels, GREY)
    assert answer.timing.decode_ms > 0
    if kind == "dicom":
        assert (seen.row_spacing_mm, seen.column_spacing_mm) == (0.14, 0.15)
    else:
        assert not seen.HasField("row_spacing_mm")


def test_the_request_id_passes_through(five: Bench, film: Film) -> None:
    request = ensemble_pb2.SegmentRequest(image=film_to_proto(film))
    _, call = five.stub.Segment.with_call(
        request, timeout=10, metadata=(("x-request-id", "film-17.b"),)
    )
    assert dict(call.trailing_metadata())["x-request-id"] == "film-17.b"
    assert {member.request_ids[-1] for member in five.members.values()} == {"film-17.b"}
    _, call = five.stub.Segment.with_call(request, timeout=10)
    made = dict(call.trailing_metadata())["x-request-id"]
    assert len(made) >= 16
    assert {member.request_ids[-1] for member in five.members.values()} == {made}


def test_films_under_way_are_bounded(bench: Bench, film: Film) -> None:
    member = bench.add_member("a", delay_s=30.0)
    bench.start(SPINEZOO_GATEWAY_CONCURRENCY="2")
    request = ensemble_pb2.SegmentRequest(image=film_to_proto(film))
    calls = [bench.stub.Segment.future(request) for _ in range(2)]
    assert until(lambda: len(member.seen) == 2)
    with pytest.raises(grpc.RpcError) as caught:
        bench.segment(film)
    assert caught.value.code() == EXHAUSTED
    assert "SPINEZOO_GATEWAY_CONCURRENCY" in caught.value.details()
    for call in calls:
        call.cancel()
    member.delay_s = 0.0
    assert until(lambda: bench.gateway.server.calls.in_flight._count == 0)
    assert bench.segment(film).height == 96  # the places are free again


@pytest.mark.skipif(not DATA.is_dir(), reason="the development data are not here")
def test_the_development_films_pass_through(bench: Bench) -> None:
    member = bench.add_member("a")
    bench.start()
    files = sorted((DATA / "dicom").rglob("*.dcm"))[:12]
    answered = 0
    for path in files:
        try:
            answer = bench.segment(in_dicom(path.read_bytes()))
        except grpc.RpcError as error:
            if error.code() not in (INVALID, EXHAUSTED):
                pytest.fail(f"{path.name}: {error.code()} {error.details()}")
        else:
            answered += 1
            raw_pixels = member.seen[-1].image.raw
            assert (answer.height, answer.width) == (raw_pixels.height, raw_pixels.width)
    assert not files or answered


def test_film_and_settings_have_the_same_numbers_in_both_requests() -> None:
    """The gateway passes a request on as it came: what it leaves out are higher numbers."""
    outer = ensemble_pb2.SegmentRequest.DESCRIPTOR.fields_by_number
    inner = segmenter_pb2.PredictRequest.DESCRIPTOR.fields_by_number
    shared = sorted(set(inner) & set(outer))
    assert shared == [1, 2]
    for number in shared:
        assert outer[number].name == inner[number].name
        assert outer[number].message_type is inner[number].message_type


def test_fields_of_a_newer_client_do_not_reach_the_members(bench: Bench, film: Film) -> None:
    """Numbers that this gateway does not know are others of a member's question."""
    member = bench.add_member("a")
    bench.start()
    request = ensemble_pb2.SegmentRequest(image=film_to_proto(film))
    sizes = segmenter_pb2.PredictRequest(whole_height=480, whole_width=320)
    request.MergeFromString(sizes.SerializeToString())
    answer = bench.stub.Segment(request, timeout=10)
    assert answer.members[0].status.code == ensemble_pb2.MEMBER_CODE_OK
    assert not member.seen[0].HasField("whole_height")


def test_films_that_are_being_sent_are_bounded_in_number_and_time(
    bench: Bench, film: Film, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "UPLOAD_S", 2.0)
    bench.add_member("a")
    bench.start(SPINEZOO_GATEWAY_CONCURRENCY="1")
    service = "/spinezoo.v1.EnsembleService/"
    over = threading.Event()

    def never() -> Iterator[bytes]:
        over.wait(30)
        yield from ()

    # As a caller whose film is on its way: the call has begun, its message has not come.
    one = bench.channel.stream_unary(service + "Segment").future(never(), timeout=30)
    many = bench.channel.stream_stream(service + "SegmentStream")(never(), timeout=30)
    assert until(lambda: bench.gateway.server.calls.in_flight._count == 2)
    with pytest.raises(grpc.RpcError) as caught:
        bench.segment(film)
    assert caught.value.code() is EXHAUSTED
    said = "2 films are being sent or under way over gRPC, the limit (twice"
    assert caught.value.details().startswith(said)
    # What brings no film needs no place.
    assert bench.stub.ListModels(ensemble_pb2.ListModelsRequest(), timeout=10).members
    for call in (one, many):
        assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "did not come within 2 s" in call.details()
    assert bench.segment(film).height == film.height
    over.set()
    none = bench.channel.stream_unary(service + "Segment").future(iter(()), timeout=30)
    assert none.code() is INVALID
    assert "ended without a request" in none.details()
