"""Who may call gateway and evaluator: bearer tokens, of which only digests are kept.

    python -m spinezoo_serving.tokens new clinic-a --file tokens.txt [--days 365]
    python -m spinezoo_serving.tokens list --file tokens.txt
    python -m spinezoo_serving.tokens revoke clinic-a --file tokens.txt

The file that ``SPINEZOO_TOKENS`` names has one caller a line::

    # name  SHA-256 of the token, hexadecimal                                   last day (UTC)
    clinic-a 6f1ed002ab5595859014ebf0951522d9e02a9fce8f6d1e2f5a5e0f4a2c8f7b11 2027-06-30

A token is 256 random bits, so a plain SHA-256 is right: nobody can try 2^256 tokens, however fast
the digest. Slow password hashes protect what people make up; here they would only cost every call
some 100 ms. ``new`` prints the token once; it is stored nowhere. A server reads the file again when
it has changed.
"""

# ruff: noqa: T201 - a command: what it makes goes to the terminal.
from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import hmac
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from spinezoo_contract.certificates import PemFile, file_from_env
from spinezoo_contract.errors import AccessError, ConfigurationError
from spinezoo_contract.output import end_with_reader
from spinezoo_contract.tls import MAX_TOKEN_LENGTH, TlsMode, is_loopback
from spinezoo_contract.words import counted

from spinezoo_serving.disk import replace_file
from spinezoo_serving.security import ServerSecurity

log = logging.getLogger("spinezoo.security")

METADATA_KEY = "authorization"
"""Key of a call's metadata that holds ``Bearer <token>``."""

TOKEN_PREFIX = "spinezoo_"
"""How every token begins, so that a search for leaked secrets finds it."""

TOKEN_BYTES = 32
"""Random bytes of a token: 256 bits."""

MAX_ENTRIES = 1000
"""Most callers in a file: every call is compared with all of them."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")

_HOW = "send the metadata `authorization: Bearer <token>`; whoever runs the zoo hands out tokens"


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """One caller.

    Attributes:
        name: Name of the caller, as it stands in the log.
        digest: SHA-256 of the token, 32 bytes.
        not_after: Last day on which the token counts, in UTC; None for ever.
    """

    name: str
    digest: bytes
    not_after: date | None = None

    def expired(self, today: date) -> bool:
        """Whether the last day is over."""
        return self.not_after is not None and today > self.not_after


def digest_of(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


def parse_tokens(data: bytes, where: str) -> tuple[TokenEntry, ...]:
    """The callers of a file.

    Args:
        data: Its bytes.
        where: Its name, for messages. They never hold a line's content, which might be a token.

    Raises:
        ConfigurationError: A line is wrong; the message has its number.
    """
    entries: list[TokenEntry] = []
    names: set[str] = set()
    digests: set[bytes] = set()
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue

        def wrong(what: str, number: int = number) -> ConfigurationError:
            return ConfigurationError(
                f"{where}, line {number}: {what}; a line is `name sha256hex [last-day]`, made by "
                "`python -m spinezoo_serving.tokens new`"
            )

        if not 2 <= len(parts) <= 3:
            raise wrong(f"it has {counted(len(parts), 'part')}")
        if not _NAME.fullmatch(parts[0]):
            raise wrong("the name is not of 1 to 64 letters, digits, dots, dashes, underscores")
        if not _DIGEST.fullmatch(parts[1]):
            raise wrong("the second part is no SHA-256 of 64 lower-case hexadecimal digits")
        not_after = None
        if len(parts) == 3:
            try:
                not_after = date.fromisoformat(parts[2])
            except ValueError:
                raise wrong("the last day is no date such as 2027-06-30") from None
        entry = TokenEntry(parts[0], bytes.fromhex(parts[1]), not_after)
        if entry.name in names or entry.digest in digests:
            raise wrong("the name or the token stands there twice")
        names.add(entry.name)
        digests.add(entry.digest)
        entries.append(entry)
    if len(entries) > MAX_ENTRIES:
        raise ConfigurationError(
            f"{where} has {len(entries)} tokens, the limit is {MAX_ENTRIES}; take out old ones"
        )
    return tuple(entries)


class TokenFile:
    """The callers that a server knows, read again when the file changes.

    A file that is wrong then, or has gone, is logged and not taken: the callers before stay.

    Args:
        file: The file.
        today: Gives the day in UTC.

    Raises:
        ConfigurationError: The file cannot be read or is wrong.
    """

    def __init__(
        self, file: PemFile, *, today: Callable[[], date] = lambda: datetime.now(UTC).date()
    ) -> None:
        self._file = file
        self._today = today
        self._stamp = file.stamp()
        self._entries = self._read()
        if not self._entries:
            log.warning("nobody has a token", extra={"fields": {"setting": file.setting}})

    @classmethod
    def for_server(cls, security: ServerSecurity, host: str) -> TokenFile | None:
        """The callers of gateway or evaluator as the settings say; None: everybody may call.

        Raises:
            ConfigurationError: The file is wrong, or tokens would cross a network in the clear.
        """
        file = security.token_file
        if file is None:
            return None
        in_the_clear = security.tls is TlsMode.OFF and not is_loopback(host)
        if in_the_clear and not security.tokens_without_tls:
            raise ConfigurationError(
                f"SPINEZOO_TOKENS is set, SPINEZOO_TLS is off and the address is {host}: tokens "
                "would cross the network in the clear; set SPINEZOO_TLS=server, or where a proxy "
                "in front encrypts, SPINEZOO_TOKENS_WITHOUT_TLS=1"
            )
        if in_the_clear:
            log.warning("tokens cross the network without TLS of this server")
        return cls(file)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the callers."""
        return tuple(entry.name for entry in self._entries)

    def _read(self) -> tuple[TokenEntry, ...]:
        return parse_tokens(self._file.read(), f"{self._file.setting} ({self._file.path})")

    def _renew(self) -> None:
        stamp = self._file.stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._entries = self._read()
        except ConfigurationError as error:
            log.error("tokens not renewed", extra={"fields": {"reason": str(error)}})
            return
        log.info("tokens renewed", extra={"fields": {"count": len(self._entries)}})

    def caller(self, metadata: Iterable[tuple[str, str | bytes]]) -> str:
        """Name of the caller whose token a call's metadata holds.

        Raises:
            AccessError: There is none, or it does not count. Its ``caller`` names the holder of a
                token that has expired.
        """
        self._renew()
        given = [value for key, value in metadata if key == METADATA_KEY]
        if not given:
            raise AccessError(f"the call has no token; {_HOW}")
        scheme, _, token = str(given[0]).partition(" ")
        token = token.strip()
        if len(given) > 1 or scheme.lower() != "bearer" or not 0 < len(token) <= MAX_TOKEN_LENGTH:
            raise AccessError(f"the call's authorization is not one bearer token; {_HOW}")
        digest = digest_of(token)
        found: TokenEntry | None = None
        for entry in self._entries:
            # All of them, and each in constant time: how long it takes tells nothing.
            if hmac.compare_digest(entry.digest, digest):
                found = entry
        if found is None:
            raise AccessError("the token is unknown or was revoked; ask whoever runs the zoo")
        if found.expired(self._today()):
            error = AccessError(
                f"the token of {found.name} expired on {found.not_after}; ask for a new one"
            )
            error.caller = found.name
            raise error
        return found.name

    def ticket(self, caller: str, life_s: float) -> str:
        """A short-lived ticket for files that a browser fetches without its token.

        Any server with the same token file takes it; revoking the token takes it back.

        Args:
            caller: Name of a caller, as :meth:`caller` gives it.
            life_s: How long it counts, in s.
        """
        until = str(int(time.time() + life_s))
        digests = [entry.digest for entry in self._entries if entry.name == caller]
        return f"{caller}.{until}.{_seal(digests[0] if digests else b'', caller, until)}"

    def takes(self, ticket: str) -> bool:
        """Whether a ticket counts now."""
        self._renew()
        if not ticket.isascii():
            return False
        name, _, rest = ticket.rpartition(".")
        name, _, until = name.rpartition(".")
        for entry in self._entries:
            if entry.name == name and hmac.compare_digest(_seal(entry.digest, name, until), rest):
                return time.time() < int(until) and not entry.expired(self._today())
        return False


def _seal(key: bytes, name: str, until: str) -> str:
    return hmac.new(key, f"{name} {until}".encode(), hashlib.sha256).hexdigest()


# --- the command ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps two of these commands apart."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    data = PemFile(path, "--file").read()
    # Nothing is added to a file that a server would refuse.
    parse_tokens(data, str(path))
    return data.decode("utf-8").splitlines()


def _store(path: Path, lines: Sequence[str]) -> None:
    """Replaces the file at once, so that no server reads half of it."""
    text = "".join(f"{line}\n" for line in lines)
    parse_tokens(text.encode(), str(path))
    replace_file(path, text, mode=0o600)


def _name_of(line: str) -> str:
    return (line.split() or [""])[0]


def new_token(path: Path, name: str, not_after: date | None = None) -> str:
    """Makes a token, appends its digest to the file (mode 0600), returns it: the only time.

    Raises:
        ConfigurationError: The name is wrong or taken, or the file is wrong.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name[:80]!r} is no name; take 1 to 64 letters, digits, dots, dashes, underscores"
        )
    with _locked(path.parent):
        lines = _lines(path)
        if name in map(_name_of, lines):
            raise ConfigurationError(
                f"{name} has a token; revoke it first, or take another name for a second one"
            )
        token = TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
        parts = [name, digest_of(token).hex(), *([not_after.isoformat()] if not_after else [])]
        _store(path, [*lines, " ".join(parts)])
    return token


def revoke_token(path: Path, name: str) -> None:
    """Takes a caller out of the file.

    Raises:
        ConfigurationError: There is no such caller, or the file is wrong.
    """
    with _locked(path.parent):
        lines = _lines(path)
        left = [line for line in lines if _name_of(line) != name]
        if len(left) == len(lines) or name.startswith("#"):
            raise ConfigurationError(f"{path} has no {name[:80]}; see `list`")
        _store(path, left)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date such as 2027-06-30") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code, 1 where something is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_serving.tokens",
        description="Bearer tokens for callers of gateway and evaluator.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    preset = file_from_env(os.environ, "SPINEZOO_TOKENS")
    for command, says in (
        ("new", "make a token; it is printed once"),
        ("list", "who has a token"),
        ("revoke", "take a token back"),
    ):
        sub = commands.add_parser(command, help=says)
        if command != "list":
            sub.add_argument("name", help="name of the caller; it stands in the log")
        sub.add_argument(
            "--file",
            type=Path,
            default=preset and preset.path,
            required=not preset,
            help="the file (default: SPINEZOO_TOKENS)",
        )
        if command == "new":
            ends = sub.add_mutually_exclusive_group()
            ends.add_argument("--not-after", type=_day, help="last day, such as 2027-06-30 (UTC)")
            ends.add_argument("--days", type=int, help="last day, counted from today")
    options = parser.parse_args(argv)
    today = datetime.now(UTC).date()
    try:
        if options.command == "new":
            not_after = options.not_after
            if options.days is not None:
                if not 0 <= options.days <= 36500:
                    raise ConfigurationError(f"--days is {options.days}; give 0 to 36500")
                not_after = today + timedelta(days=options.days)
            print(new_token(options.file, options.name, not_after))
            print(
                f"the token of {options.name}: store it now, it is not shown again", file=sys.stderr
            )
        elif options.command == "revoke":
            revoke_token(options.file, options.name)
            print(f"revoked {options.name}", file=sys.stderr)
        else:
            for entry in parse_tokens(PemFile(options.file, "--file").read(), str(options.file)):
                until = f"until {entry.not_after}" if entry.not_after else "for ever"
                print(f"{entry.name:24} {'expired' if entry.expired(today) else until}")
    except ConfigurationError as error:
        print(f"tokens: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"tokens: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
