"""How long films wait for a member that does not answer: outlier ejection.

A member that hangs would cost every film its whole deadline. After some time-outs in a row it is
*set aside*: films are answered at once without it, and say so. From time to time a film goes to it
beside the others, without being waited for (a *trial*); it is taken back as soon as it answers, or
fails in a way that costs no time.

A time-out counts only where the member had a fair time: its own deadline, or several times what it
usually takes, whichever is less. A caller in a hurry sets nobody aside for the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

log = logging.getLogger("spinezoo.gateway")

FAIR_S = 5.0
"""Least time that counts as a fair one, in s, unless the member's own deadline is shorter."""

FAIR_USUAL = 10.0
"""How many times a member's usual latency is a fair time."""

USUAL_SHARE = 0.2
"""Weight of a new latency in the usual one."""


class GivenUpError(Exception):
    """The member was set aside while a film waited for it."""


@dataclass(frozen=True, slots=True)
class PatienceSettings:
    """When a member is set aside.

    Attributes:
        timeouts: Time-outs in a row; 0: never.
        retry_s: Least time between two trials, in s.
        deadline_s: Time that members have where neither roster nor request say otherwise, in s.
    """

    timeouts: int = 2
    retry_s: float = 1.0
    deadline_s: float = 60.0


class Patience:
    """The patience of all films with one member. Belongs to one event loop.

    Attributes:
        usual_ms: The member's usual latency, a running mean, in ms; 0 until it has answered.
        set_aside: Why films do not wait for it; empty while they do.
    """

    def __init__(self, name: str, settings: PatienceSettings) -> None:
        """Films wait, to begin with.

        Args:
            name: The member's, for the log.
            settings: When it is set aside.
        """
        self.usual_ms = 0.0
        self.set_aside = ""
        self._name = name
        self._settings = settings
        self._late = 0
        self._trying = False
        self._retry_at = 0.0
        self._waiting: set[asyncio.Timeout] = set()

    @contextlib.asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Waits for the member's answer, until it is set aside meanwhile.

        Raises:
            GivenUpError: It has been set aside.
        """
        try:
            async with asyncio.timeout(None) as scope:
                self._waiting.add(scope)
                try:
                    yield
                finally:
                    self._waiting.discard(scope)
        except TimeoutError:
            raise GivenUpError(self.set_aside) from None

    def fair_s(self, deadline_ms: int | None) -> float:
        """A time in which the member should have answered, in s.

        Args:
            deadline_ms: Its own deadline in the roster, in ms, if it has one.
        """
        own_s = self._settings.deadline_s if deadline_ms is None else deadline_ms / 1000.0
        if not self.usual_ms:
            return own_s
        return min(own_s, max(FAIR_S, FAIR_USUAL * self.usual_ms / 1000.0))

    def answered(self, latency_ms: float | None) -> None:
        """Notes an answer, or a failure that came by itself: the member does not hang.

        Args:
            latency_ms: What an answer took, in ms; None for a failure.
        """
        if latency_ms is not None:
            self.usual_ms += USUAL_SHARE * (latency_ms - self.usual_ms)
        self._late = 0
        if self.set_aside:
            self.set_aside = ""
            log.info("member taken back", extra={"fields": {"member": self._name}})

    def timed_out(self, waited_s: float, deadline_ms: int | None) -> None:
        """Notes a film that the member did not answer in its time.

        Args:
            waited_s: How long the film waited, in s.
            deadline_ms: The member's own deadline in the roster, in ms, if it has one.
        """
        # A timer may end a moment before its time.
        if not self._settings.timeouts or waited_s < 0.99 * self.fair_s(deadline_ms):
            return
        self._late += 1
        if self.set_aside or self._late < self._settings.timeouts:
            return
        self.set_aside = (
            f"set aside after {self._late} time-outs in a row, the last after {waited_s:.1f} s; it "
            "is asked again beside other films and taken back when it answers; look at its log"
        )
        self._retry_at = time.monotonic() + self._settings.retry_s
        log.warning(
            "member set aside: %d time-outs in a row",
            self._late,
            extra={"fields": {"member": self._name, "waited_s": round(waited_s, 1)}},
        )
        now = asyncio.get_running_loop().time()
        for scope in self._waiting:
            scope.reschedule(now)

    def forget(self) -> None:
        """Begins anew, as with a member that has moved."""
        self._late = 0
        self.set_aside = ""

    @property
    def trial_due(self) -> bool:
        """Whether the next film goes to the member too, though it is set aside."""
        return bool(self.set_aside) and not self._trying and time.monotonic() >= self._retry_at

    @contextlib.contextmanager
    def trial(self) -> Iterator[None]:
        """Asks a member that is set aside; one film at a time does."""
        self._trying = True
        try:
            yield
        finally:
            self._trying = False
            self._retry_at = time.monotonic() + self._settings.retry_s
