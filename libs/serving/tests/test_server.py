"""The gRPC shell and the queue, over the wire: real servers, real clients, real threads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from spinezoo.v1 import (
    segmenter_pb2,
    segmenter_pb2_grpc,
)
from spinezoo_contract import codec
from spinezoo_contract.errors import (
    ConfigurationError,
    DeadlineError,
    FilmError,
    InvalidOutputError,
    NotServingError,
    OptionError,
    QueueFullError,
    SpineZooError,
    TooLargeError,
)
from spinezoo_contract.masks import decode_mask, encode_mask, mask_box
from spinezoo_contract.services import SEGMENTER_SERVICE
from spinezoo_contract.status import REQUEST_ID_KEY, UNEXPECTED_MESSAGE, from_rpc_error
from spinezoo_contract.types import (
    Film,
    ModelInfo,
    Prediction,
    PredictOptions,
    Segment,
    SegmentKind,
    Structure,
)
from spinezoo_serving.calls import request_id_from
from spinezoo_serving.metrics import ServerMetrics
from spinezoo_serving.predict_queue import PredictQueue
from spinezoo_serving.segmenter import NetworkRunner, segmenter_server
from spinezoo_serving.server import GrpcServer, channel_options
from spinezoo_serving.settings import ServerSettings
from spinezoo_serving.state import Phase
from spinezoo_testing.threshold import ThresholdPredictor, film_file, read_film

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SETTINGS = ServerSettings(drain_s=10.0, queue_limit=2)


def film(first: int = 7, height: int = 32, width: int = 48) -> Film:
    pixels = np.random.default_rng(0).integers(0, 200, (height, width)).astype(np.uint8)
    pixels[0, 0] = first
    return Film(pixels)


def with_(**values: Any) -> ServerSettings:
    """The tests' settings with other values."""
    return SETTINGS.model_copy(update=values)


@dataclass
class Running:
    server: GrpcServer
    runner: NetworkRunner
    network: ThresholdPredictor
    channel: grpc.aio.Channel

    def predict(self, what: Film | Any, options: PredictOptions = PredictOptions(), **call: Any):
        request = what
        if isinstance(what, Film):
            request = codec.predict_request_to_proto(what, options)
        stub = segmenter_pb2_grpc.SegmenterServiceStub(self.channel)
        return stub.Predict(request, **call)

    async def error(self, call: Any) -> SpineZooError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        return from_rpc_error(caught.value)

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def serving(settings: ServerSettings = SETTINGS, **channel: Any) -> AsyncIterator[Running]:
    network = ThresholdPredictor()
    runner = NetworkRunner(settings, network, metrics=ServerMetrics())
    server = segmenter_server(runner, read_film=read_film)
    await server.start()
    options = channel_options(channel.get("limit", settings.max_message_bytes))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options) as link:
        try:
            yield Running(server, runner, network, link)
        finally:
            network.gate.set()
            await server.stop()
            runner.close()


# --- answers -------------------------------------------------------------------------------------


async def test_an_answer_over_the_wire() -> None:
    async with serving() as zoo:
        sent = film()
        got = codec.from_proto(Prediction, await zoo.predict(sent), sent.height, sent.width)
        assert np.array_equal(decode_mask(got.segments[0].mask), sent.pixels > sent.pixels.mean())
        timing = got.provenance.timing
        assert timing.decode_ms > 0
        assert timing.queue_ms > 0
        assert timing.infer_ms > 0
        stub = segmenter_pb2_grpc.SegmenterServiceStub(zoo.channel)
        info = codec.from_proto(
            ModelInfo, (await stub.GetModel(segmenter_pb2.GetModelRequest())).model
        )
        assert (info.name, info.queue_limit, info.image) == ("threshold", 2, "")


async def test_the_image_is_in_every_answer_though_the_network_knows_nothing_of_it() -> None:
    tag = "zoo/threshold:1.2"
    async with serving(with_(image=tag)) as zoo:
        got = codec.from_proto(Prediction, await zoo.predict(film()))
        stub = segmenter_pb2_grpc.SegmenterServiceStub(zoo.channel)
        response = await stub.GetModel(segmenter_pb2.GetModelRequest())
        assert got.provenance.image == response.model.image == tag


async def test_a_film_file_is_decoded_by_the_injected_reader() -> None:
    async with serving() as zoo:
        request = segmenter_pb2.PredictRequest(
            image=codec.film_file_to_proto(film_file(film()), "encoded")
        )
        assert (await zoo.predict(request)).height == 32


def shrunk_film(height: int, width: int) -> segmenter_pb2.PredictRequest:
    """A question about a film of this size, shrunk to 32 x 48."""
    return segmenter_pb2.PredictRequest(
        image=codec.film_to_proto(film()), whole_height=height, whole_width=width
    )


async def test_a_shrunk_film_goes_to_networks_that_take_it() -> None:
    async with serving() as zoo:
        error = await zoo.error(zoo.predict(shrunk_film(64, 96)))
        assert isinstance(error, FilmError)
        assert "send the whole film" in str(error)
        assert zoo.network.seen == []
        assert zoo.runner.info().shrinking_id == ""
        zoo.network.shrinking_id = "halves-1"
        assert zoo.runner.info().shrinking_id == "halves-1"
        # This one answers at the size of what it got: it is measured by the whole film's.
        error = await zoo.error(zoo.predict(shrunk_film(64, 96)))
        assert isinstance(error, InvalidOutputError)
        assert "the film 64 x 96" in str(error)
        assert len(zoo.network.seen) == 1
        assert isinstance(await zoo.error(zoo.predict(shrunk_film(30_000, 96))), TooLargeError)


async def test_24_mebibytes_both_ways() -> None:
    async with serving() as zoo:
        large = Film(np.zeros((4096, 6144), np.uint8))
        large.pixels[100:900, 200:700] = 200
        got = await zoo.predict(large, PredictOptions(include_probability_maps=True))
        assert len(got.probability_maps[0].data) == 24 << 20
        assert codec.from_proto(Prediction, got).probability_maps[0].values[500, 500] == 255


async def test_the_network_runs_on_one_thread_and_the_loop_stays_free() -> None:
    async with serving() as zoo:
        zoo.network.delay_s = 0.05
        answers = asyncio.gather(*(zoo.predict(film(i)) for i in range(3)))
        ticks = 0
        while not answers.done():
            await asyncio.sleep(0.005)
            ticks += 1
        await answers
        assert ticks > 5
        assert len(zoo.network.threads) == 1


# --- refusals ------------------------------------------------------------------------------------


async def test_bad_input_is_named_and_the_service_goes_on() -> None:
    async with serving() as zoo:
        raw = codec.film_to_proto(film())
        raw.raw.data = b"short"
        too_large = codec.film_to_proto(film())
        too_large.raw.height = too_large.raw.width = 20_000
        request = segmenter_pb2.PredictRequest
        cases = [
            (request(), FilmError, "no film"),
            (request(image=raw), FilmError, "5 bytes"),
            (request(image=too_large), TooLargeError, "SPINEZOO_MAX_PIXELS"),
            (request(image=codec.film_file_to_proto(b"junk", "dicom")), FilmError, "not a film"),
            (
                request(
                    image=codec.film_to_proto(film()),
                    options=segmenter_pb2.PredictOptions(score_threshold=7),
                ),
                OptionError,
                "score_threshold is 7",
            ),
        ]
        for message, cls, says in cases:
            error = await zoo.error(zoo.predict(message))
            assert type(error) is cls
            assert says in str(error)
            assert (await zoo.predict(film())).height == 32
        assert len(zoo.network.seen) == len(cases)


async def test_bytes_that_are_no_message() -> None:
    async with serving() as zoo:
        call = zoo.channel.unary_unary(f"/{SEGMENTER_SERVICE}/Predict")
        error = await zoo.error(call(b"\xff\xff\xff"))
        assert "not a message of this method" in str(error)
        assert (await zoo.predict(film())).height == 32


async def test_a_message_over_the_limit() -> None:
    async with serving(with_(max_message_bytes=1 << 20), limit=64 << 20) as zoo:
        big = Film(np.zeros((2000, 2000), np.uint8))
        assert type(await zoo.error(zoo.predict(big))) is TooLargeError
        assert (await zoo.predict(film())).height == 32


async def test_an_answer_over_the_limit_says_so() -> None:
    async with serving(with_(max_message_bytes=1 << 20), limit=64 << 20) as zoo:
        zoo.network.spoil = lambda p: replace(p, probability_maps=p.probability_maps * 2)
        large = Film(np.eye(1000, dtype=np.uint8))
        options = PredictOptions(include_probability_maps=True)
        error = await zoo.error(zoo.predict(large, options))
        assert type(error) is TooLargeError
        assert "no probability maps" in str(error)


async def test_an_unexpected_error_leaks_nothing(lines: Any) -> None:
    async with serving() as zoo:

        def fail(prediction: Prediction) -> Prediction:
            raise RuntimeError("Example^Anna at /secret/path")

        zoo.network.spoil = fail
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await zoo.predict(film())
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert caught.value.details() == UNEXPECTED_MESSAGE
        zoo.network.spoil = None
        assert (await zoo.predict(film())).height == 32
    (line,) = [line for line in lines() if line["level"] == "error"]
    assert "Example" not in json.dumps(lines())
    assert line["error"] == "RuntimeError"
    assert any("threshold.py" in place for place in line["places"])


def _segment(**changes: Any) -> Any:
    return lambda p: replace(p, segments=(replace(p.segments[0], **changes),))


def _two(prediction: Prediction) -> Prediction:
    first: Segment = replace(prediction.segments[0], kind=SegmentKind.INSTANCE)
    return replace(prediction, segments=(first, replace(first, score=1.0)))


def _instances(prediction: Prediction) -> tuple[Segment, ...]:
    return tuple(replace(s, kind=SegmentKind.INSTANCE) for s in prediction.segments)


NOTHING = encode_mask(np.zeros((32, 48), bool))
SMALL = encode_mask(np.ones((16, 48), bool))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: replace(p, height=31), "mask is 32 x 48, the film 31 x 48"),
        (_segment(score=1.5), "score of a lumbar_vertebra is 1.5"),
        (_segment(score=float("nan")), "score of a lumbar_vertebra is nan"),
        (_segment(structure=Structure.CAGE), "card lacks"),
        (_segment(mask=SMALL, box=mask_box(SMALL)), "16 x 48, the film 32 x 48"),
        (_segment(mask=NOTHING), "is empty"),
        (_two, "higher score"),
        (lambda p: replace(p, height=31, segments=()), "size 31 x 48"),
        (lambda p: replace(p, segments=_instances(p) * 101), "at most 100"),
        (lambda p: replace(p, segments=p.segments * 2), "two regions of one structure"),
        (lambda p: replace(p, provenance=replace(p.provenance, model_name="x")), "its card"),
    ],
)
async def test_a_wrong_answer_does_not_leave_the_container(spoil: Any, says: str) -> None:
    async with serving() as zoo:
        zoo.network.spoil = spoil
        error = await zoo.error(zoo.predict(film()))
        assert type(error) is InvalidOutputError
        assert says in str(error)


async def test_maps_that_were_not_asked_for() -> None:
    async with serving() as zoo:
        asked = codec.from_proto(
            Prediction, await zoo.predict(film(), PredictOptions(include_probability_maps=True))
        )
        zoo.network.spoil = lambda p: replace(p, probability_maps=asked.probability_maps)
        assert "not asked for" in str(await zoo.error(zoo.predict(film())))


# --- queue, deadline, cancellation ---------------------------------------------------------------


async def test_a_full_queue_answers_at_once() -> None:
    async with serving() as zoo:
        zoo.network.gate.clear()
        running = asyncio.ensure_future(_answer(zoo.predict(film(1))))
        await zoo.until(zoo.network.running.is_set)
        waiting = [asyncio.ensure_future(_answer(zoo.predict(film(i)))) for i in (2, 3)]
        await zoo.until(lambda: zoo.runner.queue.length == 2)
        shown = zoo.runner.metrics.render().decode()
        assert "spinezoo_queue_length 2.0" in shown
        assert "spinezoo_queue_limit 2.0" in shown
        error = await zoo.error(zoo.predict(film(4)))
        assert type(error) is QueueFullError
        assert "SPINEZOO_QUEUE_LIMIT" in str(error)
        await asyncio.sleep(0.1)
        zoo.network.gate.set()
        _, *waited = await asyncio.gather(running, *waiting)
        assert all(100.0 <= each.provenance.timing.queue_ms < 60_000.0 for each in waited)
        assert sorted(zoo.network.seen) == [1, 2, 3]
        assert zoo.runner.queue.length == 0
        assert (await zoo.predict(film(5))).height == 32


async def _answer(call: Any) -> Any:
    return await call


async def test_cancelled_in_the_queue_never_reaches_the_network() -> None:
    async with serving() as zoo:
        zoo.network.gate.clear()
        running = asyncio.ensure_future(_answer(zoo.predict(film(1))))
        await zoo.until(zoo.network.running.is_set)
        waiting = zoo.predict(film(2))
        await zoo.until(lambda: zoo.runner.queue.length == 1)
        waiting.cancel()
        await zoo.until(lambda: zoo.runner.queue.length == 0)
        zoo.network.gate.set()
        await running
        await zoo.predict(film(3))
        assert zoo.network.seen == [1, 3]


async def test_a_deadline_in_the_queue_never_reaches_the_network() -> None:
    async with serving() as zoo:
        zoo.network.gate.clear()
        running = asyncio.ensure_future(_answer(zoo.predict(film(1))))
        await zoo.until(zoo.network.running.is_set)
        error = await zoo.error(zoo.predict(film(2), timeout=0.2))
        assert type(error) is DeadlineError
        # The server's clock began a little later than the client's.
        await zoo.until(lambda: zoo.runner.queue.length == 0)
        zoo.network.gate.set()
        await running
        await zoo.predict(film(3))
        assert zoo.network.seen == [1, 3]


async def test_a_deadline_while_running_leaves_a_clean_worker(lines: Any) -> None:
    async with serving() as zoo:
        zoo.network.gate.clear()
        error = await zoo.error(zoo.predict(film(1), timeout=0.2))
        assert type(error) is DeadlineError
        assert zoo.network.running.is_set()
        zoo.network.gate.set()
        assert (await zoo.predict(film(2))).height == 32
        assert zoo.network.seen == [1, 2]
    late, _ = (line for line in lines() if line["message"] == "call")
    assert 100.0 < late["ms"] < 60_000.0
    sums = dict(
        re.findall(
            r'stage_seconds_sum\{stage="(\w+)"\} (\S+)', zoo.runner.metrics.render().decode()
        )
    )
    assert 0.1 < float(sums["total"]) < 60.0


async def test_a_busy_network_keeps_its_place_when_the_caller_gives_up() -> None:
    queue = PredictQueue(1)
    async with serving(with_(queue_limit=1)) as zoo:
        zoo.network.gate.clear()
        await zoo.error(zoo.predict(film(1), timeout=0.2))
        waiting = asyncio.ensure_future(_answer(zoo.predict(film(2))))
        await zoo.until(lambda: zoo.runner.queue.length == 1)
        assert type(await zoo.error(zoo.predict(film(3)))) is QueueFullError
        zoo.network.gate.set()
        await waiting
    queue.close()


async def test_a_widened_queue_runs_two_at_a_time_and_still_counts_those_that_wait() -> None:
    queue = PredictQueue(1)
    queue.widen(2)
    both = threading.Barrier(3, timeout=30.0)
    go_on = threading.Event()

    def work() -> int:
        both.wait()
        assert go_on.wait(30.0)
        return 1

    async def ask(work: Callable[[], int]) -> int:
        with queue.admit() as place:
            return await place.run(lambda waited_ms: work(), deadline=None)

    running = [asyncio.ensure_future(ask(work)) for _ in range(2)]
    await asyncio.to_thread(both.wait)
    waiting = asyncio.ensure_future(ask(lambda: 2))
    await asyncio.sleep(0)
    with pytest.raises(QueueFullError):
        queue.admit()
    assert queue.length == 1
    go_on.set()
    assert await asyncio.gather(*running, waiting) == [1, 1, 2]
    queue.close()


async def test_the_queue_alone_honours_a_past_deadline() -> None:
    queue = PredictQueue(1)
    ran: list[int] = []
    with queue.admit() as place, pytest.raises(DeadlineError):
        await place.run(lambda _: ran.append(1), deadline=time.monotonic() - 1)
    assert ran == []
    assert queue.length == 0
    queue.close()


# --- health, reflection, request id, log, metrics ------------------------------------------------


async def test_health_check_and_watch_follow_the_life_of_the_server() -> None:
    network = ThresholdPredictor()
    runner = NetworkRunner(SETTINGS, network)
    server = segmenter_server(runner)
    await server.start(ready=False)
    seen: list[int] = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)

        async def watch() -> None:
            with contextlib.suppress(grpc.aio.AioRpcError):
                async for answer in health.Watch(
                    health_pb2.HealthCheckRequest(service=SEGMENTER_SERVICE)
                ):
                    seen.append(answer.status)

        watching = asyncio.create_task(watch())
        for name in ("", SEGMENTER_SERVICE):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health.Check(health_pb2.HealthCheckRequest(service="other"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        async for answer in health.Watch(health_pb2.HealthCheckRequest(service="other")):
            assert answer.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            break
        while not seen:
            await asyncio.sleep(0.01)
        server.state.move(Phase.SERVING)
        for name in ("", SEGMENTER_SERVICE):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == SERVING
        while len(seen) < 2:
            await asyncio.sleep(0.01)
        started = time.perf_counter()
        assert await server.stop()
        # An open watch does not hold up the stop.
        assert time.perf_counter() - started < 5
        await asyncio.wait_for(watching, 5)
    assert seen == [NOT_SERVING, SERVING, NOT_SERVING]
    runner.close()


async def test_a_network_that_is_not_loaded_says_so() -> None:
    runner = NetworkRunner(SETTINGS)
    server = segmenter_server(runner)
    await server.start(ready=False)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        zoo = Running(server, runner, ThresholdPredictor(), channel)
        assert type(await zoo.error(zoo.predict(film()))) is NotServingError
        await runner.load(ThresholdPredictor)
        assert (await zoo.predict(film())).height == 32
    await server.stop()
    runner.close()


async def test_reflection_lists_the_services() -> None:
    async with serving() as zoo:
        stub = reflection_pb2_grpc.ServerReflectionStub(zoo.channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in stub.ServerReflectionInfo(iter([request])):
            names = {each.name for each in answer.list_services_response.service}
            assert {SEGMENTER_SERVICE, "grpc.health.v1.Health"} <= names
            break


async def test_the_request_id_comes_back_and_stands_in_the_log(lines: Any) -> None:
    async with serving() as zoo:
        for sent in ("abc-1.2_3", "bad id!", None):
            metadata = () if sent is None else ((REQUEST_ID_KEY, sent),)
            call = zoo.predict(film(), metadata=metadata)
            await call
            back = dict(await call.trailing_metadata())[REQUEST_ID_KEY]
            assert (back == sent) == (sent == "abc-1.2_3")
            assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", back)
            assert [line for line in lines() if line.get("request_id") == back]
        failing = zoo.predict(segmenter_pb2.PredictRequest(), metadata=((REQUEST_ID_KEY, "bad"),))
        await zoo.error(failing)
        assert dict(await failing.trailing_metadata())[REQUEST_ID_KEY] == "bad"
    calls = [line for line in lines() if line["message"] == "call"]
    assert [line["code"] for line in calls] == ["OK"] * 3 + ["INVALID_ARGUMENT"]
    assert calls[3]["error"] == "FilmError"
    for line in calls:
        assert line["method"] == f"/{SEGMENTER_SERVICE}/Predict"
        assert line["ms"] >= 0
        assert len(json.dumps(line)) < 500  # no room for pixels
    assert calls[0]["bytes_in"] > 32 * 48
    assert calls[0]["bytes_out"] > 0


def test_a_long_or_binary_request_id_is_replaced() -> None:
    for wrong in ("x" * 65, "", "a b", b"bytes", None, "a\n"):
        assert request_id_from(wrong) != wrong


async def test_metrics_count() -> None:
    async with serving() as zoo:
        await zoo.predict(film())
        await zoo.error(zoo.predict(segmenter_pb2.PredictRequest()))
        metrics = zoo.runner.metrics
    # A failed call is counted after its caller has the answer: read when the server has drained.
    text = metrics.render().decode()
    assert 'spinezoo_requests_total{code="OK",method="Predict"} 1.0' in text
    assert 'spinezoo_requests_total{code="INVALID_ARGUMENT",method="Predict"} 1.0' in text
    assert 'spinezoo_failures_total{reason="FilmError"} 1.0' in text
    for stage in ("decode", "queue", "prepare", "infer", "finish"):
        assert f'spinezoo_stage_seconds_count{{stage="{stage}"}} 1.0' in text


async def test_a_taken_port_is_an_error() -> None:
    async with serving() as zoo:
        runner = NetworkRunner(with_(grpc_port=zoo.server.port), ThresholdPredictor())
        with pytest.raises(ConfigurationError, match="SPINEZOO_GRPC_PORT"):
            await segmenter_server(runner).start()
        runner.close()


# --- streams: what gateway and evaluator use -----------------------------------------------------


# --- draining ------------------------------------------------------------------------------------


async def test_stop_answers_what_is_in_flight_and_refuses_the_rest() -> None:
    async with serving() as zoo:
        zoo.network.gate.clear()
        calls = [asyncio.ensure_future(_answer(zoo.predict(film(i)))) for i in (1, 2)]
        await zoo.until(lambda: zoo.runner.queue.length == 1)
        stopping = asyncio.create_task(zoo.server.stop())
        await asyncio.sleep(0.4)
        assert type(await zoo.error(zoo.predict(film(3)))) is NotServingError
        zoo.network.gate.set()
        assert await stopping
        assert [answer.height for answer in await asyncio.gather(*calls)] == [32, 32]


async def test_stop_does_not_wait_for_ever() -> None:
    async with serving(with_(drain_s=0.3)) as zoo:
        zoo.network.gate.clear()
        call = asyncio.ensure_future(_answer(zoo.predict(film(1))))
        await zoo.until(zoo.network.running.is_set)
        started = time.perf_counter()
        assert not await zoo.server.stop()
        assert time.perf_counter() - started < 5
        error = await zoo.error(call)
        assert isinstance(error, SpineZooError)
