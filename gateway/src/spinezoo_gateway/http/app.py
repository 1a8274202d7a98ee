"""The HTTP application of the gateway: ``/v1`` and the page.

Every film goes through :class:`spinezoo_gateway.service.EnsembleServicer`, as over gRPC: the same
places, deadlines, quorum and errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import pydantic_core
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from spinezoo.v1 import ensemble_pb2
from spinezoo_contract import errors
from spinezoo_contract.errors import BadInputError, DeadlineError, NotServingError, SpineZooError
from spinezoo_serving.calls import ShellInterceptor
from spinezoo_serving.http_calls import (
    CALLER_KEY,
    FAILURE_KEY,
    PROBLEM_TYPE,
    HttpShell,
    Problem,
    problem_headers,
    problem_of,
)
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from spinezoo_gateway.http import answers, models, preview
from spinezoo_gateway.http.options import PreviewFields, SegmentFields, checked, form_schema
from spinezoo_gateway.http.page import Page
from spinezoo_gateway.http.uploads import Uploads
from spinezoo_gateway.service import EnsembleServicer, ReadFilm

_T = TypeVar("_T")

EVENT_STREAM = "text/event-stream"
"""Content type of server-sent events."""

BYTES = "application/octet-stream"
"""Content type of a preview as a line of JSON and the pixels."""

KEEP_ALIVE_S = 10.0
"""A stream that has nothing to say says a comment this often, in s, so that no proxy ends it."""

DESCRIPTION = """
One lateral lumbar spine radiograph to every network of the zoo at once, and one fused, named
answer. Films are forms (`multipart/form-data`) with the file in `film`; they stay in memory.
Failures are problem details (RFC 9457). Not a medical device.
"""


@dataclass(frozen=True, slots=True)
class HttpContext:
    """What the servicer asks of the context of a call.

    Attributes:
        end: When the caller's time is over, on the monotonic clock, in s; None for no limit.
    """

    end: float | None = None

    def time_remaining(self) -> float | None:
        """Time that is left, in s."""
        return None if self.end is None else max(0.0, self.end - time.monotonic())


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": "#/components/schemas/Problem"}
    texts = {
        400: "The film or a field is wrong.",
        401: "No token, or one that does not count.",
        413: "Over a size limit.",
        500: "The server failed; its log has the place under the request id.",
        503: "No place, or too few members answered; try again.",
        504: "No time left.",
    }
    return {
        code: {"description": texts[code], "content": {PROBLEM_TYPE: {"schema": schema}}}
        for code in codes
    }


class _Held(Response):
    """An answer that keeps what is held until it has been taken."""

    held = contextlib.ExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        with self.held:
            await super().__call__(scope, receive, send)


def _json(value: Any) -> _Held:
    # Not FastAPI's own encoder, which looks at every number of every outline once more.
    return _Held(
        pydantic_core.to_json(value),
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def _event(name: str, value: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), pydantic_core.to_json(value))


async def _unless_gone(request: Request, work: Awaitable[_T]) -> _T:
    """Waits for work, and cancels it when the caller goes.

    Raises:
        NotServingError: The caller has gone; nobody reads this.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task = asyncio.ensure_future(work)
    watch = asyncio.create_task(gone())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise NotServingError("the caller has gone")
        return task.result()
    finally:
        for each in (task, watch):
            each.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


class HttpFace:
    """The routes.

    Args:
        servicer: The core that gRPC calls too.
        read_film: Decoder of films; called in a thread.
        uploads: The forms in memory.
        page: The page.
        max_pixels: Most pixels of a film, for callers to know.
        max_bytes: Most bytes of a film's file.
    """

    def __init__(
        self,
        servicer: EnsembleServicer,
        *,
        read_film: ReadFilm,
        uploads: Uploads,
        page: Page,
        max_pixels: int,
        max_bytes: int,
    ) -> None:
        self._servicer = servicer
        self._read_film = read_film
        self._uploads = uploads
        self._page = page
        self._max_pixels = max_pixels
        self._max_bytes = max_bytes

    def add_to(self, app: FastAPI) -> None:
        """Adds the routes to an application."""
        segment_answer: dict[int | str, dict[str, Any]] = {
            200: {
                "model": models.SegmentAnswer,
                "description": f"The answer; with `Accept: {EVENT_STREAM}` an event `member` for "
                "each member as it finishes (as in `members`), then `fused` (SummaryEvent), or "
                "`problem` (Problem) where the call fails on the way.",
                "content": {EVENT_STREAM: {"schema": {"type": "string"}}},
            },
            **_problems(400, 401, 413, 500, 503, 504),
        }
        preview_answer: dict[int | str, dict[str, Any]] = {
            200: {
                "model": models.PreviewAnswer,
                "description": f"The preview; with `Accept: image/png` the PNG itself, with "
                f"`Accept: {BYTES}` a line of JSON (the preview without pixels; blanks before its "
                f"end make its length a multiple of {preview.ALIGNED_BYTES}), then the rows of "
                "little-endian numbers.",
                "content": {
                    kind: {"schema": {"type": "string", "format": "binary"}}
                    for kind in ("image/png", BYTES)
                },
            },
            **_problems(400, 401, 413, 500, 503, 504),
        }
        app.post(
            "/v1/segment",
            operation_id="segment",
            summary="One film to every member at once",
            responses=segment_answer,
            openapi_extra={"requestBody": form_schema(SegmentFields)},
        )(self.segment)
        app.post(
            "/v1/preview",
            operation_id="preview",
            summary="The film as the networks get it",
            responses=preview_answer,
            openapi_extra={"requestBody": form_schema(PreviewFields)},
        )(self.preview)
        app.get(
            "/v1/models",
            operation_id="models",
            summary="Who is in the zoo, and whether it is serving",
            responses={200: {"model": models.ModelsAnswer}, **_problems(401, 500, 503)},
        )(self.models)
        app.get(
            "/v1/access",
            operation_id="access",
            summary="Whether the caller is let in, and where the page lies for it",
            responses={200: {"model": models.AccessAnswer}, **_problems(401, 500, 503)},
        )(self.access)

    # ------------------------------------------------------------------ the four methods

    async def segment(self, request: Request) -> Response:
        """One film to every member at once; answers when all have answered or are late."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._uploads.place())
            upload = await self._uploads.read(request)
            fields = checked(SegmentFields, upload.fields)
            question = ensemble_pb2.SegmentStreamRequest(request=fields.to_proto(upload.film))
            del upload
            write = answers.MaskWriter(fields.masks, fields.tolerance_px)
            deadline_s = None if fields.deadline_ms is None else fields.deadline_ms / 1000.0
            events = self._events(question, write, deadline_s)
            if EVENT_STREAM not in request.headers.get("accept", ""):
                whole = _json(await _unless_gone(request, _whole(events)))
                whole.held = stack.pop_all()
                return whole
            # What fails before the first member has answered fails with its own HTTP status.
            try:
                first = await _unless_gone(request, anext(events))
            except BaseException:
                await events.aclose()
                raise
            return StreamingResponse(
                _stream(request, first, events, stack.pop_all()),
                media_type=EVENT_STREAM,
                # nginx holds answers back unless told not to.
                headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
            )

    async def preview(self, request: Request) -> Response:
        """Grey levels, size, spacing and notes of a film, without asking any network."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._uploads.place())
            upload = await self._uploads.read(request)
            fields = checked(PreviewFields, upload.fields)
            if not upload.film:
                raise errors.FilmError("the film is 0 bytes long; send the whole file")
            accepted = request.headers.get("accept", "")
            kinds = () if "application/json" in accepted else ("image/png", BYTES)
            kind = next((each for each in kinds if each in accepted), None)

            def make() -> _Held:
                film = self._read_film(upload.film)
                if kind == BYTES:
                    return _Held(preview.preview_bytes(film), media_type=BYTES)
                if kind is not None:
                    return _Held(preview.png_of(film), media_type=kind)
                return _json(preview.preview_json(film, fields.pixels))

            answer = await asyncio.to_thread(make)
            answer.headers["Cache-Control"] = "no-store"
            answer.held = stack.pop_all()
            return answer

    async def models(self) -> Response:
        """The members of the roster, the gateway's defaults, and which reader gives names."""
        message = await self._servicer.ListModels(ensemble_pb2.ListModelsRequest(), HttpContext())
        return _json(answers.models_json(message))

    async def access(self, request: Request) -> Response:
        """Asked by the page after the login."""
        caller = request.scope[CALLER_KEY]
        return _json(
            {
                "page": self._page.address(caller),
                "caller": caller,
                "max_bytes": self._max_bytes,
                "max_pixels": self._max_pixels,
                "phantoms": self._page.phantoms,
            }
        )

    # ------------------------------------------------------------------ the core, as events

    async def _events(
        self,
        question: ensemble_pb2.SegmentStreamRequest,
        write: answers.MaskWriter,
        deadline_s: float | None,
    ) -> AsyncGenerator[answers.Event, None]:
        """The servicer's stream as events; outlines are written while other members work.

        Raises:
            DeadlineError: The caller's own time is over.
        """
        context = HttpContext(None if deadline_s is None else time.monotonic() + deadline_s)
        stream = cast(
            AsyncGenerator[ensemble_pb2.SegmentStreamResponse, None],
            self._servicer.SegmentStream(question, context),
        )
        loop_end = None
        if deadline_s is not None:
            loop_end = asyncio.get_running_loop().time() + deadline_s
        async with contextlib.aclosing(stream):
            while True:
                try:
                    async with asyncio.timeout_at(loop_end):
                        message = await anext(stream)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise DeadlineError("no time is left (deadline_ms); send more") from None
                if write.form in (answers.MaskForm.RUNS, answers.MaskForm.NONE):
                    yield answers.event_json(message, write)
                else:
                    yield await asyncio.to_thread(answers.event_json, message, write)


async def _whole(events: AsyncGenerator[answers.Event, None]) -> dict[str, Any]:
    members: list[dict[str, Any]] = []
    async with contextlib.aclosing(events):
        async for name, value in events:
            if name == "member":
                members.append(value)
            else:
                return answers.answer_json(members, value)
    raise NotServingError("the stream ended without an answer; try again")


async def _stream(
    request: Request,
    first: answers.Event,
    events: AsyncGenerator[answers.Event, None],
    held: contextlib.ExitStack,
) -> AsyncIterator[bytes]:
    """Server-sent events; keeps what is held until the last of them."""
    following: asyncio.Task[answers.Event] | None = None
    with held:
        try:
            yield _event(*first)
            while True:
                following = following or asyncio.ensure_future(anext(events))
                done, _ = await asyncio.wait({following}, timeout=KEEP_ALIVE_S)
                if not done:
                    yield b": waiting for members\n\n"
                    continue
                event, following = following.result(), None
                yield _event(*event)
        except StopAsyncIteration:
            return
        except Exception as error:
            request.scope[FAILURE_KEY] = error
            problem = problem_of(error)
            yield (
                b"event: problem\ndata: %s\n\n"
                % problem.model_dump_json(exclude_none=True).encode()
            )
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            await events.aclose()


def http_app(face: HttpFace, page: Page, calls: ShellInterceptor) -> Callable[..., Awaitable[None]]:
    """The application: routes, page, and the shell around the calls.

    Args:
        face: The routes.
        page: The page.
        calls: What all calls of the process share.
    """
    app = FastAPI(
        title="SpineZoo",
        version="1",
        summary="Five networks for lateral lumbar spine radiographs behind one gateway",
        description=DESCRIPTION,
        openapi_url="/v1/openapi.json",
        # A redirection is an empty answer to a caller that does not follow it.
        redirect_slashes=False,
        # Their pages load from another host.
        docs_url=None,
        redoc_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )

    async def refuse(request: Request, error: Exception) -> Response:
        request.scope[FAILURE_KEY] = error
        return _refusal(problem_of(error))

    async def no_such(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            text = f"this address takes no {request.method}; /v1/openapi.json says what it takes"
        else:
            text = "there is nothing at this address; /v1/openapi.json lists what there is"
        named = BadInputError(text)
        request.scope[FAILURE_KEY] = named
        answer = _refusal(problem_of(named, error.status_code))
        answer.headers.update(error.headers or {})
        return answer

    app.add_exception_handler(SpineZooError, refuse)
    app.add_exception_handler(HTTPException, no_such)
    app.add_exception_handler(Exception, refuse)
    face.add_to(app)
    page.add_to(app)
    names = {f"/v1/{name}": name for name in ("segment", "preview", "models", "access")}

    schema = app.openapi

    def document() -> dict[str, Any]:
        made = schema()
        made["components"]["schemas"].setdefault("Problem", Problem.model_json_schema())
        for extra in (models.SummaryEvent,):
            own = extra.model_json_schema(ref_template="#/components/schemas/{model}")
            for name, each in {**own.pop("$defs", {}), extra.__name__: own}.items():
                made["components"]["schemas"].setdefault(name, each)
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{}, {"token": []}]
        return made

    app.openapi = document  # type: ignore[method-assign]
    return HttpShell(app, calls, "/v1/", names)


def _refusal(problem: Problem) -> Response:
    return Response(
        problem.model_dump_json(exclude_none=True),
        problem.status,
        media_type=PROBLEM_TYPE,
        headers=problem_headers(problem),
    )
