"""Judging: one rule, or all of them against the container at an address."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import grpc

from spinezoo_conformance.rule import Rule
from spinezoo_conformance.rules import RULES
from spinezoo_conformance.session import Session, told
from spinezoo_conformance.verdict import (
    Outcome,
    RuleBlockedError,
    RuleBrokenError,
    RuleResult,
)


def judge(session: Session, rule: Rule) -> RuleResult:
    """Judges one rule."""
    started = time.perf_counter()
    outcome, message = Outcome.PASS, ""
    try:
        message = rule.judge(session) or ""
    except RuleBrokenError as error:
        outcome, message = Outcome.FAIL, str(error)
    except RuleBlockedError as error:
        outcome, message = Outcome.SKIP, f"not judged: {error}"
    except grpc.RpcError as error:
        outcome, message = Outcome.FAIL, f"the call fails with {told(error)}"
    elapsed_ms = (time.perf_counter() - started) * 1e3
    return RuleResult(rule.rule_id, rule.statement, outcome, message, elapsed_ms)


def check(
    target: str,
    *,
    quick: bool = False,
    timeout_s: float = 120.0,
    wait_s: float | None = None,
    limit_s: float | None = None,
    server_name: str | None = None,
    on_result: Callable[[RuleResult], None] | None = None,
) -> list[RuleResult]:
    """Judges all rules against the container at an address.

    When the container dies, the rules after the one that it died of are skipped. So are the rules
    after the one during which the time limit passed; that one has failed.

    Args:
        target: gRPC target, such as ``127.0.0.1:50051``.
        quick: Leave out the slow rules.
        timeout_s: Time each call has, in s.
        wait_s: How long to wait, in s, until its health says SERVING (it may be loading); None
            waits only until it takes connections.
        limit_s: Time for everything together, the waiting included, in s; None: no limit.
        server_name: Name of the container where the target is its address; see
            :func:`open_channel`.
        on_result: Called with each result as it comes, for progress.

    Returns:
        One result a rule, in order. The container conforms when none has failed.

    Raises:
        NotServingError: Nothing takes connections at the address, or it does not come to serve.
    """
    results: list[RuleResult] = []
    ended = ""
    with Session(target, timeout_s=timeout_s, limit_s=limit_s, server_name=server_name) as session:
        if wait_s is None:
            session.connect()
        else:
            session.wait_until_serving(wait_s if limit_s is None else min(wait_s, limit_s))
        for rule in RULES:
            if ended:
                reason = f"not judged: {ended}"
                result = RuleResult(rule.rule_id, rule.statement, Outcome.SKIP, reason, 0.0)
            elif quick and rule.slow:
                reason = "left out by quick"
                result = RuleResult(rule.rule_id, rule.statement, Outcome.SKIP, reason, 0.0)
            else:
                result = judge(session, rule)
                if session.over:
                    message = f"the time limit of {limit_s:g} s passed during this rule"
                    result = replace(result, outcome=Outcome.FAIL, message=message)
                    ended = f"the time limit passed during {rule.rule_id}"
                elif result.failed and not session.alive():
                    ended = f"the container stopped answering during {rule.rule_id}"
            results.append(result)
            if on_result is not None:
                on_result(result)
    return results
