"""Pseudonyms, UIDs and date shifts by a key that stays with the site.

The same key gives the same pseudonyms, so sets that are collected at different times fit together.
Who has the key and the original values can find a patient again; nobody else can.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from datetime import date, timedelta
from pathlib import Path

from pydicom.uid import UID
from spinezoo_contract.errors import ConfigurationError
from spinezoo_serving.disk import alone_in, replace_file

KEY_BYTES = 32

MOST_SHIFT_DAYS = 3650
"""Dates of a patient move back by 1 to so many days, all by the same number."""


class SiteKey:
    """A secret, and what follows from it."""

    def __init__(self, secret: bytes) -> None:
        """Takes the secret."""
        self._secret = secret

    @classmethod
    def open(cls, path: Path) -> SiteKey:
        """Reads the key file; makes it where there is none, for its owner only.

        Raises:
            ConfigurationError: It cannot be read or is no key.
        """
        try:
            if not path.exists():
                # Of two first runs one makes it: films under a key that is gone fit no others.
                with alone_in(path.parent, "another run that makes a key"):
                    if not path.exists():
                        replace_file(path, secrets.token_hex(KEY_BYTES) + "\n", mode=0o600)
            secret = bytes.fromhex(path.read_text().strip())
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text of a key"
            raise ConfigurationError(
                f"the key file {path} cannot be used ({why}); it holds {2 * KEY_BYTES} "
                "hexadecimal digits"
            ) from None
        if len(secret) < KEY_BYTES:
            raise ConfigurationError(f"the key in {path} is shorter than {KEY_BYTES} bytes")
        return cls(secret)

    def _digest(self, *parts: str) -> bytes:
        return hmac.new(self._secret, "\x1f".join(parts).encode(), hashlib.sha256).digest()

    def pseudonym(self, patient_id: str, issuer: str = "") -> str:
        """Name of a patient in the set, such as ``P7QK2M4ZTAB5``."""
        return "P" + base64.b32encode(self._digest("patient", patient_id, issuer))[:11].decode()

    def uid(self, uid: str) -> UID:
        """The UID that stands for another."""
        return UID(f"2.25.{int.from_bytes(self._digest('uid', uid)[:16], 'big')}")

    def mark(self, what: str, value: str) -> str:
        """Sixteen characters that stand for a value in manifests and file names."""
        return self._digest(what, value).hex()[:16]

    def shifted(self, patient_id: str, day: str) -> str:
        """A DICOM date of a patient, moved; empty where it is none."""
        try:
            given = date(int(day[:4]), int(day[4:6]), int(day[6:8]))
        except ValueError:
            return ""
        number = int.from_bytes(self._digest("dates", patient_id)[:8], "big")
        try:
            moved = given - timedelta(days=1 + number % MOST_SHIFT_DAYS)
        except OverflowError:
            return ""
        return moved.strftime("%Y%m%d")
