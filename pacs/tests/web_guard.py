"""A door in front of Orthanc's DICOMweb that asks for a bearer token, which Orthanc cannot."""

from __future__ import annotations

import urllib.error
import urllib.request

from local_service import LocalService, QuietHandler
from parts import OrthancProcess


class Guard(LocalService):
    """The door; ``asked`` counts what it turned away and what it let through."""

    def __init__(self, archive: OrthancProcess, token: str) -> None:
        self.asked = {"let in": 0, "turned away": 0}
        guard = self

        class Handler(QuietHandler):
            def _pass(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else None
                if self.headers.get("Authorization") != f"Bearer {token}":
                    guard.asked["turned away"] += 1
                    self._answer(401, "text/plain", b"no token")
                    return
                guard.asked["let in"] += 1
                names = ("Accept", "Content-Type")
                headers = {name: self.headers[name] for name in names if self.headers[name]}
                request = urllib.request.Request(
                    archive.url + self.path, data=body, headers=headers, method=self.command
                )
                try:
                    with urllib.request.urlopen(request, timeout=60) as reply:
                        self._answer(reply.status, reply.headers["Content-Type"], reply.read())
                except urllib.error.HTTPError as error:
                    self._answer(error.code, error.headers["Content-Type"], error.read())
                except OSError:
                    self._answer(502, "text/plain", b"gone")

            do_GET = do_POST = _pass  # noqa: N815 - names of http.server

            def _answer(self, code: int, kind: str | None, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind or "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        super().__init__(Handler)
