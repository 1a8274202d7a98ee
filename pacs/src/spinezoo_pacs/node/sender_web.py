"""Results going out by STOW-RS, with a token; asked first by QIDO-RS, as by C-FIND."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import pydicom
from spinezoo_contract.errors import AccessError

from spinezoo_pacs.dicomweb import DicomWeb
from spinezoo_pacs.errors import RefusedError
from spinezoo_pacs.node.settings import Peer


class WebLink:
    """A DICOMweb server that takes results."""

    def __init__(self, peer: Peer, authorities: Path | None, timeout_s: float) -> None:
        """Opens a session.

        Raises:
            ConfigurationError: The token cannot be read.
        """
        self._web = DicomWeb(
            peer.web_url,
            token_file=peer.web_token_file,
            authorities=authorities,
            timeout_s=timeout_s,
        )

    def close(self) -> None:
        """Closes the connections."""
        self._web.close()

    def store(self, data: bytes) -> None:
        """Sends one object; it is stored when this returns.

        Raises:
            NotTakenError: The server does not take its kind.
            RefusedError: It refused it for good.
            AccessError: It does not take our token.
            NotServingError: It cannot be reached, has no room, or does not say that the object is
                stored; try again later.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(
                io.BytesIO(data), specific_tags=["StudyInstanceUID", "SOPInstanceUID"]
            )
        self._web.store(data, str(header.StudyInstanceUID), str(header.SOPInstanceUID))

    def has(self, study_uid: str, sop_uid: str) -> bool:
        """Whether the server has an object; False where it does not say.

        Raises:
            NotServingError: It cannot be reached.
        """
        try:
            return self._web.has(study_uid, sop_uid)
        except (AccessError, RefusedError):  # it may take objects from us and no questions
            return False
