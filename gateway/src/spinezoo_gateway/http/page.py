"""The page: a login that everybody gets, and files that only a caller with a token gets.

A browser fetches modules without the token, so their path holds a ticket: a seal of the token's
holder and an end (:meth:`spinezoo_serving.tokens.TokenFile.ticket`). The token itself is kept by
the page in memory alone.
"""

from __future__ import annotations

import json
import mimetypes
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response
from spinezoo_serving.tokens import TokenFile
from starlette.exceptions import HTTPException

TICKET_S = 600.0
"""How long a path to the page's files counts, in s."""

FREE = "free"
"""Stands for the ticket where no token is asked for."""

LOGIN = ("index.html", "login.js", "words.js", "style.css", "icon.svg")
"""The files that everybody gets."""

_TYPES = {".js": "text/javascript", ".svg": "image/svg+xml", ".dcm": "application/dicom"}

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""Content security policy: nothing inline, nothing from another host, no markup from texts."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    kind: str


@cache
def _files() -> dict[str, _File]:
    """The page's files by their path below ``page/``, read once."""
    found: dict[str, _File] = {}

    def walk(folder: Traversable, path: str) -> None:
        for entry in folder.iterdir():
            name = f"{path}{entry.name}"
            if entry.is_dir():
                walk(entry, f"{name}/")
            else:
                suffix = f".{name.rpartition('.')[2]}"
                guess = mimetypes.guess_type(name)[0] or "application/octet-stream"
                found[name] = _File(entry.read_bytes(), _TYPES.get(suffix, guess))

    walk(resources.files("spinezoo_gateway") / "page", "")
    return found


class Page:
    """The page's files.

    Args:
        tokens: Who may call; None lets everybody.
    """

    def __init__(self, tokens: TokenFile | None) -> None:
        self._tokens = tokens
        listed = _files().get("phantoms/phantoms.json")
        self.phantoms: list[dict[str, Any]] = json.loads(listed.data) if listed else []

    def address(self, caller: str) -> str:
        """Path below which a caller's browser finds the files."""
        ticket = FREE if self._tokens is None else self._tokens.ticket(caller, TICKET_S)
        return f"/page/{ticket}/"

    def add_to(self, app: FastAPI) -> None:
        """Adds the routes to an application; the OpenAPI document does not list them."""
        app.get("/", include_in_schema=False)(self._index)
        for name in LOGIN:
            app.get(f"/{name}", include_in_schema=False)(self._open(name))
        app.get("/page/{ticket}/{path:path}", include_in_schema=False)(self._closed)

    async def _index(self) -> Response:
        return self._answer("index.html")

    def _open(self, name: str) -> Any:
        async def answer() -> Response:
            return self._answer(name)

        return answer

    async def _closed(self, ticket: str, path: str) -> Response:
        allowed = ticket == FREE if self._tokens is None else self._tokens.takes(ticket)
        if not allowed:
            raise HTTPException(404)
        return self._answer(path)

    @staticmethod
    def _answer(path: str) -> Response:
        file = _files().get(path)
        if file is None:
            raise HTTPException(404)
        return Response(file.data, media_type=file.kind, headers=HEADERS)
