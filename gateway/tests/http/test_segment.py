"""``/v1/segment``, ``/v1/preview`` and ``/v1/models`` over real sockets."""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import films
import httpx
import numpy as np
import pytest
from bench import Bench
from spinezoo.v1 import ensemble_pb2, image_pb2
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.types import RunLengthMask
from spinezoo_gateway.http.models import (
    MemberModel,
    ModelsAnswer,
    PreviewAnswer,
    SegmentAnswer,
    SummaryEvent,
)
from spinezoo_testing.servers import until
from truth_member import TruthMember

Connect = Callable[..., httpx.Client]
STREAM = {"Accept": "text/event-stream"}


def events(lines: Iterator[str]) -> Iterator[tuple[str, dict]]:
    name = ""
    for line in lines:
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, json.loads(value)


def test_http_and_grpc_say_the_same(bench: Bench, connect: Connect, png: bytes) -> None:
    over_http = connect().post("/v1/segment", files={"film": png})
    assert over_http.status_code == 200, over_http.text
    answer = SegmentAnswer.model_validate_json(over_http.content)
    over_grpc: ensemble_pb2.SegmentResponse = bench.segment(image_pb2.Image(encoded=png))
    assert (answer.height, answer.width) == (over_grpc.height, over_grpc.width)
    assert [m.name for m in answer.members] == [m.status.member_name for m in over_grpc.members]
    for mine, theirs in zip(answer.members, over_grpc.members, strict=True):
        assert mine.code == "ok"
        (one,), (other,) = mine.segments, theirs.segments
        assert one.mask.counts == other.mask.counts.decode()
        assert one.structure == "lumbar_vertebra"
        assert one.box == (other.box.x, other.box.y, other.box.width, other.box.height)
        assert mine.provenance.weights_sha256 == theirs.provenance.weights_sha256
    assert answer.fused.merged_mask.counts == over_grpc.fused.merged_mask.counts.decode()
    vertebrae = over_grpc.fused.labelling.vertebrae
    assert len(answer.fused.labelling.vertebrae) == len(vertebrae) == 1
    assert answer.fused.labelling.film.view == "lateral" or not vertebrae[0].segment.level
    assert [note.code for note in answer.notes] == ["no_spacing"]


def test_polygons_and_pictures_cover_the_same_pixels(connect: Connect, png: bytes) -> None:
    client = connect()
    masks = {}
    for form in ("runs", "polygons", "png", "none"):
        answer = client.post("/v1/segment", files={"film": png}, data={"masks": form}).json()
        SegmentAnswer.model_validate(answer)
        masks[form] = answer["members"][0]["segments"][0].get("mask")
    counts = masks["runs"]["counts"].encode()
    wanted = decode_mask(RunLengthMask(96, 64, counts))
    drawn = np.zeros((96, 64), np.uint8)
    # Pixel centres lie half a pixel inside the borders.
    rings = [np.array(ring).reshape(-1, 2) for ring in masks["polygons"]["rings"]]
    cv2.fillPoly(drawn, [np.rint((r - 0.5) * 16).astype(np.int32) for r in rings], 1, shift=4)
    assert (drawn.astype(bool) & wanted).sum() == wanted.sum()
    left, top = masks["png"]["origin"]
    patch = cv2.imdecode(np.frombuffer(base64.b64decode(masks["png"]["png"]), np.uint8), -1)
    whole = np.zeros((96, 64), bool)
    whole[top : top + patch.shape[0], left : left + patch.shape[1]] = patch > 0
    assert np.array_equal(whole, wanted)
    assert masks["none"] is None


def test_members_come_as_they_finish_and_the_fused_answer_last(
    bench: Bench, connect: Connect, png: bytes
) -> None:
    gate = threading.Event()
    for name in ("pspnet", "unet", "yolact"):
        bench.add_member(name)
    bench.members["unet"].delay_s = 30.0
    client = connect(SPINEZOO_QUORUM="2")
    with client.stream(
        "POST", "/v1/segment", files={"film": png}, headers=STREAM, data={"member_deadline_ms": 900}
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        seen = []
        for name, value in events(response.iter_lines()):
            if name == "member":
                MemberModel.model_validate(value)
                seen.append((value["name"], value["code"]))
            else:
                SummaryEvent.model_validate(value)
                assert name == "fused"
                gate.set()
    assert gate.is_set()
    assert {name for name, _ in seen[:2]} == {"pspnet", "yolact"}
    assert seen[2] == ("unet", "deadline_exceeded")


def test_a_stream_that_fails_on_the_way_says_the_problem(
    bench: Bench, connect: Connect, png: bytes
) -> None:
    bench.add_member("pspnet")
    bench.add_member("unet", behaviour="crash")
    client = connect(SPINEZOO_QUORUM="2")
    with client.stream("POST", "/v1/segment", files={"film": png}, headers=STREAM) as response:
        found = list(events(response.iter_lines()))
    assert [name for name, _ in found] == ["member", "member", "problem"]
    problem = found[-1][1]
    assert (problem["error"], problem["status"]) == ("QuorumError", 503)
    assert [each["code"] for each in problem["members"]] == ["OK", "INTERNAL"]
    whole = client.post("/v1/segment", files={"film": png})
    assert whole.status_code == 503
    assert whole.headers["retry-after"]
    assert whole.json()["members"][1]["member_name"] == "unet"


def test_a_caller_who_goes_cancels_the_members(bench: Bench, connect: Connect, png: bytes) -> None:
    slow = bench.add_member("unet", delay_s=30.0)
    client = connect(SPINEZOO_QUORUM="1")
    for headers in ({}, STREAM):
        before, waiting = slow.cancelled, len(slow.seen)
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/segment", files={"film": png}, headers=headers, timeout=0.5)
        assert until(lambda waiting=waiting: len(slow.seen) > waiting)
        assert until(lambda before=before: slow.cancelled > before)
    assert until(lambda: bench.gateway.server.calls.in_flight._count == 0)


def test_the_callers_own_deadline(bench: Bench, connect: Connect, png: bytes) -> None:
    bench.add_member("unet", delay_s=30.0)
    client = connect(SPINEZOO_QUORUM="1")
    answer = client.post("/v1/segment", files={"film": png}, data={"deadline_ms": "600"})
    # The member is cut off a little before the caller's end, and named.
    assert answer.status_code in (503, 504)
    assert answer.json()["error"] in ("QuorumError", "DeadlineError")


def test_many_callers_meet_the_bounded_queue(bench: Bench, connect: Connect, png: bytes) -> None:
    for name in ("pspnet", "unet"):
        bench.add_member(name, delay_s=0.8)
    client = connect(SPINEZOO_GATEWAY_CONCURRENCY="4", SPINEZOO_QUORUM="1")
    codes: list[int] = []
    texts: list[str] = []

    def ask() -> None:
        with httpx.Client(base_url=client.base_url, timeout=60.0, trust_env=False) as own:
            answer = own.post("/v1/segment", files={"film": png})
        codes.append(answer.status_code)
        if answer.status_code != 200:
            texts.append(answer.json()["error"])
            assert answer.headers["retry-after"]

    callers = [threading.Thread(target=ask) for _ in range(50)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    found = Counter(codes)
    assert set(found) == {200, 503}
    assert sum(found.values()) == 50
    assert found[200] >= 4
    assert set(texts) == {"QueueFullError"}
    # Whoever was let in was never more than the limit at once, and the places are free again.
    assert client.post("/v1/segment", files={"film": png}).status_code == 200


def test_preview(connect: Connect, png: bytes, levels: np.ndarray) -> None:
    client = connect()
    for form in ("png", "raw", "none"):
        answer = client.post("/v1/preview", files={"film": png}, data={"pixels": form})
        said = PreviewAnswer.model_validate_json(answer.content)
        assert (said.height, said.width, said.levels.type) == (96, 64, "uint16")
        assert (said.levels.minimum, said.levels.maximum) == (levels.min(), levels.max())
        assert said.spacing_plane is None
        assert [note.code for note in said.notes] == ["no_spacing"]
        if form == "png":
            shown = cv2.imdecode(np.frombuffer(base64.b64decode(said.png), np.uint8), -1)
            assert np.array_equal(shown, levels)
        if form == "raw":
            raw = np.frombuffer(base64.b64decode(said.raw), "<u2").reshape(96, 64)
            assert np.array_equal(raw, levels)
        assert (said.png is None, said.raw is None) == (form != "png", form != "raw")
    picture = client.post("/v1/preview", files={"film": png}, headers={"Accept": "image/png"})
    assert picture.headers["content-type"] == "image/png"
    assert np.array_equal(cv2.imdecode(np.frombuffer(picture.content, np.uint8), -1), levels)


def test_preview_says_spacing_and_its_plane(connect: Connect) -> None:
    from test_requests import GREY, dicom

    client = connect()
    answer = client.post("/v1/preview", files={"film": dicom(GREY)}).json()
    assert (answer["row_spacing_mm"], answer["column_spacing_mm"]) == (0.14, 0.15)
    assert answer["spacing_plane"] == "detector"
    assert "MUSTERMANN" not in json.dumps(answer)
    for change, plane in (
        ({"PixelSpacing": [0.1, 0.1]}, "unsaid"),
        ({"PixelSpacing": [0.1, 0.1], "PixelSpacingCalibrationType": "FIDUCIAL"}, "patient"),
        ({"NominalScannedPixelSpacing": [0.1, 0.1]}, "scanner"),
    ):
        film = dicom(GREY, ImagerPixelSpacing=None, **change)
        answer = client.post("/v1/preview", files={"film": film}).json()
        assert PreviewAnswer.model_validate(answer).spacing_plane == plane


def test_preview_of_a_film_with_decimals(connect: Connect) -> None:
    values = np.linspace(-0.5, 2.5, 96 * 64, dtype=np.float32).reshape(96, 64)
    done, tiff = cv2.imencode(".tiff", values)
    assert done
    answer = connect().post("/v1/preview", files={"film": tiff.tobytes()}, data={"pixels": "raw"})
    said = PreviewAnswer.model_validate_json(answer.content)
    raw = np.frombuffer(base64.b64decode(said.raw), "<u2").reshape(96, 64)
    back = raw * said.levels.scale + said.levels.offset
    # The reader may have put levels of its own in place of decimals; the order must stay.
    assert np.all(np.diff(back.ravel()) >= 0)


def test_models(bench: Bench, connect: Connect) -> None:
    bench.add_member("unet")
    gone = bench.add_member("yolact")
    client = connect()
    bench.loop.run(gone.stop())
    said = ModelsAnswer.model_validate_json(client.get("/v1/models").content)
    by_name = {member.name: member for member in said.members}
    assert by_name["unet"].status.code == "ok"
    assert by_name["yolact"].status.code == "unavailable"
    assert by_name["yolact"].status.message
    assert said.reader.name


def test_request_ids_go_on_and_are_counted(
    bench: Bench, connect: Connect, png: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    member = bench.add_member("unet")
    client = connect()
    named = client.post("/v1/segment", files={"film": png}, headers={"X-Request-Id": "film-17.b"})
    assert named.headers["x-request-id"] == "film-17.b"
    made = client.post("/v1/segment", files={"film": png}, headers={"X-Request-Id": "no/good"})
    assert len(made.headers["x-request-id"]) >= 16
    assert member.request_ids == ["film-17.b", made.headers["x-request-id"]]
    counted = client.get("/metrics").text
    assert 'spinezoo_requests_total{code="OK",method="http:segment"} 2.0' in counted


def test_measures_of_a_phantom(bench: Bench, connect: Connect, tmp_path: Path) -> None:
    film = films.film_of("plain.dcm", small=True)
    for name in ("mask_rcnn", "unet", "yolact"):
        member = TruthMember(name=name, films=[film])
        bench.loop.run(member.start())
        bench.members[name] = member
    path = tmp_path / "plain.dcm"
    films.write(path.name, path, film)
    client = connect()
    fields = {"measures": "1", "magnification": "1.2", "masks": "none"}
    answer = client.post("/v1/segment", files={"film": path.read_bytes()}, data=fields)
    said = SegmentAnswer.model_validate_json(answer.content).fused
    assert len(said.labelling.vertebrae) > 4
    assert said.measures.plane in ("patient", "unspecified")
    assert len(said.measures.measures) > 5
    for measure in said.measures.measures:
        assert (measure.value is None) == (measure.withheld_reason is not None)
    plain = client.post("/v1/segment", files={"film": path.read_bytes()})
    assert SegmentAnswer.model_validate_json(plain.content).fused.measures is None
    wrong = client.post("/v1/segment", files={"film": b"x"}, data={"magnification": "0.5"})
    assert wrong.json()["error"] == "OptionError"
