"""What becomes of a film that comes in, whichever way: it is in the spool, or refused by name."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable

from pydicom.uid import UID
from pynetdicom.sop_class import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
    XRayRadiofluoroscopicImageStorage,
)
from spinezoo_contract.errors import QueueFullError, TooLargeError

from spinezoo_pacs.errors import OtherStudyError
from spinezoo_pacs.node.spool import Spool, key_of

FILM_CLASSES = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
    XRayRadiofluoroscopicImageStorage,
)
"""What is taken: radiographs, and captures of them."""

STORED = 0x0000
NO_ROOM = 0xA700
NOT_AUTHORIZED = 0x0124
NOT_SUPPORTED = 0x0122
NOT_UNDERSTOOD = 0xC000
NO_MATCH = 0xA900
"""Status codes of C-STORE (PS3.4 B.2.3); STOW-RS gives the same as Failure Reason."""

log = logging.getLogger("spinezoo.pacs.intake")

Count = Callable[[str], None]


class Intake:
    """Puts films into the spool."""

    def __init__(self, spool: Spool, count: Count, wake: Callable[[], None]) -> None:
        """Takes what it needs.

        Args:
            spool: Where films go.
            count: Told the name of what happened to each film.
            wake: Called after a film was taken.
        """
        self._spool, self._wake = spool, wake
        self.count = count

    def take(self, sop_uid: str, inside: str, study_uid: str, sender: str, data: bytes) -> int:
        """Puts a film into the spool; returns the status to answer.

        Args:
            sop_uid: SOP instance UID by the message.
            inside: SOP instance UID by the film's header.
            study_uid: Study instance UID by the film's header.
            sender: AE title of the peer.
            data: The DICOM file.
        """
        if inside != sop_uid or not UID(sop_uid).is_valid or not UID(study_uid).is_valid:
            return self.refuse(sop_uid, "bad-uid", NO_MATCH)
        try:
            new = self._spool.add(sop_uid, study_uid, sender, data)
        except OtherStudyError as error:
            return self.refuse(sop_uid, "other-study", NO_MATCH, error)
        except QueueFullError as error:
            return self.refuse(sop_uid, "no-room", NO_ROOM, error)
        except TooLargeError as error:
            return self.refuse(sop_uid, "too-large", NO_ROOM, error)
        except (OSError, sqlite3.Error) as error:
            return self.refuse(sop_uid, "not-written", NO_ROOM, error)
        self.count("taken" if new else "known")
        log.info("film stored", extra={"fields": {"film": key_of(sop_uid), "new": new}})
        self._wake()
        return STORED

    def refuse(self, sop_uid: str, reason: str, status: int, error: Exception | None = None) -> int:
        """Counts and logs a film that is not taken; returns the status."""
        self.count(reason)
        fields = {"film": key_of(sop_uid), "reason": reason, "status": f"{status:04X}"}
        if error is not None:
            fields["error"] = type(error).__name__
        log.warning("film refused", extra={"fields": fields})
        return status
