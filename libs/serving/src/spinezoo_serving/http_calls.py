"""What happens around every HTTP call: request id, token, errors as problems, a log line, counts.

The counterpart of :mod:`spinezoo_serving.calls` for HTTP: both share tokens, counts and the calls
in flight, which a server waits for when it drains. Failures are problem details (RFC 9457) with
the name of our error and what to do.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import grpc
from pydantic import BaseModel, Field
from spinezoo_contract import errors, status
from spinezoo_contract.errors import AccessError, NotServingError, SpineZooError

from spinezoo_serving.calls import ShellInterceptor, request_id_from
from spinezoo_serving.logs import REQUEST_ID, error_fields

log = logging.getLogger("spinezoo.http")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PROBLEM_TYPE = "application/problem+json"
"""Content type of every failure."""

FAILURE_KEY = "spinezoo.failure"
"""Key of a call's scope: the error that it ended with."""

CALLER_KEY = "spinezoo.caller"
"""Key of a call's scope: name of the caller; empty where nobody is asked."""

RETRY_AFTER_S = 1
"""After which a caller may ask again that was refused for a while, in s."""


PIECE_BYTES = 262_144
"""Answers go out in pieces of this, each when the caller has taken most of those before: so a call
lasts until its answer has gone, and none is copied whole into a buffer."""


class ProblemMember(BaseModel):
    """How one member fared, in a failure of the whole."""

    member_name: str = Field(description="The member's name in the roster.")
    code: str = Field(description="How it fared, such as `DEADLINE_EXCEEDED`.")
    latency_ms: float = Field(description="From asking to its failure, in ms.")
    message: str = Field(description="What went wrong and what to do.")


class Problem(BaseModel):
    """A failure, as RFC 9457 writes them."""

    type: str = Field(description="`urn:spinezoo:error:` and the error's name.")
    title: str = Field(description="What kind of failure it is.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong and what to do. Holds no patient data.")
    error: str = Field(description="Name of the error, such as `FilmError`.")
    request_id: str = Field(description="Name of the call, as it stands in the server's log.")
    members: list[ProblemMember] | None = Field(
        None, description="How every member fared, where too few answered."
    )


def problem_of(error: BaseException, code: int | None = None) -> Problem:
    """An error as a caller is told of it.

    Args:
        error: What happened.
        code: HTTP status; None takes that of the table of errors.
    """
    http_code, name, message = status.to_http(error)
    kind = getattr(errors, name)
    members = None
    for key, value in getattr(error, "trailing_metadata", ()):
        if key == status.MEMBERS_KEY:
            members = [ProblemMember(**entry) for entry in json.loads(value)]
    return Problem(
        type=f"urn:spinezoo:error:{name}",
        title=(kind.__doc__ or name).partition("\n")[0].strip(),
        status=code or http_code,
        detail=message,
        error=name,
        request_id=REQUEST_ID.get(),
        members=members,
    )


def problem_headers(problem: Problem) -> dict[str, str]:
    """Headers that belong to a failure."""
    headers = {"Cache-Control": "no-store"}
    if problem.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="SpineZoo"'
    if problem.error in ("QueueFullError", "NotServingError", "QuorumError"):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return headers


async def send_problem(send: Send, problem: Problem) -> None:
    """Sends a failure as the whole answer."""
    body = problem.model_dump_json(exclude_none=True).encode()
    pairs = {
        "Content-Type": PROBLEM_TYPE,
        "Content-Length": str(len(body)),
        **problem_headers(problem),
    }
    headers = [(key.lower().encode(), value.encode()) for key, value in pairs.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class HttpShell:
    """Wraps an application: every call below ``prefix`` is one of the process's calls.

    Args:
        app: The application. It puts the error of a failed call into the scope
            (:data:`FAILURE_KEY`).
        calls: What all calls of the process share.
        prefix: Path below which calls are.
        names: Name of a path for counts; a path without one counts as ``other``.
    """

    def __init__(
        self, app: App, calls: ShellInterceptor, prefix: str, names: MutableMapping[str, str]
    ) -> None:
        self._app = app
        self._calls = calls
        self._prefix = prefix
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection's call."""
        if scope["type"] != "http" or not scope["path"].startswith(self._prefix):
            await self._app(scope, receive, send)
            return
        headers = [
            (key.decode("latin-1").lower(), value.decode("latin-1"))
            for key, value in scope["headers"]
        ]
        given = dict(headers).get(status.REQUEST_ID_KEY)
        request_id = request_id_from(given)
        token = REQUEST_ID.set(request_id)
        started = time.perf_counter()
        counts = {"bytes_in": 0, "bytes_out": 0}
        answering = False

        async def counted_receive() -> Message:
            message = await receive()
            counts["bytes_in"] += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            nonlocal answering
            if message["type"] == "http.response.start":
                answering = True
                key = status.REQUEST_ID_KEY.encode()
                message["headers"] = [*message.get("headers", ()), (key, request_id.encode())]
            body = memoryview(message.get("body", b""))
            counts["bytes_out"] += len(body)
            while len(body) > PIECE_BYTES:
                piece, body = bytes(body[:PIECE_BYTES]), body[PIECE_BYTES:]
                await send({**message, "body": piece, "more_body": True})
            if "body" in message:
                message["body"] = bytes(body)
            await send(message)

        failure: BaseException | None = None
        scope[CALLER_KEY] = ""
        try:
            with self._calls.in_flight:
                if self._calls.tokens is not None:
                    scope[CALLER_KEY] = self._calls.tokens.caller(headers)
                if self._calls.refusing:
                    raise NotServingError("the server is draining; ask another or try again")
                await self._app(scope, counted_receive, counted_send)
        except asyncio.CancelledError as error:
            failure = error
            raise
        except Exception as error:
            failure = error
            if not answering:
                await send_problem(counted_send, problem_of(error))
        finally:
            self._ended(scope, failure or scope.get(FAILURE_KEY), started, counts)
            REQUEST_ID.reset(token)

    def _ended(
        self, scope: Scope, failure: BaseException | None, started: float, counts: dict[str, int]
    ) -> None:
        """Logs and counts a call."""
        milliseconds = (time.perf_counter() - started) * 1000.0
        code, level = grpc.StatusCode.OK.name, logging.INFO
        more: dict[str, Any] = {}
        reason = None
        if isinstance(failure, asyncio.CancelledError):
            code = reason = grpc.StatusCode.CANCELLED.name
        elif failure is not None:
            code, reason = status.to_status(failure)[0].name, status.error_name(failure)
            more = {"error": reason}
            if not isinstance(failure, SpineZooError):
                level, more, reason = logging.ERROR, error_fields(failure), "unexpected"
        caller = scope[CALLER_KEY]
        if isinstance(failure, AccessError):
            caller = failure.caller
        name = self._names.get(scope["path"], "other")
        fields = {
            "method": f"{scope['method']} {scope['path'] if name != 'other' else 'other'}",
            "code": code,
            "ms": round(milliseconds, 2),
            **counts,
            **({"caller": caller} if caller else {}),
            **more,
        }
        log.log(level, "call", extra={"fields": fields})
        if self._calls.metrics is not None:
            self._calls.metrics.request(f"http:{name}", code)
            self._calls.metrics.stage("total", milliseconds)
            if reason is not None:
                self._calls.metrics.failure(reason)
