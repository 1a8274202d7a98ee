"""Film files at the gateway: notes in its answers, decoders that hang, films that are too large."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import pytest
from bench import NAMES, Bench
from PIL import Image
from spinezoo.v1 import ensemble_pb2, image_pb2
from spinezoo_contract import codec
from spinezoo_contract.types import EnsembleAnswer, Film, FilmNoteCode
from spinezoo_spine.films import isolation
from spinezoo_testing.bad_decoders import SETTINGS, film_that_says, rle_film

GREY = (np.arange(96 * 64) % 251).astype(np.uint8).reshape(96, 64)


def png(pixels: np.ndarray, orientation: int = 1) -> image_pb2.Image:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif.tobytes())
    return image_pb2.Image(encoded=buffer.getvalue())


def codes(notes: object) -> set[FilmNoteCode]:
    return {FilmNoteCode(note.code) for note in notes}  # type: ignore[attr-defined]


@pytest.fixture
def bad_decoders(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SPINEZOO_DECODER_S", "3")
    isolation.close()
    yield
    isolation.close()


def test_answers_carry_the_notes(five: Bench, film: Film) -> None:
    turned = five.segment(png(GREY, 6))
    assert (turned.height, turned.width) == (64, 96)
    assert codes(turned.notes) == {FilmNoteCode.ORIENTATION_APPLIED, FilmNoteCode.NO_SPACING}
    answer = codec.from_proto(EnsembleAnswer, turned)
    assert codes(answer.notes) == codes(turned.notes)
    assert {"code": "no_spacing", "text": answer.notes[0].text} in codec.to_json(answer)["notes"]
    assert codes(five.segment(film).notes) == {FilmNoteCode.NO_SPACING}
    assert not five.segment(Film(film.pixels, 0.1, 0.1)).notes


def test_the_summary_of_a_stream_carries_the_notes(five: Bench) -> None:
    request = ensemble_pb2.SegmentStreamRequest(
        request=ensemble_pb2.SegmentRequest(image=png(GREY, 3))
    )
    *_, last = five.stub.SegmentStream(request, timeout=30)
    assert FilmNoteCode.ORIENTATION_APPLIED in codes(last.summary.notes)


def test_a_decoder_that_hangs_costs_its_film_an_error(bad_decoders: None, five: Bench) -> None:
    good = image_pb2.Image(dicom=rle_film(GREY))
    assert len(five.segment(good).fused.member_names) == len(NAMES)
    bad = image_pb2.Image(dicom=film_that_says("sleep"))
    with ThreadPoolExecutor(4) as threads:
        hung = threads.submit(five.segment, bad)
        time.sleep(0.3)
        answers = [threads.submit(five.segment, good) for _ in range(3)]
        for answer in answers:
            assert len(answer.result(timeout=30).fused.member_names) == len(NAMES)
        with pytest.raises(grpc.RpcError) as failed:
            hung.result(timeout=30)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "decoder was stopped after 3" in failed.value.details()


@pytest.mark.parametrize("fault", ["panic", "abort", "allocate natively"])
def test_other_faults_of_decoders(bad_decoders: None, five: Bench, fault: str) -> None:
    good = image_pb2.Image(dicom=rle_film(GREY))
    with ThreadPoolExecutor(4) as threads:
        broken = threads.submit(five.segment, image_pb2.Image(dicom=film_that_says(fault)))
        answers = [threads.submit(five.segment, good) for _ in range(3)]
        for answer in answers:
            assert len(answer.result(timeout=30).fused.member_names) == len(NAMES)
        with pytest.raises(grpc.RpcError) as failed:
            broken.result(timeout=30)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "decoder broke off" in failed.value.details()


@pytest.mark.parametrize("fault", ["sleep", "panic", "abort", "allocate natively"])
def test_faults_of_decoders_over_http(bad_decoders: None, five: Bench, fault: str) -> None:
    bad, good = film_that_says(fault), rle_film(GREY)
    with (
        httpx.Client(base_url=five.start_http(), trust_env=False, timeout=60.0) as http,
        ThreadPoolExecutor(4) as threads,
    ):

        def ask(film: bytes) -> httpx.Response:
            return http.post("/v1/segment", files={"film": ("film.dcm", film)})

        hung = threads.submit(ask, bad)
        answers = [threads.submit(ask, good) for _ in range(3)]
        for answer in answers:
            assert answer.result(timeout=30).json()["height"] == GREY.shape[0]
        refused = hung.result(timeout=30)
    assert refused.status_code == 400
    assert "film's decoder" in refused.text


def test_a_film_whose_pixels_fit_no_message_is_refused_up_front(bench: Bench) -> None:
    for name in NAMES:
        bench.add_member(name)
    bench.start(SPINEZOO_MAX_MESSAGE_BYTES=str(1 << 20))
    wide = np.zeros((900, 700), np.uint16)
    wide[:, ::2] = 1000
    with pytest.raises(grpc.RpcError) as failed:
        bench.segment(png(wide))
    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "TooLargeError" in dict(failed.value.trailing_metadata()).values()
    assert "scale it down to 491520 pixels" in failed.value.details()
    assert not any(member.seen for member in bench.members.values())
    assert bench.segment(png((wide // 8).astype(np.uint8))).height == 900
