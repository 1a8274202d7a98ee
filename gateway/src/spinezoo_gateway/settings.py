"""The gateway's own settings, from the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import field_validator
from spinezoo_serving.variables import EnvironmentSettings, Flag, Variable, setting

MAX_DEADLINE_MS = 3_600_000
"""Longest member deadline that a setting or a request may ask for: one hour."""

ROSTER_POLL_S = 1.0
"""Seconds between two looks at the roster file, and at the addresses of members that are known by
name."""


def _own_roster() -> Path:
    """The roster of the checkout, from ``gateway/`` (as `make up` starts it) or from its root."""
    path = Path("roster.yaml")
    return (path if path.exists() else Path("gateway/roster.yaml")).absolute()


class GatewaySettings(EnvironmentSettings):
    """Gateway: what it does when a request says nothing else."""

    families = (
        Variable(
            "SPINEZOO_ROSTER_<NAME>",
            "",
            "host:port, or empty",
            "adds or moves a member of the roster; empty takes it out",
        ),
    )

    roster: Path = setting(_own_roster, "who is in the zoo", shown_default="gateway/roster.yaml")
    quorum: int = setting(
        3, "members that must answer; at most as many as are asked", minimum=1, maximum=1000
    )
    member_deadline_ms: int = setting(
        60_000, "time each member has", minimum=1, maximum=MAX_DEADLINE_MS, unit="ms"
    )
    member_timeouts: int = setting(
        2,
        "time-outs in a row after which films no longer wait for a member; 0: never",
        maximum=1000,
    )
    member_retry_ms: int = setting(
        1000,
        "least time between two films that go to such a member beside the others",
        minimum=1,
        maximum=MAX_DEADLINE_MS,
        unit="ms",
    )
    gateway_concurrency: int = setting(
        16, "films under way at the same time", minimum=1, maximum=10_000
    )
    check_newcomers: Flag = setting(
        True, "1: a member that joins or moves while the gateway runs is checked first"
    )
    newcomer_s: float = setting(
        120.0,
        "time such a member has to come to serve and to pass",
        minimum=1.0,
        maximum=3600.0,
        unit="s",
    )

    @field_validator("roster")
    @classmethod
    def _is_absolute(cls, roster: Path) -> Path:
        return roster.absolute()
