"""What happens around every gRPC call: request id, token, parsing, errors, a log line, counts.

:class:`ShellInterceptor` wraps each method of a server in a :class:`_Call` and counts the calls
in flight, which :class:`~spinezoo_serving.server.GrpcServer` waits for when it drains.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from spinezoo_contract import status
from spinezoo_contract.errors import (
    AccessError,
    BadInputError,
    DeadlineError,
    NotServingError,
    QueueFullError,
    SpineZooError,
    TooLargeError,
)
from spinezoo_contract.words import are, counted

from spinezoo_serving.logs import REQUEST_ID, error_fields

if TYPE_CHECKING:
    from spinezoo_serving.metrics import ServerMetrics
    from spinezoo_serving.tokens import TokenFile

_T = TypeVar("_T")

log = logging.getLogger("spinezoo.server")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_HEALTH_CHECK = "/grpc.health.v1.Health/Check"
"""What probes call, who have no token; it says one word."""


UPLOAD_S = 120.0
"""Time a caller has to send a film, in s."""


def request_id_from(value: str | bytes | None) -> str:
    """A caller's request id, or a new one.

    A caller's counts if it is 1 to 64 letters, digits, ``.``, ``_`` or ``-``.
    """
    if isinstance(value, str) and _REQUEST_ID.fullmatch(value):
        return value
    return uuid.uuid4().hex


class InFlight:
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


async def _only(requests: AsyncIterator[bytes]) -> bytes:
    """The one message of a call, read to the call's end: gRPC keeps the last one until then.

    Raises:
        BadInputError: None came, or more than one.
    """
    found: bytes | None = None
    async for each in requests:
        if found is not None:
            raise BadInputError("the call brings more than one request; send one film a call")
        found = each
    if found is None:
        raise BadInputError("the call ended without a request")
    return found


class Places:
    """Places for calls that bring a film: from its first byte to the last of the answer.

    Args:
        most: How many.
        full: What a caller reads who finds none, behind the number of those under way.
    """

    def __init__(self, most: int, full: str) -> None:
        self._most = most
        self._full = full
        self._now = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """One of them.

        Raises:
            QueueFullError: All are taken.
        """
        if self._now >= self._most:
            raise QueueFullError(f"{counted(self._now, 'film')} {are(self._now)} {self._full}")
        self._now += 1
        try:
            yield
        finally:
            self._now -= 1


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
        shell: ShellInterceptor,
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
                f"the answer has {counted(len(data), 'byte')}, the limit is "
                f"{self._shell.max_message_bytes} (SPINEZOO_MAX_MESSAGE_BYTES); raise it on every "
                "hop or ask for less, such as no probability maps"
            )
        self._bytes_out += len(data)
        return data

    async def unary(self, request: Any, context: Any) -> bytes | None:
        """Serves a method that answers one message."""
        return await self._guarded(request, context, self._answer_one)

    async def streaming(self, request: Any, context: Any) -> None:
        """Serves a method that answers a stream."""
        await self._guarded(request, context, self._answer_stream)

    @contextlib.asynccontextmanager
    async def _request(self, request: Any) -> AsyncIterator[Any]:
        """What the method is asked, parsed; a film is read here, into one of the places.

        Raises:
            QueueFullError: No place is free; nothing has been read.
            DeadlineError: The film did not come in time.
            BadInputError: It is no message of the method, or none came.
        """
        places = self._shell.places.get(self._method)
        if self._handler.request_streaming:
            yield self._parse_stream(request)
        elif places is None:
            yield self._parse(request)
        else:
            with places.place():
                try:
                    async with asyncio.timeout(UPLOAD_S):
                        data = await _only(request)
                except TimeoutError:
                    raise DeadlineError(
                        f"the film did not come within {UPLOAD_S:.0f} s; send it over a faster line"
                    ) from None
                asked = self._parse(data)
                del data  # what came takes as much memory as the film
                yield asked

    async def _answer_one(self, request: Any, context: Any) -> bytes:
        behaviour = (
            self._handler.stream_unary
            if self._handler.request_streaming
            else self._handler.unary_unary
        )
        async with self._request(request) as asked:
            return self._serialise(await behaviour(asked, context))

    async def _answer_stream(self, request: Any, context: Any) -> None:
        behaviour = (
            self._handler.stream_stream
            if self._handler.request_streaming
            else self._handler.unary_stream
        )
        async with (
            self._request(request) as asked,
            contextlib.aclosing(behaviour(asked, context)) as answers,
        ):
            async for message in answers:
                await context.write(self._serialise(message))

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
                    raise DeadlineError(
                        "no time was left when the request arrived; give the call more"
                    )
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


class ShellInterceptor(grpc.aio.ServerInterceptor):
    """Puts a :class:`_Call` around every method that is not gRPC's own.

    ``places`` bounds methods that bring films, by full name such as ``/spinezoo.v1.X/Method``.
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
        self.places: dict[str, Places] = {}
        self.in_flight = InFlight()
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
        # With a stream as its request the call begins before that has been read.
        early = handler.request_streaming or details.method in self.places
        if handler.response_streaming:
            make = (
                grpc.stream_stream_rpc_method_handler
                if early
                else grpc.unary_stream_rpc_method_handler
            )
            return make(call.streaming)
        make = (
            grpc.stream_unary_rpc_method_handler if early else grpc.unary_unary_rpc_method_handler
        )
        return make(call.unary)
