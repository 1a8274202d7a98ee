"""The gRPC shell that members, gateway and evaluator share (extra ``server``).

:class:`GrpcServer` brings what every process needs: health (Check and Watch), reflection, message
limits, a request id, one JSON log line a call, error mapping, draining. :class:`SegmenterServicer`
puts one network behind it through a :class:`PredictQueue`, which the HTTP face shares.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import logging
import re
import signal
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from spinezoo.v1 import segmenter_pb2, segmenter_pb2_grpc
from spinezoo_contract import codec, status
from spinezoo_contract.errors import (
    AccessError,
    BadInputError,
    ConfigurationError,
    DeadlineError,
    InvalidOutputError,
    MaskError,
    NotServingError,
    QueueFullError,
    SpineZooError,
    TooLargeError,
)
from spinezoo_contract.limits import MAX_SEGMENTS_LIMIT
from spinezoo_contract.types import Film, ModelInfo, Prediction, PredictOptions, Structure

from spinezoo_serving.logs import REQUEST_ID, error_fields
from spinezoo_serving.settings import ServerSettings

if TYPE_CHECKING:
    from spinezoo_serving.metrics import ServerMetrics
    from spinezoo_serving.predictor import Predictor
    from spinezoo_serving.tokens import TokenFile

_T = TypeVar("_T")

log = logging.getLogger("spinezoo.server")

SEGMENTER_SERVICE = "spinezoo.v1.SegmenterService"
"""Full name of the service of a network container."""

DRAIN_NOTICE_SECONDS = 0.2
"""From saying NOT_SERVING to refusing new calls, in s: time for callers to turn elsewhere."""

QUIET_SECONDS = 0.2
"""Without a new call before the port is closed, in s: a call that meets the closing port is
cancelled by gRPC, one that comes before is refused by name and can be tried elsewhere."""

MOST_QUIET_SECONDS = 2.0
"""After which the port is closed although callers go on, in s."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_HEALTH_CHECK = "/grpc.health.v1.Health/Check"
"""What probes call, who have no token; it says one word."""


def request_id_from(value: str | bytes | None) -> str:
    """A caller's request id, or a new one.

    A caller's counts if it is 1 to 64 letters, digits, ``.``, ``_`` or ``-``.
    """
    if isinstance(value, str) and _REQUEST_ID.fullmatch(value):
        return value
    return uuid.uuid4().hex


# --- one state for both faces --------------------------------------------------------------------


class Phase(enum.Enum):
    """Where a process is in its life."""

    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"
    FAILED = "failed"


class ServingState:
    """Whether the process serves: the one truth behind health, ``/readyz`` and ``/livez``.

    Moves only forward: loading, serving, draining; or failed. Used from the event loop.
    """

    def __init__(self) -> None:
        self._phase = Phase.LOADING
        self._watchers: set[asyncio.Event] = set()

    @property
    def phase(self) -> Phase:
        """Where the process is in its life."""
        return self._phase

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""
        return self._phase is Phase.SERVING

    @property
    def alive(self) -> bool:
        """Whether the process is of any use: not so once loading has failed."""
        return self._phase is not Phase.FAILED

    def move(self, phase: Phase) -> None:
        """Moves on to a phase and wakes who watches; a step back is ignored."""
        order = (Phase.LOADING, Phase.SERVING, Phase.DRAINING, Phase.FAILED)
        if order.index(phase) <= order.index(self._phase):
            return
        self._phase = phase
        log.info("phase", extra={"fields": {"phase": phase.value}})
        for event in self._watchers:
            event.set()

    async def changes(self) -> AsyncIterator[Phase]:
        """The phase now and after every change."""
        event = asyncio.Event()
        self._watchers.add(event)
        try:
            while True:
                event.clear()
                yield self._phase
                await event.wait()
        finally:
            self._watchers.discard(event)


class _HealthServicer(health_pb2_grpc.HealthServicer):
    """``grpc.health.v1`` over a :class:`ServingState`."""

    def __init__(self, state: ServingState, service_names: Sequence[str]) -> None:
        self._state = state
        self._names = frozenset(("", *service_names))
        self.closing = asyncio.Event()

    def _status(self) -> Any:
        answers = health_pb2.HealthCheckResponse
        return answers.SERVING if self._state.ready else answers.NOT_SERVING

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, "this server has no such service")
        return health_pb2.HealthCheckResponse(status=self._status())

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        answers = health_pb2.HealthCheckResponse
        if request.service not in self._names:
            # The protocol keeps the stream open: the service might appear later.
            await context.write(answers(status=answers.SERVICE_UNKNOWN))
            await self.closing.wait()
            return
        sender = asyncio.create_task(self._send_changes(context))
        closing = asyncio.create_task(self.closing.wait())
        try:
            # Watches end with the server; otherwise they would hold up its draining.
            await asyncio.wait({sender, closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sender, closing):
                task.cancel()
            await asyncio.gather(sender, closing, return_exceptions=True)

    async def _send_changes(self, context: Any) -> None:
        last = None
        async for _ in self._state.changes():
            now = self._status()
            if now != last:
                await context.write(health_pb2.HealthCheckResponse(status=now))
                last = now


# --- the shell -----------------------------------------------------------------------------------


class _InFlight:
    """Counts calls that are being served."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._last_call = 0.0

    def __enter__(self) -> None:
        self._last_call = time.monotonic()
        self._count += 1
        self._idle.clear()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._count -= 1
        if self._count == 0:
            self._idle.set()

    async def wait_idle(self, timeout_s: float) -> bool:
        """Waits until nothing is served; False when the time is over first."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def wait_quiet(self, quiet_s: float, most_s: float) -> None:
        """Waits until no call has come for ``quiet_s``, at most ``most_s``."""
        end = time.monotonic() + most_s
        while (left := self._last_call + quiet_s - time.monotonic()) > 0 and (
            time.monotonic() < end
        ):
            await asyncio.sleep(left)


class _Call:
    """One call: parses, serves, serialises, maps errors, logs a line, counts.

    Args:
        shell: What all calls share.
        method: Full name of the method.
        handler: What serves it.
        request_id: Name of the call.
        caller: Name of who calls; empty where nobody is asked.
        denied: Why it is not served.
    """

    def __init__(
        self,
        shell: _ShellInterceptor,
        method: str,
        handler: Any,
        request_id: str,
        caller: str = "",
        denied: AccessError | None = None,
    ) -> None:
        self._shell = shell
        self._method = method
        self._handler = handler
        self._request_id = request_id
        self._caller = caller
        self._denied = denied
        self._bytes_in = 0
        self._bytes_out = 0

    def _parse(self, data: bytes) -> Any:
        self._bytes_in += len(data)
        if self._handler.request_deserializer is None:
            return data
        try:
            return self._handler.request_deserializer(data)
        except DecodeError:
            raise BadInputError(
                "the request is not a message of this method; generate the client from spinezoo/v1"
            ) from None

    async def _parse_stream(self, stream: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for data in stream:
            yield self._parse(data)

    def _serialise(self, message: Any) -> bytes:
        serialise = self._handler.response_serializer
        data: bytes = message if serialise is None else serialise(message)
        if len(data) > self._shell.max_message_bytes:
            raise TooLargeError(
                f"the answer has {len(data)} bytes, the limit is {self._shell.max_message_bytes} "
                "(SPINEZOO_MAX_MESSAGE_BYTES); raise it on every hop or ask for less, "
                "such as no probability maps"
            )
        self._bytes_out += len(data)
        return data

    async def unary(self, request: Any, context: Any) -> bytes | None:
        """Serves a method that answers one message."""
        return await self._guarded(request, context, self._answer_one)

    async def streaming(self, request: Any, context: Any) -> None:
        """Serves a method that answers a stream."""
        await self._guarded(request, context, self._answer_stream)

    def _request(self, request: Any) -> Any:
        if self._handler.request_streaming:
            return self._parse_stream(request)
        return self._parse(request)

    async def _answer_one(self, request: Any, context: Any) -> bytes:
        behaviour = (
            self._handler.stream_unary
            if self._handler.request_streaming
            else self._handler.unary_unary
        )
        return self._serialise(await behaviour(self._request(request), context))

    async def _answer_stream(self, request: Any, context: Any) -> None:
        behaviour = (
            self._handler.stream_stream
            if self._handler.request_streaming
            else self._handler.unary_stream
        )
        answers = behaviour(self._request(request), context)
        try:
            async for message in answers:
                await context.write(self._serialise(message))
        finally:
            await answers.aclose()

    async def _guarded(
        self, request: Any, context: Any, answer: Callable[[Any, Any], Awaitable[_T]]
    ) -> _T | None:
        started = time.perf_counter()
        token = REQUEST_ID.set(self._request_id)
        trailer = ((status.REQUEST_ID_KEY, self._request_id),)
        code, failure = grpc.StatusCode.OK.name, None
        fields: dict[str, Any] = {}
        level = logging.INFO
        try:
            with self._shell.in_flight:
                if self._denied is not None:
                    raise self._denied
                if self._shell.refusing:
                    raise NotServingError("the server is draining; ask another or try again")
                remaining = context.time_remaining()
                if remaining is not None and remaining <= 0.0:
                    raise DeadlineError("no time was left when the request arrived")
                context.set_trailing_metadata(trailer)
                return await answer(request, context)
        except asyncio.CancelledError:
            remaining = context.time_remaining()
            expired = remaining is not None and remaining <= 0.0
            code = "DEADLINE_EXCEEDED" if expired else "CANCELLED"
            failure = code
            raise
        except grpc.aio.AbortError:
            code = failure = "ABORTED_BY_METHOD"
            raise
        except Exception as error:
            grpc_code, message = status.to_status(error)
            code, failure = grpc_code.name, status.error_name(error)
            if not isinstance(error, SpineZooError):
                level, fields = logging.ERROR, error_fields(error)
                failure = "unexpected"
            else:
                fields = {"error": failure}
            await context.abort(grpc_code, message, (*trailer, *status.error_metadata(error)))
            raise AssertionError("abort returned") from error
        finally:
            milliseconds = (time.perf_counter() - started) * 1000.0
            fields = {
                "method": self._method,
                "code": code,
                "ms": round(milliseconds, 2),
                "bytes_in": self._bytes_in,
                "bytes_out": self._bytes_out,
                **({"caller": self._caller} if self._caller else {}),
                **fields,
            }
            log.log(level, "call", extra={"fields": fields})
            REQUEST_ID.reset(token)
            if self._shell.metrics is not None:
                self._shell.metrics.request(self._method.rpartition("/")[2], code)
                self._shell.metrics.stage("total", milliseconds)
                if failure is not None:
                    self._shell.metrics.failure(failure)


class _ShellInterceptor(grpc.aio.ServerInterceptor):
    """Puts a :class:`_Call` around every method that is not gRPC's own.

    Where callers need a token, every method but health's Check is refused without one, and so
    is reflection.
    """

    def __init__(
        self,
        max_message_bytes: int,
        metrics: ServerMetrics | None,
        tokens: TokenFile | None = None,
    ) -> None:
        self.max_message_bytes = max_message_bytes
        self.metrics = metrics
        self.tokens = tokens
        self.in_flight = _InFlight()
        self.refusing = False

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """The handler of one call."""
        handler = await continuation(details)
        if handler is None:
            return handler
        sent = None
        metadata = tuple(details.invocation_metadata or ())
        for key, value in metadata:
            if key == status.REQUEST_ID_KEY:
                sent = value
        request_id = request_id_from(sent)
        caller = ""
        if self.tokens is not None and details.method != _HEALTH_CHECK:
            try:
                caller = self.tokens.caller(metadata)
            except AccessError as error:
                call = _Call(self, details.method, handler, request_id, error.caller, error)
                # Any kind of call is a stream on the wire; as one it is refused before its
                # request, which may be a large film, has been read.
                return grpc.stream_stream_rpc_method_handler(call.streaming)
        if details.method.startswith("/grpc."):
            return handler
        call = _Call(self, details.method, handler, request_id, caller)
        if handler.response_streaming:
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(call.streaming)
        make = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make(call.unary)


def channel_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """What both ends of a hop tell gRPC: message limits and keepalive."""
    return [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]


def _try_to_bind(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), port))
        listener.listen(1)


class GrpcServer:
    """An asyncio gRPC server with all that a SpineZoo process needs.

    Methods of a servicer are coroutines (one answer) or asynchronous generators (a stream) and
    raise :mod:`spinezoo_contract.errors`; the shell turns those into statuses. Streamed requests
    are read with ``async for``.

    Args:
        settings: Address, limits, drain time.
        state: Shared with the HTTP face; None makes one.
        metrics: Where to count; None counts nothing.
        tokens: Who may call; None lets everybody call.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        state: ServingState | None = None,
        metrics: ServerMetrics | None = None,
        tokens: TokenFile | None = None,
    ) -> None:
        self.settings = settings
        self.state = state or ServingState()
        self.metrics = metrics
        self.tokens = tokens
        self._services: list[tuple[Callable[[Any, Any], None], Any, str]] = []
        self._server: grpc.aio.Server | None = None
        self._health: _HealthServicer | None = None
        self._interceptor: _ShellInterceptor | None = None
        self._port = 0

    def add(self, register: Callable[[Any, Any], None], servicer: Any, full_name: str) -> None:
        """Adds a service before the start.

        Args:
            register: The generated ``add_<Name>Servicer_to_server``.
            servicer: The implementation.
            full_name: Full name of the service, such as ``spinezoo.v1.SegmenterService``.
        """
        self._services.append((register, servicer, full_name))

    @property
    def port(self) -> int:
        """The port that is bound; 0 before the start."""
        return self._port

    async def start(self, *, ready: bool = True) -> None:
        """Binds the port and serves.

        Args:
            ready: Whether health says SERVING at once; else ``state.move(Phase.SERVING)`` later.

        Raises:
            ConfigurationError: The port is taken, the address is not this machine's, or a
                certificate is wrong.
        """
        settings = self.settings
        security = settings.security
        identity = security.check()
        credentials = security.credentials()
        interceptor = _ShellInterceptor(settings.max_message_bytes, self.metrics, self.tokens)
        server = grpc.aio.server(
            interceptors=[interceptor],
            options=[
                *channel_options(settings.max_message_bytes),
                # A taken port is an error, not a lottery between two servers.
                ("grpc.so_reuseport", 0),
                # Clients may ask every 10 s whether the connection lives, also between calls.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        names = [full_name for _, _, full_name in self._services]
        for register, servicer, _ in self._services:
            register(servicer, server)
        health = _HealthServicer(self.state, names)
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        reflection.enable_server_reflection(
            [*names, "grpc.health.v1.Health", reflection.SERVICE_NAME], server
        )
        address = f"{settings.host}:{settings.grpc_port}"
        try:
            # Tried with a plain socket first, because gRPC writes lines of its own when it fails.
            _try_to_bind(settings.host, settings.grpc_port)
            if credentials is None:
                port = server.add_insecure_port(address)
            else:
                # The only port: what does not speak TLS is not understood.
                port = server.add_secure_port(address, credentials)
        except (OSError, RuntimeError):
            port = 0
        if port == 0:
            raise ConfigurationError(
                f"cannot listen on {address}; stop what uses the port, or set SPINEZOO_HOST and "
                "SPINEZOO_GRPC_PORT"
            )
        await server.start()
        self._server, self._health, self._interceptor = server, health, interceptor
        self._port = port
        fields = {
            "face": "grpc",
            "host": settings.host,
            "port": port,
            "tls": security.tls.value,
            "tokens": self.tokens is not None,
        }
        if identity is not None:
            fields["certificate_ends"] = identity.not_after.isoformat()
        log.info("listening", extra={"fields": fields})
        if ready:
            self.state.move(Phase.SERVING)

    async def stop(self, grace: float | None = None) -> bool:
        """Drains and stops: health first, then no new calls, then those in flight finish.

        Args:
            grace: Time for calls in flight, in s; None takes the settings'.

        Returns:
            Whether every call in flight was answered in time.
        """
        if self._server is None or self._health is None or self._interceptor is None:
            self.state.move(Phase.DRAINING)
            return True
        server, self._server = self._server, None
        grace = self.settings.drain_seconds if grace is None else grace
        self.state.move(Phase.DRAINING)
        await asyncio.sleep(min(DRAIN_NOTICE_SECONDS, grace))
        self._interceptor.refusing = True
        finished = await self._interceptor.in_flight.wait_idle(grace)
        await self._interceptor.in_flight.wait_quiet(QUIET_SECONDS, min(grace, MOST_QUIET_SECONDS))
        self._health.closing.set()
        # Returns as soon as the last bytes are out and the watches have ended.
        await server.stop(min(grace, 5.0) if finished else 0.0)
        log.info("stopped", extra={"fields": {"face": "grpc", "finished": finished}})
        return finished


class Face(Protocol):
    """Something beside gRPC that starts and stops with the process."""

    async def start(self) -> None:
        """Starts to answer."""

    async def stop(self) -> None:
        """Stops to answer."""


async def run_forever(
    server: GrpcServer,
    *,
    faces: Sequence[Face] = (),
    on_start: Callable[[], Awaitable[None]] | None = None,
    on_stop: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal stops at once.

    Args:
        server: The gRPC server, not yet started.
        faces: HTTP faces; they stay up while gRPC drains, so that ``/readyz`` can say so.
        on_start: Awaited before the state becomes serving.
        on_stop: Awaited last.

    Raises:
        ConfigurationError: An address cannot be bound.
    """
    asked = asyncio.Event()
    hurried = asyncio.Event()

    def handle() -> None:
        (hurried if asked.is_set() else asked).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle)
    started: list[Face] = []
    try:
        await server.start(ready=False)
        for face in faces:
            await face.start()
            started.append(face)
        if on_start is not None:
            await on_start()
        server.state.move(Phase.SERVING)
        await asked.wait()
    finally:
        stop = asyncio.create_task(server.stop())
        hurry = asyncio.create_task(hurried.wait())
        await asyncio.wait({stop, hurry}, return_when=asyncio.FIRST_COMPLETED)
        for task in (stop, hurry):
            task.cancel()
        await asyncio.gather(stop, hurry, return_exceptions=True)
        for face in reversed(started):
            await face.stop()
        if on_stop is not None:
            await on_stop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


# --- one network behind a queue ------------------------------------------------------------------


class _Place:
    """A place in a :class:`PredictQueue`, from being let in until the answer or failure."""

    def __init__(self, queue: PredictQueue) -> None:
        self._queue = queue

    def __enter__(self) -> _Place:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._queue._leave(self)

    async def run(self, work: Callable[[], _T], *, deadline: float | None) -> tuple[_T, float]:
        """Waits for the network and runs the work on its thread.

        Cancelling this coroutine while the work still waits means that it is never run.

        Args:
            work: The work.
            deadline: ``time.monotonic()`` by which the work has to start, or None.

        Returns:
            What the work returned, and the time it waited, in ms.

        Raises:
            DeadlineError: The deadline passed while the work waited; it was not run.
        """
        asked = time.monotonic()

        def guarded() -> tuple[_T, float]:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                raise DeadlineError("the deadline passed while the request waited in the queue")
            self._queue._start(self)
            try:
                return work(), (now - asked) * 1000.0
            finally:
                # Here, not when the caller returns: a caller that gave up must not free the
                # place of a network that is still busy.
                self._queue._finish()

        return await asyncio.wrap_future(self._queue._executor.submit(guarded))


class PredictQueue:
    """A bounded queue in front of one worker thread, shared by the gRPC and the HTTP face.

    Args:
        limit: Requests that may wait beside the one that runs.
        metrics: Where the number of waiting requests is shown.
    """

    def __init__(self, limit: int, metrics: ServerMetrics | None = None) -> None:
        self._limit = limit
        self._metrics = metrics
        self._lock = threading.Lock()
        self._waiting: set[_Place] = set()
        self._running = 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="network")

    @property
    def length(self) -> int:
        """Requests that wait, those whose film is still being read among them."""
        return len(self._waiting)

    def admit(self) -> _Place:
        """A place, to be used in a ``with`` block.

        Raises:
            QueueFullError: As many requests wait as may.
        """
        place = _Place(self)
        with self._lock:
            if len(self._waiting) + self._running >= self._limit + 1:
                raise QueueFullError(
                    f"{len(self._waiting)} requests wait, the limit is {self._limit} "
                    "(SPINEZOO_QUEUE_LIMIT); try again later or ask another"
                )
            self._waiting.add(place)
            self._show()
        return place

    async def call(self, work: Callable[[], _T]) -> _T:
        """Runs work on the network's thread outside of the limit, such as loading it."""
        return await asyncio.wrap_future(self._executor.submit(work))

    def close(self) -> None:
        """Lets the running work finish and drops what waits."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _show(self) -> None:
        if self._metrics is not None:
            self._metrics.queue_length(len(self._waiting))

    def _start(self, place: _Place) -> None:
        with self._lock:
            self._waiting.discard(place)
            self._running += 1
            self._show()

    def _finish(self) -> None:
        with self._lock:
            self._running -= 1

    def _leave(self, place: _Place) -> None:
        with self._lock:
            self._waiting.discard(place)
            self._show()


def check_prediction(
    prediction: Prediction,
    film: Film,
    options: PredictOptions,
    structures: Sequence[Structure],
    *,
    max_segments: int = MAX_SEGMENTS_LIMIT,
) -> None:
    """Checks a valid answer against what was asked, before it leaves the container.

    Args:
        prediction: The answer.
        film: The film that was asked about.
        options: The request's settings.
        structures: What the network may answer.
        max_segments: Most segments when the request gives no number.

    Raises:
        InvalidOutputError: The answer breaks the contract; the message says how.
    """

    def refuse(what: str) -> InvalidOutputError:
        return InvalidOutputError(f"the network's answer breaks the contract: {what}")

    if (prediction.height, prediction.width) != (film.height, film.width):
        raise refuse(
            f"it is of size {prediction.height} x {prediction.width}, "
            f"the film {film.height} x {film.width}"
        )
    most = options.max_segments or max_segments
    if len(prediction.segments) > most:
        raise refuse(f"{len(prediction.segments)} segments, at most {most} were asked for")
    last_score = 1.0
    for place, segment in enumerate(prediction.segments):
        if segment.structure not in structures:
            raise refuse(f"segment {place} is a {segment.structure!r}, which the card lacks")
        if segment.score > last_score:
            raise refuse(f"segment {place} has a higher score than the one before it")
        last_score = segment.score
    if prediction.probability_maps and not options.include_probability_maps:
        raise refuse("probability maps were not asked for")
    for grid in prediction.probability_maps:
        if grid.structure not in structures:
            raise refuse(f"a probability map is of {grid.structure!r}, which the card lacks")


class Asked(NamedTuple):
    """What a caller asks of a network."""

    film: Film
    options: PredictOptions


def ask_network(predictor: Predictor, asked: Asked) -> Prediction:
    """What a network answers; a wrong outline in it is the network's fault, not the caller's.

    Raises:
        InvalidOutputError: The answer breaks the contract; the message says how.
    """
    try:
        return predictor.predict(asked.film, asked.options)
    except MaskError as error:
        raise InvalidOutputError(f"the network's answer breaks the contract: {error}") from error


class NetworkRunner:
    """One network with its queue: what the gRPC and the HTTP face both ask.

    Args:
        predictor: The loaded network, or None until :meth:`load` is done.
        settings: Limits.
        metrics: Where to count; None counts nothing.
    """

    def __init__(
        self,
        settings: ServerSettings,
        predictor: Predictor | None = None,
        *,
        metrics: ServerMetrics | None = None,
    ) -> None:
        self.settings = settings
        self.predictor = predictor
        self.metrics = metrics
        self.queue = PredictQueue(settings.queue_limit, metrics)
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="films")

    async def load(self, load: Callable[[], Predictor]) -> None:
        """Loads the network on the thread that will run it."""
        self.predictor = await self.queue.call(load)

    def info(self) -> ModelInfo:
        """What the container says of itself.

        Raises:
            NotServingError: The network is not loaded yet.
        """
        return self._loaded().card.info(self.settings)

    def _loaded(self) -> Predictor:
        if self.predictor is None:
            raise NotServingError("the network is still loading; try again in some seconds")
        return self.predictor

    async def in_reader(self, work: Callable[[], _T]) -> _T:
        """Runs work on a film outside of the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    async def predict(
        self,
        read: Callable[[], Asked],
        finish: Callable[[Prediction], _T],
        *,
        timeout_s: float | None = None,
    ) -> _T:
        """Reads a film, waits for the network, runs it, checks its answer.

        Args:
            read: Reads film and settings; run off the event loop.
            finish: Makes the caller's form of the answer; run off the event loop.
            timeout_s: Time the caller has, in s, or None.

        Returns:
            What ``finish`` made of the answer, whose timing is complete.

        Raises:
            SpineZooError: Anything of the tree, as it fits.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        predictor = self._loaded()
        with self.queue.admit() as place:
            started = time.perf_counter()
            asked = await self.in_reader(read)
            decode_ms = (time.perf_counter() - started) * 1000.0
            prediction, queue_ms = await place.run(
                functools.partial(ask_network, predictor, asked), deadline=deadline
            )
        return await self.in_reader(
            functools.partial(
                self._complete, predictor, asked, prediction, decode_ms, queue_ms, finish
            )
        )

    def _complete(
        self,
        predictor: Predictor,
        asked: Asked,
        prediction: Prediction,
        decode_ms: float,
        queue_ms: float,
        finish: Callable[[Prediction], _T],
    ) -> _T:
        card = predictor.card
        check_prediction(
            prediction,
            asked.film,
            asked.options,
            card.structures,
            max_segments=card.defaults.max_segments,
        )
        provenance = prediction.provenance
        if provenance.model_name != card.name:
            raise InvalidOutputError(
                f"the network calls itself {provenance.model_name!r}, its card {card.name!r}"
            )
        timing = replace(provenance.timing, decode_ms=decode_ms, queue_ms=queue_ms)
        if self.metrics is not None:
            for name in timing.__slots__:
                self.metrics.stage(name.removesuffix("_ms"), getattr(timing, name))
        complete = replace(provenance, timing=timing, image=self.settings.image)
        return finish(replace(prediction, provenance=complete))

    def close(self) -> None:
        """Lets running work finish and drops what waits."""
        self.queue.close()
        self._readers.shutdown(wait=False, cancel_futures=True)


class SegmenterServicer(segmenter_pb2_grpc.SegmenterServiceServicer):
    """``SegmenterService`` over one network.

    Args:
        runner: The network with its queue.
        read_film: Decoder of DICOM and encoded films; None takes raw pixels only.
    """

    def __init__(self, runner: NetworkRunner, read_film: codec.ReadFilm | None = None) -> None:
        self._runner = runner
        self._read_film = read_film

    async def Predict(  # noqa: N802
        self, request: Any, context: Any
    ) -> segmenter_pb2.PredictResponse:
        """Outlines of one film."""
        max_pixels = self._runner.settings.max_pixels

        def read() -> Asked:
            # The settings first: they cost nothing to check.
            options = codec.from_proto(PredictOptions, request.options)
            return Asked(codec.film_from_proto(request.image, self._read_film, max_pixels), options)

        return await self._runner.predict(read, codec.to_proto, timeout_s=context.time_remaining())

    async def GetModel(  # noqa: N802
        self, request: Any, context: Any
    ) -> segmenter_pb2.GetModelResponse:
        """The model card in brief."""
        return segmenter_pb2.GetModelResponse(model=codec.to_proto(self._runner.info()))


def segmenter_server(
    runner: NetworkRunner,
    *,
    read_film: codec.ReadFilm | None = None,
    state: ServingState | None = None,
) -> GrpcServer:
    """A server of one network, not yet started."""
    server = GrpcServer(runner.settings, state=state, metrics=runner.metrics)
    server.add(
        segmenter_pb2_grpc.add_SegmenterServiceServicer_to_server,
        SegmenterServicer(runner, read_film),
        SEGMENTER_SERVICE,
    )
    return server
