"""Each wrong container fails by its rule."""

# ruff: noqa: N802 - the methods are named by the contract
from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from spinezoo.v1 import (
    model_pb2,
    segment_pb2,
    segmenter_pb2,
)
from spinezoo_conformance import session
from spinezoo_conformance.check import check
from spinezoo_conformance.rules import RULES
from spinezoo_conformance.verdict import Outcome, RuleResult
from spinezoo_contract import codec
from spinezoo_contract.errors import NotServingError, SpineZooError
from spinezoo_contract.masks import decode_mask, encode_mask
from spinezoo_contract.status import to_status
from spinezoo_contract.types import RunLengthMask
from spinezoo_testing.plain_server import PlainServicer, Thresholder, serve

QUICK = {rule.rule_id for rule in RULES if not rule.slow}


def failed(results: list[RuleResult]) -> dict[str, str]:
    return {result.rule_id: result.message for result in results if result.failed}


class NoFamily(PlainServicer):
    def model(self) -> model_pb2.ModelInfo:
        model = super().model()
        model.ClearField("family")
        return model

    def fault(self, response: Any, context: Any) -> Any:
        for segment in response.segments:
            segment.kind = segment_pb2.SEGMENT_KIND_INSTANCE
        return response


class NetworkSize(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        response.height, response.width = 64, 64
        return response


class WrongBox(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        for segment in response.segments:
            segment.box.x += 5.0
        return response


class HalfMask(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        for segment in response.segments:
            segment.mask.counts = segment.mask.counts[: len(segment.mask.counts) // 2]
        return response


class EmptyMask(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        for segment in response.segments:
            size = segment.mask.height, segment.mask.width
            segment.mask.counts = encode_mask(np.zeros(size, bool)).counts
            segment.box.CopyFrom(segment_pb2.Box())
        return response


class NoBox(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        for segment in response.segments:
            segment.ClearField("box")
        return response


class Unsorted(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        backwards = list(response.segments)[::-1]
        del response.segments[:]
        response.segments.extend(backwards)
        return response


class ScoreInPercent(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        for segment in response.segments:
            segment.score *= 100.0
        return response


class UnnamedStructure(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        if response.segments:
            response.segments[0].structure = segment_pb2.STRUCTURE_CAGE
        return response


class InstancesOfSemantic(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        for segment in response.segments:
            segment.kind = segment_pb2.SEGMENT_KIND_INSTANCE
        return response


class SecondRegion(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        if len(response.segments) == 2:
            response.segments.add().CopyFrom(response.segments[1])
        return response


class OtherWeights(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        response.provenance.weights_sha256 = "0" * 64
        return response


class NoTiming(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        response.provenance.ClearField("timing")
        return response


class Random(PlainServicer):
    calls = 0

    def fault(self, response: Any, context: Any) -> Any:
        self.calls += 1
        for segment in response.segments:
            segment.score = max(0.0, segment.score - 0.01 * (self.calls % 50))
        return response


class Wandering(PlainServicer):
    """Its outlines lie a little beside each second time."""

    calls = itertools.count(1)

    def fault(self, response: Any, context: Any) -> Any:
        columns = 2 * (next(self.calls) % 2)
        for segment in response.segments:
            sent = RunLengthMask(segment.mask.height, segment.mask.width, segment.mask.counts)
            moved = encode_mask(np.roll(decode_mask(sent), columns, axis=1))
            segment.mask.counts = moved.counts
            segment.box.CopyFrom(codec.to_proto(moved.box))
        return response


class NoSmallFilms(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        if response.height == 16:
            context.abort(grpc.StatusCode.INTERNAL, "stride")
        return response


class BytesOnly(PlainServicer):
    def Predict(self, request: Any, context: Any) -> Any:
        if request.image.raw.pixel_type == 3 and request.image.raw.height == 384:
            self.echo(context)
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "float32")
        return super().Predict(request, context)


class OptionsIgnored(PlainServicer):
    def Predict(self, request: Any, context: Any) -> Any:
        maps = request.options.include_probability_maps
        request.options.Clear()
        request.options.include_probability_maps = maps
        return super().Predict(request, context)


class EmptyListOnCrash(PlainServicer):
    def on_error(self, error: SpineZooError, context: Any) -> Any:
        if "film" not in str(error) and "raw" not in str(error) and "pixel" not in str(error):
            return super().on_error(error, context)
        return segmenter_pb2.PredictResponse()


class NoMessage(PlainServicer):
    def on_error(self, error: SpineZooError, context: Any) -> Any:
        options = "score_threshold" in str(error) or "suppression" in str(error)
        details = str(error) if options or "max_segments" in str(error) else ""
        context.abort(to_status(error)[0], details)


class EverythingIsInternal(PlainServicer):
    def on_error(self, error: SpineZooError, context: Any) -> Any:
        if type(error).__name__ == "OptionError":
            return super().on_error(error, context)
        context.abort(grpc.StatusCode.INTERNAL, str(error))


class NoRequestId(PlainServicer):
    def echo(self, context: Any) -> None:
        return


class MapsUnasked(PlainServicer):
    def Predict(self, request: Any, context: Any) -> Any:
        request.options.include_probability_maps = True
        return super().Predict(request, context)


class MapsOfNothing(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        for grid in response.probability_maps:
            grid.film_box.height = 0.0
        return response


class MapsTwice(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        response.probability_maps.extend(list(response.probability_maps))
        return response


class ShortOfTime(PlainServicer):
    """Ends a call that has little time left in an error of its own."""

    def Predict(self, request: Any, context: Any) -> Any:
        if context.time_remaining() < 1.0:
            context.abort(grpc.StatusCode.INTERNAL, "too little time")
        return super().Predict(request, context)


class MapsOfWrongSize(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        for grid in response.probability_maps:
            grid.width += 1
        return response


class OneAtATime(PlainServicer):
    def __init__(self, network: Thresholder) -> None:
        super().__init__(network)
        self.lock = threading.Lock()
        self.last = 0.0

    def Predict(self, request: Any, context: Any) -> Any:
        # Only the rule of two at once sends the standard film twice within a few ms.
        twin = request.image.raw.height == 384 and request.options.HasField("score_threshold")
        if not twin:
            return super().Predict(request, context)
        if not self.lock.acquire(blocking=False):
            self.echo(context)
            context.abort(grpc.StatusCode.INTERNAL, "busy")
        try:
            time.sleep(0.05)
            return super().Predict(request, context)
        finally:
            self.lock.release()


class FalseMonochrome1(PlainServicer):
    def Predict(self, request: Any, context: Any) -> Any:
        if request.image.dicom:
            request.image.dicom = request.image.dicom.replace(b"MONOCHROME1", b"MONOCHROME2")
        return super().Predict(request, context)


class FourMebibytes(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        if response.height * response.width > 4 << 20:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "film too large")
        return response


class SaysItShrinks(PlainServicer):
    """Takes a shrunk film for a whole one."""

    def model(self) -> model_pb2.ModelInfo:
        model = super().model()
        model.shrinking_id = "area-letterbox-1"
        return model


class FreeLevel(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        for segment in response.segments:
            segment.level = "the fourth"
        return response


class LongNote(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        response.notes.add(code=1, text="x" * 501)
        return response


class LongDevice(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        response.provenance.device = "x" * 201
        return response


class DiesOfBadFilms(PlainServicer):
    def on_error(self, error: SpineZooError, context: Any) -> Any:
        if "0 bytes" not in str(error):
            return super().on_error(error, context)
        assert self.server is not None
        self.server.stop(0)
        return segmenter_pb2.PredictResponse()


WRONG: list[tuple[type[PlainServicer], str]] = [
    (NoFamily, "C04"),
    (NetworkSize, "C05"),
    (WrongBox, "C06"),
    (HalfMask, "C06"),
    (EmptyMask, "C06"),
    (NoBox, "C06"),
    (Unsorted, "C07"),
    (ScoreInPercent, "C07"),
    (UnnamedStructure, "C08"),
    (InstancesOfSemantic, "C09"),
    (SecondRegion, "C09"),
    (OtherWeights, "C10"),
    (NoTiming, "C10"),
    (Random, "C11"),
    (Wandering, "C11"),
    (NoSmallFilms, "C12"),
    (BytesOnly, "C13"),
    (OptionsIgnored, "C14"),
    (EmptyListOnCrash, "C15"),
    (NoMessage, "C15"),
    (EverythingIsInternal, "C15"),
    (ShortOfTime, "C16"),
    (NoRequestId, "C18"),
    (MapsUnasked, "C19"),
    (MapsOfWrongSize, "C19"),
    (MapsOfNothing, "C19"),
    (MapsTwice, "C19"),
    (OneAtATime, "C20"),
    (FalseMonochrome1, "C21"),
    (FourMebibytes, "C22"),
    (SaysItShrinks, "C24"),
    (FreeLevel, "C25"),
    (LongNote, "C25"),
    (LongDevice, "C25"),
]


ALSO: dict[type[PlainServicer], set[str]] = {
    NoFamily: {"C25"},
    NetworkSize: {"C12", "C25"},
    WrongBox: {"C12", "C25"},
    HalfMask: {"C12", "C25"},
    EmptyMask: {"C12", "C25"},
    NoBox: {"C12"},
    ScoreInPercent: {"C25"},
    SecondRegion: {"C25"},
    Random: {"C20"},
    Wandering: {"C20"},
}
"""Rules that break with the same fault."""


@pytest.mark.parametrize(("kind", "rule"), WRONG, ids=[kind.__name__ for kind, _ in WRONG])
def test_wrong_containers_fail_by_their_rule(
    network: Thresholder, kind: type[PlainServicer], rule: str
) -> None:
    with serve(kind(network)) as target:
        results = check(target, quick=rule in QUICK, timeout_s=120)
    broken = failed(results)
    also = ALSO.get(kind, set())
    assert set(broken) == {rule} | also
    assert next(iter(broken)) == rule
    assert all(broken.values())


def test_a_container_without_reflection(network: Thresholder) -> None:
    with serve(PlainServicer(network), reflect=False) as target:
        results = check(target, quick=True, timeout_s=120)
    assert failed(results) == {"C03": "neither grpc.reflection.v1 nor v1alpha is served"}


def test_a_container_that_is_not_serving(network: Thresholder) -> None:
    status = health_pb2.HealthCheckResponse.NOT_SERVING
    with serve(PlainServicer(network), status=status) as target:
        results = check(target, quick=True, timeout_s=120)
    assert failed(results) == {
        "C01": "Check('') says NOT_SERVING",
        "C02": "Watch says NOT_SERVING",
    }


def test_a_container_with_grpcs_default_limit(network: Thresholder) -> None:
    with serve(PlainServicer(network), limit_bytes=4 << 20) as target:
        results = check(target, timeout_s=120)
    assert set(failed(results)) == {"C22"}
    assert "RESOURCE_EXHAUSTED" in failed(results)["C22"]


def test_a_container_that_takes_messages_above_its_limit(network: Thresholder) -> None:
    with serve(PlainServicer(network), limit_bytes=-1) as target:
        results = check(target, timeout_s=120)
    assert set(failed(results)) == {"C23"}


def test_a_container_that_dies(network: Thresholder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_ALIVE_TIMEOUT_S", 0.5)
    with serve(DiesOfBadFilms(network)) as target:
        results = check(target, timeout_s=10)
    assert set(failed(results)) == {"C15"}
    assert "stopped answering after a DICOM file of 0 bytes" in failed(results)["C15"]
    after = [result for result in results if result.rule_id > "C15"]
    assert {result.outcome for result in after} == {Outcome.SKIP}
    assert "during C15" in after[0].message


def test_the_time_limit_fails_the_rule_in_which_it_passes(network: Thresholder) -> None:
    released = threading.Event()

    class Hangs(PlainServicer):
        def Predict(self, request: Any, context: Any) -> Any:
            if request.image.raw.height == 640:
                released.wait(60.0)
            return super().Predict(request, context)

    with serve(Hangs(network)) as target:
        results = {each.rule_id: each for each in check(target, quick=True, limit_s=8.0)}
        assert not released.is_set()
        released.set()
    assert results["C11"].outcome is Outcome.PASS
    assert results["C12"].message == "the time limit of 8 s passed during this rule"
    assert results["C12"].failed
    assert {results[rule].outcome for rule in ("C13", "C14", "C20")} == {Outcome.SKIP}
    assert "passed during C12" in results["C13"].message


def test_a_container_that_is_loading_is_waited_for(network: Thresholder) -> None:
    status = health_pb2.HealthCheckResponse.NOT_SERVING
    with (
        serve(PlainServicer(network), status=status) as target,
        pytest.raises(NotServingError, match=r"did not serve within 0\.5 s.*NOT_SERVING"),
    ):
        check(target, quick=True, wait_s=0.5)
    servicer = PlainServicer(network)
    with serve(servicer, status=status) as target:
        later = threading.Timer(0.5, servicer.say_serving)
        later.start()
        results = check(target, quick=True, wait_s=20.0)
        later.join()
    assert not failed(results)


def test_a_server_of_another_kind_is_judged_at_once(network: Thresholder) -> None:
    with serve(PlainServicer(network), known=("",)) as target:
        # Waited for in vain, it would be NotServingError after the time.
        results = check(target, quick=True, wait_s=20.0)
    assert results[0].rule_id == "C01"
    assert "NOT_FOUND" in failed(results)["C01"]


def test_nothing_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_CONNECT_TIMEOUT_S", 0.3)
    with pytest.raises(NotServingError, match=r"127\.0\.0\.1:1 took no connection"):
        check("127.0.0.1:1")


def test_a_rule_that_depends_on_a_broken_one_is_not_judged(network: Thresholder) -> None:
    class NoModel(PlainServicer):
        def GetModel(self, request: Any, context: Any) -> Any:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "later")

    with serve(NoModel(network)) as target:
        results = {result.rule_id: result for result in check(target, quick=True, timeout_s=10)}
    assert results["C04"].failed
    for rule in ("C08", "C09", "C10", "C19"):
        assert results[rule].outcome is Outcome.SKIP
        assert "see C04" in results[rule].message
