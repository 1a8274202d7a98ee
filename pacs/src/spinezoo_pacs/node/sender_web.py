"""Results going out by STOW-RS, with a token; asked first by QIDO-RS, as by C-FIND."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import requests
from dicomweb_client.api import DICOMwebClient
from spinezoo_contract.errors import AccessError, ConfigurationError, NotServingError

from spinezoo_pacs.node.errors import NotTakenError, RefusedError
from spinezoo_pacs.node.intake import NOT_SUPPORTED
from spinezoo_pacs.node.settings import Peer


class WebLink:
    """A DICOMweb server that takes results."""

    def __init__(self, peer: Peer, authorities: Path | None, timeout_s: float) -> None:
        """Opens a session.

        Raises:
            ConfigurationError: The token cannot be read.
        """
        session = _Session(timeout_s)
        if authorities is not None:
            session.verify = str(authorities)
        if peer.web_token_file is not None:
            try:
                token = peer.web_token_file.read_text(encoding="ascii").strip()
            except (OSError, ValueError):
                raise ConfigurationError(
                    f"the token of {peer.ae_title} cannot be read; name its file"
                ) from None
            session.headers["Authorization"] = f"Bearer {token}"
        self._client = DICOMwebClient(peer.web_url, session=session)

    def store(self, data: bytes) -> None:
        """Sends one object.

        Raises:
            NotTakenError: The server does not take its kind.
            RefusedError: It refused it for good.
            AccessError: It does not take our token.
            NotServingError: It cannot be reached or has no room; try again later.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(data))
            with _named():
                answer = self._client.store_instances([dataset])
        for failed in answer.get("FailedSOPSequence", []):
            _raise_for(int(failed.get("FailureReason", 0)))

    def has(self, study_uid: str, sop_uid: str) -> bool:
        """Whether the server has an object.

        Raises:
            NotServingError: It cannot be reached.
        """
        with _named():
            found = self._client.search_for_instances(
                study_uid, search_filters={"SOPInstanceUID": sop_uid}
            )
        return any(sop_uid in one.get("00080018", {}).get("Value", []) for one in found)


class _Session(requests.Session):
    """Every call has an end."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self._timeout_s = timeout_s

    def request(self, *arguments: object, **options: object) -> requests.Response:
        options["timeout"] = self._timeout_s
        return super().request(*arguments, **options)


def _raise_for(reason: int) -> None:
    if reason == NOT_SUPPORTED:
        raise NotTakenError("the destination does not take this kind of object")
    if 0xA700 <= reason <= 0xA7FF:
        raise NotServingError(f"the destination has no room (reason {reason:04X})")
    raise RefusedError(f"the destination refused an object with reason {reason:04X}")


@contextmanager
def _named() -> Iterator[None]:
    """Turns errors of the web client into ours; its texts may hold patient data."""
    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise AccessError("the destination does not take our token; renew it") from None
        if status == 415:
            raise NotTakenError("the destination does not take this kind of object") from None
        if status in (408, 429) or status >= 500 or status == 0:
            raise NotServingError(f"the destination answered {status}") from None
        raise RefusedError(f"the destination refused an object with status {status}") from None
    except requests.RequestException as error:
        raise NotServingError(
            f"the destination cannot be reached ({type(error).__name__})"
        ) from None
