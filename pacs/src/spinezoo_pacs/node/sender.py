"""Results going out: C-STORE to a node, asked first where a film may have been sent already."""

from __future__ import annotations

import io
import ssl
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    ComprehensiveSRStorage,
    LabelMapSegmentationStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    StudyRootQueryRetrieveInformationModelFind,
)
from spinezoo_contract.errors import NotServingError
from spinezoo_serving.security import Renewed

from spinezoo_pacs.dicomweb import DUPLICATE, raise_for
from spinezoo_pacs.errors import NotTakenError
from spinezoo_pacs.node.sender_web import WebLink
from spinezoo_pacs.node.settings import NodeSettings, Peer

RESULT_CLASSES = (
    SegmentationStorage,
    LabelMapSegmentationStorage,
    ComprehensiveSRStorage,
    SecondaryCaptureImageStorage,
)


class Link:
    """An association with a destination."""

    def __init__(self, association: Association) -> None:
        """Wraps an association that stands."""
        self._association = association

    def store(self, data: bytes) -> None:
        """Sends one object.

        Raises:
            NotTakenError: The destination does not take its kind.
            RefusedError: It refused it for good.
            NotServingError: It has no room now, or went away; try again later.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(io.BytesIO(data))
            contexts = [
                cx
                for cx in self._association.accepted_contexts
                if cx.abstract_syntax == dataset.SOPClassUID
            ]
            if not contexts:
                raise NotTakenError("the destination does not take this kind of object")
            if not any(cx.transfer_syntax[0] == ExplicitVRLittleEndian for cx in contexts):
                dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            if not self._association.is_established:
                raise NotServingError("the destination closed the association")
            status = self._association.send_c_store(dataset)
        code = status.get("Status") if status else None
        if code is None:
            raise NotServingError("the destination went away while an object was sent")
        # A duplicate is there already: it was sent when the process was killed.
        if code in (0x0000, DUPLICATE) or 0xB000 <= code <= 0xBFFF:
            return
        raise_for(code)


class Sender:
    """Opens associations with destinations, or sessions with those that speak DICOMweb."""

    def __init__(self, settings: NodeSettings) -> None:
        """Makes the client.

        Raises:
            ConfigurationError: A certificate is wrong.
        """
        self._tls: Renewed[ssl.SSLContext] | None = None
        if settings.tls is not None and any(peer.tls for peer in settings.peers):
            self._tls = Renewed(settings.tls.client_context, settings.tls.stamp)
        self._authorities = settings.tls.authorities if settings.tls else None
        self._timeout_s = settings.limits.association_s
        ae = AE(settings.ae_title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = settings.limits.association_s
        ae.connection_timeout = settings.limits.association_s
        for result_class in RESULT_CLASSES:
            ae.add_requested_context(result_class, ExplicitVRLittleEndian)
            ae.add_requested_context(result_class, ImplicitVRLittleEndian)
        self._ae = ae
        self._asker = AE(settings.ae_title)
        self._asker.acse_timeout = self._asker.dimse_timeout = settings.limits.association_s
        self._asker.add_requested_context(StudyRootQueryRetrieveInformationModelFind)

    def has(self, peer: Peer, study_uid: str, sop_uid: str) -> bool:
        """Whether a peer has an object; False where it does not say.

        The question has an association of its own: archives that take objects from everybody may
        refuse it in a way that ends the association.

        Raises:
            NotServingError: The peer cannot be reached.
        """
        if peer.web_url:
            with closing(self._web(peer)) as web:
                return web.has(study_uid, sop_uid)
        query = Dataset()
        query.QueryRetrieveLevel = "IMAGE"
        query.StudyInstanceUID = study_uid
        query.SeriesInstanceUID = ""
        query.SOPInstanceUID = sop_uid
        model = StudyRootQueryRetrieveInformationModelFind
        found = False
        with self._associated(self._asker, peer) as association:
            if not association.accepted_contexts:
                return False
            for status, match in association.send_c_find(query, model):
                if status and status.Status in (0xFF00, 0xFF01) and match is not None:
                    found = found or match.get("SOPInstanceUID") == sop_uid
        return found

    @contextmanager
    def link(self, peer: Peer) -> Iterator[Link | WebLink]:
        """An association with a peer, released at the end.

        Raises:
            NotServingError: It cannot be reached or refuses the association.
        """
        if peer.web_url:
            with closing(self._web(peer)) as web:
                yield web
            return
        with self._associated(self._ae, peer) as association:
            yield Link(association)

    def _web(self, peer: Peer) -> WebLink:
        return WebLink(peer, self._authorities, self._timeout_s)

    @contextmanager
    def _associated(self, ae: AE, peer: Peer) -> Iterator[Association]:
        tls_args = None
        if peer.tls and self._tls is not None:
            tls_args = (self._tls.current(), peer.server_name or peer.host)
        try:
            association = ae.associate(
                peer.host, peer.port, ae_title=peer.ae_title, tls_args=tls_args
            )
        except (OSError, RuntimeError) as error:
            raise NotServingError(
                f"{peer.ae_title} cannot be reached ({type(error).__name__})"
            ) from None
        if not association.is_established:
            raise NotServingError(f"{peer.ae_title} takes no association; is it running?")
        try:
            yield association
        finally:
            if association.is_established:
                association.release()
