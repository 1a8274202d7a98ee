"""Rules C14, C16 to C18 and C23: options, deadlines, cancelling, request ids, message limits."""

from __future__ import annotations

import math
import time
import uuid

import grpc
from grpc import StatusCode
from spinezoo.v1 import image_pb2, segmenter_pb2
from spinezoo_contract.status import REQUEST_ID_KEY
from spinezoo_contract.words import counted

from spinezoo_conformance import films
from spinezoo_conformance.answers import check_refused, judged_on
from spinezoo_conformance.rule import Rule
from spinezoo_conformance.session import Session, raw_image, standard_pixels, told
from spinezoo_conformance.verdict import RuleBlockedError, expect

MAX_OVER_LIMIT_BYTES = 256 << 20
"""Greatest advertised message limit that rule C22 tries to exceed."""


def _judge_options(session: Session) -> str:
    image = raw_image(standard_pixels())
    strict = session.predict(image, segmenter_pb2.PredictOptions(score_threshold=1.0))
    for index, segment in enumerate(strict.segments):
        expect(
            segment.score >= 1.0 - 1e-6,
            f"with score_threshold 1 segments[{index}] has score {segment.score:.4f}",
        )
    few = session.predict(image, segmenter_pb2.PredictOptions(score_threshold=0.0, max_segments=1))
    expect(
        len(few.segments) <= 1,
        f"with max_segments 1 the answer has {counted(len(few.segments), 'outline')}",
    )
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
        check_refused(session, image, f"{name} {value}", (StatusCode.INVALID_ARGUMENT,), options)
    return judged_on(session.answer())


def _judge_deadline(session: Session) -> None:
    request = segmenter_pb2.PredictRequest(image=raw_image(films.spine_like_pixels(2048, 1024)))
    ended = 0
    for deadline_ms in (1, 1, 1, 15, 40):
        try:
            session.stub.Predict(request, timeout=deadline_ms / 1e3)
        except grpc.RpcError as error:
            expect(
                error.code() is StatusCode.DEADLINE_EXCEEDED,
                f"a deadline of {deadline_ms} ms ends in {told(error)}; DEADLINE_EXCEEDED",
            )
            ended += 1
    # On a busy machine an answer may overtake the caller's own clock, but not each time.
    expect(ended > 0, "2 Mi pixels are answered within 1 ms, three times")
    session.expect_serving("passed deadlines")


def _judge_cancellation(session: Session) -> None:
    request = segmenter_pb2.PredictRequest(image=raw_image(films.spine_like_pixels(1024, 512)))
    for wait_ms in (2, 20, 60):
        call = session.stub.Predict.future(request, timeout=session.timeout_s)
        time.sleep(wait_ms / 1e3)
        call.cancel()
        code = call.code()
        expect(
            code in (StatusCode.CANCELLED, StatusCode.OK),
            f"a call cancelled after {wait_ms} ms ends in {code.name}: {call.details()}",
        )
    session.expect_serving("cancelled calls")


def _judge_request_id(session: Session) -> None:
    good = segmenter_pb2.PredictRequest(image=raw_image(films.spine_like_pixels(32, 32)))
    bad = segmenter_pb2.PredictRequest(image=image_pb2.Image(encoded=b"no image"))
    for what, request in (("a good film", good), ("a bad film", bad)):
        request_id = uuid.uuid4().hex
        call = session.stub.Predict.future(
            request, timeout=session.timeout_s, metadata=((REQUEST_ID_KEY, request_id),)
        )
        code = call.code()
        if what == "a good film":
            expect(code is StatusCode.OK, f"{what} is answered with {code.name}: {call.details()}")
        metadata = [*(call.initial_metadata() or ()), *(call.trailing_metadata() or ())]
        echoed = [value for key, value in metadata if key == REQUEST_ID_KEY]
        expect(
            request_id in echoed,
            f"the answer to {what} carries {REQUEST_ID_KEY} {echoed}, sent was {request_id!r}",
        )


def _judge_over_limit(session: Session) -> str:
    limit = session.model().max_message_bytes
    if limit > MAX_OVER_LIMIT_BYTES:
        raise RuleBlockedError(f"the advertised limit of {limit} bytes is too large to exceed here")
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
    codes = (StatusCode.RESOURCE_EXHAUSTED,)
    check_refused(session, image, f"a message above the limit of {limit} bytes", codes)
    session.expect_serving("a message above the limit")
    return f"limit {limit} bytes"


CALL_RULES = (
    Rule("C14", "Options are kept, and refused when out of range.", _judge_options),
    Rule(
        "C16",
        "A passed deadline is DEADLINE_EXCEEDED, and serving goes on.",
        _judge_deadline,
        slow=True,
    ),
    Rule("C17", "Serving goes on after cancelled calls.", _judge_cancellation, slow=True),
    Rule("C18", f"The request id ({REQUEST_ID_KEY}) is echoed.", _judge_request_id),
    Rule(
        "C23",
        "A message above the advertised limit is RESOURCE_EXHAUSTED, and serving goes on.",
        _judge_over_limit,
        slow=True,
    ),
)
