"""The conformance suite: rules that every network's container keeps, checked by address.

::

    python -m spinezoo_conformance 127.0.0.1:50051
    python -m spinezoo_conformance 127.0.0.1:50051 --quick --json

The quick part leaves out the rules that ask many films or large ones. It is what the gateway puts a
newcomer through before it takes it in, beside the traffic of the old member.

Each rule has an id and one sentence. A container passes when no rule fails. The suite reads the
messages themselves and not through the codec, so a fault of the codec cannot hide one of the
container. Its films are made from numbers (:mod:`spinezoo_conformance.films`); a network need
not find anything on them, and a rule that was judged on no outline says so.
Needs the extra ``server`` (health checking and reflection).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import grpc
import numpy as np
from google.protobuf import descriptor_pb2
from numpy.typing import NDArray
from spinezoo.v1 import image_pb2, model_pb2, segment_pb2, segmenter_pb2, segmenter_pb2_grpc
from spinezoo_contract.codec import film_to_proto
from spinezoo_contract.errors import ConfigurationError, MaskError, NotServingError
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.status import REQUEST_ID_KEY
from spinezoo_contract.tls import ClientSecurity
from spinezoo_contract.types import Film, RunLengthMask, check_mask_size

from spinezoo_conformance import films as synthetic

try:
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection_pb2
except ImportError as _error:
    raise ImportError(
        "the conformance suite needs the extra `server`: pip install 'spinezoo-contract[server]'"
    ) from _error

SERVICE_NAME = "spinezoo.v1.SegmenterService"
"""Full name of the service under test."""

LARGE_FILM_BYTES = 24 << 20
"""Pixels of the large film: 24 MiB, a full-size 16-bit radiograph."""

MAX_OVER_LIMIT_BYTES = 256 << 20
"""Greatest advertised message limit that rule C22 tries to exceed."""

_CONNECT_TIMEOUT_S = 30.0
_ALIVE_TIMEOUT_S = 10.0
_HEALTH_TIMEOUT_S = 2.0
_POLL_S = 0.2
_STANDARD_SIZE = (384, 250)
"""Height and width of the film that most rules use; no multiple of a network's stride."""

_BOX_SLACK_PX = 1.0
_SCORE_SLACK = 1e-3
_SAME_PIXELS = 0.001
"""Share of the film's pixels in which two answers to one film may differ (GPU arithmetic)."""

_CLOSE_PIXELS = 0.01
"""The same for one film in two encodings, whose rounding differs."""

_CLOSE_IOU = 0.8

_SHA256 = re.compile(r"[0-9a-f]{64}")
_Code = grpc.StatusCode


class Outcome(StrEnum):
    """How a rule went."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What became of one rule.

    Attributes:
        rule_id: Such as ``"C05"``.
        statement: The rule in one sentence.
        outcome: Pass, fail, or skip (left out, or could not be judged).
        message: What was wrong; for a skip why; for a pass what it was judged on, or empty.
        elapsed_ms: Time it took, in ms.
    """

    rule_id: str
    statement: str
    outcome: Outcome
    message: str
    elapsed_ms: float

    @property
    def failed(self) -> bool:
        """Whether the container breaks the rule."""
        return self.outcome is Outcome.FAIL


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its id, its sentence, and the function that judges it.

    Attributes:
        rule_id: Such as ``"C05"``; never given to another rule.
        statement: What a container does.
        judge: Returns a remark for a pass; raises for a failure.
        slow: Left out of the quick part.
    """

    rule_id: str
    statement: str
    judge: Callable[[Session], str | None]
    slow: bool = False


class RuleBrokenError(Exception):
    """The container breaks the rule under judgement."""


class _BlockedError(Exception):
    """The rule cannot be judged, because one before it is broken."""


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise RuleBrokenError(message)


def open_channel(
    target: str, options: Sequence[tuple[str, int]], server_name: str | None = None
) -> grpc.Channel:
    """A channel to the container under test, with TLS where ``SPINEZOO_CLIENT_TLS`` says so.

    Args:
        target: gRPC target.
        options: Channel options.
        server_name: Name that the container's certificate must carry, where the target is an
            address; not used without encryption.

    Raises:
        ConfigurationError: A certificate's file is wrong.
    """
    return ClientSecurity.from_env().channel(target, options, server_name)


class Session:
    """A connection to the container under test, and what several rules share."""

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = 120.0,
        limit_s: float | None = None,
        server_name: str | None = None,
    ) -> None:
        """Opens the channel; nothing is sent.

        Args:
            target: gRPC target, such as ``127.0.0.1:50051``.
            timeout_s: Time each call has, in s.
            limit_s: Time that all calls have together from now on, in s; None: no limit.
            server_name: See :func:`open_channel`.
        """
        self.target = target
        self.limit_s = limit_s
        self._timeout_s = timeout_s
        self._end = None if limit_s is None else time.monotonic() + limit_s
        # No limit on this side: the container's own limits are what is tested.
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self.channel = open_channel(target, options, server_name)
        self.stub = segmenter_pb2_grpc.SegmenterServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)
        self._model: model_pb2.ModelInfo | None = None
        self._answer: segmenter_pb2.PredictResponse | None = None
        self._default_answer: segmenter_pb2.PredictResponse | None = None

    def __enter__(self) -> Session:
        """Returns the session itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes the channel."""
        self.close()

    def close(self) -> None:
        """Closes the channel."""
        self.channel.close()

    @property
    def timeout_s(self) -> float:
        """Time that the next call has, in s: greater than 0, never past the limit of all."""
        if self._end is None:
            return self._timeout_s
        return max(0.001, min(self._timeout_s, self._end - time.monotonic()))

    @property
    def over(self) -> bool:
        """Whether the time limit of all calls has passed."""
        return self._end is not None and time.monotonic() >= self._end

    def connect(self, timeout_s: float | None = None) -> None:
        """Waits until the container takes connections.

        Args:
            timeout_s: How long, in s; None: 30 s.

        Raises:
            NotServingError: It did not within that time.
        """
        timeout_s = _CONNECT_TIMEOUT_S if timeout_s is None else timeout_s
        try:
            grpc.channel_ready_future(self.channel).result(timeout=timeout_s)
        except grpc.FutureTimeoutError as error:
            raise NotServingError(
                f"{self.target} took no connection within {timeout_s:g} s; start the container "
                "and check host and port"
            ) from error

    def wait_until_serving(self, timeout_s: float) -> None:
        """Waits until the container takes connections and its health says SERVING.

        A server that serves and knows no such service is no network that is loading: it is left
        to the rules.

        Args:
            timeout_s: How long, in s.

        Raises:
            NotServingError: It did not within that time; the message says what it did instead.
        """
        end = time.monotonic() + timeout_s
        self.connect(timeout_s)
        while True:
            said = self._health_of(SERVICE_NAME)
            if said == "SERVING" or (said == "NOT_FOUND" and self._health_of("") == "SERVING"):
                return
            if time.monotonic() >= end:
                raise NotServingError(
                    f"{self.target} did not serve within {timeout_s:g} s (health: {said}); "
                    "read the container's log"
                )
            time.sleep(_POLL_S)

    def _health_of(self, service: str) -> str:
        """What health says of a service now: a status, or the code of the call that failed."""
        try:
            answer = self.health.Check(
                health_pb2.HealthCheckRequest(service=service), timeout=_HEALTH_TIMEOUT_S
            )
        except grpc.RpcError as error:
            return str(error.code().name)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    def predict(
        self,
        image: image_pb2.Image,
        options: segmenter_pb2.PredictOptions | None = None,
    ) -> segmenter_pb2.PredictResponse:
        """One call of Predict; raises grpc's error."""
        request = segmenter_pb2.PredictRequest(image=image, options=options)
        return self.stub.Predict(request, timeout=self.timeout_s)

    def get_model(self) -> model_pb2.ModelInfo:
        """The answer of GetModel; raises grpc's error."""
        if self._model is None:
            request = segmenter_pb2.GetModelRequest()
            self._model = self.stub.GetModel(request, timeout=self.timeout_s).model
        return self._model

    def model(self) -> model_pb2.ModelInfo:
        """What GetModel says, for rules that need it."""
        try:
            return self.get_model()
        except grpc.RpcError as error:
            raise _BlockedError(f"GetModel fails ({_told(error)}), see C04") from error

    def standard_answer(self) -> segmenter_pb2.PredictResponse:
        """The answer to the standard film with score threshold 0; raises grpc's error."""
        if self._answer is None:
            options = segmenter_pb2.PredictOptions(score_threshold=0.0)
            self._answer = self.predict(_raw(_standard_pixels()), options)
        return self._answer

    def answer(self) -> segmenter_pb2.PredictResponse:
        """The same, for rules that need it."""
        try:
            return self.standard_answer()
        except grpc.RpcError as error:
            raise _BlockedError(f"Predict fails ({_told(error)}), see C05") from error

    def default_answer(self) -> segmenter_pb2.PredictResponse:
        """The answer to the standard film with the card's own settings.

        Near score 0 an instance network answers chance, which the rounding of another encoding
        changes; so encodings are compared with these settings.
        """
        if self._default_answer is None:
            try:
                self._default_answer = self.predict(_raw(_standard_pixels()))
            except grpc.RpcError as error:
                raise _BlockedError(f"Predict fails ({_told(error)}), see C05") from error
        return self._default_answer

    def alive(self) -> bool:
        """Whether anything answers at the address."""
        try:
            self.health.Check(
                health_pb2.HealthCheckRequest(), timeout=_ALIVE_TIMEOUT_S, wait_for_ready=True
            )
        except grpc.RpcError as error:
            return error.code() not in (_Code.UNAVAILABLE, _Code.DEADLINE_EXCEEDED)
        return True

    def expect_alive(self, after: str) -> None:
        """Fails when the container no longer answers."""
        _expect(self.alive(), f"stopped answering after {after}")

    def expect_serving(self, after: str) -> None:
        """Fails when the container no longer answers an ordinary film."""
        self.expect_alive(after)
        try:
            response = self.predict(_raw(_standard_pixels()))
        except grpc.RpcError as error:
            raise RuleBrokenError(
                f"no longer answers a good film after {after}: {_told(error)}"
            ) from error
        size = (response.height, response.width)
        _expect(size == _STANDARD_SIZE, f"answers size {size} to a good film after {after}")


# --- films and answers ---------------------------------------------------------------------------


def _standard_pixels() -> NDArray[np.uint8]:
    return synthetic.spine_like_pixels(*_STANDARD_SIZE)


def _raw(pixels: NDArray[Any]) -> image_pb2.Image:
    return film_to_proto(Film(pixels))


def _told(error: grpc.RpcError) -> str:
    details = (error.details() or "no message").strip()
    return f"{error.code().name}: {details[:300]}"


def _names(number: int) -> str:
    try:
        return segment_pb2.Structure.Name(number).removeprefix("STRUCTURE_").lower()
    except ValueError:
        return f"structure {number}"


def _check_size(response: segmenter_pb2.PredictResponse, height: int, width: int) -> None:
    _expect(
        (response.height, response.width) == (height, width),
        f"film of {height} x {width} is answered as {response.height} x {response.width}; "
        "answer at the film's size",
    )


def _check_masks(response: segmenter_pb2.PredictResponse, height: int, width: int) -> str | None:
    for index, segment in enumerate(response.segments):
        where = f"segments[{index}] ({_names(segment.structure)})"
        mask = RunLengthMask(segment.mask.height, segment.mask.width, segment.mask.counts)
        try:
            check_mask_size(mask, height, width)
            area = mask.area
        except MaskError as error:
            raise RuleBrokenError(f"{where}: {error}") from error
        _expect(area > 0, f"{where}: mask is empty; leave the segment out")
        _expect(segment.HasField("box"), f"{where}: box is missing")
        box, tight = segment.box, mask.box
        for side in ("x", "y", "width", "height"):
            told, real = getattr(box, side), getattr(tight, side)
            _expect(
                math.isfinite(told) and abs(told - real) <= _BOX_SLACK_PX,
                f"{where}: box.{side} is {told:g}, the box around the mask has {real:g}",
            )
    return _judged_on(response)


def _judged_on(response: segmenter_pb2.PredictResponse) -> str:
    count = len(response.segments)
    if count == 0:
        return "judged on no outline: none was found on the synthetic film"
    return f"judged on {count} outline{'s' if count > 1 else ''}"


def _union(response: segmenter_pb2.PredictResponse) -> NDArray[np.bool_]:
    """All pixels of an answer, (height, width)."""
    united = np.zeros((response.height, response.width), dtype=np.bool_)
    for segment in response.segments:
        mask = RunLengthMask(segment.mask.height, segment.mask.width, segment.mask.counts)
        try:
            check_mask_size(mask, response.height, response.width)
            united |= decode_mask(mask)
        except MaskError as error:
            raise _BlockedError(f"a mask is invalid ({error}), see C06") from error
    return united


def _check_close(
    first: segmenter_pb2.PredictResponse,
    second: segmenter_pb2.PredictResponse,
    what: str,
    share: float = _CLOSE_PIXELS,
) -> None:
    _expect(
        (first.height, first.width) == (second.height, second.width),
        f"{what} is answered at {second.height} x {second.width} and not at "
        f"{first.height} x {first.width}",
    )
    a, b = _union(first), _union(second)
    differing = float(np.mean(a ^ b)) if a.size else 0.0
    overlap, either = int(np.sum(a & b)), int(np.sum(a | b))
    iou = overlap / either if either else 1.0
    _expect(
        differing <= share or (share == _CLOSE_PIXELS and iou >= _CLOSE_IOU),
        f"{what} is answered differently in {100 * differing:.2f} % of the pixels",
    )


# --- rules ---------------------------------------------------------------------------------------


def _judge_health_check(session: Session) -> None:
    for service in ("", SERVICE_NAME):
        response = session.health.Check(
            health_pb2.HealthCheckRequest(service=service), timeout=session.timeout_s
        )
        status = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
        _expect(status == "SERVING", f"Check({service!r}) says {status}")


def _judge_health_watch(session: Session) -> None:
    call = session.health.Watch(health_pb2.HealthCheckRequest(), timeout=session.timeout_s)
    try:
        first = next(iter(call), None)
    finally:
        call.cancel()
    _expect(first is not None, "Watch ends without a message")
    assert first is not None
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(first.status)
    _expect(status == "SERVING", f"Watch says {status}")


def _judge_reflection(session: Session) -> None:
    listing, file_of_service = _reflect(
        session,
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE_NAME),
    )
    names = {service.name for service in listing.list_services_response.service}
    for name in (SERVICE_NAME, "grpc.health.v1.Health"):
        _expect(name in names, f"reflection does not list {name}; it lists {sorted(names)}")
    methods: set[str] = set()
    for serialized in file_of_service.file_descriptor_response.file_descriptor_proto:
        file = descriptor_pb2.FileDescriptorProto.FromString(serialized)
        for service in file.service:
            if f"{file.package}.{service.name}" == SERVICE_NAME:
                methods |= {method.name for method in service.method}
    missing = {"Predict", "GetModel"} - methods
    _expect(not missing, f"reflection does not describe {SERVICE_NAME}'s {sorted(missing)}")


def _reflect(
    session: Session, *requests: reflection_pb2.ServerReflectionRequest
) -> list[reflection_pb2.ServerReflectionResponse]:
    """Answers of the reflection service; its versions v1 and v1alpha differ in name only."""
    for version in ("v1", "v1alpha"):
        ask = session.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        try:
            responses = list(ask(iter(requests), timeout=session.timeout_s))
        except grpc.RpcError as error:
            if error.code() is _Code.UNIMPLEMENTED:
                continue
            raise
        _expect(len(responses) == len(requests), "reflection leaves a question unanswered")
        return responses
    raise RuleBrokenError("neither grpc.reflection.v1 nor v1alpha is served")


def _judge_model(session: Session) -> None:
    model = session.get_model()
    for field in ("name", "version", "architecture", "preset", "license"):
        _expect(bool(getattr(model, field).strip()), f"GetModel leaves {field} empty")
    _expect(
        model.family in (model_pb2.MODEL_FAMILY_SEMANTIC, model_pb2.MODEL_FAMILY_INSTANCE),
        f"GetModel says family {model.family}; say SEMANTIC or INSTANCE",
    )
    structures = list(model.structures)
    known = [number for number in segment_pb2.Structure.values() if number != 0]
    _expect(bool(structures), "GetModel names no structure")
    _expect(
        len(set(structures)) == len(structures) and set(structures) <= set(known),
        f"GetModel names structures {structures}; name each of {known} at most once",
    )
    _expect(min(model.input_height, model.input_width) > 0, "GetModel gives no input size")
    for field in ("weights_sha256", "card_sha256"):
        _expect(
            _SHA256.fullmatch(getattr(model, field)) is not None,
            f"GetModel's {field} is not 64 lower-case hexadecimal digits",
        )
    _expect(
        0.0 <= model.default_score_threshold <= 1.0,
        f"GetModel's default_score_threshold is {model.default_score_threshold}; 0 to 1",
    )
    if model.HasField("default_suppression_iou"):
        iou = model.default_suppression_iou
        _expect(0.0 <= iou <= 1.0, f"GetModel's default_suppression_iou is {iou}; 0 to 1")
    _expect(
        model.max_message_bytes > LARGE_FILM_BYTES,
        f"GetModel's max_message_bytes is {model.max_message_bytes}; films have "
        f"{LARGE_FILM_BYTES} bytes and more",
    )
    _expect(model.queue_limit >= 1, "GetModel's queue_limit is 0; say how many may wait")


def _judge_size(session: Session) -> str:
    response = session.standard_answer()
    _check_size(response, *_STANDARD_SIZE)
    return _judged_on(response)


def _judge_masks(session: Session) -> str | None:
    return _check_masks(session.answer(), *_STANDARD_SIZE)


def _judge_scores(session: Session) -> str:
    response = session.answer()
    scores = [segment.score for segment in response.segments]
    for index, score in enumerate(scores):
        _expect(0.0 <= score <= 1.0, f"segments[{index}].score is {score}; 0 to 1")
    for index in range(1, len(scores)):
        _expect(
            scores[index] <= scores[index - 1],
            f"segments[{index}] scores {scores[index]:.4f} after {scores[index - 1]:.4f}; "
            "send the best first",
        )
    return _judged_on(response)


def _judge_structures(session: Session) -> str:
    allowed = set(session.model().structures)
    response = session.answer()
    for index, segment in enumerate(response.segments):
        _expect(
            segment.structure in allowed,
            f"segments[{index}] is {_names(segment.structure)}, which GetModel does not name",
        )
    return _judged_on(response)


def _judge_kinds(session: Session) -> str:
    semantic = session.model().family == model_pb2.MODEL_FAMILY_SEMANTIC
    wanted = segment_pb2.SEGMENT_KIND_REGION if semantic else segment_pb2.SEGMENT_KIND_INSTANCE
    response = session.answer()
    seen: set[int] = set()
    for index, segment in enumerate(response.segments):
        _expect(
            segment.kind == wanted,
            f"segments[{index}] is of kind {segment.kind}; the model's family answers "
            f"{segment_pb2.SegmentKind.Name(wanted)}",
        )
        if semantic:
            _expect(
                segment.structure not in seen,
                f"segments[{index}] is a second region of {_names(segment.structure)}",
            )
        seen.add(segment.structure)
    return _judged_on(response)


def _judge_provenance(session: Session) -> None:
    model = session.model()
    response = session.answer()
    _expect(response.HasField("provenance"), "the answer carries no provenance")
    provenance = response.provenance
    for field, expected in (
        ("model_name", model.name),
        ("model_version", model.version),
        ("preset", model.preset),
        ("weights_sha256", model.weights_sha256),
    ):
        told = getattr(provenance, field)
        _expect(told == expected, f"provenance.{field} is {told!r}, GetModel says {expected!r}")
    for field in ("preprocessing_id", "device"):
        _expect(bool(getattr(provenance, field)), f"provenance.{field} is empty")
    _expect(provenance.HasField("timing"), "provenance carries no timing")
    timing = provenance.timing
    for descriptor in timing.DESCRIPTOR.fields:
        value = getattr(timing, descriptor.name)
        _expect(
            math.isfinite(value) and value >= 0.0,
            f"timing.{descriptor.name} is {value}; ms of 0 or more",
        )
    _expect(timing.infer_ms > 0.0, "timing.infer_ms is 0; measure the network")


def _judge_deterministic(session: Session) -> str:
    first = session.answer()
    options = segmenter_pb2.PredictOptions(score_threshold=0.0)
    second = session.predict(_raw(_standard_pixels()), options)
    _check_same(first, second, "the same film")
    return _judged_on(first)


def _check_same(
    first: segmenter_pb2.PredictResponse, second: segmenter_pb2.PredictResponse, what: str
) -> None:
    _expect(
        len(first.segments) == len(second.segments),
        f"{what} gets {len(first.segments)} outlines, then {len(second.segments)}",
    )
    pairs = zip(first.segments, second.segments, strict=True)
    for index, (one, other) in enumerate(pairs):
        _expect(
            one.structure == other.structure and abs(one.score - other.score) <= _SCORE_SLACK,
            f"{what}: segments[{index}] is {_names(one.structure)} with {one.score:.4f}, then "
            f"{_names(other.structure)} with {other.score:.4f}",
        )
    _check_close(first, second, what, _SAME_PIXELS)


def _judge_film_sizes(session: Session) -> None:
    for height, width in ((640, 64), (64, 640), (16, 16), (17, 301)):
        response = session.predict(_raw(synthetic.spine_like_pixels(height, width)))
        _check_size(response, height, width)
        _check_masks(response, height, width)


def _judge_large_film(session: Session) -> str:
    height, width = 4096, LARGE_FILM_BYTES // 2 // 4096
    pixels = np.repeat(np.repeat(synthetic.spine_like_pixels(512, width // 8), 8, 0), 8, 1)
    started = time.perf_counter()
    response = session.predict(_raw(pixels.astype(np.uint16) * np.uint16(257)))
    elapsed_ms = (time.perf_counter() - started) * 1e3
    _check_size(response, height, width)
    _check_masks(response, height, width)
    return f"{height} x {width}, 16 bit, in {elapsed_ms:.0f} ms"


def _judge_pixel_types(session: Session) -> str:
    pixels = _standard_pixels()
    first = session.default_answer()
    for name, same in (
        ("the film in uint16", pixels.astype(np.uint16) * np.uint16(257)),
        ("the film in float32", pixels.astype(np.float32) / np.float32(255.0)),
    ):
        _check_close(first, session.predict(_raw(same)), name)
    return _judged_on(first)


def _judge_options(session: Session) -> str:
    image = _raw(_standard_pixels())
    strict = session.predict(image, segmenter_pb2.PredictOptions(score_threshold=1.0))
    for index, segment in enumerate(strict.segments):
        _expect(
            segment.score >= 1.0 - 1e-6,
            f"with score_threshold 1 segments[{index}] has score {segment.score:.4f}",
        )
    few = session.predict(image, segmenter_pb2.PredictOptions(score_threshold=0.0, max_segments=1))
    _expect(len(few.segments) <= 1, f"with max_segments 1 {len(few.segments)} outlines come")
    for name, value in (
        ("score_threshold", -0.1),
        ("score_threshold", 1.5),
        ("score_threshold", math.nan),
        ("suppression_iou", 2.0),
        ("max_segments", 0),
        ("max_segments", 1001),
    ):
        options = segmenter_pb2.PredictOptions()
        setattr(options, name, value)
        _check_refused(session, image, f"{name} {value}", (_Code.INVALID_ARGUMENT,), options)
    return _judged_on(session.answer())


def _check_refused(
    session: Session,
    image: image_pb2.Image,
    what: str,
    codes: tuple[grpc.StatusCode, ...],
    options: segmenter_pb2.PredictOptions | None = None,
) -> None:
    wanted = " or ".join(code.name for code in codes)
    try:
        response = session.predict(image, options)
    except grpc.RpcError as error:
        _expect(error.code() in codes, f"{what} is answered with {_told(error)}; {wanted}")
        _expect(bool((error.details() or "").strip()), f"{what} is refused without a message")
        return
    raise RuleBrokenError(
        f"{what} is answered as if it were good, with {len(response.segments)} outlines; {wanted}"
    )


def bad_films() -> Iterator[tuple[str, image_pb2.Image, bool]]:
    """Films that must be refused: name, message, and whether their size is at fault."""
    pixels = synthetic.spine_like_pixels(64, 48)
    colours = np.stack([pixels] * 3, axis=-1)
    dicom = synthetic.dicom_bytes(pixels)
    png = synthetic.png_bytes(pixels)
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
    yield "a colour PNG", image_pb2.Image(encoded=synthetic.png_bytes(colours)), False
    tiny = synthetic.png_bytes(pixels[:1, :1])
    yield "a PNG of 1 x 1", image_pb2.Image(encoded=tiny), False
    huge = synthetic.png_bytes(pixels, (20_000, 20_000))
    yield "a PNG whose header says 20,000 x 20,000", image_pb2.Image(encoded=huge), True
    yield "a truncated DICOM file", image_pb2.Image(dicom=dicom[: len(dicom) // 2]), False
    bare = synthetic.dicom_bytes(None)
    yield "a DICOM file without pixels", image_pb2.Image(dicom=bare), False
    several = synthetic.dicom_bytes(pixels, frames=3)
    yield "a DICOM file of three frames", image_pb2.Image(dicom=several), False
    coloured = synthetic.dicom_bytes(colours, photometric="RGB")
    yield "a DICOM file in colour", image_pb2.Image(dicom=coloured), False
    claimed = synthetic.dicom_bytes(pixels, size=(20_000, 20_000))
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
        codes: tuple[grpc.StatusCode, ...] = (_Code.INVALID_ARGUMENT,)
        if too_large:
            codes += (_Code.RESOURCE_EXHAUSTED,)
        try:
            _check_refused(session, image, what, codes)
        except RuleBrokenError as error:
            faults.append(str(error))
        if not session.alive():
            faults.append(f"stopped answering after {what}")
            break
    _expect(not faults, "; ".join(faults))
    session.expect_serving("bad films")
    return f"{count} bad films"


def _judge_deadline(session: Session) -> None:
    request = segmenter_pb2.PredictRequest(image=_raw(synthetic.spine_like_pixels(2048, 1024)))
    for deadline_ms in (1, 15, 40):
        try:
            session.stub.Predict(request, timeout=deadline_ms / 1e3)
        except grpc.RpcError as error:
            _expect(
                error.code() is _Code.DEADLINE_EXCEEDED,
                f"a deadline of {deadline_ms} ms ends in {_told(error)}; DEADLINE_EXCEEDED",
            )
        else:
            _expect(deadline_ms > 1, "2 Mi pixels are answered within 1 ms")
    session.expect_serving("passed deadlines")


def _judge_cancellation(session: Session) -> None:
    request = segmenter_pb2.PredictRequest(image=_raw(synthetic.spine_like_pixels(1024, 512)))
    for wait_ms in (2, 20, 60):
        call = session.stub.Predict.future(request, timeout=session.timeout_s)
        time.sleep(wait_ms / 1e3)
        call.cancel()
        code = call.code()
        _expect(
            code in (_Code.CANCELLED, _Code.OK),
            f"a call cancelled after {wait_ms} ms ends in {code.name}: {call.details()}",
        )
    session.expect_serving("cancelled calls")


def _judge_request_id(session: Session) -> None:
    good = segmenter_pb2.PredictRequest(image=_raw(synthetic.spine_like_pixels(32, 32)))
    bad = segmenter_pb2.PredictRequest(image=image_pb2.Image(encoded=b"no image"))
    for what, request in (("a good film", good), ("a bad film", bad)):
        request_id = uuid.uuid4().hex
        call = session.stub.Predict.future(
            request, timeout=session.timeout_s, metadata=((REQUEST_ID_KEY, request_id),)
        )
        code = call.code()
        if what == "a good film":
            _expect(code is _Code.OK, f"{what} is answered with {code.name}: {call.details()}")
        metadata = [*(call.initial_metadata() or ()), *(call.trailing_metadata() or ())]
        echoed = [value for key, value in metadata if key == REQUEST_ID_KEY]
        _expect(
            request_id in echoed,
            f"the answer to {what} carries {REQUEST_ID_KEY} {echoed}, sent was {request_id!r}",
        )


def _judge_probability_maps(session: Session) -> str:
    model = session.model()
    _expect(not session.answer().probability_maps, "probability maps come without being asked for")
    options = segmenter_pb2.PredictOptions(include_probability_maps=True)
    response = session.predict(_raw(_standard_pixels()), options)
    structures = [grid.structure for grid in response.probability_maps]
    _expect(
        len(set(structures)) == len(structures) and set(structures) <= set(model.structures),
        f"probability maps of {[_names(number) for number in structures]}; at most one for each "
        "structure that GetModel names",
    )
    for grid in response.probability_maps:
        where = f"probability map of {_names(grid.structure)}"
        _expect(min(grid.height, grid.width) > 0, f"{where} has no size")
        _expect(
            len(grid.data) == grid.height * grid.width,
            f"{where} has {len(grid.data)} bytes for {grid.height} x {grid.width}",
        )
        _expect(grid.HasField("film_box"), f"{where} does not say which part it covers")
        box = grid.film_box
        finite = all(map(math.isfinite, (box.x, box.y, box.width, box.height)))
        _expect(
            finite and box.width > 0 and box.height > 0,
            f"{where} covers {box.width} x {box.height} pixels of the film",
        )
    count = len(response.probability_maps)
    return f"{count} maps" if count else "the network answers no maps"


def _judge_two_at_once(session: Session) -> str:
    first = session.answer()
    options = segmenter_pb2.PredictOptions(score_threshold=0.0)
    request = segmenter_pb2.PredictRequest(image=_raw(_standard_pixels()), options=options)
    calls = [session.stub.Predict.future(request, timeout=session.timeout_s) for _ in range(2)]
    for call in calls:
        _check_same(first, call.result(), "one of two films sent at once")
    return _judged_on(first)


def _judge_file_forms(session: Session) -> str:
    pixels = _standard_pixels()
    first = session.default_answer()
    wide = pixels.astype(np.uint16) * np.uint16(257)
    inverted = synthetic.dicom_bytes(np.uint8(255) - pixels, photometric="MONOCHROME1")
    for name, image in (
        ("the film as PNG", image_pb2.Image(encoded=synthetic.png_bytes(pixels))),
        ("the film as PNG of 16 bits", image_pb2.Image(encoded=synthetic.png_bytes(wide))),
        ("the film as DICOM", image_pb2.Image(dicom=synthetic.dicom_bytes(pixels))),
        ("the film as DICOM of 16 bits", image_pb2.Image(dicom=synthetic.dicom_bytes(wide))),
        ("the film as DICOM in MONOCHROME1", image_pb2.Image(dicom=inverted)),
    ):
        try:
            response = session.predict(image)
        except grpc.RpcError as error:
            raise RuleBrokenError(f"{name} is answered with {_told(error)}") from error
        _check_close(first, response, name)
    return _judged_on(first)


def _judge_over_limit(session: Session) -> str:
    limit = session.model().max_message_bytes
    if limit > MAX_OVER_LIMIT_BYTES:
        raise _BlockedError(f"the advertised limit of {limit} bytes is too large to exceed here")
    width = 4096
    height = limit // width + 1
    image = image_pb2.Image(
        raw=image_pb2.RawPixels(
            height=height,
            width=width,
            pixel_type=image_pb2.PIXEL_TYPE_UINT8,
            data=bytes(height * width),
        )
    )
    codes = (_Code.RESOURCE_EXHAUSTED,)
    _check_refused(session, image, f"a message above the limit of {limit} bytes", codes)
    session.expect_serving("a message above the limit")
    return f"limit {limit} bytes"


RULES: tuple[Rule, ...] = (
    Rule("C01", "Health Check says SERVING.", _judge_health_check),
    Rule("C02", "Health Watch streams SERVING.", _judge_health_watch),
    Rule("C03", f"Reflection lists and describes {SERVICE_NAME}.", _judge_reflection),
    Rule("C04", "GetModel is complete, and its family is specified.", _judge_model),
    Rule("C05", "A film is answered at its own size.", _judge_size),
    Rule(
        "C06",
        "Masks are valid run lengths of the film's size, not empty, with their boxes around them.",
        _judge_masks,
    ),
    Rule("C07", "Scores are 0 to 1, the best first.", _judge_scores),
    Rule("C08", "Only structures that GetModel names are answered.", _judge_structures),
    Rule(
        "C09",
        "A semantic network answers at most one region a structure, an instance network instances.",
        _judge_kinds,
    ),
    Rule("C10", "Provenance agrees with GetModel and carries the timing.", _judge_provenance),
    Rule("C11", "The same film gets the same answer.", _judge_deterministic),
    Rule("C12", "Tall, wide and small films from 16 x 16 are answered.", _judge_film_sizes),
    Rule("C13", "A film in uint8, uint16 or float32 gets one answer.", _judge_pixel_types),
    Rule("C14", "Options are kept, and refused when out of range.", _judge_options),
    Rule(
        "C15",
        "A bad film is refused with INVALID_ARGUMENT (for its size also RESOURCE_EXHAUSTED) and a "
        "message, and serving goes on.",
        _judge_bad_films,
        slow=True,
    ),
    Rule(
        "C16",
        "A passed deadline is DEADLINE_EXCEEDED, and serving goes on.",
        _judge_deadline,
        slow=True,
    ),
    Rule("C17", "Serving goes on after cancelled calls.", _judge_cancellation, slow=True),
    Rule("C18", f"The request id ({REQUEST_ID_KEY}) is echoed.", _judge_request_id),
    Rule("C19", "Probability maps come when asked for, well-formed.", _judge_probability_maps),
    Rule("C20", "Two requests at once are both answered.", _judge_two_at_once),
    Rule(
        "C21",
        "A film as DICOM or PNG is answered like its raw pixels.",
        _judge_file_forms,
        slow=True,
    ),
    Rule("C22", "A film of 24 MiB is answered.", _judge_large_film, slow=True),
    Rule(
        "C23",
        "A message above the advertised limit is RESOURCE_EXHAUSTED, and serving goes on.",
        _judge_over_limit,
        slow=True,
    ),
)
"""All rules, in the order in which they are judged."""


def judge(session: Session, rule: Rule) -> RuleResult:
    """Judges one rule."""
    started = time.perf_counter()
    outcome, message = Outcome.PASS, ""
    try:
        message = rule.judge(session) or ""
    except RuleBrokenError as error:
        outcome, message = Outcome.FAIL, str(error)
    except _BlockedError as error:
        outcome, message = Outcome.SKIP, f"not judged: {error}"
    except grpc.RpcError as error:
        outcome, message = Outcome.FAIL, f"the call fails with {_told(error)}"
    elapsed_ms = (time.perf_counter() - started) * 1e3
    return RuleResult(rule.rule_id, rule.statement, outcome, message, elapsed_ms)


def check(
    target: str,
    *,
    quick: bool = False,
    timeout_s: float = 120.0,
    wait_s: float | None = None,
    limit_s: float | None = None,
    server_name: str | None = None,
    on_result: Callable[[RuleResult], None] | None = None,
) -> list[RuleResult]:
    """Judges all rules against the container at an address.

    When the container dies, the rules after the one that it died of are skipped. So are the rules
    after the one during which the time limit passed; that one has failed.

    Args:
        target: gRPC target, such as ``127.0.0.1:50051``.
        quick: Leave out the slow rules.
        timeout_s: Time each call has, in s.
        wait_s: How long to wait, in s, until its health says SERVING (it may be loading); None
            waits only until it takes connections.
        limit_s: Time for everything together, the waiting included, in s; None: no limit.
        server_name: Name of the container where the target is its address; see
            :func:`open_channel`.
        on_result: Called with each result as it comes, for progress.

    Returns:
        One result a rule, in order. The container conforms when none has failed.

    Raises:
        NotServingError: Nothing takes connections at the address, or it does not come to serve.
    """
    results: list[RuleResult] = []
    ended = ""
    with Session(target, timeout_s=timeout_s, limit_s=limit_s, server_name=server_name) as session:
        if wait_s is None:
            session.connect()
        else:
            session.wait_until_serving(wait_s if limit_s is None else min(wait_s, limit_s))
        for rule in RULES:
            if ended:
                reason = f"not judged: {ended}"
                result = RuleResult(rule.rule_id, rule.statement, Outcome.SKIP, reason, 0.0)
            elif quick and rule.slow:
                reason = "left out by quick"
                result = RuleResult(rule.rule_id, rule.statement, Outcome.SKIP, reason, 0.0)
            else:
                result = judge(session, rule)
                if session.over:
                    message = f"the time limit of {limit_s:g} s passed during this rule"
                    result = replace(result, outcome=Outcome.FAIL, message=message)
                    ended = f"the time limit passed during {rule.rule_id}"
                elif result.failed and not session.alive():
                    ended = f"the container stopped answering during {rule.rule_id}"
            results.append(result)
            if on_result is not None:
                on_result(result)
    return results


def main(argv: list[str] | None = None) -> int:
    """Command line; returns 0 when all rules hold, 1 when one fails, 2 when nothing answers."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_conformance",
        description="Judge a network's container by the rules of the contract.",
    )
    parser.add_argument("target", help="gRPC address, such as 127.0.0.1:50051")
    parser.add_argument("--quick", action="store_true", help="leave out the slow rules")
    parser.add_argument("--json", action="store_true", help="write the results as JSON")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds a call has")
    parser.add_argument("--wait", type=float, help="seconds to wait until it serves")
    parser.add_argument("--limit", type=float, help="seconds for everything together")
    parser.add_argument("--server-name", help="name in its certificate, if the target is none")
    options = parser.parse_args(argv)

    def show(result: RuleResult) -> None:
        if not options.json:
            sys.stdout.write(_line(result) + "\n")
            sys.stdout.flush()

    try:
        results = check(
            options.target,
            quick=options.quick,
            timeout_s=options.timeout,
            wait_s=options.wait,
            limit_s=options.limit,
            server_name=options.server_name,
            on_result=show,
        )
    except (NotServingError, ConfigurationError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    failed = [result.rule_id for result in results if result.failed]
    if options.json:
        document = {
            "target": options.target,
            "conforms": not failed,
            "failed": failed,
            "rules": [asdict(result) for result in results],
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        held = sum(result.outcome is Outcome.PASS for result in results)
        skipped = len(results) - held - len(failed)
        verdict = f"breaks {', '.join(failed)}" if failed else "conforms"
        sys.stdout.write(
            f"{options.target} {verdict}: {held} rules hold, {len(failed)} broken, "
            f"{skipped} not judged\n"
        )
    return 1 if failed else 0


def _line(result: RuleResult) -> str:
    text = f"{result.rule_id}  {result.outcome:4}  {result.elapsed_ms:8.0f} ms  {result.statement}"
    return f"{text}\n{'':23}{result.message}" if result.message else text


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
