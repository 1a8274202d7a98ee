"""What cannot be taken is refused with a word on what to do, and everything else goes on."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from spinezoo.v1 import evaluation_pb2, evaluation_pb2_grpc, image_pb2, segment_pb2
from spinezoo_contract import codec
from spinezoo_contract.client import EnsembleClient, SegmenterClient
from spinezoo_contract.errors import AnnotationError, BadInputError, SpineZooError, TooLargeError
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.types import (
    EvaluationPair,
    MemberCode,
    Segment,
    SegmentKind,
    Structure,
)
from spinezoo_spine.annotations.film_set import FilmSet

from end_to_end.support import (
    NETWORKS,
    PATIENT,
    Zoo,
    bad_files,
    clean_environment,
    dicom_bytes,
    patient_dicom,
    phantom_file,
    raw_films,
    room_python,
    serving,
    without_times,
)

Refused = tuple[str, image_pb2.Image, bool]
"""Name of a bad film, the film, and whether its size is what is wrong."""


@pytest.fixture(scope="module")
def bad_films(film_path: Path) -> list[Refused]:
    """Every bad film in every form of the message that it can have."""
    found: list[Refused] = []
    for name, (data, too_large) in bad_files(film_path.read_bytes()).items():
        if "DICOM" not in name:
            found.append((f"{name} as encoded", image_pb2.Image(encoded=data), too_large))
        if not any(kind in name for kind in ("PNG", "JPEG", "TIFF")):
            found.append((f"{name} as dicom", image_pb2.Image(dicom=data), too_large))

    def raw(pixel_type: int, height: int, width: int, data: bytes) -> image_pb2.Image:
        pixels = image_pb2.RawPixels(height=height, width=width, data=data)
        pixels.pixel_type = pixel_type  # type: ignore[assignment]
        return image_pb2.Image(raw=pixels)

    nan = np.ones((64, 48), np.float32)
    nan[5, 7] = np.nan
    infinite = np.ones((64, 48), np.float32)
    infinite[5, 7] = -np.inf
    one, two, four = (
        image_pb2.PIXEL_TYPE_UINT8,
        image_pb2.PIXEL_TYPE_UINT16,
        image_pb2.PIXEL_TYPE_FLOAT32,
    )
    found += [
        ("no film", image_pb2.Image(), False),
        ("raw too short", raw(two, 64, 48, bytes(64 * 48)), False),
        ("raw too long", raw(one, 64, 48, bytes(64 * 48 + 1)), False),
        ("raw of 0 bytes", raw(one, 64, 48, b""), False),
        ("raw of unknown type", raw(9, 64, 48, bytes(64 * 48)), False),
        ("raw with NaN", raw(four, 64, 48, nan.tobytes()), False),
        ("raw with infinity", raw(four, 64, 48, infinite.tobytes()), False),
        ("raw 1 x 1", raw(one, 1, 1, b"\0"), False),
        ("raw 20,000 x 20,000", raw(one, 20_000, 20_000, b"\0" * 16), True),
    ]
    return found


@pytest.fixture
def ask(
    zoo: Zoo, request: pytest.FixtureRequest
) -> Iterator[Callable[[image_pb2.Image | Path], object]]:
    """Sends a film to the gateway or a member and gives back the answer without its clock."""
    name = request.param
    if name == "gateway":
        with EnsembleClient(zoo.grpc(name)) as gateway:

            def ensemble(film: image_pb2.Image | Path) -> object:
                answer = gateway.segment(film)
                assert {m.status.code for m in answer.members} == {MemberCode.OK}
                return [
                    without_times(m.prediction) for m in answer.members if m.prediction is not None
                ], answer.fused

            yield ensemble
    else:
        with SegmenterClient(zoo.grpc(name)) as member:
            yield lambda film: without_times(member.predict(film))


def assert_helpful(what: str, message: str) -> None:
    """A message says more than a class name, says what to do, and repeats no patient value."""
    assert len(message) > 20, f"{what}: {message!r}"
    assert any(mark in message for mark in (";", ",")), f"{what}: no advice in {message!r}"
    assert "Traceback" not in message
    for value in patient_values():
        assert value not in message, f"{what}: {message!r}"


def patient_values() -> list[str]:
    """Every part of the patient's values that a message or a log might repeat."""
    return [part for value in PATIENT for part in value.split("^")]


@pytest.mark.parametrize(
    ("ask", "name"),
    [(name, name) for name in ("gateway", "pspnet", "unet", "mask_rcnn")],
    indirect=["ask"],
)
def test_bad_films_are_refused_and_good_ones_still_answered(
    zoo: Zoo,
    film_path: Path,
    bad_films: list[Refused],
    ask: Callable[[image_pb2.Image | Path], object],
    name: str,
) -> None:
    before = ask(film_path)
    assert len(bad_films) > 25
    for what, image, too_large in bad_films:
        with pytest.raises(SpineZooError) as raised:
            ask(image)
        error = raised.value
        call = error.__cause__
        assert isinstance(call, grpc.RpcError), f"{what}: refused by the client, not the server"
        allowed = {grpc.StatusCode.INVALID_ARGUMENT}
        if too_large:
            allowed = {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert call.code() in allowed, f"{what}: {call.code()} {error}"
        assert isinstance(error, TooLargeError if too_large else BadInputError), f"{what}: {error}"
        assert_helpful(what, str(error))
    assert serving(zoo.grpc(name))
    assert ask(film_path) == before


@pytest.mark.parametrize("name", ["deeplabv3", "unet"])
def test_bad_films_over_http(zoo: Zoo, film_path: Path, name: str) -> None:
    url = f"{zoo.http(name)}/predict"
    good = film_path.read_bytes()
    assert httpx.post(url, content=good, timeout=60.0).status_code == 200
    for what, (data, too_large) in bad_files(good).items():
        for way in ({"content": data}, {"files": {"film": data}}):
            answer = httpx.post(url, timeout=60.0, **way)
            assert answer.status_code == (413 if too_large else 400), f"{what}: {answer.text[:300]}"
            told = answer.json()
            assert told["error"] in ("TooLargeError" if too_large else "FilmError")
            assert told["request_id"]
            assert_helpful(what, told["message"])
    assert httpx.post(url, content=good, timeout=60.0).status_code == 200
    assert httpx.get(f"{zoo.http(name)}/readyz", timeout=10.0).status_code == 200


def test_good_films_among_bad_ones_all_get_their_answer(
    zoo: Zoo, film_path: Path, bad_films: list[Refused]
) -> None:
    films = raw_films()
    with zoo.gateway() as gateway:
        wanted = {name: gateway.segment(film).fused for name, film in films.items()}
        refused: list[str] = []
        stop = threading.Event()

        def pester() -> None:
            while not stop.is_set():
                for what, image, _ in bad_films:
                    try:
                        gateway.segment(image)
                    except (BadInputError, TooLargeError):
                        refused.append(what)

        pest = threading.Thread(target=pester)
        pest.start()
        try:
            for _ in range(2):
                for name, film in films.items():
                    assert gateway.segment(film).fused == wanted[name]
        finally:
            stop.set()
            pest.join(60.0)
    assert len(refused) >= len(bad_films)


def test_no_patient_value_in_answers_and_logs(zoo: Zoo, film_path: Path) -> None:
    film = dicom_bytes(patient_dicom(film_path.read_bytes()))
    assert all(value.encode() in film for value in patient_values())
    bad = [data for name, (data, _) in bad_files(film).items() if "DICOM" in name]
    answers = []
    for name in NETWORKS:
        for data in (film, bad[0]):
            url = f"{zoo.http(name)}/predict"
            answers.append(httpx.post(url, content=data, timeout=60.0).text)
    with zoo.gateway() as gateway:
        answers.append(json.dumps(codec.to_json(gateway.segment(film))))
        for data in bad:
            with pytest.raises(SpineZooError) as raised:
                gateway.segment(data, kind="dicom")
            answers.append(str(raised.value) + "".join(raised.value.__notes__))
    texts = {f"answer {number}": text for number, text in enumerate(answers)} | zoo.logs()
    assert len(zoo.logs()) == 7
    for where, text in texts.items():
        assert text, where
        for value in patient_values():
            assert value not in text, f"{where} repeats {value!r}"


# ---------------------------------------------------------------------------------- the evaluator


def segment_of(pixels: np.ndarray, structure: Structure = Structure.LUMBAR_VERTEBRA) -> Segment:
    """A region with these pixels."""
    mask = encode_mask(pixels)
    return Segment(structure, SegmentKind.REGION, mask, 1.0, mask_box(mask))


def good_pair() -> evaluation_pb2.EvaluateRequest:
    """A film of 64 x 48 whose prediction is its truth."""
    pixels = np.zeros((64, 48), bool)
    pixels[10:30, 10:30] = True
    outlines = (segment_of(pixels),)
    return codec.to_proto(EvaluationPair("film", "model", 64, 48, outlines, outlines))


def spoilt_pairs() -> dict[str, Callable[[evaluation_pb2.EvaluateRequest], None]]:
    """Name of a fault, and what makes it."""
    small = codec.to_proto(segment_of(np.ones((32, 48), bool)))
    labels = np.zeros((64, 48), np.uint8)
    labels[10:30, 10:30] = 255

    def other_size(pair: evaluation_pb2.EvaluateRequest) -> None:
        pair.prediction.segments.segments[0].CopyFrom(small)

    def other_label_size(pair: evaluation_pb2.EvaluateRequest) -> None:
        small_map = segment_pb2.LabelMap(height=32, width=48, data=bytes(32 * 48))
        pair.prediction.label_map.CopyFrom(small_map)

    def mask_of_0_and_255(pair: evaluation_pb2.EvaluateRequest) -> None:
        pair.prediction.label_map.CopyFrom(
            segment_pb2.LabelMap(height=64, width=48, data=labels.tobytes())
        )

    def truth_of_0_and_255(pair: evaluation_pb2.EvaluateRequest) -> None:
        pair.truth.label_map.CopyFrom(
            segment_pb2.LabelMap(height=64, width=48, data=labels.tobytes())
        )

    def short_label_map(pair: evaluation_pb2.EvaluateRequest) -> None:
        pair.truth.label_map.CopyFrom(segment_pb2.LabelMap(height=64, width=48, data=b"\1" * 99))

    def unknown_class(pair: evaluation_pb2.EvaluateRequest) -> None:
        pair.prediction.segments.segments[0].structure = 17  # type: ignore[assignment]

    def no_class(pair: evaluation_pb2.EvaluateRequest) -> None:
        pair.truth.segments.segments[0].structure = 0  # type: ignore[assignment]

    def broken_runs(pair: evaluation_pb2.EvaluateRequest) -> None:
        pair.prediction.segments.segments[0].mask.counts = b"\xff\xfe not run lengths"

    def no_prediction(pair: evaluation_pb2.EvaluateRequest) -> None:
        pair.ClearField("prediction")

    return {
        function.__name__: function
        for function in (
            other_size,
            other_label_size,
            mask_of_0_and_255,
            truth_of_0_and_255,
            short_label_map,
            unknown_class,
            no_class,
            broken_runs,
            no_prediction,
        )
    }


@pytest.mark.parametrize("fault", list(spoilt_pairs()))
def test_the_evaluator_refuses_wrong_masks_and_goes_on(zoo: Zoo, fault: str) -> None:
    with grpc.insecure_channel(zoo.grpc("evaluator")) as channel:
        stub = evaluation_pb2_grpc.EvaluationServiceStub(channel)
        pair = good_pair()
        spoilt_pairs()[fault](pair)
        pair.film_id = "the bad film"
        with pytest.raises(grpc.RpcError) as raised:
            stub.Evaluate(iter([good_pair(), pair]), timeout=30.0)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT, raised.value
        message = raised.value.details()
        assert "the bad film" in message
        assert_helpful(fault, message)
        if "255" in fault:
            assert "255" in message
        good = stub.Evaluate(iter([good_pair()]), timeout=30.0)
    assert good.models[0].film_count == 1
    by_name = {metric.name: metric.film_mean for metric in good.models[0].metrics}
    assert by_name["mean_iou"] == 1.0


def test_an_unknown_class_in_via_is_named_with_film_and_region(tmp_path: Path) -> None:
    film = phantom_file(tmp_path / "films" / "film_1.dcm", seed=5)
    regions = [
        {
            "shape_attributes": {
                "name": "polygon",
                "all_points_x": [20, 90, 90, 20],
                "all_points_y": [20, 20, 90, 90],
            },
            "region_attributes": {"structure": name},
        }
        for name in ("lumbar_vertebra", "kneecap")
    ]
    entry = {"filename": film.name, "size": -1, "regions": regions, "file_attributes": {}}
    (film.parent / "via.json").write_text(json.dumps({"film_1.dcm-1": entry}))
    with pytest.raises(AnnotationError) as raised:
        FilmSet.open(film.parent)
    message = str(raised.value)
    assert "film_1.dcm" in message
    assert "kneecap" in message
    assert_helpful("unknown class", message)

    command = [room_python("evaluator"), "-m", "spinezoo_evaluator.benchmark"]
    command += ["--data", str(film.parent), "--report", str(tmp_path / "report")]
    done = subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, timeout=60.0
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
