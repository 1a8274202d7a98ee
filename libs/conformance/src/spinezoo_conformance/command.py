"""The command ``python -m spinezoo_conformance host:port``."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from spinezoo_contract.arguments import seconds, seconds_above_0
from spinezoo_contract.errors import ConfigurationError, NotServingError

from spinezoo_conformance.check import check
from spinezoo_conformance.verdict import Outcome, RuleResult


def main(argv: list[str] | None = None) -> int:
    """Command line; returns 0 when all rules hold, 1 when one fails, 2 when nothing answers."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_conformance",
        description="Judge a network's container by the rules of the contract.",
    )
    parser.add_argument("target", help="gRPC address, such as 127.0.0.1:50051")
    parser.add_argument("--quick", action="store_true", help="leave out the slow rules")
    parser.add_argument("--json", action="store_true", help="write the results as JSON")
    parser.add_argument(
        "--timeout-s", type=seconds_above_0, default=120.0, help="seconds a call has"
    )
    parser.add_argument("--wait-s", type=seconds, help="seconds to wait until it serves")
    parser.add_argument("--limit-s", type=seconds, help="seconds for everything together")
    parser.add_argument("--server-name", help="name in its certificate, if the target is none")
    options = parser.parse_args(argv)

    def show(result: RuleResult) -> None:
        if not options.json:
            sys.stdout.write(_line(result) + "\n")
            sys.stdout.flush()

    try:
        results = check(
            options.target,
            quick=options.quick,
            timeout_s=options.timeout_s,
            wait_s=options.wait_s,
            limit_s=options.limit_s,
            server_name=options.server_name,
            on_result=show,
        )
    except (NotServingError, ConfigurationError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    failed = [result.rule_id for result in results if result.failed]
    if options.json:
        document = {
            "target": options.target,
            "conforms": not failed,
            "failed": failed,
            "rules": [asdict(result) for result in results],
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        held = sum(result.outcome is Outcome.PASS for result in results)
        skipped = len(results) - held - len(failed)
        verdict = f"breaks {', '.join(failed)}" if failed else "conforms"
        sys.stdout.write(
            f"{options.target} {verdict}: {held} rules hold, {len(failed)} broken, "
            f"{skipped} not judged\n"
        )
    return 1 if failed else 0


def _line(result: RuleResult) -> str:
    text = f"{result.rule_id}  {result.outcome:4}  {result.elapsed_ms:8.0f} ms  {result.statement}"
    return f"{text}\n{'':23}{result.message}" if result.message else text
