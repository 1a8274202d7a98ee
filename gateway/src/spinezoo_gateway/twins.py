"""Members that are one network under two names: it has one vote."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from spinezoo.v1 import ensemble_pb2
from spinezoo_contract import codec
from spinezoo_contract.types import MemberCode, MemberStatus

from spinezoo_gateway.members import MemberClient, MemberResult

SAME_NETWORK = (
    "the same network as {} (model name and weights), and one network has one vote; correct the "
    "target, or give one name all addresses"
)
"""Said of a member, with the name of another one."""


def twins(clients: Iterable[MemberClient]) -> dict[str, str]:
    """Names of members that are the same network as one before them, and that one's name."""
    first: dict[tuple[str, str], str] = {}
    found = {}
    for client in clients:
        if client.model is not None:
            key = (client.model.name, client.model.weights_sha256)
            other = first.setdefault(key, client.member.name)
            if other != client.member.name:
                found[client.member.name] = other
    return found


class Votes:
    """Which networks have voted on one film."""

    def __init__(self) -> None:
        """None has."""
        self._voted: dict[tuple[str, str], str] = {}

    def once(self, result: MemberResult) -> MemberResult:
        """A member's result, without its vote where its network has voted already."""
        if result.vote is None:
            return result
        by = result.message.provenance
        other = self._voted.setdefault((by.model_name, by.weights_sha256), result.name)
        if other == result.name:
            return result
        status = replace(
            codec.from_proto(MemberStatus, result.message.status),
            code=MemberCode.INVALID_OUTPUT,
            message=f"its answer does not count: {SAME_NETWORK.format(other)}",
        )
        return MemberResult(ensemble_pb2.MemberAnswer(status=codec.to_proto(status)), None)
