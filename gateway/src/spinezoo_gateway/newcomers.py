"""Puts a newcomer through the quick part of the conformance suite before it gets a film.

In a process of its own: the suite's films and calls must not take the event loop's time from films
under way, and a newcomer that hangs is ended by killing that process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Mapping, Sequence

CALL_TIMEOUT_S = 30.0
"""Time each call of the check has, in s."""

_GRACE_S = 60.0
"""Beyond its own time limit, for its start and end, what the checking process gets until it is
killed, in s."""

_MESSAGE_CHARACTERS = 400


class NewcomerRefusedError(Exception):
    """The newcomer is not taken in; the message says why, and names the rule it breaks."""


async def check_newcomer(
    targets: Sequence[str],
    *,
    limit_s: float,
    environment: Mapping[str, str],
    server_name: str | None = None,
) -> None:
    """Checks every replica of a newcomer, one after the other.

    Args:
        targets: gRPC target of each replica.
        limit_s: Time for all of them, the time until they serve included, in s.
        environment: Of the checking process.
        server_name: The host that the roster names, where the targets are its addresses.

    Raises:
        NewcomerRefusedError: One of them does not conform, does not serve or takes too long.
    """
    end = time.monotonic() + limit_s
    for target in targets:
        left_s = end - time.monotonic()
        if left_s <= 0.0:
            raise _too_slow(limit_s)
        await _check_one(target, left_s, environment, server_name)


def _too_slow(limit_s: float) -> NewcomerRefusedError:
    return NewcomerRefusedError(
        f"the check took longer than {limit_s:.0f} s; see the newcomer's log, or raise "
        "SPINEZOO_NEWCOMER_S"
    )


async def _check_one(
    target: str, limit_s: float, environment: Mapping[str, str], server_name: str | None
) -> None:
    command = [
        sys.executable, "-m", "spinezoo_conformance", target, "--quick", "--json",
        "--timeout-s", f"{CALL_TIMEOUT_S:g}",
        "--wait-s", f"{limit_s:.1f}", "--limit-s", f"{limit_s:.1f}",
    ]  # fmt: skip
    if server_name is not None:
        command += ["--server-name", server_name]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(environment),
    )
    try:
        async with asyncio.timeout(limit_s + _GRACE_S):
            output, errors = await process.communicate()
    except TimeoutError:
        raise _too_slow(limit_s) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode == 0:
        return
    raise NewcomerRefusedError(_reason(output, errors, process.returncode))


def _reason(output: bytes, errors: bytes, code: int | None) -> str:
    """Why a newcomer is refused, in one line."""
    try:
        rules = json.loads(output)["rules"]
        broken = next(rule for rule in rules if rule["outcome"] == "fail")
        text = f"rule {broken['rule_id']} ({broken['statement']}) {broken['message']}"
    except (ValueError, KeyError, StopIteration):
        # Nothing answered, or the suite itself failed: its last line says which.
        lines = errors.decode("utf-8", "replace").strip().splitlines()
        text = lines[-1] if lines else f"the check ended with code {code}"
    return " ".join(text.split())[:_MESSAGE_CHARACTERS]
