"""The gateway's side of one member: its channel, what it says of itself, and one question to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from spinezoo.v1 import ensemble_pb2, segmenter_pb2
from spinezoo_contract import codec
from spinezoo_contract.errors import InvalidOutputError, NotServingError, SpineZooError
from spinezoo_contract.status import from_rpc_error, to_status
from spinezoo_contract.tls import ClientSecurity
from spinezoo_contract.types import (
    SHRINKING_ID,
    MemberCode,
    MemberStatus,
    ModelInfo,
    Prediction,
    Segment,
)
from spinezoo_serving.logs import error_fields
from spinezoo_spine.column import consensus
from spinezoo_spine.fusion import implants
from spinezoo_spine.fusion import votes as fusion

from spinezoo_gateway.addresses import addresses_target, named_host
from spinezoo_gateway.answers import check_answer, check_asked
from spinezoo_gateway.lines import Line
from spinezoo_gateway.patience import GivenUpError, Patience, PatienceSettings
from spinezoo_gateway.roster import Member
from spinezoo_gateway.sent import Canvas, SentFilm
from spinezoo_gateway.settings import MAX_DEADLINE_MS

log = logging.getLogger("spinezoo.gateway")

MODEL_TIMEOUT_S = 2.0
"""Time a member has to say what it is."""

CONNECT_S = 2.0
"""Time a channel to new addresses has to connect before films use it, in s."""

INLINE_ANSWER_BYTES = 65_536
"""Answers up to this size are checked on the event loop; the hop to a thread costs more."""

MAX_MESSAGE_CHARACTERS = 500
"""Longest member message that is passed on."""

_CODES = {
    grpc.StatusCode.DEADLINE_EXCEEDED: MemberCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAVAILABLE: MemberCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED: MemberCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED: MemberCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INVALID_ARGUMENT: MemberCode.INVALID_ARGUMENT,
    grpc.StatusCode.OUT_OF_RANGE: MemberCode.INVALID_ARGUMENT,
    # It is there and does not let the gateway in.
    grpc.StatusCode.UNAUTHENTICATED: MemberCode.UNAVAILABLE,
    grpc.StatusCode.PERMISSION_DENIED: MemberCode.UNAVAILABLE,
}
"""How a member's gRPC status is named; every other is INTERNAL."""

_NOT_UNDERSTOOD = frozenset({MemberCode.INVALID_OUTPUT, MemberCode.INVALID_ARGUMENT})
"""How a member fares that is sent a shrunk film and takes it for a whole one, or another canvas."""

UNEXPECTED = (
    "its answer failed in the gateway in an unexpected way; the gateway's log holds the place"
)
"""What is said of a member whose answer sets off a fault of the gateway."""

_METAL = ThreadPoolExecutor(4, thread_name_prefix="metal")
"""Takes members' implants apart, which takes some milliseconds: neither the event loop waits for
it, nor do the film's regions, column and names."""

_GONE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
"""How calls end whose server or connection has gone; a film may be asked about again."""


@dataclass(frozen=True, slots=True)
class Vote:
    """A member's checked outlines, ready to be fused; made while other members still work.

    Attributes:
        ballot: Its masks by structure, for the fused regions.
        vertebrae: Its vertebrae, for the fused column.
        implants: Its implants, for the fused ones; they may still be in work.
    """

    ballot: fusion.Ballot
    vertebrae: consensus.Vertebrae
    implants: Future[implants.Implants]


def vote_of(segments: Sequence[Segment], height: int, width: int) -> Vote:
    """The vote of a member that answered these segments, on a film of this size.

    Raises:
        MaskError: A mask is not of the film's size, or its run lengths do not fit the film.
    """
    return Vote(
        fusion.ballot(segments, height, width),
        consensus.vertebrae_of(segments, height, width),
        _METAL.submit(implants.implants_of, segments, height, width),
    )


@dataclass(frozen=True, slots=True)
class MemberResult:
    """What one member made of one film.

    Attributes:
        message: The answer as it goes to the client; its status says how the member fared.
        vote: Its outlines, ready to be fused; None where the member failed.
    """

    message: ensemble_pb2.MemberAnswer
    vote: Vote | None

    @property
    def name(self) -> str:
        """The member's name in the roster."""
        return str(self.message.status.member_name)

    @property
    def code(self) -> MemberCode:
        """How the member fared."""
        return MemberCode(self.message.status.code)


class MemberClient:
    """One member: a channel to where it is now.

    Belongs to one event loop. Its channel is replaced when its addresses change or it moves: films
    that come later use the new one, films under way finish on the old one, which then closes.

    Attributes:
        member: Its entry in the roster, with the target that is asked now.
        model: What it last said of itself; None until it has been asked.
        patience: Whether films wait for it, and what it usually takes.
    """

    def __init__(
        self,
        member: Member,
        max_message_bytes: int,
        security: ClientSecurity | None = None,
        patience: PatienceSettings | None = None,
    ) -> None:
        """Opens the channel lazily; nothing is sent yet.

        A member whose target is a name has no channel until :meth:`use` has been called.

        Args:
            member: Its entry in the roster.
            max_message_bytes: gRPC message limit.
            security: How members are spoken to; None speaks without encryption.
            patience: When it is set aside; None: as shipped.

        Raises:
            ConfigurationError: A certificate's file is wrong.
        """
        self.member = member
        self._security = security or ClientSecurity()
        self.model: ModelInfo | None = None
        self.patience = Patience(member.name, patience or PatienceSettings())
        self._whole_only: ModelInfo | None = None
        self._trial: asyncio.Task[MemberResult] | None = None
        self._max_message_bytes = max_message_bytes
        self._addresses: tuple[str, ...] = ()
        self._problem = "its address has not been looked up yet; try again in a second"
        self._line: Line | None = None
        self._lost = False
        self._closed = False
        self._switching = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._holders = 0
        self._released = asyncio.Event()
        if named_host(member.target) is None:
            self._line = self._open(member, ())

    def _open(self, member: Member, addresses: tuple[str, ...]) -> Line | None:
        """A channel to a member, or None where its name has no address yet."""
        named = named_host(member.target)
        target, server_name = member.target, member.server_name
        if named is not None:
            if not addresses:
                return None
            target = addresses_target(addresses, named[1])
            server_name = server_name or named[0]
        return Line(target, self._max_message_bytes, self._security, server_name)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps the member's channel open for a film that is going to ask it."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            if self._holders == 0:
                self._released.set()

    async def retire(self, grace_s: float) -> None:
        """Closes when no film holds the member any more, or after the grace, in s."""
        end = time.monotonic() + grace_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while self._holders:
                    self._released.clear()
                    await self._released.wait()
        await self.close(max(0.0, end - time.monotonic()))

    async def close(self, grace_s: float | None = None) -> None:
        """Closes the channels after the calls under way, or after the grace, in s."""
        self._closed = True
        line, self._line = self._line, None
        self._problem = "left the roster meanwhile"
        if self._trial is not None:
            self._trial.cancel()
            await asyncio.gather(self._trial, return_exceptions=True)
        if line is not None:
            await line.close(grace_s)
        if not grace_s:
            for task in self._closing:
                task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Addresses that the member's name stood for last; empty without a name."""
        return self._addresses

    async def use(self, target: str, addresses: Sequence[str]) -> bool:
        """Makes these the addresses of the member's name; returns whether they are new.

        Args:
            target: The target whose name was looked up; ignored where the member has moved since.
            addresses: What it stands for. None, as of a name that is unknown for a moment, leave
                those that there are.

        Raises:
            ConfigurationError: A certificate's file is wrong; the old channel stays.
        """
        found = tuple(sorted(set(addresses)))
        async with self._switching:
            if target != self.member.target or named_host(target) is None or not found:
                return False
            self._lost = False
            if found == self._addresses:
                return False
            await self._switch(self.member, found)
            return True

    async def move(self, member: Member, addresses: Sequence[str] = ()) -> None:
        """Goes over to another target.

        Args:
            member: The entry with the new target.
            addresses: What its name stands for, where it is a name.

        Raises:
            ConfigurationError: A certificate's file is wrong; the old channel stays.
        """
        async with self._switching:
            await self._switch(member, tuple(sorted(set(addresses))))

    async def renew(self) -> None:
        """Opens the channel anew, with the certificates as they are now.

        Raises:
            ConfigurationError: A certificate's file is wrong; the old channel stays.
        """
        async with self._switching:
            if self._line is not None:
                await self._switch(self.member, self._addresses)

    def lost(self, why: str) -> bool:
        """Notes that the member's name has no address; returns whether that is news.

        The addresses it had stay in use. Callers are told why while there are none.
        """
        news, self._lost = not self._lost, True
        self._problem = why
        return news

    async def _switch(self, member: Member, addresses: tuple[str, ...]) -> None:
        """Opens a channel beside the old one, and lets films use it once it is connected."""
        line = self._open(member, addresses)
        try:
            if line is not None and self._line is not None:
                # A film that found a channel still connecting would wait for it; the old serves.
                await line.ready(CONNECT_S)
        except BaseException:
            if line is not None:
                await line.close(None)
            raise
        if self._closed:
            if line is not None:
                await line.close(None)
            return
        old, self._line = self._line, line
        if old is not None and line is not None and member.target == self.member.target:
            # Replicas of one name: what is known of a model holds behind its other addresses too.
            line.models.update(old.models)
        self.member, self._addresses = member, addresses
        self.patience.forget()
        if old is not None:
            # Calls under way have at most this long.
            task = asyncio.create_task(old.close(MAX_DEADLINE_MS / 1000.0))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def fetch_model(self, timeout_s: float = MODEL_TIMEOUT_S) -> ModelInfo:
        """Asks the member what it is, and remembers it.

        Raises:
            SpineZooError: The member failed or broke the contract.
        """
        line = self._line
        if line is None:
            raise NotServingError(self._problem)
        return await self._fetch_model(line, timeout_s)

    async def _fetch_model(self, line: Line, timeout_s: float) -> ModelInfo:
        try:
            answer = await line.get_model(
                segmenter_pb2.GetModelRequest(), timeout=timeout_s, wait_for_ready=False
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        except grpc.aio.UsageError:
            raise NotServingError("left the roster meanwhile") from None
        try:
            said = segmenter_pb2.GetModelResponse.FromString(answer)
        except DecodeError:
            raise InvalidOutputError(
                f"the answer of {len(answer)} bytes is no GetModelResponse; is this a member?"
            ) from None
        model = codec.from_proto(ModelInfo, said.model)
        line.learn(model.weights_sha256, model)
        if line is self._line:
            self.model = model
            if model != self._whole_only:
                self._whole_only = None
        return model

    async def _fetch_either(self, line: Line, timeout_s: float) -> ModelInfo:
        """What a member is, asked where it is now if the line of its answer has closed since.

        Raises:
            SpineZooError: The member failed or broke the contract.
        """
        while True:
            try:
                return await self._fetch_model(line, timeout_s)
            except NotServingError:
                now = self._line
                if now is None or now is line:
                    raise
                line = now

    async def probe(self) -> MemberStatus:
        """Whether the member is serving now; its description is refreshed on the way."""
        began = time.perf_counter()
        try:
            await self.fetch_model()
        except InvalidOutputError as error:
            return self._failed(began, MemberCode.INVALID_OUTPUT, str(error))
        except SpineZooError as error:
            code = _CODES.get(to_status(error)[0], MemberCode.INTERNAL)
            return self._failed(began, code, str(error))
        if self.patience.set_aside:
            return self._failed(began, MemberCode.UNAVAILABLE, self.patience.set_aside)
        return MemberStatus(self.member.name, MemberCode.OK, _ms_since(began))

    @property
    def canvas(self) -> Canvas | None:
        """What films are shrunk to for this member; None where it gets whole films."""
        model = self.model
        if model is None or model.shrinking_id != SHRINKING_ID or model == self._whole_only:
            return None
        return model.input_height, model.input_width

    async def ask(
        self,
        sent: SentFilm,
        *,
        deadline_s: float,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> MemberResult:
        """Asks for the outlines of one film; a failure is a result, not an exception.

        Where a shrunk film fails and the whole film does not, the member gets whole films until it
        describes itself otherwise: behind its address is another container than was asked.

        Args:
            sent: The film.
            deadline_s: Time the member has, in s.
            metadata: Sent along.
        """
        began = time.perf_counter()
        model, canvas = self.model, self.canvas
        result = await self._ask(sent, sent.question(canvas), deadline_s, metadata)
        if not sent.is_shrunk(canvas) or result.code not in _NOT_UNDERSTOOD:
            return result
        left_s = deadline_s - _ms_since(began) / 1000.0
        if left_s <= 0.0:
            return result
        again = await self._ask(sent, sent.whole, left_s, metadata)
        if again.code == MemberCode.OK:
            log.warning(
                "the member gets whole films from now on; a shrunk one failed: %s",
                result.message.status.message,
                extra={"fields": {"member": self.member.name}},
            )
            self._whole_only = model
        return again

    async def _ask(
        self,
        sent: SentFilm,
        request: bytes,
        deadline_s: float,
        metadata: tuple[tuple[str, str], ...],
    ) -> MemberResult:
        """Asks once.

        Args:
            sent: The film.
            request: A serialised ``PredictRequest`` about it.
            deadline_s: Time the member has, in s.
            metadata: Sent along.
        """
        height, width = sent.film.height, sent.film.width
        began = time.perf_counter()
        latency_ms = None
        try:
            async with self.patience.waiting():
                line, answer = await self._call(request, began + deadline_s, metadata)
            if len(answer) <= INLINE_ANSWER_BYTES:
                response, prediction = check_answer(answer, height, width)
                vote = vote_of(prediction.segments, height, width)
            else:
                response, prediction = await asyncio.to_thread(check_answer, answer, height, width)
                vote = await asyncio.to_thread(vote_of, prediction.segments, height, width)
            check_asked(prediction, sent.options)
            await self._check_structures(line, prediction, deadline_s - _ms_since(began) / 1000.0)
        except GivenUpError as error:
            return self._failure(self._failed(began, MemberCode.UNAVAILABLE, str(error)))
        except grpc.aio.AioRpcError as error:
            code, message = _named(error)
            if code == MemberCode.DEADLINE_EXCEEDED:
                message = f"no answer within {deadline_s * 1000.0:.0f} ms"
            status = self._failed(began, code, message)
        except InvalidOutputError as error:
            status = self._failed(began, MemberCode.INVALID_OUTPUT, str(error))
        except NotServingError as error:
            status = self._failed(began, MemberCode.UNAVAILABLE, str(error))
        except Exception as error:
            # Whatever a stranger's answer sets off here, the others' answers stay.
            log.error(
                "a member's answer failed here",
                extra={"fields": {"member": self.member.name, **error_fields(error)}},
            )
            status = self._failed(began, MemberCode.INTERNAL, UNEXPECTED)
        else:
            status = MemberStatus(self.member.name, MemberCode.OK, _ms_since(began))
            latency_ms = status.latency_ms
        if status.code == MemberCode.DEADLINE_EXCEEDED:
            self.patience.timed_out(status.latency_ms / 1000.0, self.member.deadline_ms)
        else:
            self.patience.answered(latency_ms)
        if latency_ms is None:
            return self._failure(status)
        answered = ensemble_pb2.MemberAnswer(
            status=codec.to_proto(status),
            segments=response.segments,
            probability_maps=response.probability_maps,
            provenance=response.provenance,
        )
        return MemberResult(answered, vote)

    def without(self) -> MemberResult:
        """What a film says of the member while it is set aside."""
        began = time.perf_counter()
        return self._failure(
            self._failed(began, MemberCode.UNAVAILABLE, self.patience.set_aside or "set aside")
        )

    def trial(
        self, sent: SentFilm, *, metadata: tuple[tuple[str, str], ...] = ()
    ) -> asyncio.Task[MemberResult] | None:
        """Asks the member though it is set aside, if it is time to; nobody has to wait for it.

        Args:
            sent: The film.
            metadata: Sent along.
        """
        if not self.patience.trial_due or self._closed:
            return None

        async def ask() -> MemberResult:
            with self.held(), self.patience.trial():
                deadline_s = self.patience.fair_s(self.member.deadline_ms)
                return await self.ask(sent, deadline_s=deadline_s, metadata=metadata)

        self._trial = asyncio.create_task(ask())
        return self._trial

    async def _call(
        self, request: bytes, end: float, metadata: tuple[tuple[str, str], ...]
    ) -> tuple[Line, bytes]:
        """The answer, and the channel it came through.

        Args:
            request: A serialised ``PredictRequest``.
            end: When the member's time is over, in s of the performance counter.
            metadata: Sent along.

        Raises:
            AioRpcError: The call failed.
            NotServingError: The member has no address.
        """
        while True:
            line = self._line
            if line is None:
                raise NotServingError(self._problem)
            left_s = max(0.001, end - time.perf_counter())
            try:
                answer = await line.predict(
                    request, timeout=left_s, metadata=metadata, wait_for_ready=False
                )
            except grpc.aio.AioRpcError as error:
                # Gone while the member moved: what it moved to has not been asked yet.
                if error.code() not in _GONE or line is self._line:
                    raise
            except grpc.aio.UsageError:
                if line is self._line:
                    raise NotServingError("left the roster meanwhile") from None
            else:
                return line, answer

    async def _check_structures(
        self, line: Line, prediction: Prediction, time_left_s: float
    ) -> None:
        """Raises InvalidOutputError for a structure that the member's model does not have."""
        weights = prediction.provenance.weights_sha256
        known = line.models.get(weights)
        if known is None:
            # Never asked, or the container behind the target was replaced.
            try:
                known = await self._fetch_either(line, max(0.05, min(time_left_s, MODEL_TIMEOUT_S)))
            except InvalidOutputError as error:
                raise InvalidOutputError(f"GetModel: {error}") from None
            except SpineZooError as error:
                raise InvalidOutputError(
                    f"answered, but did not say which structures it knows (GetModel: {error})"
                ) from None
            # Also where the two answers differ in their weights (replicas of two versions, or a
            # member that is wrong): it must not be asked for every film.
            line.learn(weights, known)
        foreign = sorted(
            {segment.structure for segment in prediction.segments} - set(known.structures)
        )
        if foreign:
            names = ", ".join(structure.name.lower() for structure in foreign)
            raise InvalidOutputError(
                f"answered {names}, which its model card does not list; correct card or network"
            )

    @staticmethod
    def _failure(status: MemberStatus) -> MemberResult:
        return MemberResult(ensemble_pb2.MemberAnswer(status=codec.to_proto(status)), None)

    def _failed(self, began: float, code: MemberCode, message: str) -> MemberStatus:
        text = " ".join(message.split())[:MAX_MESSAGE_CHARACTERS]
        return MemberStatus(self.member.name, code, _ms_since(began), text)


def _named(error: grpc.aio.AioRpcError) -> tuple[MemberCode, str]:
    """Code and message of a failed call."""
    meaning = from_rpc_error(error)
    if isinstance(meaning, InvalidOutputError):
        return MemberCode.INVALID_OUTPUT, str(meaning)
    return _CODES.get(error.code(), MemberCode.INTERNAL), str(meaning)


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000.0
