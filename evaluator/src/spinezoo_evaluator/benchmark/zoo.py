"""What the commands need of the zoo: that it answers, and which networks it has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from spinezoo_contract.client import AsyncEnsembleClient
from spinezoo_contract.errors import (
    AccessError,
    ConfigurationError,
    DeadlineError,
    NotServingError,
    OptionError,
    SpineZooError,
)
from spinezoo_contract.tls import ClientSecurity
from spinezoo_contract.types import Roster

from spinezoo_evaluator.results.records import FUSED

MOST_LATE = 2
"""Calls in a row that a service does not answer in time: one may be a film's fault."""


class Patience:
    """Tells a service that hangs from one that is late once.

    Args:
        service: What it is called.
        timeout_s: Time that each call has, in s.
    """

    def __init__(self, service: str, timeout_s: float) -> None:
        self._service = service
        self.timeout_s = timeout_s
        self._late = 0

    def heard(self, error: SpineZooError | None) -> None:
        """Takes what a call ended with; None: an answer."""
        self._late = self._late + 1 if isinstance(error, DeadlineError) else 0

    @property
    def is_over(self) -> bool:
        """Whether to ask no more."""
        return self._late >= MOST_LATE

    def check(self) -> None:
        """Ends a run whose service hangs.

        Raises:
            DeadlineError: It is over.
        """
        if self.is_over:
            raise DeadlineError(
                f"the {self._service} answered none of {self._late} calls in a row within "
                f"{self.timeout_s:g} s; look at its log and start the zoo again"
            )


async def wait_for_gateway(ensemble: AsyncEnsembleClient, wait_s: float) -> Roster:
    """Waits until the gateway answers; gives its roster.

    Raises:
        NotServingError: It did not in time.
        AccessError: It asks for a token, and there is none or not the right one.
    """
    end = time.monotonic() + wait_s
    while True:
        try:
            return await ensemble.list_models(timeout_s=10.0)
        except AccessError as error:
            raise AccessError(
                f"the gateway at {ensemble.target} lets nobody in without a token ({error}); set "
                "SPINEZOO_TOKEN_FILE"
            ) from error
        except SpineZooError as error:
            if time.monotonic() >= end:
                raise NotServingError(
                    f"the gateway at {ensemble.target} does not answer ({error}); start the zoo "
                    "with `make up`, or give --gateway"
                ) from error
            await asyncio.sleep(0.5)


async def wait_for_evaluator(target: str, wait_s: float, security: ClientSecurity) -> None:
    """Waits until the evaluator says that it serves.

    Raises:
        NotServingError: It did not in time.
    """
    end = time.monotonic() + wait_s
    async with security.aio_channel(target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while True:
            try:
                answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=5.0)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
                problem = "it is not serving"
            except grpc.aio.AioRpcError as error:
                problem = error.code().name
            if time.monotonic() >= end:
                raise NotServingError(
                    f"the evaluator at {target} does not answer ({problem}); start the zoo "
                    "with `make up`, or give --evaluator"
                )
            await asyncio.sleep(0.5)


def asked_networks(roster: Roster, wanted: Sequence[str]) -> list[str]:
    """The networks that a run asks: the wanted ones, or all of the roster.

    Raises:
        OptionError: One is not in the roster.
        ConfigurationError: The roster is empty, or a member has the fused ensemble's name.
    """
    known = [member.member_name for member in roster.members]
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise OptionError(
            f"no network {', '.join(unknown)} in the roster; there are: {', '.join(known)}"
        )
    if not known:
        raise ConfigurationError("the gateway's roster is empty; start the networks first")
    if FUSED in known:
        raise ConfigurationError(f"a member is called {FUSED!r}; give it another name")
    return sorted(wanted) if wanted else known
