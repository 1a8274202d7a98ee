"""Films coming in by STOW-RS (PS3.18 10.5): ``POST /dicom-web/studies[/{study}]`` with a token.

The caller's token has the AE title of a peer as its name; results go where that peer's go. A film
may come in every transfer syntax. Whatever a request holds stays in memory until it is in the
spool, and nothing of it gets into an answer but UIDs.
"""

from __future__ import annotations

import asyncio
import io
import json
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pydicom
from spinezoo_contract.errors import AccessError, BadInputError, TooLargeError
from spinezoo_serving.tokens import METADATA_KEY, TokenFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from spinezoo_pacs.dicomweb import DICOM, MultipartParts
from spinezoo_pacs.node.intake import (
    FILM_CLASSES,
    NO_MATCH,
    NO_ROOM,
    NOT_SUPPORTED,
    NOT_UNDERSTOOD,
    STORED,
    Intake,
)
from spinezoo_pacs.node.settings import NodeSettings, Peer

PATH = "/dicom-web"

REQUESTS = 4
"""Requests that are read at the same time; more are asked to come again."""

FILMS = 4
"""A request holds at most so many films of the greatest size."""

PARTS = 1000
"""A request has at most so many parts, whatever their size."""

REQUEST_S = 120.0
"""Time a caller has to send a request, in s."""

_HOW = 'send Content-Type: multipart/related; type="application/dicom"; boundary=...'


class Stow:
    """The store transaction of DICOMweb."""

    def __init__(self, settings: NodeSettings, intake: Intake, tokens: TokenFile) -> None:
        """Keeps what it needs; :attr:`routes` serve it."""
        self._settings, self._intake, self._tokens = settings, intake, tokens
        self._most = FILMS * (settings.limits.film_mib << 20)
        self._now = 0
        self.routes = [
            Route(f"{PATH}/studies", self._store, methods=["POST"]),
            Route(f"{PATH}/studies/{{study}}", self._store, methods=["POST"]),
        ]

    async def _store(self, request: Request) -> Response:
        count = self._intake.count
        try:
            peer = self._peer(request)
        except AccessError as error:
            count("web-not-authorized")
            return PlainTextResponse(str(error), 401, headers={"WWW-Authenticate": "Bearer"})
        if self._now >= REQUESTS:
            count("web-too-many")
            return PlainTextResponse("too many requests; send again", 503, {"Retry-After": "5"})
        self._now += 1
        try:
            async with asyncio.timeout(REQUEST_S):
                films = await self._films(request)
        except (BadInputError, TooLargeError) as error:
            count("web-bad-request")
            return PlainTextResponse(str(error), 413 if isinstance(error, TooLargeError) else 400)
        except (TimeoutError, ClientDisconnect):
            count("web-broken-off")
            return PlainTextResponse("the films did not come in time; send again", 408)
        finally:
            self._now -= 1
        study = request.path_params.get("study", "")
        results = [await asyncio.to_thread(self._take, film, study, peer) for film in films]
        return _answer(results)

    def _peer(self, request: Request) -> Peer:
        """The peer that a request's token names.

        Raises:
            AccessError: It has none, or its holder is no peer that may send.
        """
        header = request.headers.getlist(METADATA_KEY)
        name = self._tokens.caller([(METADATA_KEY, value) for value in header])
        peer = self._settings.peer(name)
        if peer is None or not peer.may_send:
            raise AccessError("the token's name is no AE title of a peer that may send")
        return peer

    async def _films(self, request: Request) -> list[bytes]:
        """The parts of a request.

        Raises:
            BadInputError: It is no multipart request of DICOM files, or too large.
        """
        try:
            parts = MultipartParts(request.headers.get("content-type", ""), types=(DICOM,))
            async for chunk in self._bounded(request):
                parts.write(chunk)
                if parts.count > PARTS:
                    raise TooLargeError(
                        f"the request has more than {PARTS} parts; send fewer films at a time"
                    )
            return parts.finished()
        except BadInputError as error:
            raise BadInputError(f"the request holds no DICOM files: {error}; {_HOW}") from None

    async def _bounded(self, request: Request) -> AsyncIterator[bytes]:
        taken = 0
        async for chunk in request.stream():
            taken += len(chunk)
            if taken > self._most:
                raise TooLargeError(
                    f"the request is over {self._most >> 20} MiB; send fewer films at a time"
                )
            yield chunk

    def _take(self, film: bytes, study: str, peer: Peer) -> tuple[str, str, int]:
        """One film; returns class and instance UID and the status."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                header = pydicom.dcmread(io.BytesIO(film), stop_before_pixels=True)
                sop_class = str(header.get("SOPClassUID") or "")
                sop_uid = str(header.get("SOPInstanceUID") or "")
                own_study = str(header.get("StudyInstanceUID") or "")
                outside = str(header.file_meta.get("MediaStorageSOPInstanceUID") or "")
        except Exception as error:
            status = self._intake.refuse("", "not-readable", NOT_UNDERSTOOD, error)
            return "", "", status
        if sop_class not in FILM_CLASSES:
            return sop_class, sop_uid, self._intake.refuse(sop_uid, "no-film", NOT_SUPPORTED)
        if study and study != own_study:
            return sop_class, sop_uid, self._intake.refuse(sop_uid, "other-study", NO_MATCH)
        status = self._intake.take(outside or sop_uid, sop_uid, own_study, peer.ae_title, film)
        return sop_class, sop_uid, status


def _answer(results: list[tuple[str, str, int]]) -> Response:
    """The store instances response (PS3.18 10.5.3.2) in DICOM's JSON."""
    taken, failed = [], []
    for sop_class, sop_uid, status in results:
        item = {"00081150": _uid(sop_class), "00081155": _uid(sop_uid)}
        if status == STORED:
            taken.append(item)
        else:
            failed.append({**item, "00081197": {"vr": "US", "Value": [status]}})
    document: dict[str, Any] = {}
    if taken:
        document["00081199"] = {"vr": "SQ", "Value": taken}
    if failed:
        document["00081198"] = {"vr": "SQ", "Value": failed}
    code, headers = (200 if not failed else 202 if taken else 409), {}
    if not taken and all(status == NO_ROOM for *_, status in results):
        code, headers = 503, {"Retry-After": "60"}
    body = json.dumps(document)
    return Response(body, code, headers=headers, media_type="application/dicom+json")


def _uid(value: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [value]} if value else {"vr": "UI"}
