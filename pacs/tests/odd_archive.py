"""A DICOMweb service that answers whatever a test tells it to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from local_service import LocalService, QuietHandler

JSON = "application/dicom+json"


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: bytes
    token: str = ""


@dataclass(frozen=True)
class Said:
    """One answer; ``cut`` bytes at its end are never sent."""

    code: int = 200
    body: bytes = b""
    kind: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0

    @classmethod
    def json(cls, value: object, code: int = 200, kind: str = JSON) -> Said:
        return cls(code, json.dumps(value).encode(), kind)


class OddArchive(LocalService):
    """The service; ``asked`` holds what came."""

    def __init__(self, answer: Callable[[Asked], Said]) -> None:
        self.asked: list[Asked] = []
        service = self

        class Handler(QuietHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                parts = urlsplit(self.path)
                body = self.rfile.read(length)
                token = self.headers.get("Authorization") or ""
                asked = Asked(self.command, parts.path, parse_qs(parts.query), body, token)
                service.asked.append(asked)
                said = answer(asked)
                self.send_response(said.code)
                for name, value in said.headers.items():
                    self.send_header(name, value)
                if said.body:
                    self.send_header("Content-Type", said.kind)
                if not said.cut:  # without a length, nothing but the parts tells of the end
                    self.send_header("Content-Length", str(len(said.body)))
                self.end_headers()
                self.wfile.write(said.body[: len(said.body) - said.cut])
                self.close_connection = True

            do_GET = do_POST = _answer  # noqa: N815 - names of http.server

        super().__init__(Handler)

    def count(self, method: str) -> int:
        return sum(each.method == method for each in self.asked)
