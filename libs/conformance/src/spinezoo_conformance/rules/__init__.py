"""The rules that a container keeps, by subject, and all of them in their order."""

from __future__ import annotations

from spinezoo_conformance.rule import Rule
from spinezoo_conformance.rules.calls import CALL_RULES
from spinezoo_conformance.rules.films import FILM_RULES
from spinezoo_conformance.rules.health import HEALTH_RULES
from spinezoo_conformance.rules.model import MODEL_RULES
from spinezoo_conformance.rules.outlines import OUTLINE_RULES

RULES: tuple[Rule, ...] = tuple(
    sorted(
        (*CALL_RULES, *FILM_RULES, *HEALTH_RULES, *MODEL_RULES, *OUTLINE_RULES),
        key=lambda rule: rule.rule_id,
    )
)
"""All rules, in the order in which they are judged."""


def rules_table() -> str:
    """The rules as a Markdown table, for the README."""
    lines = ["| rule | a container keeps it when |", "|---|---|"]
    for rule in RULES:
        slow = " (slow)" if rule.slow else ""
        lines.append(f"| {rule.rule_id} | {rule.statement}{slow} |")
    return "\n".join(lines)
