"""The conformance suite: a right container passes, each wrong one fails by its rule."""

# ruff: noqa: N802 - the methods are named by the contract
from __future__ import annotations

import asyncio
import hashlib
import json
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from spinezoo.v1 import (
    model_pb2,
    segment_pb2,
    segmenter_pb2,
    segmenter_pb2_grpc,
)
from spinezoo_conformance import films as synthetic
from spinezoo_conformance import suite as conformance
from spinezoo_conformance.suite import Outcome, check
from spinezoo_contract import codec
from spinezoo_contract.errors import FilmError, NotServingError, SpineZooError
from spinezoo_contract.limits import check_film_size
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.status import REQUEST_ID_KEY, to_status
from spinezoo_contract.types import (
    Box,
    Film,
    Prediction,
    PredictOptions,
    ProbabilityMap,
    Provenance,
    Segment,
    SegmentKind,
    Structure,
    Timing,
)
from spinezoo_serving.cards import load_card
from spinezoo_serving.server import NetworkRunner, segmenter_server
from spinezoo_serving.settings import ServerSettings

LIMIT_BYTES = 28 << 20

# --- a network that thresholds, and a reader of the suite's own files ----------------------------


def read_film(data: bytes, *, kind: str) -> Film:
    """Reads the forms that ``synthetic`` writes and refuses everything else."""
    try:
        return Film(_read_png(data) if kind == "encoded" else _read_dicom(data))
    except (ValueError, KeyError, IndexError, struct.error, zlib.error) as error:
        raise FilmError(f"not a film: {type(error).__name__}; send a grey PNG or DICOM") from error


def _read_png(data: bytes) -> np.ndarray:
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("signature")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    if colour != 0:
        raise ValueError("colour")
    check_film_size(height, width)
    length = struct.unpack(">I", data[33:37])[0]
    rows = np.frombuffer(zlib.decompress(data[41 : 41 + length]), np.uint8)
    pixels = np.ascontiguousarray(rows.reshape(height, 1 + width * depth // 8)[:, 1:])
    return pixels if depth == 8 else pixels.view(">u2").astype(np.uint16)


def _read_dicom(data: bytes) -> np.ndarray:
    if data[128:132] != b"DICM":
        raise ValueError("preamble")
    elements, at = {}, 132
    while at < len(data):
        group, element, kind, length = struct.unpack("<HH2sH", data[at : at + 8])
        at += 8
        if kind in (b"OB", b"OW"):
            length = struct.unpack("<I", data[at : at + 4])[0]
            at += 4
        elements[group, element] = data[at : at + length]
        at += length
    number = {
        name: struct.unpack("<H", elements[0x28, tag])[0]
        for name, tag in (("samples", 2), ("rows", 0x10), ("columns", 0x11), ("bits", 0x100))
    }
    if number["samples"] != 1 or (0x28, 8) in elements:
        raise ValueError("one grey frame")
    check_film_size(number["rows"], number["columns"])
    stored = elements[0x7FE0, 0x10]
    pixels = np.frombuffer(stored, "u1" if number["bits"] == 8 else "<u2")
    pixels = pixels[: number["rows"] * number["columns"]]
    pixels = pixels.reshape(number["rows"], number["columns"])
    inverted = elements[0x28, 4].startswith(b"MONOCHROME1")
    return np.iinfo(pixels.dtype).max - pixels if inverted else pixels


class Thresholder:
    """A semantic network: two thresholds on the grey value."""

    def __init__(self, card: Any) -> None:
        self.card = card
        self.device = "cpu"

    def predict(self, film: Film, options: PredictOptions) -> Prediction:
        started = time.perf_counter()
        pixels = film.pixels.astype(np.float32)
        grey = (pixels - pixels.min()) / max(float(np.ptp(pixels)), 1e-6)
        least = options.score_threshold or 0.0
        segments = []
        for structure, low, high, score in (
            (Structure.LUMBAR_VERTEBRA, 0.5, 0.9, 0.75),
            (Structure.SCREW, 0.9, 2.0, 0.95),
        ):
            mask = (grey >= low) & (grey < high)
            if not mask.any() or score < least:
                continue
            encoded = encode_mask(mask)
            segments.append(
                Segment(structure, SegmentKind.REGION, encoded, score, mask_box(encoded))
            )
        segments.sort(key=lambda segment: -segment.score)
        maps: tuple[ProbabilityMap, ...] = ()
        if options.include_probability_maps:
            grid = np.zeros((8, 6), dtype=np.uint8)
            box = Box(0.0, 0.0, film.width, film.height)
            maps = (ProbabilityMap(Structure.LUMBAR_VERTEBRA, grid, box),)
        timing = Timing(infer_ms=(time.perf_counter() - started) * 1e3)
        provenance = Provenance(
            self.card.name, self.card.version, self.card.preset, self.card.weights_sha256,
            self.card.preprocessing_id, self.device, timing,
        )  # fmt: skip
        most = options.max_segments or self.card.default_max_segments
        return Prediction(film.height, film.width, tuple(segments[:most]), provenance, maps)


CARD = """\
name: thresholder
version: 0.1.0
architecture: two thresholds
family: semantic
reference: "https://example.org/thresholds"
license: Apache-2.0
preset: lite
preprocessing_id: none-v1
structures: [lumbar_vertebra, screw]
defaults: {score_threshold: 0.0, suppression_iou: null, max_segments: 100}
presets:
  lite:
    input: {height: 64, width: 64, channels: 1}
    network: {}
    weights:
      file: weights/lite.safetensors
      sha256: "SHA"
      bytes: 4
      dtype: float16
      probe: {seed: 0, values: [1.0], tolerance: 0.1}
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Thresholder:
    path = tmp_path_factory.mktemp("card") / "card.yaml"
    path.write_text(CARD.replace("SHA", hashlib.sha256(b"0000").hexdigest()), encoding="utf-8")
    return Thresholder(load_card(path, "lite"))


# --- a stranger's container, plain grpc, with faults to order ------------------------------------


class PlainServicer(segmenter_pb2_grpc.SegmenterServiceServicer):
    """Keeps the contract with nothing but grpc; ``fault`` bends an answer before it leaves."""

    def __init__(self, network: Thresholder) -> None:
        self.network = network
        self.server: grpc.Server | None = None
        self.health: health.HealthServicer | None = None

    def say_serving(self) -> None:
        assert self.health is not None
        for name in ("", conformance.SERVICE_NAME):
            self.health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def fault(self, response: segmenter_pb2.PredictResponse, context: Any) -> Any:
        return response

    def model(self) -> model_pb2.ModelInfo:
        settings = ServerSettings(max_message_bytes=LIMIT_BYTES, queue_limit=4)
        return codec.to_proto(self.network.card.info(settings))

    def echo(self, context: Any) -> None:
        sent = dict(context.invocation_metadata()).get(REQUEST_ID_KEY, "none")
        context.set_trailing_metadata(((REQUEST_ID_KEY, sent),))

    def on_error(self, error: SpineZooError, context: Any) -> Any:
        context.abort(*to_status(error))

    def Predict(self, request: Any, context: Any) -> Any:
        self.echo(context)
        try:
            film = codec.film_from_proto(request.image, read_film)
            options = codec.from_proto(PredictOptions, request.options)
        except SpineZooError as error:
            return self.on_error(error, context)
        prediction = self.network.predict(film, options)
        return self.fault(codec.to_proto(prediction), context)

    def GetModel(self, request: Any, context: Any) -> Any:
        return segmenter_pb2.GetModelResponse(model=self.model())


@contextmanager
def serve(
    servicer: PlainServicer,
    *,
    reflect: bool = True,
    known: Sequence[str] = ("", conformance.SERVICE_NAME),
    status: Any = health_pb2.HealthCheckResponse.SERVING,
    limit_bytes: int = LIMIT_BYTES,
) -> Iterator[str]:
    server = grpc.server(
        futures.ThreadPoolExecutor(6),
        options=[
            ("grpc.max_receive_message_length", limit_bytes),
            ("grpc.max_send_message_length", limit_bytes),
        ],
    )
    segmenter_pb2_grpc.add_SegmenterServiceServicer_to_server(servicer, server)
    health_servicer = health.HealthServicer()
    for name in known:
        health_servicer.set(name, status)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if reflect:
        names = (conformance.SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    servicer.server, servicer.health = server, health_servicer
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait(5)


def failed(results: list[conformance.RuleResult]) -> dict[str, str]:
    return {result.rule_id: result.message for result in results if result.failed}


# --- right containers ----------------------------------------------------------------------------


def test_a_strangers_plain_server_conforms(network: Thresholder) -> None:
    with serve(PlainServicer(network)) as target:
        results = check(target, timeout_s=120)
    assert not failed(results)
    assert {result.outcome for result in results} == {Outcome.PASS}
    assert [result.rule_id for result in results] == [rule.rule_id for rule in conformance.RULES]
    judged = {result.rule_id: result.message for result in results}
    assert "judged on 2 outlines" in judged["C06"]


def test_our_shell_conforms(network: Thresholder) -> None:
    started: futures.Future[int] = futures.Future()
    stop = threading.Event()

    async def run() -> None:
        settings = ServerSettings(max_message_bytes=LIMIT_BYTES)
        runner = NetworkRunner(settings, network)
        server = segmenter_server(runner, read_film=read_film)
        await server.start()
        started.set_result(server.port)
        await asyncio.to_thread(stop.wait)
        await server.stop()
        runner.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        results = check(f"127.0.0.1:{started.result(timeout=20)}", timeout_s=120)
    finally:
        stop.set()
        thread.join(timeout=30)
    assert not failed(results)
    assert {result.outcome for result in results} == {Outcome.PASS}


# --- wrong containers ----------------------------------------------------------------------------


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
    (Unsorted, "C07"),
    (ScoreInPercent, "C07"),
    (UnnamedStructure, "C08"),
    (InstancesOfSemantic, "C09"),
    (OtherWeights, "C10"),
    (NoTiming, "C10"),
    (Random, "C11"),
    (NoSmallFilms, "C12"),
    (BytesOnly, "C13"),
    (OptionsIgnored, "C14"),
    (EmptyListOnCrash, "C15"),
    (NoMessage, "C15"),
    (EverythingIsInternal, "C15"),
    (NoRequestId, "C18"),
    (MapsUnasked, "C19"),
    (MapsOfWrongSize, "C19"),
    (OneAtATime, "C20"),
    (FalseMonochrome1, "C21"),
    (FourMebibytes, "C22"),
]


QUICK = {rule.rule_id for rule in conformance.RULES if not rule.slow}

ALSO: dict[type[PlainServicer], set[str]] = {
    NetworkSize: {"C12"},
    WrongBox: {"C12"},
    HalfMask: {"C12"},
    Random: {"C20"},
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
    monkeypatch.setattr(conformance, "_ALIVE_TIMEOUT_S", 0.5)
    with serve(DiesOfBadFilms(network)) as target:
        results = check(target, timeout_s=10)
    assert set(failed(results)) == {"C15"}
    assert "stopped answering after a DICOM file of 0 bytes" in failed(results)["C15"]
    after = [result for result in results if result.rule_id > "C15"]
    assert {result.outcome for result in after} == {Outcome.SKIP}
    assert "during C15" in after[0].message


def test_the_quick_part_is_what_the_gateway_asks_of_a_newcomer() -> None:
    # One film each, no flood of bad or large ones: these run beside the old member's traffic.
    assert sorted(QUICK) == [f"C{n:02}" for n in (*range(1, 15), 18, 19, 20)]


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
    monkeypatch.setattr(conformance, "_CONNECT_TIMEOUT_S", 0.3)
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


# --- the command line, the rules themselves ------------------------------------------------------


def test_command_line(network: Thresholder, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(PlainServicer(network)) as target:
        assert conformance.main([target, "--quick"]) == 0
    table = capsys.readouterr().out
    assert f"{target} conforms: {len(QUICK)} rules hold, 0 broken" in table
    assert all(rule.rule_id in table for rule in conformance.RULES)

    with serve(Unsorted(network)) as target:
        assert conformance.main([target, "--quick", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["failed"] == ["C07"]
    assert document["conforms"] is False
    assert document["rules"][6]["outcome"] == "fail"


def test_command_line_without_container(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(conformance, "_CONNECT_TIMEOUT_S", 0.3)
    assert conformance.main(["127.0.0.1:1"]) == 2
    assert "start the container" in capsys.readouterr().err


def test_ids_are_unique_and_in_order() -> None:
    ids = [rule.rule_id for rule in conformance.RULES]
    assert ids == sorted(set(ids))
    assert all(rule.statement.endswith(".") for rule in conformance.RULES)


def test_synthetic_films_are_the_same_every_time() -> None:
    first = synthetic.spine_like_pixels(100, 60)
    assert (first == synthetic.spine_like_pixels(100, 60)).all()
    assert (read_film(synthetic.png_bytes(first), kind="encoded").pixels == first).all()
    wide = first.astype(np.uint16) * np.uint16(257)
    assert (read_film(synthetic.png_bytes(wide), kind="encoded").pixels == wide).all()
    assert (read_film(synthetic.dicom_bytes(first), kind="dicom").pixels == first).all()


def test_readme_lists_the_rules() -> None:
    readme = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
    for rule in conformance.RULES:
        slow = " (slow)" if rule.slow else ""
        assert f"| {rule.rule_id} | {rule.statement}{slow} |" in readme
