# ruff: noqa: N802 - the methods are named by the contract
"""The typed clients against real servers: blocking and asyncio, right and wrong answers."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from spinezoo.v1 import (
    ensemble_pb2,
    ensemble_pb2_grpc,
    evaluation_pb2,
    evaluation_pb2_grpc,
    segmenter_pb2,
    segmenter_pb2_grpc,
)
from spinezoo_conformance import films as synthetic
from spinezoo_contract import codec
from spinezoo_contract.client import (
    DEFAULT_MAX_MESSAGE_BYTES,
    AsyncEnsembleClient,
    AsyncEvaluationClient,
    AsyncSegmenterClient,
    EnsembleClient,
    EvaluationClient,
    SegmenterClient,
    film_kind,
    image_message,
)
from spinezoo_contract.errors import (
    AnnotationError,
    DeadlineError,
    FilmError,
    InvalidOutputError,
    NotServingError,
    OptionError,
    QuorumError,
    SpineZooError,
    TooLargeError,
)
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.status import REQUEST_ID_KEY, error_metadata, to_status
from spinezoo_contract.types import (
    Box,
    EnsembleAnswer,
    EnsembleOptions,
    EnsembleSummary,
    EvaluationPair,
    Film,
    FusedAnswer,
    FusionOptions,
    FusionRule,
    GatewayTiming,
    MemberAnswer,
    MemberCode,
    MemberStatus,
    Metric,
    MetricDirection,
    ModelFamily,
    ModelInfo,
    ModelMetrics,
    Prediction,
    PredictOptions,
    ProbabilityMap,
    Provenance,
    Roster,
    RosterMember,
    Segment,
    SegmentKind,
    Structure,
)

ROOM = Path(__file__).resolve().parents[1]
PIXELS = synthetic.spine_like_pixels(48, 32)
FILM = Film(PIXELS, row_spacing_mm=0.2)
PROVENANCE = Provenance("pspnet", "0.1.0", "lite", "a" * 64, "letterbox-2ch-v1", "cpu")
INFO = ModelInfo(
    "pspnet", "0.1.0", "PSPNet", ModelFamily.SEMANTIC, "lite", (Structure.CAGE,), 64, 64,
    "a" * 64, "b" * 64, "Apache-2.0", 0.0, None, DEFAULT_MAX_MESSAGE_BYTES, 16,
)  # fmt: skip
METRICS = ModelMetrics(
    "pspnet", 2,
    (Metric("mean_iou", 0.5, None, 2, MetricDirection.HIGHER_IS_BETTER, 0.0, 1.0),),
)  # fmt: skip
TIMING = GatewayTiming(1.0, 2.0, 3.0, 6.0)


def a_segment(height: int, width: int) -> Segment:
    pixels = np.zeros((height, width), dtype=bool)
    pixels[3:9, 4:8] = True
    mask = encode_mask(pixels)
    return Segment(Structure.CAGE, SegmentKind.REGION, mask, 0.75, mask_box(mask))


def a_prediction(height: int = 48, width: int = 32) -> Prediction:
    return Prediction(height, width, (a_segment(height, width),), PROVENANCE)


FUSED = FusedAnswer((a_segment(48, 32),), None, FusionRule.UNION, ("pspnet",))
OK = MemberAnswer(MemberStatus("pspnet", MemberCode.OK, 5.0), a_prediction())
LATE = MemberAnswer(MemberStatus("unet", MemberCode.DEADLINE_EXCEEDED, 9.0, "too late"), None)
ANSWER = EnsembleAnswer(48, 32, (OK, LATE), FUSED, TIMING)
SUMMARY = EnsembleSummary(48, 32, (OK.status, LATE.status), FUSED, TIMING)
ROSTER = Roster((RosterMember("pspnet", "127.0.0.1:1", OK.status, INFO),), 3, 60000)


class Zoo(
    segmenter_pb2_grpc.SegmenterServiceServicer,
    ensemble_pb2_grpc.EnsembleServiceServicer,
    evaluation_pb2_grpc.EvaluationServiceServicer,
):
    """All three services; remembers what it was asked, answers or fails as told."""

    def __init__(self) -> None:
        self.request: Any = None
        self.request_id = ""
        self.error: SpineZooError | None = None
        self.wait_s = 0.0
        self.size: tuple[int, int] | None = None
        self.map_bytes = 0
        self.send_summary = True
        self.stream_ended = threading.Event()
        self.films: list[str] = []

    def _asked(self, request: Any, context: Any) -> None:
        self.request = request
        self.request_id = dict(context.invocation_metadata())[REQUEST_ID_KEY]
        if self.wait_s:
            time.sleep(self.wait_s)
        if self.error is not None:
            context.set_trailing_metadata(error_metadata(self.error))
            context.abort(*to_status(self.error))

    def Predict(self, request: Any, context: Any) -> Any:
        self._asked(request, context)
        raw = request.image.raw
        height, width = self.size or (raw.height or 48, raw.width or 32)
        answer = codec.to_proto(a_prediction(height, width))
        if self.map_bytes:
            grid = np.zeros((1024, self.map_bytes // 1024), dtype=np.uint8)
            answer.probability_maps.append(
                codec.to_proto(ProbabilityMap(Structure.CAGE, grid, Box(0, 0, width, height)))
            )
        return answer

    def GetModel(self, request: Any, context: Any) -> Any:
        self._asked(request, context)
        return segmenter_pb2.GetModelResponse(model=codec.to_proto(INFO))

    def Segment(self, request: Any, context: Any) -> Any:
        self._asked(request, context)
        return codec.to_proto(ANSWER)

    def SegmentStream(self, request: Any, context: Any) -> Any:
        context.add_callback(self.stream_ended.set)
        self._asked(request, context)
        for member in (OK, LATE):
            yield ensemble_pb2.SegmentStreamResponse(member=codec.to_proto(member))
        if self.size is not None:
            self.stream_ended.wait(10)
        if self.send_summary:
            yield ensemble_pb2.SegmentStreamResponse(summary=codec.to_proto(SUMMARY))

    def ListModels(self, request: Any, context: Any) -> Any:
        self._asked(request, context)
        return codec.to_proto(ROSTER)

    def Fuse(self, request: Any, context: Any) -> Any:
        self._asked(request, context)
        return evaluation_pb2.FuseResponse(fused=codec.to_proto(FUSED))

    def Evaluate(self, request_iterator: Any, context: Any) -> Any:
        for request in request_iterator:
            pair = codec.evaluation_pair_from_proto(request)
            self.films.append(pair.film_id)
            if self.error is not None and len(self.films) == 2:
                context.set_trailing_metadata(error_metadata(self.error))
                context.abort(*to_status(self.error))
        return evaluation_pb2.EvaluateResponse(models=[codec.to_proto(METRICS)])


@pytest.fixture
def zoo() -> Zoo:
    return Zoo()


@pytest.fixture
def target(zoo: Zoo) -> Iterator[str]:
    limit = DEFAULT_MAX_MESSAGE_BYTES
    server = grpc.server(
        futures.ThreadPoolExecutor(4),
        options=[
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", limit),
        ],
    )
    segmenter_pb2_grpc.add_SegmenterServiceServicer_to_server(zoo, server)
    ensemble_pb2_grpc.add_EnsembleServiceServicer_to_server(zoo, server)
    evaluation_pb2_grpc.add_EvaluationServiceServicer_to_server(zoo, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait(5)


def a_pair(film_id: str) -> EvaluationPair:
    segments = (a_segment(48, 32),)
    return EvaluationPair(film_id, "pspnet", 48, 32, segments, segments)


# --- one network ---------------------------------------------------------------------------------


def test_predict_and_get_model(zoo: Zoo, target: str) -> None:
    options = PredictOptions(score_threshold=0.25, max_segments=7)
    with SegmenterClient(target) as client:
        client.wait_until_connected(10)
        assert client.predict(FILM, options, request_id="abc") == a_prediction()
        assert zoo.request_id == "abc"
        assert codec.from_proto(PredictOptions, zoo.request.options) == options
        assert zoo.request.image.raw.row_spacing_mm == 0.2
        assert client.get_model() == INFO
        assert len(zoo.request_id) == 32
        assert client.get_model(timeout_s=10, request_id="m-1") == INFO
        assert zoo.request_id == "m-1"


async def test_predict_and_get_model_async(zoo: Zoo, target: str) -> None:
    async with AsyncSegmenterClient(target) as client:
        assert await client.predict(FILM, request_id="abc") == a_prediction()
        assert zoo.request_id == "abc"
        assert await client.get_model(timeout_s=10, request_id="m-1") == INFO
        assert zoo.request_id == "m-1"


def test_films_in_every_form(zoo: Zoo, target: str, tmp_path: Path) -> None:
    dicom, png = synthetic.dicom_bytes(PIXELS), synthetic.png_bytes(PIXELS)
    path = tmp_path / "film.dcm"
    path.write_bytes(dicom)
    with SegmenterClient(target) as client:
        for film, form, content in (
            (PIXELS, "raw", None),
            (dicom, "dicom", dicom),
            (png, "encoded", png),
            (path, "dicom", dicom),
            (str(path), "dicom", dicom),
        ):
            assert client.predict(film) == a_prediction()
            assert zoo.request.image.WhichOneof("form") == form
            if content is not None:
                assert getattr(zoo.request.image, form) == content
        client.predict(b"whatever", kind="dicom")
        assert zoo.request.image.dicom == b"whatever"


def test_kinds_of_files() -> None:
    dicom = synthetic.dicom_bytes(PIXELS)
    assert film_kind(dicom) == "dicom"
    assert film_kind(dicom[132:]) == "dicom"
    assert film_kind(b"\x08\x00\x05\x00CS") == "dicom"
    for start in (synthetic.png_bytes(PIXELS), b"\xff\xd8\xff\xe0", b"II*\x00", b"MM\x00*", b"no"):
        assert film_kind(start) == "encoded"


def test_films_that_cannot_be_sent(tmp_path: Path) -> None:
    with pytest.raises(FilmError, match=r"gone\.dcm cannot be read \(No such file"):
        image_message(tmp_path / "gone.dcm")
    with pytest.raises(FilmError, match="0 bytes"):
        image_message(b"")
    with pytest.raises(FilmError, match="convert to uint8"):
        image_message(PIXELS.astype(np.int32))
    with pytest.raises(FilmError, match="one grey plane"):
        image_message(np.stack([PIXELS] * 3, axis=-1))


@pytest.mark.parametrize(
    "error",
    [
        FilmError("film is upside down; turn it"),
        OptionError("score_threshold is 2"),
        TooLargeError("too many pixels"),
        NotServingError("draining"),
        InvalidOutputError("nonsense"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_keep_class_and_message(zoo: Zoo, target: str, error: SpineZooError) -> None:
    zoo.error = error
    with SegmenterClient(target) as client, pytest.raises(type(error)) as caught:
        client.predict(FILM, request_id="r-1")
    assert str(caught.value) == str(error)
    assert type(caught.value) is type(error)
    assert "request id r-1" in caught.value.__notes__

    async def ask() -> None:
        async with AsyncSegmenterClient(target) as client:
            await client.predict(FILM, request_id="r-2")

    with pytest.raises(type(error)) as caught:
        asyncio.run(ask())
    assert "request id r-2" in caught.value.__notes__


def test_a_wrong_option_is_refused_before_it_is_sent(zoo: Zoo, target: str) -> None:
    with SegmenterClient(target) as client, pytest.raises(OptionError):
        client.predict(FILM, PredictOptions(score_threshold=2.0))
    assert zoo.request is None


def test_timeouts(zoo: Zoo, target: str) -> None:
    zoo.wait_s = 0.5
    with SegmenterClient(target, timeout_s=0.05) as client:
        with pytest.raises(DeadlineError):
            client.predict(FILM)
        assert client.predict(FILM, timeout_s=10) == a_prediction()


def test_a_time_without_end_is_no_limit(zoo: Zoo, target: str) -> None:
    for time_s in (float("inf"), 1e12, None):
        with SegmenterClient(target, timeout_s=time_s) as client:
            assert client.predict(FILM) == a_prediction()
            assert client.predict(FILM, timeout_s=time_s) == a_prediction()
    with pytest.raises(OptionError, match="nan"), SegmenterClient(target) as client:
        client.predict(FILM, timeout_s=float("nan"))


def test_nothing_at_the_address() -> None:
    with SegmenterClient("127.0.0.1:1") as client:
        with pytest.raises(NotServingError, match="is the server running at this address"):
            client.predict(FILM)
        with pytest.raises(NotServingError, match=r"took no connection within 0\.2 s"):
            client.wait_until_connected(0.2)


def test_an_answer_of_another_size_is_no_answer(zoo: Zoo, target: str) -> None:
    zoo.size = (24, 16)
    with SegmenterClient(target) as client, pytest.raises(InvalidOutputError, match="24 x 16"):
        client.predict(FILM)


def test_large_messages_both_ways(zoo: Zoo, target: str) -> None:
    zoo.map_bytes = 24 << 20
    film = Film(np.zeros((4096, 3072), dtype=np.uint16))
    with SegmenterClient(target) as client:
        prediction = client.predict(film)
    assert prediction.height == 4096
    assert prediction.probability_maps[0].values.size == 24 << 20
    assert zoo.request.image.raw.height == 4096


def test_limits_are_named(zoo: Zoo, target: str) -> None:
    with SegmenterClient(target, max_message_bytes=1 << 20) as client:
        with pytest.raises(TooLargeError, match="SPINEZOO_MAX_MESSAGE_BYTES"):
            client.predict(np.zeros((1025, 1024), dtype=np.uint8))
        zoo.map_bytes = 2 << 20
        with pytest.raises(TooLargeError, match="SPINEZOO_MAX_MESSAGE_BYTES"):
            client.predict(FILM)


# --- the ensemble --------------------------------------------------------------------------------

OPTIONS = EnsembleOptions(
    PredictOptions(score_threshold=0.5), ("pspnet",), FusionOptions(FusionRule.UNION), 900, 2
)


def test_segment_and_list_models(zoo: Zoo, target: str) -> None:
    with EnsembleClient(target) as client:
        assert client.segment(synthetic.dicom_bytes(PIXELS), OPTIONS) == ANSWER
        assert codec.from_proto(EnsembleOptions, zoo.request) == OPTIONS
        assert zoo.request.image.WhichOneof("form") == "dicom"
        assert client.list_models() == ROSTER


async def test_segment_and_list_models_async(zoo: Zoo, target: str) -> None:
    async with AsyncEnsembleClient(target) as client:
        assert await client.segment(FILM, OPTIONS) == ANSWER
        assert codec.from_proto(EnsembleOptions, zoo.request) == OPTIONS
        assert await client.list_models() == ROSTER


def test_stream(zoo: Zoo, target: str) -> None:
    with EnsembleClient(target) as client:
        assert list(client.stream(FILM, OPTIONS)) == [OK, LATE, SUMMARY]
    assert codec.from_proto(EnsembleOptions, zoo.request.request) == OPTIONS


async def test_stream_async(zoo: Zoo, target: str) -> None:
    async with AsyncEnsembleClient(target) as client:
        assert [event async for event in client.stream(FILM)] == [OK, LATE, SUMMARY]


def test_leaving_a_stream_cancels_it(zoo: Zoo, target: str) -> None:
    zoo.size = (0, 0)
    with EnsembleClient(target) as client:
        events = client.stream(FILM)
        assert next(events) == OK
        events.close()  # type: ignore[attr-defined]
        assert zoo.stream_ended.wait(5)


async def test_leaving_a_stream_cancels_it_async(zoo: Zoo, target: str) -> None:
    zoo.size = (0, 0)
    async with AsyncEnsembleClient(target) as client:
        events = client.stream(FILM)
        assert await anext(events) == OK
        await events.aclose()  # type: ignore[attr-defined]
        assert await asyncio.to_thread(zoo.stream_ended.wait, 5)


def test_a_stream_without_summary_is_no_answer(zoo: Zoo, target: str) -> None:
    zoo.send_summary = False
    with EnsembleClient(target) as client:
        events = client.stream(FILM, request_id="r-3")
        assert [next(events), next(events)] == [OK, LATE]
        with pytest.raises(InvalidOutputError, match="without a summary") as caught:
            next(events)
    assert "request id r-3" in caught.value.__notes__


def test_a_missed_quorum_names_the_members(zoo: Zoo, target: str) -> None:
    zoo.error = QuorumError("1 of 3 members answered: unet deadline exceeded, yolact unavailable")
    with EnsembleClient(target) as client:
        with pytest.raises(QuorumError, match="unet deadline exceeded"):
            client.segment(FILM)
        with pytest.raises(QuorumError, match="yolact unavailable"):
            list(client.stream(FILM))


def test_a_stream_is_checked_before_it_is_iterated(target: str) -> None:
    with EnsembleClient(target) as client, pytest.raises(FilmError):
        client.stream(b"")


# --- the evaluator -------------------------------------------------------------------------------


def test_fuse_and_evaluate(zoo: Zoo, target: str) -> None:
    with EvaluationClient(target) as client:
        options = FusionOptions(FusionRule.WEIGHTED_VOTE, {"pspnet": 2.0})
        assert client.fuse({"pspnet": FUSED.segments}, 48, 32, options) == FUSED
        assert zoo.request.options.weights == {"pspnet": 2.0}
        assert client.evaluate(a_pair(f"film-{index}") for index in range(3)) == (METRICS,)
    assert zoo.films == ["film-0", "film-1", "film-2"]


async def test_fuse_and_evaluate_async(zoo: Zoo, target: str) -> None:
    async def pairs() -> Any:
        for index in range(3):
            yield a_pair(f"film-{index}")

    async with AsyncEvaluationClient(target) as client:
        assert await client.fuse({"pspnet": FUSED.segments}, 48, 32) == FUSED
        assert await client.evaluate(pairs()) == (METRICS,)
        assert await client.evaluate([a_pair("film-3")]) == (METRICS,)
    assert zoo.films == ["film-0", "film-1", "film-2", "film-3"]


def test_an_error_among_the_pairs_comes_out_as_itself(zoo: Zoo, target: str) -> None:
    def pairs() -> Iterator[EvaluationPair]:
        yield a_pair("film-0")
        raise AnnotationError("film-1: the outline crosses itself")

    with (
        EvaluationClient(target) as client,
        pytest.raises(AnnotationError, match="crosses itself"),
    ):
        client.evaluate(pairs())

    async def ask() -> None:
        async with AsyncEvaluationClient(target) as client:
            await client.evaluate(pairs())

    with pytest.raises(AnnotationError, match="crosses itself"):
        asyncio.run(ask())


def test_an_error_of_the_evaluator_names_the_film(zoo: Zoo, target: str) -> None:
    zoo.error = AnnotationError("film-1: truth is 40 x 32, the film 48 x 32")

    def pairs() -> Iterator[EvaluationPair]:
        for index in range(1000):
            yield a_pair(f"film-{index}")

    with EvaluationClient(target) as client, pytest.raises(AnnotationError, match="film-1"):
        client.evaluate(pairs())
    zoo.films.clear()

    async def ask() -> None:
        async with AsyncEvaluationClient(target) as client:
            await client.evaluate(pairs())

    with pytest.raises(AnnotationError, match="film-1"):
        asyncio.run(ask())


# --- what a stranger installs --------------------------------------------------------------------

IMPORT_ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {
            "yaml", "grpc_health", "grpc_reflection", "prometheus_client", "starlette", "uvicorn",
            "bentoml", "spinezoo_spine", "torch", "tensorflow", "cv2", "pydicom", "PIL",
        }:
            raise ImportError(f"{name} is not among the four dependencies")

sys.meta_path.insert(0, Refuse())
"""

USE_ALONE = """
import numpy as np
from spinezoo_contract import client, codec, errors, masks, status, types
image = client.image_message(np.zeros((32, 32), dtype=np.uint8))
assert image.raw.height == 32
with client.EnsembleClient("127.0.0.1:1") as zoo:
    try:
        zoo.list_models(timeout_s=5)
    except errors.NotServingError:
        print("works alone")
"""


def test_the_client_needs_nothing_of_the_extras() -> None:
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_ALONE + USE_ALONE],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.stdout.strip() == "works alone", result.stderr


def test_a_stranger_installs_it_alone(tmp_path: Path) -> None:
    uv = ROOM.parents[1] / ".tools" / "bin" / "uv"
    command = str(uv) if uv.is_file() else shutil.which("uv")
    if command is None:
        pytest.skip("uv is missing; `make setup` installs it")
    # A copy, because a build must not write into the sources.
    package = tmp_path / "package"
    shutil.copytree(
        ROOM, package, ignore=shutil.ignore_patterns(".venv", "__pycache__", "tests", ".*")
    )
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [command, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv")], check=True
    )
    # Offline: a test does not download; `make setup` has filled the cache.
    installed = subprocess.run(
        [command, "pip", "install", "--offline", "--python", str(python), str(package)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if installed.returncode:
        pytest.skip(f"not all in uv's cache: {installed.stderr.strip()[-300:]}")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [str(python), "-c", USE_ALONE],
        capture_output=True, text=True, check=False, env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert result.stdout.strip() == "works alone", result.stderr
    listed = subprocess.run(
        [command, "pip", "list", "--python", str(python), "--format", "freeze"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    names = {line.partition("==")[0].lower() for line in listed.splitlines()}
    ours = {"spinezoo-contract"}
    assert names - ours <= {"numpy", "grpcio", "protobuf", "pycocotools", "typing-extensions"}
