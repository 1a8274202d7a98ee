"""Films coming in: a C-STORE SCP for every transfer syntax, from known AE titles and addresses."""

from __future__ import annotations

import io
import logging
import socket
import ssl
import threading
import time
from socketserver import BaseServer
from typing import Any

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.sop_class import Verification
from pynetdicom.transport import ThreadedAssociationServer
from spinezoo_serving.security import Renewed

from spinezoo_pacs.node.addresses import AddressBook
from spinezoo_pacs.node.intake import (
    FILM_CLASSES,
    NO_ROOM,
    NOT_AUTHORIZED,
    NOT_UNDERSTOOD,
    Count,
    Intake,
)
from spinezoo_pacs.node.settings import NodeSettings

LEAVE_S = 5.0
"""Time that callers have to end what they send when the node ends, in s."""

HANDSHAKE_S = 10.0
"""Time that a caller has for the TLS handshake, in s."""

log = logging.getLogger("spinezoo.pacs.scp")


class _Bounded(io.BytesIO):
    """What is kept of an object that comes in: at most so many bytes, the rest is let go.

    Attributes:
        is_over: Whether it has more.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self.is_over = False

    def write(self, data: Any) -> int:
        """Takes a piece."""
        if self.is_over or self.tell() + len(data) > self._most:
            self.is_over = True
            self.truncate(0)
            return len(data)
        return super().write(data)


class _Server(ThreadedAssociationServer):
    """Turns strangers away by address, and shakes hands in the caller's own thread."""

    daemon_threads = True
    request_queue_size = 256
    tls: Renewed[ssl.SSLContext] | None = None
    known_addresses: tuple[str, ...] = ()
    book = AddressBook()
    count: Count = staticmethod(lambda what: None)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accepts without the handshake: a silent caller must not stop all others."""
        return self.socket.accept()

    def shutdown(self) -> None:
        """Stops listening. The library's own wants to be in a list that we are not in."""
        BaseServer.shutdown(self)
        self.server_close()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether the address is known."""
        known = self.book.holds(self.known_addresses, client_address[0])
        if not known:
            self.count("address-refused")
            log.warning("connection from an address that no peer has; add it, or block it")
        return known

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Shakes hands, then serves the association."""
        if self.tls is not None:
            try:
                request.settimeout(HANDSHAKE_S)
                request = self.tls.current().wrap_socket(request, server_side=True)
                request.settimeout(None)
            except (OSError, ssl.SSLError) as error:
                self.count("tls-refused")
                log.warning("TLS handshake failed: %s", type(error).__name__)
                self.shutdown_request(request)
                return
        super().process_request_thread(request, client_address)


class FilmReceiver:
    """The SCP, on a port of its own."""

    def __init__(self, settings: NodeSettings, intake: Intake) -> None:
        """Makes it; :meth:`start` listens.

        Args:
            settings: The node's.
            intake: Where films go.

        Raises:
            ConfigurationError: A certificate is wrong.
        """
        tls = settings.tls
        self._tls = None if tls is None else Renewed(tls.server_context, tls.stamp)
        self._most_bytes = settings.limits.film_mib << 20
        self._settings, self._intake = settings, intake
        self._count = intake.count
        self._server: _Server | None = None
        self._book = AddressBook()
        ae = AE(settings.ae_title)
        ae.require_called_aet = True
        ae.require_calling_aet = [peer.ae_title for peer in settings.peers if peer.may_send]
        ae.maximum_associations = settings.limits.associations
        ae.network_timeout = settings.limits.association_s
        ae.acse_timeout = settings.limits.association_s
        ae.dimse_timeout = settings.limits.association_s
        ae.maximum_pdu_size = 131_072
        ae.add_supported_context(Verification)
        for film_class in FILM_CLASSES:
            ae.add_supported_context(film_class, ALL_TRANSFER_SYNTAXES)
        self._ae = ae

    @property
    def port(self) -> int:
        """The port that is bound."""
        assert self._server is not None
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Listens.

        Raises:
            OSError: The port is taken.
        """
        settings = self._settings
        self._server = self._ae.make_server(
            (settings.host, settings.port),
            ae_title=settings.ae_title,
            evt_handlers=[
                (evt.EVT_PDU_RECV, self._on_piece),
                (evt.EVT_C_STORE, self._on_store),
                (evt.EVT_REJECTED, self._on_rejected),
            ],
            server_class=_Server,
        )
        self._server.tls = self._tls
        self._server.book = self._book
        self._server.known_addresses = tuple(
            entry for peer in settings.peers if peer.may_send for entry in peer.known_addresses
        )
        self._server.count = self._count
        threading.Thread(target=self._server.serve_forever, daemon=True, name="scp").start()

    def stop(self) -> None:
        """Takes no more associations; those that stay open are aborted, and callers send again."""
        if self._server is None:
            return
        self._server.shutdown()
        end = time.monotonic() + LEAVE_S
        while self._ae.active_associations and time.monotonic() < end:
            time.sleep(0.1)
        for association in self._ae.active_associations:
            association.abort()

    def _on_rejected(self, event: evt.Event) -> None:
        self._count("association-refused")
        log.warning("association refused: AE title not known, or too many at once")

    def _on_piece(self, event: evt.Event) -> None:
        """Before an object's pieces are put together: what is over the limit is not kept."""
        message = event.assoc.dimse.message
        if message is not None and type(message.data_set) is io.BytesIO:
            kept = _Bounded(self._most_bytes)
            kept.write(message.data_set.getvalue())
            message.data_set = kept

    def _on_store(self, event: evt.Event) -> int:
        """Keeps one film; the status says whether it is safe with us."""
        requestor = event.assoc.requestor
        peer = self._settings.peer(str(requestor.ae_title))
        if (
            peer is None
            or not peer.may_send
            or not self._book.holds(peer.known_addresses, requestor.address)
        ):
            self._count("not-authorized")
            log.warning("film refused: AE title and address do not belong together")
            return NOT_AUTHORIZED
        sop_uid = str(event.request.AffectedSOPInstanceUID or "")
        if getattr(event.request.DataSet, "is_over", False):
            return self._intake.refuse(sop_uid, "too-large", NO_ROOM)
        try:
            dataset = event.dataset
            study_uid = str(dataset.get("StudyInstanceUID") or "")
            inside = str(dataset.get("SOPInstanceUID") or "")
        except Exception as error:
            return self._intake.refuse(sop_uid, "not-readable", NOT_UNDERSTOOD, error)
        data = event.encoded_dataset()
        return self._intake.take(sop_uid, inside, study_uid, peer.ae_title, data)
