"""A client of DICOMweb that takes an answer for what it says, not for its status alone.

Whatever answers under an address may be a login page, a proxy or another service, with status 200.
So an object counts as stored only when the answer names it as stored, a page of a search must be
DICOM's JSON or XML and bring something new, and the parts of a series must come to their end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import requests
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from spinezoo_contract.errors import AccessError, BadInputError, NotServingError
from spinezoo_contract.tls import token_from_file

from spinezoo_pacs.errors import NotTakenError, RefusedError

JSON = "application/dicom+json"
XML = "application/dicom+xml"
DICOM = "application/dicom"
RELATED = "multipart/related"

URL_PATTERN = r"^https?://\S+$"
"""What an address of DICOMweb looks like."""

NOT_SUPPORTED = 0x0122
DUPLICATE = 0x0111
"""Codes of C-STORE (PS3.7 annex C) that STOW-RS gives as Failure Reason too."""

STUDY_UID, SERIES_UID, SOP_UID = "0020000D", "0020000E", "00080018"
_REFERENCED_SOP_UID = "00081155"
_REFERENCED, _FAILED, _REASON = "00081199", "00081198", "00081197"

_BOUNDARY = "spinezoo-7d1f6a40f0c94c1e9b8e"

MOST_ANSWER_BYTES = 64 << 20
"""Largest answer to a search or to an object that is sent; an archive may send without end."""

MOST_ANSWER_S = 600.0
"""Longest time that such an answer may take, in s, however little it is silent."""

_XML_ROOT = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"

_MOST_PAGES = 100_000
"""Pages of one search; an archive that gives one match a page is still asked to the end."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer that has come in.

    Attributes:
        status: Its HTTP status.
        content: Its body.
        moved: Status of a redirection on the way that drops what was sent; 0: there was none.
        kind: Its content type.
    """

    status: int
    content: bytes
    moved: int = 0
    kind: str = ""


class _Session(requests.Session):
    """Proxies and authorities come from the environment, logins never: no ``.netrc`` is read.

    `requests` looks into it before a request and again after a redirection, where it wins over a
    token. Both places look at ``trust_env`` for nothing else.
    """

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        with self._without_logins():
            return super().prepare_request(request)

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        with self._without_logins():
            super().rebuild_auth(prepared_request, response)

    @contextmanager
    def _without_logins(self) -> Iterator[None]:
        self.trust_env = False
        try:
            yield
        finally:
            self.trust_env = True


class DicomWeb:
    """One DICOMweb service. Not to be shared between threads."""

    def __init__(
        self, url: str, *, token_file: Path | None, authorities: Path | None, timeout_s: float
    ) -> None:
        """Opens a session; nothing is asked yet.

        Args:
            url: Such as ``https://pacs.hospital/dicom-web``.
            token_file: File of a bearer token.
            authorities: PEM file of authorities whose certificates count; None: the system's.
            timeout_s: Longest silence of the service, in s.

        Raises:
            ConfigurationError: The token cannot be read.
        """
        self._url, self._timeout_s = url.rstrip("/"), timeout_s
        self._session = _Session()
        # For each request: the session's own gives way to REQUESTS_CA_BUNDLE.
        self._verify = None if authorities is None else str(authorities)
        if token_file is not None:
            token = token_from_file(token_file, f"token file {token_file}")

            def bearer(request: requests.PreparedRequest) -> requests.PreparedRequest:
                request.headers["Authorization"] = f"Bearer {token}"
                return request

            self._session.auth = bearer  # a header alone gives way to a login in the address

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    def store(self, data: bytes, study_uid: str, sop_uid: str) -> None:
        """Sends one object; it is stored when this returns.

        Raises:
            NotTakenError: The service does not take its kind.
            RefusedError: It refused it for good.
            AccessError: It does not take our token.
            NotServingError: It cannot be reached, has no room, or does not say that the object is
                stored; try again later.
        """
        body = b"".join(
            (
                f"--{_BOUNDARY}\r\nContent-Type: {DICOM}\r\n\r\n".encode(),
                data,
                f"\r\n--{_BOUNDARY}--\r\n".encode(),
            )
        )
        kind = f'{RELATED}; type="{DICOM}"; boundary={_BOUNDARY}'
        headers = {"Content-Type": kind, "Accept": JSON}
        answer = self._ask("POST", "studies", data=body, headers=headers)
        if answer.moved:  # what was asked there was no more than a page
            raise NotServingError(
                f"the service sends us to another address ({answer.moved}); give that address"
            )
        said = _outcome(answer, sop_uid)
        if said is not None and said not in (0, DUPLICATE):
            raise_for(said)
        if said is None:
            _check(answer.status)
            if not self.has(study_uid, sop_uid):
                raise NotServingError(
                    f"the service answered {answer.status} and did not store the object; is it the "
                    "address of its DICOMweb?"
                )

    def _ask(self, method: str, path: str, **more: Any) -> _Answer:
        """An answer, read as far as it may be long.

        Raises:
            NotServingError: The service cannot be reached, or its answer does not end.
        """
        end = time.monotonic() + MOST_ANSWER_S
        content = bytearray()
        with (
            _reached(),
            self._session.request(
                method,
                f"{self._url}/{path}",
                timeout=self._timeout_s,
                stream=True,
                verify=self._verify,
                **more,
            ) as answer,
        ):
            kind = answer.headers.get("Content-Type", "")
            for piece in answer.iter_content(65_536):
                content += piece
                if len(content) > MOST_ANSWER_BYTES or time.monotonic() > end:
                    raise NotServingError(
                        f"the service's answer does not end within {MOST_ANSWER_BYTES >> 20} MiB "
                        f"and {MOST_ANSWER_S:.0f} s; is it the address of its DICOMweb?"
                    )
        codes = [each.status_code for each in answer.history]
        moved = next((code for code in codes if code in (301, 302, 303)), 0)
        return _Answer(answer.status_code, bytes(content), moved, kind)

    def has(self, study_uid: str, sop_uid: str) -> bool:
        """Whether the service has an object.

        Raises:
            SpineZooError: It cannot be asked, see :meth:`search`.
        """
        path = f"studies/{study_uid}/instances"
        return any(
            value_of(each, SOP_UID) == sop_uid
            for each in self.search(path, SOP_UID, {"SOPInstanceUID": sop_uid})
        )

    def search(
        self, path: str, key: str, filters: Mapping[str, str], fields: Sequence[str] = ()
    ) -> Iterator[Mapping[str, Any]]:
        """Matches of a search, page by page, each once.

        Args:
            path: What is searched, such as ``studies``.
            key: Tag of the UID by which matches are told apart.
            filters: What they have to match, by keyword.
            fields: Further attributes to be told of each.

        Raises:
            AccessError: The service does not take our token.
            RefusedError: It refuses the search.
            NotServingError: It cannot be reached, or answers something else than DICOM's JSON or
                XML.
        """
        seen: set[str] = set()
        asked: dict[str, Any] = dict(filters)
        if fields:
            asked["includefield"] = list(fields)
        count = 0
        for _ in range(_MOST_PAGES):
            # Services that cannot page refuse, or do not look at, what the first page needs not.
            page = self._page(path, asked | ({"offset": str(count)} if count else {}))
            count += len(page)
            new = [each for each in page if value_of(each, key) not in seen]
            seen.update(value_of(each, key) for each in new)
            yield from new
            if not new:
                return

    def _page(self, path: str, asked: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        headers = {"Accept": f"{JSON}, application/json"}
        answer = self._ask("GET", path, params=asked, headers=headers)
        _check(answer.status)
        found: Any = _xml_matches(answer) or (_json_of(answer) if answer.content else [])
        if isinstance(found, dict):  # some send the only match by itself
            found = [found]
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise NotServingError(
                "the service answers a search with something else than DICOM's JSON or XML; "
                "is it the address of its DICOMweb?"
            )
        return found

    def series(self, study_uid: str, series_uid: str) -> list[bytes]:
        """The objects of a series, as DICOM files.

        Raises:
            AccessError: The service does not take our token.
            RefusedError: It refuses to send this series, sent only a part, or something else.
            NotServingError: It cannot be reached.
        """
        with _reached():
            answer = self._session.get(
                f"{self._url}/studies/{study_uid}/series/{series_uid}",
                headers={"Accept": f'{RELATED}; type="{DICOM}"'},
                timeout=self._timeout_s,
                verify=self._verify,
            )
        if answer.status_code == 500:  # of this series; another may be well
            raise RefusedError("the service fails on a series (status 500)")
        _check(answer.status_code)
        if not answer.content:
            return []
        said = answer.headers.get("Content-Type", "")
        if said.partition(";")[0].strip().lower() == DICOM:  # one object, not in a part
            return [answer.content]
        try:
            parts = MultipartParts(said, types=(DICOM,))
            parts.write(answer.content)
            return parts.finished()
        except BadInputError:
            raise RefusedError("the service sent only a part of a series, or no series") from None


class MultipartParts:
    """The parts of a ``multipart/related`` body, fed piece by piece."""

    def __init__(self, content_type: str, *, types: Iterable[str]) -> None:
        """Reads the header.

        Args:
            content_type: The header Content-Type.
            types: Content types of the parts that are taken; one that is not said is the first.

        Raises:
            BadInputError: It is another kind of body, or names no boundary that can be used.
        """
        said, options = parse_options_header(content_type)
        known = [each.encode() for each in types]
        kind = options.get(b"type", known[0]).lower()
        boundary = options.get(b"boundary", b"")
        self._parts: list[bytearray] = []
        self._ended = False
        if said != RELATED.encode() or kind not in known or not boundary:
            raise BadInputError("the body is not multipart/related, or names no boundary")
        callbacks: Any = {
            "on_part_begin": lambda: self._parts.append(bytearray()),
            "on_part_data": lambda data, first, last: self._parts[-1].extend(data[first:last]),
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError:
            raise BadInputError("the boundary of the parts is too long") from None

    def _end(self) -> None:
        self._ended = True

    @property
    def count(self) -> int:
        """Parts that have begun."""
        return len(self._parts)

    def write(self, data: bytes) -> None:
        """Takes a piece of the body.

        Raises:
            BadInputError: The parts cannot be told apart.
        """
        try:
            self._parser.write(data)
        except FormParserError:
            raise BadInputError("the parts cannot be told apart") from None

    def finished(self) -> list[bytes]:
        """All parts.

        Raises:
            BadInputError: The body has not come to its end, or has no part.
        """
        if not self._ended or not self._parts:
            raise BadInputError("the body ends before its last part")
        return [bytes(part) for part in self._parts]


def value_of(match: Mapping[str, Any], tag: str) -> str:
    """The first value of an attribute in DICOM's JSON as text; empty where there is none."""
    entry = match.get(tag)
    values = entry.get("Value") if isinstance(entry, Mapping) else None
    first = values[0] if isinstance(values, list) and values else None
    return "" if first is None else str(first)


def raise_for(reason: int) -> None:
    """Raises what a code of C-STORE or a Failure Reason means.

    Raises:
        NotTakenError: The kind of object is not taken.
        NotServingError: There is no room.
        RefusedError: Anything else.
    """
    if reason == NOT_SUPPORTED:
        raise NotTakenError("the destination does not take this kind of object")
    if 0xA700 <= reason <= 0xA7FF:
        raise NotServingError(f"the destination has no room (reason {reason:04X})")
    raise RefusedError(f"the destination refused an object with reason {reason:04X}")


def _outcome(answer: _Answer, sop_uid: str) -> int | None:
    """0 where an answer names an object as stored, its Failure Reason, or None: it says neither."""
    try:
        said = _xml_of(answer.content) or _json_of(answer)
    except NotServingError:
        return None
    if isinstance(said, list):
        said = said[0] if said else None
    if not isinstance(said, dict):
        return None
    for tag in (_FAILED, _REFERENCED):
        entry = said.get(tag)
        items = entry.get("Value") if isinstance(entry, dict) else None
        for item in items if isinstance(items, list) else ():
            if not isinstance(item, dict) or value_of(item, _REFERENCED_SOP_UID) != sop_uid:
                continue
            if tag == _REFERENCED:
                return 0
            reason = value_of(item, _REASON)
            return int(reason) if reason.isdecimal() and int(reason) else 0xC000
    return None


def _json_of(answer: _Answer) -> Any:
    try:
        return json.loads(answer.content)
    except (ValueError, RecursionError):
        raise NotServingError(
            f"the service answered {answer.status} with something else than DICOM's JSON or XML"
        ) from None


def _xml_matches(answer: _Answer) -> list[dict[str, Any]]:
    """The matches of a search in DICOM's XML, a part each (PS3.18 8.6.1); empty where it is not."""
    if not answer.kind.lower().startswith(RELATED):
        only = _xml_of(answer.content)
        return [only] if only else []
    try:
        parts = MultipartParts(answer.kind, types=(XML,))
        parts.write(answer.content)
        found = [_xml_of(part) for part in parts.finished()]
    except BadInputError:
        return []
    return found if all(found) else []


def _xml_of(content: bytes) -> dict[str, Any]:
    """DICOM's XML (PS3.19 A.1) as its JSON; empty where an answer is something else.

    Some services answer in XML though JSON is asked for.
    """
    if b"<" not in content[:1024] or b"<!DOCTYPE" in content[:65_536]:
        return {}  # DICOM's XML has no document type, which could make much of little
    try:
        root = ElementTree.fromstring(content)
        return _attributes(root) if root.tag == f"{_XML_ROOT}NativeDicomModel" else {}
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError):
        return {}


def _attributes(node: ElementTree.Element) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in node.findall(f"{_XML_ROOT}DicomAttribute"):
        items = [_attributes(item) for item in each.findall(f"{_XML_ROOT}Item")]
        values = [(one.text or "").strip() for one in each.findall(f"{_XML_ROOT}Value")]
        found[each.get("tag", "").upper()] = {"vr": each.get("vr", ""), "Value": items or values}
    return found


def _check(status: int) -> None:
    """Raises what a status means that is no success."""
    if status in (401, 403):
        raise AccessError(f"the service does not take our token (status {status}); renew it")
    if status == 415:
        raise NotTakenError("the destination does not take this kind of object")
    if status in (408, 429) or status >= 500:
        raise NotServingError(f"the service did not answer (status {status})")
    if not 200 <= status < 300:
        raise RefusedError(f"the service refused with status {status}")


@contextmanager
def _reached() -> Iterator[None]:
    """Names what goes wrong on the way; the library's texts may hold patient data."""
    try:
        yield
    except requests.RequestException as error:
        raise NotServingError(f"the service cannot be reached ({type(error).__name__})") from None
