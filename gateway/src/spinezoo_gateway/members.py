"""The gateway's side of one member: its channel, what it says of itself, and one question to it."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from spinezoo.v1 import ensemble_pb2, segmenter_pb2
from spinezoo_contract import codec
from spinezoo_contract.errors import InvalidOutputError, SpineZooError
from spinezoo_contract.status import from_rpc_error
from spinezoo_contract.types import (
    MemberCode,
    MemberStatus,
    ModelInfo,
    Prediction,
    SegmentKind,
)
from spinezoo_spine import fusion

from spinezoo_gateway.roster import Member

SERVICE_NAME = "spinezoo.v1.SegmenterService"
"""What a member serves, and the name under which its health is watched."""

_PREDICT = f"/{SERVICE_NAME}/Predict"
_GET_MODEL = f"/{SERVICE_NAME}/GetModel"

MODEL_TIMEOUT_S = 2.0
"""Time a member has to say what it is."""

INLINE_ANSWER_BYTES = 65_536
"""Answers up to this size are checked on the event loop; the hop to a thread costs more."""

MAX_MESSAGE_CHARACTERS = 500
"""Longest member message that is passed on."""

USUAL_SHARE = 0.2
"""Weight of a new latency in a member's usual one."""

_CODES = {
    grpc.StatusCode.DEADLINE_EXCEEDED: MemberCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAVAILABLE: MemberCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED: MemberCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED: MemberCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INVALID_ARGUMENT: MemberCode.INVALID_ARGUMENT,
    grpc.StatusCode.OUT_OF_RANGE: MemberCode.INVALID_ARGUMENT,
}
"""How a member's gRPC status is named; every other is INTERNAL."""


def service_config() -> str:
    """The gRPC service config of a member's channel.

    - ``round_robin`` over every address of the target, each health-checked: a member that is
      loading or draining gets no film, and a replica of it does.
    - A member that cannot be reached is tried three times within about 0.2 s, then it is named;
      it never waits for a connection until its deadline.
    """
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "healthCheckConfig": {"serviceName": SERVICE_NAME},
            "methodConfig": [
                {
                    "name": [{"service": SERVICE_NAME}],
                    "waitForReady": False,
                    "retryPolicy": {
                        "maxAttempts": 3,
                        "initialBackoff": "0.05s",
                        "maxBackoff": "0.5s",
                        "backoffMultiplier": 2,
                        "retryableStatusCodes": ["UNAVAILABLE"],
                    },
                }
            ],
        }
    )


def channel_options(max_message_bytes: int) -> list[tuple[str, str | int]]:
    """Options of a member's channel."""
    return [
        ("grpc.service_config", service_config()),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        # A film larger than this buffer (256 KiB by default) would never be tried again.
        ("grpc.per_rpc_retry_buffer_size", max_message_bytes),
        # A member that comes back is found within about a second.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # A machine that vanishes without a word is noticed while a film is under way.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.enable_http_proxy", 0),
    ]


@dataclass(frozen=True, slots=True)
class MemberResult:
    """What one member made of one film.

    Attributes:
        message: The answer as it goes to the client; its status says how the member fared.
        ballot: The checked outlines, made ready to be fused while other members still work; None
            where the member failed.
    """

    message: ensemble_pb2.MemberAnswer
    ballot: fusion.Ballot | None

    @property
    def name(self) -> str:
        """The member's name in the roster."""
        return str(self.message.status.member_name)

    @property
    def code(self) -> MemberCode:
        """How the member fared."""
        return MemberCode(self.message.status.code)


class MemberClient:
    """One channel to one member.

    Attributes:
        member: Its entry in the roster.
        model: What it says of itself; None until it has been asked.
        usual_ms: Its usual latency, a running mean, in ms; 0 until it has answered.
    """

    def __init__(self, member: Member, max_message_bytes: int) -> None:
        """Opens the channel lazily; nothing is sent yet."""
        self.member = member
        self.model: ModelInfo | None = None
        self.usual_ms = 0.0
        self._model_of_weights: str | None = None
        self._channel = grpc.aio.insecure_channel(
            member.target, options=channel_options(max_message_bytes)
        )
        # The same request bytes go to every member, so nothing is serialised here; the answer is
        # parsed by us, so that bytes that are no answer are named as the member's fault.
        self._predict = self._channel.unary_unary(
            _PREDICT, request_serializer=bytes, response_deserializer=bytes
        )
        self._get_model = self._channel.unary_unary(
            _GET_MODEL,
            request_serializer=segmenter_pb2.GetModelRequest.SerializeToString,
            response_deserializer=segmenter_pb2.GetModelResponse.FromString,
        )

    async def close(self, grace_s: float | None = None) -> None:
        """Closes the channel after the calls under way, or after the grace, in s."""
        await self._channel.close(grace_s)

    async def fetch_model(self, timeout_s: float = MODEL_TIMEOUT_S) -> ModelInfo:
        """Asks the member what it is, and remembers it.

        Raises:
            SpineZooError: The member failed or broke the contract.
        """
        try:
            answer = await self._get_model(
                segmenter_pb2.GetModelRequest(), timeout=timeout_s, wait_for_ready=False
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        self.model = codec.model_info_from_proto(answer.model)
        return self.model

    async def probe(self) -> MemberStatus:
        """Whether the member is serving now; its description is refreshed on the way."""
        began = time.perf_counter()
        try:
            answer = await self._get_model(
                segmenter_pb2.GetModelRequest(), timeout=MODEL_TIMEOUT_S, wait_for_ready=False
            )
            self.model = codec.model_info_from_proto(answer.model)
        except grpc.aio.AioRpcError as error:
            return self._failed(began, *_named(error))
        except InvalidOutputError as error:
            return self._failed(began, MemberCode.INVALID_OUTPUT, str(error))
        except grpc.aio.UsageError:
            return self._failed(began, MemberCode.UNAVAILABLE, "left the roster meanwhile")
        return MemberStatus(self.member.name, MemberCode.OK, _ms_since(began))

    async def ask(
        self,
        request: bytes,
        *,
        height: int,
        width: int,
        deadline_s: float,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> MemberResult:
        """Asks for the outlines of one film; a failure is a result, not an exception.

        Args:
            request: A serialised ``PredictRequest``.
            height: Rows of the film, in pixels.
            width: Columns of the film, in pixels.
            deadline_s: Time the member has, in s.
            metadata: Sent along.
        """
        began = time.perf_counter()
        try:
            answer = await self._predict(
                request, timeout=deadline_s, metadata=metadata, wait_for_ready=False
            )
            if len(answer) <= INLINE_ANSWER_BYTES:
                response, prediction, ballot = check_answer(answer, height, width)
            else:
                response, prediction, ballot = await asyncio.to_thread(
                    check_answer, answer, height, width
                )
            await self._check_structures(prediction, deadline_s - _ms_since(began) / 1000.0)
        except grpc.aio.AioRpcError as error:
            code, message = _named(error)
            if code == MemberCode.DEADLINE_EXCEEDED:
                message = f"no answer within {deadline_s * 1000.0:.0f} ms"
            status = self._failed(began, code, message)
        except InvalidOutputError as error:
            status = self._failed(began, MemberCode.INVALID_OUTPUT, str(error))
        except grpc.aio.UsageError:
            status = self._failed(began, MemberCode.UNAVAILABLE, "left the roster meanwhile")
        else:
            status = MemberStatus(self.member.name, MemberCode.OK, _ms_since(began))
            self.usual_ms += USUAL_SHARE * (status.latency_ms - self.usual_ms)
            answered = ensemble_pb2.MemberAnswer(
                status=codec.member_status_to_proto(status),
                segments=response.segments,
                probability_maps=response.probability_maps,
                provenance=response.provenance,
            )
            return MemberResult(answered, ballot)
        return MemberResult(
            ensemble_pb2.MemberAnswer(status=codec.member_status_to_proto(status)), None
        )

    async def _check_structures(self, prediction: Prediction, time_left_s: float) -> None:
        """Raises InvalidOutputError for a structure that the member's model does not have."""
        known, weights = self.model, prediction.provenance.weights_sha256
        if known is None or weights not in (known.weights_sha256, self._model_of_weights):
            # Never asked, or the container behind the target was replaced. The weights are
            # remembered, so that a member whose two answers differ is not asked for every film.
            self._model_of_weights = weights
            try:
                known = await self.fetch_model(max(0.05, min(time_left_s, MODEL_TIMEOUT_S)))
            except InvalidOutputError as error:
                raise InvalidOutputError(f"GetModel: {error}") from None
            except SpineZooError as error:
                raise InvalidOutputError(
                    f"answered, but did not say which structures it knows (GetModel: {error})"
                ) from None
        foreign = sorted(
            {segment.structure for segment in prediction.segments} - set(known.structures)
        )
        if foreign:
            names = ", ".join(structure.name.lower() for structure in foreign)
            raise InvalidOutputError(
                f"answered {names}, which its model card does not list; correct card or network"
            )

    def _failed(self, began: float, code: MemberCode, message: str) -> MemberStatus:
        text = " ".join(message.split())[:MAX_MESSAGE_CHARACTERS]
        return MemberStatus(self.member.name, code, _ms_since(began), text)


def check_answer(
    answer: bytes, height: int, width: int
) -> tuple[segmenter_pb2.PredictResponse, Prediction, fusion.Ballot]:
    """Parses and checks a member's answer, and makes it ready to be fused.

    Args:
        answer: A serialised ``PredictResponse``, from anybody.
        height: Rows of the film that was sent, in pixels.
        width: Columns of the film that was sent, in pixels.

    Returns:
        The message, to be passed on as it is, its checked content, and its ballot.

    Raises:
        InvalidOutputError: The answer breaks the contract; the message says how.
    """
    try:
        response = segmenter_pb2.PredictResponse.FromString(answer)
    except DecodeError:
        raise InvalidOutputError(
            f"the answer of {len(answer)} bytes is no PredictResponse; is this a member?"
        ) from None
    prediction = codec.prediction_from_proto(response, height, width)
    regions = [s.structure for s in prediction.segments if s.kind == SegmentKind.REGION]
    if len(regions) != len(set(regions)):
        raise InvalidOutputError("the answer holds two regions of one structure; unite them")
    return response, prediction, fusion.ballot(prediction.segments, height, width)


def _named(error: grpc.aio.AioRpcError) -> tuple[MemberCode, str]:
    """Code and message of a failed call."""
    meaning = from_rpc_error(error)
    if isinstance(meaning, InvalidOutputError):
        return MemberCode.INVALID_OUTPUT, str(meaning)
    return _CODES.get(error.code(), MemberCode.INTERNAL), str(meaning)


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000.0
