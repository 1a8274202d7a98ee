from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from outlines import as_regions, block, shifted
from spinezoo.v1 import evaluation_pb2, evaluation_pb2_grpc, segment_pb2
from spinezoo_contract import codec
from spinezoo_contract.client import EvaluationClient
from spinezoo_contract.errors import (
    AnnotationError,
    BadInputError,
    MaskError,
    OptionError,
    TooLargeError,
)
from spinezoo_contract.services import EVALUATION_SERVICE
from spinezoo_contract.types import (
    EvaluationPair,
    FusionOptions,
    FusionRule,
    Structure,
)
from spinezoo_evaluator.service import servicer as service
from spinezoo_evaluator.service.measure import measure_pair, model_metrics
from spinezoo_spine.fusion.votes import fuse
from spinezoo_spine.instances import regions_from_label_map
from spinezoo_spine.metrics.film import measure_film
from spinezoo_spine.metrics.registry import METRICS
from spinezoo_spine.metrics.tally import Tally

HEIGHT, WIDTH = 64, 48
TRUTH = (
    *(block(4 + 14 * i, 10, 11, 24) for i in range(4)),
    block(5, 5, 4, 40, structure=Structure.SCREW),
)


@pytest.fixture
def client(evaluator_target):
    with EvaluationClient(evaluator_target) as client:
        yield client


@pytest.fixture
def stub(evaluator_target):
    with grpc.insecure_channel(evaluator_target) as channel:
        yield evaluation_pb2_grpc.EvaluationServiceStub(channel)


def pair(film="film_1", model="unet", truth=TRUTH, prediction=TRUTH):
    return EvaluationPair(film, model, HEIGHT, WIDTH, truth, prediction)


def moved(pixels):
    return tuple(s for s in (shifted(s, pixels, pixels) for s in TRUTH) if s is not None)


# --- Fuse ---


@pytest.mark.parametrize("rule", FusionRule)
def test_fuse_over_the_wire_equals_the_library(client, rule):
    inputs = {"unet": as_regions(TRUTH), "yolact": moved(2), "pspnet": moved(-1)}
    options = FusionOptions(rule, {"unet": 0.1, "yolact": 0.2, "pspnet": 0.3})
    answer = client.fuse(inputs, HEIGHT, WIDTH, options)
    assert answer == fuse(inputs, HEIGHT, WIDTH, options)
    assert answer.segments
    assert answer.member_names == ("pspnet", "unet", "yolact")


def test_fuse_names_what_is_wrong(client):
    good = {"a": TRUTH}
    with pytest.raises(OptionError, match="0"):
        client.fuse(good, HEIGHT, WIDTH, FusionOptions(FusionRule.WEIGHTED_VOTE, {"a": -1.0}))
    with pytest.raises(OptionError, match="'b'"):
        client.fuse(good, HEIGHT, WIDTH, FusionOptions(FusionRule.WEIGHTED_VOTE, {"b": 1.0}))
    with pytest.raises(OptionError, match="member"):
        client.fuse({}, HEIGHT, WIDTH)
    with pytest.raises(MaskError, match="'a'"):
        client.fuse(good, HEIGHT, WIDTH + 1)
    assert client.fuse(good, HEIGHT, WIDTH).segments


# --- Evaluate ---


def test_a_stream_is_measured_as_the_library_measures_it(client):
    pairs = [
        pair(f"film_{i}", model, prediction=prediction)
        for i in range(4)
        for model, prediction in (("yolact", moved(i)), ("unet", as_regions(moved(-i))))
    ]
    models = client.evaluate(pairs)
    assert [model.model_name for model in models] == ["unet", "yolact"]
    for model in models:
        tally = Tally.of(measure_pair(p) for p in pairs if p.model_name == model.model_name)
        assert model == model_metrics(model.model_name, tally)
        assert model.film_count == 4
        assert [metric.name for metric in model.metrics] == list(METRICS)
    by_name = {metric.name: metric for metric in models[1].metrics}
    assert 0.5 < by_name["mean_iou"].film_mean < 1.0
    assert by_name["mean_iou"].film_mean != by_name["mean_iou"].pooled
    assert by_name["iou_cage"].film_mean is None
    assert by_name["iou_cage"].film_count == 0


def test_films_in_another_order_give_the_same_answer(client):
    pairs = [pair(f"film_{i}", prediction=moved(i % 5)) for i in range(7)]
    assert client.evaluate(pairs) == client.evaluate(pairs[::-1])


def test_a_label_map_is_taken_on_either_side(client):
    label_map = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    label_map[10:20, 10:30] = 1
    label_map[40:44, 10:30] = 4
    (model,) = client.evaluate([pair(truth=label_map, prediction=label_map)])
    values = {metric.name: metric.film_mean for metric in model.metrics}
    assert values["mean_iou"] == values["iou_screw"] == values["vertebra_f1"] == 1.0
    regions = regions_from_label_map(label_map)
    (mixed,) = client.evaluate([pair(truth=label_map, prediction=regions)])
    assert mixed == model


def test_nothing_predicted_is_an_answer(client):
    (model,) = client.evaluate([pair(prediction=())])
    values = {metric.name: metric.film_mean for metric in model.metrics}
    assert values["vertebra_recognition_rate"] == 0.0
    assert values["vertebra_precision"] is None
    assert values["mean_iou"] == measure_film(TRUTH, (), HEIGHT, WIDTH).values()["mean_iou"]


def raw(prediction, film="film_2"):
    return evaluation_pb2.EvaluateRequest(
        film_id=film,
        model_name="unet",
        height=HEIGHT,
        width=WIDTH,
        truth=codec.annotation_to_proto(TRUTH),
        prediction=prediction,
    )


def label_map_message(value, rows=HEIGHT):
    data = bytes([value]) * (rows * WIDTH)
    return evaluation_pb2.Annotation(
        label_map=segment_pb2.LabelMap(height=rows, width=WIDTH, data=data)
    )


def strange_structure():
    annotation = codec.annotation_to_proto(TRUTH)
    annotation.segments.segments[0].structure = 9
    return annotation


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (codec.annotation_to_proto((block(0, 0, 5, 5, size=(HEIGHT, WIDTH + 2)),)), "50"),
        (label_map_message(1, rows=HEIGHT - 1), "63"),
        (label_map_message(255), "255"),
        (label_map_message(6), "6"),
        (strange_structure(), "9"),
        (evaluation_pb2.Annotation(), "no outlines"),
    ],
    ids=["mask size", "map size", "0/255", "label 6", "structure 9", "no form"],
)
def test_bad_input_is_refused_by_the_film_s_name_and_the_service_goes_on(
    stub, client, prediction, message
):
    good = codec.to_proto(pair("film_1"))
    with pytest.raises(grpc.RpcError) as caught:
        stub.Evaluate(iter([good, raw(prediction)]), timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "'film_2'" in caught.value.details()
    assert message in caught.value.details()
    assert client.evaluate([pair()])[0].film_count == 1


def test_a_film_sent_twice_is_refused(client):
    with pytest.raises(AnnotationError, match="'film_1', model 'unet': it came before"):
        client.evaluate([pair(), pair("film_2"), pair()])
    assert len(client.evaluate([pair(), pair(model="yolact")])) == 2


def test_an_empty_stream_is_refused(client):
    with pytest.raises(BadInputError, match="empty"):
        client.evaluate([])


def test_names_cannot_be_mixed_up_by_the_watch():
    watch = service.RepeatWatch(window=2)
    watch.take("a", "bc")
    watch.take("ab", "c")
    with pytest.raises(AnnotationError):
        watch.take("a", "bc")
    watch.take("x", "y")
    watch.take("a", "bc")  # out of the window


@pytest.mark.parametrize("side", ["truth", "prediction"])
def test_too_many_segments_are_refused_before_they_are_counted(client, side):
    few, many = (block(4, 4, 20, 20),), (block(4, 4, 20, 20),) * 8000
    sides = {"truth": few, "prediction": few, side: many}
    pair = EvaluationPair("film_1", "unet", 64, 48, sides["truth"], sides["prediction"])
    with pytest.raises(TooLargeError, match=f"film_1.*{side}: 8000 segments, the limit is 1000"):
        client.evaluate([pair])


def test_too_many_models_are_refused(client, monkeypatch):
    monkeypatch.setattr(service, "MAX_MODELS", 3)
    with pytest.raises(TooLargeError, match="'film_3'"):
        client.evaluate([pair(f"film_{i}", model=f"model_{i}") for i in range(5)])


def test_memory_stays_constant_over_2000_messages(client):
    """Server and client share this process, so whatever either keeps would show."""
    one = TRUTH[:1]
    kept = 0

    def pairs(count):
        nonlocal kept
        for i in range(count):
            if i == 500:
                gc.collect()
                tracemalloc.start()
            elif i == count - 1:
                gc.collect()
                kept = tracemalloc.get_traced_memory()[0]
                tracemalloc.stop()
            yield pair(f"film_{i}", truth=one, prediction=one)

    client.evaluate(pair(f"warm_{i}") for i in range(10))
    (model,) = client.evaluate(pairs(2000))
    assert model.film_count == 2000
    # 1,500 messages more, of which 16 bytes each are remembered: with Python's overhead 150 kB.
    # Kept as messages they would be 1 MB and more.
    assert 0 < kept < 400_000


# --- The process ---


def test_the_process_serves_both_faces_and_drains(tmp_path):
    environment = {**os.environ, "SPINEZOO_GRPC_PORT": "0", "SPINEZOO_HTTP_PORT": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "spinezoo_evaluator.serve"],
        env=environment,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        ports = {}
        for line in process.stderr:
            entry = json.loads(line)
            if entry["message"] == "listening":
                ports[entry["endpoint"]] = entry["port"]
            if entry.get("phase") == "serving":
                break
        with grpc.insecure_channel(f"127.0.0.1:{ports['grpc']}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service=EVALUATION_SERVICE)
            status = health.Check(request, timeout=10).status
            assert status == health_pb2.HealthCheckResponse.SERVING
        with EvaluationClient(f"127.0.0.1:{ports['grpc']}") as client:
            client.evaluate([pair()])
        base = f"http://127.0.0.1:{ports['http']}"
        assert httpx.get(f"{base}/livez").status_code == 200
        assert httpx.get(f"{base}/readyz").status_code == 200
        assert 'method="Evaluate"' in httpx.get(f"{base}/metrics").text
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.stderr.close()
        process.wait(10)


def test_a_taken_port_ends_the_process_with_2(evaluator_target):
    port = evaluator_target.rpartition(":")[2]
    environment = {**os.environ, "SPINEZOO_GRPC_PORT": port, "SPINEZOO_HTTP_PORT": "0"}
    started = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-m", "spinezoo_evaluator.serve"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert process.returncode == 2
    assert "SPINEZOO_GRPC_PORT" in process.stderr
    assert time.monotonic() - started < 30
