"""One rule of the suite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spinezoo_conformance.session import Session


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its id, its sentence, and the function that judges it.

    Attributes:
        rule_id: Such as ``"C05"``; never given to another rule.
        statement: What a container does.
        judge: Returns a remark for a pass; raises for a failure.
        slow: Left out of the quick part.
    """

    rule_id: str
    statement: str
    judge: Callable[[Session], str | None]
    slow: bool = False
