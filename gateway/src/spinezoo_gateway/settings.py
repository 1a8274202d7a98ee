"""The gateway's own settings, from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spinezoo_serving.settings import integer_setting, number_setting

MAX_DEADLINE_MS = 3_600_000
"""Longest member deadline that a setting or a request may ask for: one hour."""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What the gateway does when a request says nothing else.

    Attributes:
        roster: The roster file (``SPINEZOO_ROSTER``).
        quorum: Members that must answer (``SPINEZOO_QUORUM``); capped at the members asked.
        member_deadline_ms: Time each member has (``SPINEZOO_MEMBER_DEADLINE_MS``).
        concurrency: Films under way at the same time (``SPINEZOO_GATEWAY_CONCURRENCY``).
        roster_poll_s: Seconds between two looks at the roster file, and at the addresses of
            members that are known by name.
        check_newcomers: Whether a member that joins or moves while the gateway runs must pass the
            quick part of the conformance suite first (``SPINEZOO_CHECK_NEWCOMERS``, 1 or 0).
        newcomer_seconds: Time a newcomer has to come to serve and to pass, in s
            (``SPINEZOO_NEWCOMER_SECONDS``).
    """

    roster: Path
    quorum: int = 3
    member_deadline_ms: int = 60_000
    concurrency: int = 16
    roster_poll_s: float = 1.0
    check_newcomers: bool = True
    newcomer_seconds: float = 120.0

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> GatewaySettings:
        """Reads and checks the variables.

        Raises:
            ConfigurationError: A value is out of its range.
        """
        given = environment.get("SPINEZOO_ROSTER")
        if given:
            roster = Path(given)
        else:
            # Started in gateway/ (as make up and the container do) or at the repository root.
            roster = Path("roster.yaml")
            if not roster.exists():
                roster = Path("gateway/roster.yaml")
        return cls(
            roster=roster.absolute(),
            quorum=integer_setting(environment, "SPINEZOO_QUORUM", 3, 1, 1000),
            member_deadline_ms=integer_setting(
                environment, "SPINEZOO_MEMBER_DEADLINE_MS", 60_000, 1, MAX_DEADLINE_MS
            ),
            concurrency=integer_setting(environment, "SPINEZOO_GATEWAY_CONCURRENCY", 16, 1, 10_000),
            check_newcomers=bool(integer_setting(environment, "SPINEZOO_CHECK_NEWCOMERS", 1, 0, 1)),
            newcomer_seconds=number_setting(
                environment, "SPINEZOO_NEWCOMER_SECONDS", 120.0, 1.0, 3600.0
            ),
        )
