"""What becomes of a rule, and the two ways in which judging it ends early."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a rule went."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What became of one rule.

    Attributes:
        rule_id: Such as ``"C05"``.
        statement: The rule in one sentence.
        outcome: Pass, fail, or skip (left out, or could not be judged).
        message: What was wrong; for a skip why; for a pass what it was judged on, or empty.
        elapsed_ms: Time it took, in ms.
    """

    rule_id: str
    statement: str
    outcome: Outcome
    message: str
    elapsed_ms: float

    @property
    def failed(self) -> bool:
        """Whether the container breaks the rule."""
        return self.outcome is Outcome.FAIL


class RuleBrokenError(Exception):
    """The container breaks the rule under judgement."""


class RuleBlockedError(Exception):
    """The rule cannot be judged, because one before it is broken."""


def expect(condition: bool, message: str) -> None:
    """Goes on where the condition holds.

    Raises:
        RuleBrokenError: It does not; the message says what the container did.
    """
    if not condition:
        raise RuleBrokenError(message)
