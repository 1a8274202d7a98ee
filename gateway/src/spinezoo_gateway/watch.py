"""Shows who is in the zoo, and waits until a newcomer is taken in or refused.

::

    python -m spinezoo_gateway.watch                                  one line a member
    python -m spinezoo_gateway.watch --member pspnet                  the target that films go to
    python -m spinezoo_gateway.watch --member pspnet --wait-for T     until films go to target T

Asks the gateway at ``--gateway``; by default the one of this process's environment
(``SPINEZOO_GRPC_PORT``), which is what a command inside the gateway's container finds. Where TLS is
on it speaks TLS; where the gateway asks for tokens, ``SPINEZOO_TOKEN`` or ``SPINEZOO_TOKEN_FILE``
holds one. Ends with 0 when it is so, 1 when the newcomer is refused (the reason is the last line of
the errors), 2 when nobody answers or the time is over.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence

from spinezoo_contract.arguments import seconds
from spinezoo_contract.client import DEFAULT_GATEWAY, EnsembleClient
from spinezoo_contract.errors import AccessError, ConfigurationError, SpineZooError
from spinezoo_contract.output import end_with_reader
from spinezoo_contract.tls import client_settings
from spinezoo_contract.types import NewcomerState, Roster, RosterMember
from spinezoo_serving.health import own_server

POLL_S = 0.5
CALL_TIMEOUT_S = 15.0


def _find(roster: Roster, name: str) -> RosterMember | None:
    return next((one for one in roster.members if one.member_name == name), None)


def _show(roster: Roster) -> None:
    for one in roster.members:
        model = one.model
        what = "" if model is None else f"{model.name} {model.version} {model.weights_sha256[:12]}"
        line = f"{one.member_name:<12} {one.status.code.name.lower():<18} {one.target:<28} {what}"
        sys.stdout.write(
            line.rstrip() + (f"  {one.status.message}\n" if one.status.message else "\n")
        )


def verdict(member: RosterMember | None, target: str) -> tuple[bool, str]:
    """Whether films go to a target now, and why it was refused if it was.

    Args:
        member: What the gateway says of the member; None: it knows none of that name.
        target: The target that the roster file names for it.

    Returns:
        Taken, and the refusal (empty: none, or not yet).
    """
    if member is None:
        return False, ""
    newcomer = member.newcomer
    if newcomer is None:
        return member.target == target, ""
    refused = newcomer.target == target and newcomer.state is NewcomerState.REFUSED
    return False, newcomer.reason if refused else ""


def wait_for(client: EnsembleClient, name: str, target: str, limit_s: float) -> int:
    """Waits until films go to a target; returns the exit code."""
    end = time.monotonic() + limit_s
    said = "it has not been asked"
    while True:
        try:
            member = _find(client.list_models(timeout_s=CALL_TIMEOUT_S), name)
        except AccessError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        except SpineZooError as error:
            said = str(error)
        else:
            taken, refusal = verdict(member, target)
            if taken:
                return 0
            if refusal:
                sys.stderr.write(f"{refusal}\n")
                return 1
            said = "it knows no such member"
            if member is not None:
                said = f"films go to {member.target}; {member.status.message or 'nothing new'}"
        if time.monotonic() >= end:
            sys.stderr.write(
                f"{name} did not go over to {target} within {limit_s:g} s; the gateway says: "
                f"{said}. Does it follow this roster file, and does no SPINEZOO_ROSTER_"
                f"{name.upper()} override it?\n"
            )
            return 2
        time.sleep(POLL_S)


def open_client(gateway: str | None, environment: Mapping[str, str]) -> EnsembleClient:
    """A client of a gateway, or of the one whose environment this is.

    Args:
        gateway: Its ``host:port``; None takes the one of the environment.
        environment: Port, TLS and token.

    Raises:
        ConfigurationError: A setting is wrong.
    """
    access = client_settings(environment)
    if gateway is not None:
        return EnsembleClient(gateway, **access)
    port = environment.get("SPINEZOO_GRPC_PORT") or DEFAULT_GATEWAY.rpartition(":")[2]
    with_port = {**environment, "SPINEZOO_GRPC_PORT": port}
    # Its certificate need not hold the loopback address.
    gateway, security, server_name = own_server(with_port)
    return EnsembleClient(gateway, **{**access, "security": security}, server_name=server_name)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m spinezoo_gateway.watch", description=__doc__)
    parser.add_argument("--gateway", help="host:port of the gateway (default: the own container's)")
    parser.add_argument("--member", help="name of one member")
    parser.add_argument("--wait-for", metavar="TARGET", help="until films go to this target")
    parser.add_argument("--limit-s", type=seconds, default=150.0, help="time to wait, in s")
    options = parser.parse_args(argv)
    if options.wait_for and not options.member:
        parser.error("--wait-for needs --member")
    try:
        client = open_client(options.gateway, os.environ)
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    with client:
        if options.wait_for:
            return wait_for(client, options.member, options.wait_for, options.limit_s)
        try:
            roster = client.list_models(timeout_s=CALL_TIMEOUT_S)
        except SpineZooError as error:
            sys.stderr.write(f"{error}\n")
            return 2
    if not options.member:
        _show(roster)
        return 0
    member = _find(roster, options.member)
    if member is None:
        names = ", ".join(one.member_name for one in roster.members)
        sys.stderr.write(f"the gateway knows no member {options.member}; it has {names}\n")
        return 2
    sys.stdout.write(f"{member.target}\n")
    return 0


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
