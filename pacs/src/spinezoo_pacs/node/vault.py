"""Films and results encrypted at rest: AES-256-GCM with a key that is not on the spool's disk.

A sealed file is a mark, a nonce of 12 random bytes, and ciphertext with its tag. The file's name is
authenticated with it, so that nobody can give one film another's name. Files without the mark are
from before there was a key; they are read as they are.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from spinezoo_contract.errors import ConfigurationError, SpineZooError
from spinezoo_contract.words import counted
from spinezoo_serving.disk import replace_file

MARK = b"SPZ-AES1"
KEY_BYTES = 32
NONCE_BYTES = 12
CHECK = "key.check"
"""File in the spool by which a wrong key is known at the start."""


class DamagedError(SpineZooError):
    """A file of the spool is not what was written."""


class Vault:
    """Seals and opens files; without a key it hands them on as they are."""

    def __init__(self, key: bytes | None) -> None:
        """Takes the key.

        Raises:
            ConfigurationError: It is not of 32 bytes.
        """
        if key is not None and len(key) != KEY_BYTES:
            raise ConfigurationError(
                f"spool_key holds {counted(len(key), 'byte')}, AES-256 needs {KEY_BYTES}; make "
                "one with `openssl rand -hex 32`"
            )
        self._cipher = None if key is None else AESGCM(key)

    @classmethod
    def from_file(cls, path: Path | None) -> Vault:
        """The vault of a key file; None encrypts nothing.

        Raises:
            ConfigurationError: It cannot be read, or holds no 64 hexadecimal digits.
        """
        if path is None:
            return cls(None)
        try:
            key = bytes.fromhex(path.read_text(encoding="ascii").strip())
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"spool_key {path} cannot be used ({type(error).__name__}); it is a file of "
                f"{2 * KEY_BYTES} hexadecimal digits"
            ) from None
        return cls(key)

    def check(self, folder: Path) -> None:
        """Checks at the start that the key is the spool's own.

        Raises:
            ConfigurationError: It is another one, or there is none and the spool has one.
            OSError: The spool cannot be written.
        """
        path = folder / CHECK
        if self._cipher is None:
            if path.exists():
                raise ConfigurationError(f"the spool {folder} is encrypted; name its spool_key")
            return
        if path.exists():
            try:
                self.open(CHECK, path.read_bytes())
            except DamagedError:
                raise ConfigurationError(
                    f"spool_key is not the key of the spool {folder}; name the one it was made with"
                ) from None
        else:
            replace_file(path, self.seal(CHECK, b"spinezoo"))

    def seal(self, name: str, data: bytes) -> bytes:
        """What is written for a file."""
        if self._cipher is None:
            return data
        nonce = secrets.token_bytes(NONCE_BYTES)
        return MARK + nonce + self._cipher.encrypt(nonce, data, name.encode())

    def open(self, name: str, data: bytes) -> bytes:
        """What was sealed.

        Raises:
            DamagedError: The file was changed, or is another's.
        """
        if self._cipher is None or not data.startswith(MARK):
            return data
        start = len(MARK) + NONCE_BYTES
        try:
            return self._cipher.decrypt(data[len(MARK) : start], data[start:], name.encode())
        except InvalidTag:
            raise DamagedError(f"{name} was changed on the disk; send the film again") from None
