"""A network as a BentoML service with a gRPC endpoint beside the HTTP one (extra ``bento``).

A network's ``service.py`` calls :func:`serve_network`. The process is started with::

    python -m spinezoo_serving.bento services/pspnet

which serves that BentoML service in one process: ``bentoml serve`` would keep a supervisor beside
it that starts a killed worker again under a new number, so that nobody could stop a network for
good, and that needs some 100 MiB more. ``bentoml serve service:Service`` works as well.

Both endpoints answer from one :class:`~spinezoo_serving.state.ServingState` and one queue. Before
the network is loaded and while the process drains, health says NOT_SERVING and ``/readyz`` 503.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import importlib.util
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spinezoo_contract import codec, status
from spinezoo_contract.errors import (
    ClosedFaceError,
    ConfigurationError,
    FilmError,
    NotServingError,
    OptionError,
    QueueFullError,
    SpineZooError,
    TooLargeError,
)
from spinezoo_contract.limits import check_film_size
from spinezoo_contract.tls import TlsMode
from spinezoo_contract.types import Prediction, PredictOptions
from spinezoo_contract.words import are, counted

from spinezoo_serving.disk import disk_errors_named
from spinezoo_serving.logs import REQUEST_ID, configure_logging, error_fields
from spinezoo_serving.memory import keep_film_memory
from spinezoo_serving.settings import NetworkSettings, ServerSettings
from spinezoo_serving.stopping import stop_requests

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from spinezoo_serving.predictor import Predictor
    from spinezoo_serving.segmenter import Asked, NetworkRunner
    from spinezoo_serving.server import GrpcServer
    from spinezoo_serving.state import ServingState

# BentoML reads this when it is first asked whether to report usage, which may be at its import.
# An import with a side effect, on purpose: there must be no way of starting that calls home.
os.environ["BENTOML_DO_NOT_TRACK"] = "True"
_usage = sys.modules.get("bentoml._internal.utils.analytics.usage_stats")
if _usage is not None:
    # `bentoml serve` has asked already and keeps the answer; it has sent nothing yet.
    _usage.do_not_track.cache_clear()

log = logging.getLogger("spinezoo.bento")

LoadPredictor = Callable[..., "Predictor"]
"""``load_predictor(card_path: Path, *, device: str | None) -> Predictor``."""

FILM_FIELD = "film"
"""Name of the form field that holds the film."""

OPTION_FIELDS = ("score_threshold", "suppression_iou", "max_segments", "timeout_ms")
"""Names of form fields and query parameters that ``/predict`` knows beside the film."""

_MEMBER = "__spinezoo_member__"


class Member:
    """One network in its process: state, queue and both endpoints.

    Args:
        name: Name of the network.
        card_path: Its ``card.yaml``.
        load_predictor: Loads the network; called once, on the thread that will run it.
        read_film: Decoder of film files.
    """

    def __init__(
        self,
        name: str,
        card_path: Path,
        load_predictor: LoadPredictor,
        read_film: codec.ReadFilm,
    ) -> None:
        self.name = name
        self.failure: BaseException | None = None
        self.failed = asyncio.Event()
        self._card_path = card_path
        self._load_predictor = load_predictor
        self._read_film = read_film
        self._settings: ServerSettings | None = None
        self._state: ServingState | None = None
        self._runner: NetworkRunner | None = None
        self._server: GrpcServer | None = None
        self._loading: asyncio.Task[None] | None = None
        self._http_calls: set[asyncio.Task[Any]] = set()

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""
        return self._state is not None and self._state.ready

    @property
    def alive(self) -> bool:
        """Whether the process is of any use: not so once starting has failed."""
        return self.failure is None

    async def start(self) -> None:
        """Opens the gRPC endpoint and begins to load the network; does not wait for it."""
        # Late, because `bentoml serve` imports service.py in a supervisor that serves nothing,
        # and sets a directory for counts before prometheus_client may be imported.
        from spinezoo_serving.metrics import ServerMetrics
        from spinezoo_serving.segmenter import NetworkRunner, segmenter_server
        from spinezoo_serving.state import ServingState

        _log_as_json(self.name)
        self._state = ServingState()
        try:
            self._settings = ServerSettings.from_env()
            device = NetworkSettings.from_env().device
            if self._settings.security.tokens is not None:
                log.warning(
                    "a network asks for no tokens, gateway and evaluator do; protect it with "
                    "SPINEZOO_TLS=mutual"
                )
            self._runner = NetworkRunner(self._settings, metrics=ServerMetrics())
            self._server = segmenter_server(
                self._runner, read_film=self._read_film, state=self._state
            )
            await self._server.start(ready=False)
        except ConfigurationError as error:
            self._fail(error)
            return
        self._loading = asyncio.create_task(self._load(self._runner, device))

    async def _load(self, runner: NetworkRunner, device: str) -> None:
        from spinezoo_serving.state import Phase

        started = time.perf_counter()
        load = functools.partial(self._load_predictor, self._card_path, device=device)
        try:
            await runner.load(load)
            info = runner.info()
        except Exception as error:
            self._fail(error)
            return
        assert self._state is not None
        fields = {
            "model": info.name,
            "version": info.version,
            "preset": info.preset,
            "weights_sha256": info.weights_sha256,
            "device": runner.predictor.device if runner.predictor is not None else "",
            "precision": getattr(runner.predictor, "precision", ""),
            "ms": round((time.perf_counter() - started) * 1000.0),
        }
        log.info("loaded", extra={"fields": fields})
        self._state.move(Phase.SERVING)

    def _fail(self, error: Exception) -> None:
        from spinezoo_serving.state import Phase

        fields = error_fields(error)
        if isinstance(error, SpineZooError):
            fields["reason"] = str(error)
        log.error("cannot serve", extra={"fields": fields})
        self.failure = error
        self.failed.set()
        if self._state is not None:
            self._state.move(Phase.FAILED)

    async def stop(self) -> bool:
        """Drains both endpoints and lets the network go; may be called twice.

        Returns:
            Whether everything in flight was answered in time.
        """
        finished = True
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
            self._loading = None
        if self._server is not None and self._settings is not None:
            server, self._server = self._server, None
            finished = await server.stop()
            if self._http_calls:
                grace = self._settings.drain_s if finished else 0.0
                _, pending = await asyncio.wait(self._http_calls, timeout=grace)
                finished = finished and not pending
        if self._runner is not None:
            self._runner.close()
        return finished

    # --- the HTTP endpoint ---

    async def predict(self, request: Request) -> Response:
        """``POST /predict``: the film as form field ``film`` or as the whole body."""
        from starlette.responses import Response

        from spinezoo_serving.calls import request_id_from

        started = time.perf_counter()
        request_id = request_id_from(request.headers.get(status.REQUEST_ID_KEY))
        token = REQUEST_ID.set(request_id)
        task = asyncio.current_task()
        assert task is not None
        self._http_calls.add(task)
        code, failure, level = 200, None, logging.INFO
        fields: dict[str, Any] = {}
        try:
            body = await self._answer(request)
        except asyncio.CancelledError:
            code, failure = 499, "CANCELLED"
            raise
        except Exception as error:
            code, failure, message = status.to_http(error)
            fields = {"error": failure}
            if not isinstance(error, SpineZooError):
                level, fields, failure = logging.ERROR, error_fields(error), "unexpected"
            body = json.dumps(
                {"error": status.error_name(error), "message": message, "request_id": request_id}
            ).encode()
        finally:
            self._http_calls.discard(task)
            milliseconds = (time.perf_counter() - started) * 1000.0
            fields = {
                "method": "POST /predict",
                "code": code,
                "ms": round(milliseconds, 2),
                **fields,
            }
            log.log(level, "call", extra={"fields": fields})
            REQUEST_ID.reset(token)
            metrics = self._runner.metrics if self._runner is not None else None
            if metrics is not None:
                metrics.request("POST /predict", str(code))
                metrics.stage("total", milliseconds)
                if failure is not None:
                    metrics.failure(failure)
        return Response(
            body,
            status_code=code,
            media_type="application/json",
            headers={status.REQUEST_ID_KEY: request_id},
        )

    async def _answer(self, request: Request) -> bytes:
        from spinezoo_serving.segmenter import Asked

        if self._runner is None or self._settings is None or not self.ready:
            raise NotServingError("the network is loading or draining; try again in some seconds")
        if self._settings.security.tls is not TlsMode.OFF:
            raise ClosedFaceError(
                "SPINEZOO_TLS is on and this HTTP endpoint has no TLS: films are taken over gRPC "
                "only; call spinezoo.v1.SegmenterService/Predict, or the gateway"
            )
        most = self._runner.queue.capacity
        if len(self._http_calls) > most:
            raise QueueFullError(
                f"{counted(most, 'film')} {are(most)} being sent or under way over HTTP, the "
                "limit (by SPINEZOO_QUEUE_LIMIT); try again later or ask another"
            )
        data, options, timeout_s = await _read_request(request, self._settings.max_message_bytes)
        max_pixels = self._settings.max_pixels

        def read() -> Asked:
            film = self._read_film(data, kind=None)
            check_film_size(film.height, film.width, max_pixels)
            return Asked(film, options)

        def finish(prediction: Prediction) -> bytes:
            return json.dumps(codec.to_json(prediction)).encode()

        work = asyncio.create_task(self._runner.predict(read, finish, timeout_s=timeout_s))
        gone = asyncio.create_task(_disconnected(request))
        try:
            # A caller who has gone must not cost the network anything.
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED, timeout=timeout_s)
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work
                if gone.done():
                    raise NotServingError("the caller has gone")
                from spinezoo_contract.errors import DeadlineError

                raise DeadlineError(
                    f"no answer within {timeout_s:g} s; send a larger timeout_ms or try again"
                )
            return work.result()
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    """Returns when the caller has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _too_large(max_bytes: int) -> TooLargeError:
    return TooLargeError(
        f"the request has more than {max_bytes} bytes (SPINEZOO_MAX_MESSAGE_BYTES); "
        "send a smaller film"
    )


async def _read_request(
    request: Request, max_bytes: int
) -> tuple[bytes, PredictOptions, float | None]:
    """Film, settings and time limit of a request to ``/predict``; never written to disk."""
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException

    from spinezoo_serving.forms import FormInMemory, in_time, pieces

    body = pieces(request, max_bytes, lambda _: _too_large(max_bytes))
    settings: list[tuple[str, str]] = list(request.query_params.multi_items())
    data: bytes | None = None
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        parser = FormInMemory(request.headers, body, max_files=1, max_fields=16)
        try:
            async with in_time():
                form = await parser.parse()
        except MultiPartException as error:
            raise FilmError(
                f"the form cannot be read ({error.message}); send multipart/form-data"
            ) from error
        except KeyError as error:
            raise FilmError("the form cannot be read; send multipart/form-data") from error
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(form.close)
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    if name != FILM_FIELD:
                        raise OptionError(f"unknown file field; send the film as {FILM_FIELD!r}")
                    data = await value.read()
                else:
                    settings.append((name, value))
    else:
        async with in_time():
            data = b"".join([piece async for piece in body])
    if not data:
        raise FilmError(
            f"no film; send a DICOM, PNG, JPEG or TIFF file as form field {FILM_FIELD!r} "
            "or as the body"
        )
    fields = dict(settings)
    if len(fields) < len(settings):
        raise OptionError("a setting stands twice, in the address or the form; send it once")
    unknown = sorted(set(fields) - set(OPTION_FIELDS))
    if unknown:
        raise OptionError(
            f"{len(unknown)} unknown settings; known are {', '.join(OPTION_FIELDS)}, "
            f"and the file {FILM_FIELD!r}"
        )
    numbers: dict[str, float] = {}
    for name, text in fields.items():
        try:
            numbers[name] = float(text)
        except ValueError:
            raise OptionError(f"{name} is not a number; send one") from None
    most = numbers.get("max_segments")
    if most is not None and not most.is_integer():
        raise OptionError("max_segments is not a whole number; send 1 to 1000")
    timeout_ms = numbers.get("timeout_ms")
    if timeout_ms is not None and not 0.0 < timeout_ms < 1e9:
        raise OptionError("timeout_ms is not greater than 0; send milliseconds or leave it out")
    options = PredictOptions(
        numbers.get("score_threshold"),
        numbers.get("suppression_iou"),
        None if most is None else int(most),
    )
    return data, options, None if timeout_ms is None else timeout_ms / 1000.0


def _log_as_json(name: str) -> None:
    configure_logging(name)
    # BentoML has put text handlers on its own logger; one form of line is enough.
    own = logging.getLogger("bentoml")
    own.handlers.clear()
    own.propagate = True
    own.setLevel(logging.WARNING)


def serve_network(
    name: str,
    card_path: Path,
    load_predictor: LoadPredictor,
    read_film: codec.ReadFilm,
) -> Any:
    """The BentoML service of one network, to be named ``Service`` in ``service.py``.

    Nothing is loaded here. ``load_predictor`` and ``read_film`` should import what they need when
    they are called, so that importing ``service.py`` stays light.

    Args:
        name: Name of the network, the name of its folder.
        card_path: Its ``card.yaml``.
        load_predictor: ``load_predictor(card_path, *, device)``; raises ``ConfigurationError``.
        read_film: ``read_film(data, *, kind)``; raises ``FilmError`` or ``TooLargeError``.
    """
    import bentoml
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.routing import Route

    member = Member(name, card_path, load_predictor, read_film)

    class Network:
        """One network: gRPC, and POST /predict with a film as form field ``film`` or as the body.

        Settings as form fields or query: score_threshold, suppression_iou, max_segments,
        timeout_ms. Answers JSON with masks as COCO run-lengths.
        """

        @bentoml.on_startup
        async def open(self) -> None:
            await member.start()

        @bentoml.on_shutdown
        async def close(self) -> None:
            await member.stop()

        async def __is_ready__(self) -> bool:
            return member.ready

        async def __is_alive__(self) -> bool:
            return member.alive

    setattr(Network, _MEMBER, member)
    app = Starlette(
        routes=[Route("/predict", member.predict, methods=["POST"])],
        exception_handlers={HTTPException: _no_such},
    )
    service = bentoml.service(
        name=name,
        workers=1,
        # Callers set their own limits (timeout_ms); this one only catches what hangs.
        traffic={"timeout": 3600},
        # One JSON line a call is written already.
        logging={"access": {"enabled": False}},
    )(Network)
    return bentoml.asgi_app(app, path="/", name="predict")(service)


# --- the process ---------------------------------------------------------------------------------


def _load_service(folder: Path) -> Any:
    path = folder / "service.py"
    if not path.is_file():
        raise ConfigurationError(f"{path} is absent; give the folder of a network")
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location("service", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["service"] = module
    spec.loader.exec_module(module)
    service = getattr(module, "Service", None)
    if not hasattr(getattr(service, "inner", None), _MEMBER):
        raise ConfigurationError(f"{path} has no `Service = serve_network(...)`; add it")
    return service


def _no_such(request: Request, error: Exception) -> Response:
    """What a caller is told who asks for what there is not."""
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse

    assert isinstance(error, HTTPException)
    what = "there is nothing at this address"
    if error.status_code == 405:
        what = f"this address takes no {request.method}"
    refusal = {"error": "BadInputError", "message": f"{what}; films go to POST /predict"}
    return JSONResponse(refusal, error.status_code, headers=error.headers)


def _application(service: Any) -> Starlette:
    """BentoML's application; what it does not have is refused by name.

    A redirection is an empty answer to a caller that does not follow it.
    """
    from starlette.exceptions import HTTPException
    from starlette.responses import Response
    from starlette.routing import Route

    from spinezoo_serving.metrics import CONTENT_TYPE, render_all

    member: Member = getattr(service.inner, _MEMBER)

    async def metrics_text(_: Request) -> Response:
        own = None if member._runner is None else member._runner.metrics
        return Response(render_all(own), headers={"Content-Type": CONTENT_TYPE})

    app: Starlette = service.to_asgi(is_main=True)
    app.router.routes.insert(0, Route("/metrics", metrics_text))  # BentoML's reads mapped files
    app.router.redirect_slashes = False
    app.add_exception_handler(HTTPException, _no_such)
    return app


async def _serve(service: Any, settings: ServerSettings) -> int:
    """Serves until a signal or a failure; returns the exit code."""
    from spinezoo_serving.endpoints import HttpEndpoint

    member: Member = getattr(service.inner, _MEMBER)
    endpoint = HttpEndpoint(settings.host, settings.http_port, _application(service))
    asked, hurried = stop_requests()
    try:
        await endpoint.start()
    except BaseException:
        # The start may have got as far as the gRPC endpoint.
        await member.stop()
        raise
    waits: list[asyncio.Task[Any]] = [
        asyncio.create_task(event.wait()) for event in (asked, member.failed)
    ]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    # The HTTP endpoint stays up while the process drains, so that /readyz can say so.
    stop = asyncio.create_task(member.stop())
    waits += [stop, asyncio.create_task(hurried.wait())]
    await asyncio.wait(waits[2:], return_when=asyncio.FIRST_COMPLETED)
    for task in waits:
        task.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    await endpoint.stop()
    return 0 if member.alive else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Serves the network of a folder until SIGTERM or SIGINT.

    Ports and limits come from the environment, see ``docs/settings.md``.

    Returns:
        Exit code: 0 after a signal, 1 when a setting is wrong, a port is taken or the network
        cannot be loaded.
    """
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_serving.bento",
        description="Serve one network: gRPC on SPINEZOO_GRPC_PORT, HTTP on SPINEZOO_HTTP_PORT.",
    )
    parser.add_argument("folder", nargs="?", default=".", type=Path, help="folder of service.py")
    folder: Path = parser.parse_args(argv).folder.resolve()
    configure_logging(folder.name)
    keep_film_memory()
    # One process counts in memory: counts in mapped files end it by SIGBUS, without a word, once
    # the disk is full.
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    with contextlib.ExitStack() as held:
        try:
            settings = ServerSettings.from_env()
            with disk_errors_named():
                scratch = held.enter_context(
                    tempfile.TemporaryDirectory(prefix="spinezoo-", ignore_cleanup_errors=True)
                )
                os.environ.setdefault("BENTOML_HOME", os.path.join(scratch, "bentoml"))
                service = _load_service(folder)
            _log_as_json(folder.name)
            return asyncio.run(_serve(service, settings))
        except ConfigurationError as error:
            fields = {"error": type(error).__name__, "reason": str(error)}
            log.error("cannot serve", extra={"fields": fields})
            return 1


if __name__ == "__main__":
    # Once more under its own name: service.py imports it, and there must be one of it.
    from spinezoo_serving.bento import main as run

    exit_code = run()
    logging.shutdown()
    sys.stdout.flush()
    # Everything in flight is answered or given up. The network may still be busy with something
    # that nobody waits for, and frameworks take seconds to be torn down: wait for neither.
    os._exit(exit_code)
