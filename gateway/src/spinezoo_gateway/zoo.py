"""The members as they are now: one client each, following the roster file and their addresses.

A member that joins or moves while the gateway runs is a *newcomer* until it has passed the quick
part of the conformance suite; the member it would replace serves meanwhile, and stays where the
newcomer is refused. What the roster says at the start is taken as it is: the members may still be
loading, and a gateway that waited for all of them would not start while one is down.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spinezoo_contract.errors import (
    ConfigurationError,
    NotServingError,
    OptionError,
    SpineZooError,
)
from spinezoo_contract.tls import ClientSecurity
from spinezoo_contract.types import (
    MemberCode,
    MemberStatus,
    NewcomerState,
    NewcomerStatus,
    RosterMember,
)
from spinezoo_serving.security import RETRY_SECONDS

from spinezoo_gateway.addresses import HostResolver, Resolve, addresses_target, named_host
from spinezoo_gateway.members import MemberClient
from spinezoo_gateway.newcomers import NewcomerRefusedError, check_newcomer
from spinezoo_gateway.patience import PatienceSettings
from spinezoo_gateway.roster import Member, Roster, load_roster
from spinezoo_gateway.settings import MAX_DEADLINE_MS, ROSTER_POLL_S, GatewaySettings
from spinezoo_gateway.twins import SAME_NETWORK, twins

FIRST_LOOKUP_S = 2.0
"""At the start, the time that names have to be looked up before the gateway serves, in s."""

CHECKS_AT_ONCE = 2
"""Newcomers that are checked at the same time; the others wait."""

log = logging.getLogger("spinezoo.gateway")


@dataclass(slots=True)
class Newcomer:
    """A member that the roster names and that has not been taken in.

    Attributes:
        member: Its entry in the roster.
        refusal: Why it was refused; empty while it is being checked.
        task: The check.
    """

    member: Member
    refusal: str = ""
    task: asyncio.Task[None] | None = None

    @property
    def news(self) -> str:
        """What a person reads of it."""
        where = f"newcomer at {self.member.target}"
        return f"{where} refused: {self.refusal}" if self.refusal else f"{where} is being checked"

    @property
    def status(self) -> NewcomerStatus:
        """What a program reads of it, such as the one that swaps members."""
        state = NewcomerState.REFUSED if self.refusal else NewcomerState.CHECKING
        return NewcomerStatus(self.member.target, state, self.refusal)


class Zoo:
    """All members of the roster. Belongs to one event loop.

    Attributes:
        roster: As it was read last; newcomers in it may still be checked.
        resolve: Looks names up; the system's way unless it is replaced before the start.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        environment: Mapping[str, str],
        max_message_bytes: int,
    ) -> None:
        """Reads the roster; opens nothing.

        Args:
            settings: The gateway's settings.
            environment: Variables; members in them win over the file.
            max_message_bytes: gRPC message limit.

        Raises:
            ConfigurationError: The roster is wrong, or a certificate; the message names the line
                or the variable.
        """
        self._settings = settings
        self._environment = dict(environment)
        self._max_message_bytes = max_message_bytes
        self._security = ClientSecurity.from_env(self._environment)
        self._certificates = self._security.stamp()
        self._renew_at = math.inf
        self._resolver = HostResolver()
        self.resolve: Resolve = self._resolver
        self.roster: Roster = load_roster(settings.roster, self._environment)
        self._clients: dict[str, MemberClient] = {}
        self._newcomers: dict[str, Newcomer] = {}
        self._checks = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._started = False
        self._refused: str | None = None
        self._seen: bytes | None = None
        self._doubted: bytes | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self._twins: dict[str, str] = {}

    @property
    def clients(self) -> tuple[MemberClient, ...]:
        """One client a member, sorted by name."""
        return tuple(self._clients[name] for name in sorted(self._clients))

    @property
    def waiting(self) -> tuple[str, ...]:
        """Names of the newcomers that have not been taken in, refused ones among them; sorted."""
        return tuple(sorted(self._newcomers))

    def select(self, names: Sequence[str]) -> tuple[MemberClient, ...]:
        """The named members, sorted by name; no names selects all.

        Raises:
            NotServingError: The members of the roster have not been joined yet.
            OptionError: A name is not in the roster.
        """
        self._need_members()
        if not names:
            return self.clients
        unknown = sorted(set(names) - set(self._clients))
        if unknown:
            raise OptionError(
                f"no member is called {', '.join(map(repr, unknown))}; "
                f"the roster has {', '.join(sorted(self._clients))}"
            )
        return tuple(self._clients[name] for name in sorted(names))

    def _need_members(self) -> None:
        # The port is open a moment before the members are joined: no zoo is empty.
        if not self._started:
            raise NotServingError("the gateway is starting; try again in a moment")

    async def start(self) -> None:
        """Opens the channels and begins to follow the roster file and the members' names."""
        for member in self.roster.members:
            self._join(member)
        self._started = True
        lookups = [asyncio.create_task(self._look_up(client)) for client in self.clients]
        for task in lookups:
            self._keep(task)
        if lookups:
            await asyncio.wait(lookups, timeout=FIRST_LOOKUP_S)
        self._keep(asyncio.create_task(self._follow(), name="roster"))

    async def stop(self) -> None:
        """Closes everything."""
        for task in tuple(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await asyncio.gather(*(client.close() for client in self._clients.values()))
        self._clients.clear()
        self._resolver.close()

    async def statuses(self) -> list[RosterMember]:
        """Asks every member whether it is serving now; sorted by name, newcomers among them.

        Raises:
            NotServingError: The members of the roster have not been joined yet.
        """
        self._need_members()
        clients = self.clients
        probed = await asyncio.gather(*(each.probe() for each in clients))
        same = twins(clients)
        states = []
        for client, status in zip(clients, probed, strict=True):
            if client.member.name in same:
                text = SAME_NETWORK.format(same[client.member.name])
                parts = (status.message, f"it is {text}")
                status = replace(status, message="; ".join(filter(None, parts)))
            newcomer = self._newcomers.get(client.member.name)
            news = None
            if newcomer is not None:
                text = "; ".join(part for part in (status.message, newcomer.news) if part)
                status, news = replace(status, message=text), newcomer.status
            member = client.member
            states.append(RosterMember(member.name, member.target, status, client.model, news))
        shown = {state.member_name for state in states}
        for name, newcomer in self._newcomers.items():
            if name not in shown:
                status = MemberStatus(name, MemberCode.UNAVAILABLE, 0.0, newcomer.news)
                target = newcomer.member.target
                states.append(RosterMember(name, target, status, None, newcomer.status))
        return sorted(states, key=lambda state: state.member_name)

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # ------------------------------------------------------------------ who is in the zoo

    def _client(self, member: Member) -> MemberClient:
        settings = self._settings
        patience = PatienceSettings(
            settings.member_timeouts,
            settings.member_retry_ms / 1000.0,
            settings.member_deadline_ms / 1000.0,
        )
        return MemberClient(member, self._max_message_bytes, self._security, patience)

    def _join(self, member: Member) -> MemberClient:
        client = self._clients[member.name] = self._client(member)
        log.info(
            "member joined", extra={"fields": {"member": member.name, "target": member.target}}
        )
        return client

    def _take(self, roster: Roster) -> None:
        """Makes the members those of the roster; those that leave finish their films first."""
        wanted = {member.name: member for member in roster.members}
        for name, newcomer in list(self._newcomers.items()):
            if name not in wanted or wanted[name].target != newcomer.member.target:
                if newcomer.task is not None:
                    newcomer.task.cancel()
                del self._newcomers[name]
        for name in [each for each in self._clients if each not in wanted]:
            client = self._clients.pop(name)
            # Calls under way have at most this long.
            self._keep(asyncio.create_task(client.retire(MAX_DEADLINE_MS / 1000.0)))
            log.info("member left", extra={"fields": {"member": name}})
        for name, member in wanted.items():
            current = self._clients.get(name)
            if current is not None:
                # Weight or deadline may have changed; they need no check.
                current.member = replace(member, target=current.member.target)
                if current.member.target == member.target:
                    continue
            if name in self._newcomers:
                self._newcomers[name].member = member
                continue
            newcomer = self._newcomers[name] = Newcomer(member)
            newcomer.task = asyncio.create_task(self._welcome(newcomer))
            self._keep(newcomer.task)
        self.roster = roster

    async def _welcome(self, newcomer: Newcomer) -> None:
        """Checks a newcomer and takes it in, or refuses it."""
        name, target = newcomer.member.name, newcomer.member.target
        fields = {"member": name, "target": target}
        addresses: tuple[str, ...] = ()
        try:
            if self._settings.check_newcomers:
                async with self._checks:
                    log.info("newcomer is checked", extra={"fields": fields})
                    addresses = await self._check(newcomer.member)
            elif named_host(target) is not None:
                with contextlib.suppress(OSError):
                    addresses = await self._addresses(target)
            client = self._clients.get(name)
            if client is None:
                client = self._join(newcomer.member)
                await client.use(target, addresses)
            else:
                await client.move(newcomer.member, addresses)
                log.info("member moved", extra={"fields": fields})
        except (NewcomerRefusedError, ConfigurationError, OSError) as error:
            # An OSError: the checking process could not be started.
            newcomer.refusal = str(error)
            log.error(
                "newcomer refused, %s: %s",
                "the old one stays" if name in self._clients else "the member is left out",
                error,
                extra={"fields": fields},
            )
            return
        client.member = newcomer.member  # its weight may have been edited meanwhile
        if self._newcomers.get(name) is newcomer:
            del self._newcomers[name]

    async def _check(self, member: Member) -> tuple[str, ...]:
        """Checks what is behind a member's target; returns the addresses of its name, if any.

        Raises:
            NewcomerRefusedError: It is not fit to be a member.
        """
        target, limit_s = member.target, self._settings.newcomer_s
        end = asyncio.get_running_loop().time() + limit_s
        addresses: tuple[str, ...] = ()
        targets, server_name = [target], None
        named = named_host(target)
        if named is not None:
            server_name = named[0]
            while not addresses:
                try:
                    addresses = await self._addresses(target)
                except OSError as error:
                    # A container that is just starting gets its name a little later.
                    if asyncio.get_running_loop().time() >= end:
                        raise NewcomerRefusedError(
                            f"{server_name} has no address ({error}); start it, or correct the name"
                        ) from None
                    await asyncio.sleep(ROSTER_POLL_S)
            targets = [addresses_target([one], named[1]) for one in addresses]
        await check_newcomer(
            targets,
            limit_s=max(1.0, end - asyncio.get_running_loop().time()),
            environment={**os.environ, **self._environment},
            server_name=member.server_name or server_name,
        )
        await self._refuse_twin(member, addresses)
        return addresses

    async def _refuse_twin(self, member: Member, addresses: tuple[str, ...]) -> None:
        """Asks a newcomer what it is.

        Raises:
            NewcomerRefusedError: It is the network of a member of another name, or does not say.
        """
        newcomer = self._client(member)
        try:
            await newcomer.use(member.target, addresses)
            await newcomer.fetch_model()
        except SpineZooError as error:
            raise NewcomerRefusedError(str(error)) from None
        finally:
            await newcomer.close()
        others = [each for each in self.clients if each.member.name != member.name]
        same = twins([*others, newcomer]).get(member.name)
        if same is not None:
            raise NewcomerRefusedError(f"it is {SAME_NETWORK.format(same)}")

    # ------------------------------------------------------------------ following

    async def _addresses(self, target: str) -> tuple[str, ...]:
        """What the name in a target stands for now.

        Raises:
            OSError: No address is known.
        """
        named = named_host(target)
        assert named is not None
        found = tuple(await self.resolve(*named))
        if not found:
            raise OSError("no address")
        return found

    async def _look_up(self, client: MemberClient) -> None:
        """Looks a member's name up once, and lets it use what it stands for."""
        target = client.member.target
        if named_host(target) is None:
            return
        fields = {"member": client.member.name, "target": target}
        try:
            addresses = await self._addresses(target)
        except OSError as error:
            why = error.strerror or str(error)
            if client.lost(f"{target} has no address ({why}); start it, or correct the roster"):
                log.warning("a member's name has no address: %s", why, extra={"fields": fields})
            return
        try:
            changed = client.member.target == target and await client.use(target, addresses)
        except ConfigurationError as error:
            log.error("a member's new addresses are not used yet: %s", error)
            return
        if changed:
            log.info(
                "member's addresses",
                extra={"fields": {**fields, "addresses": list(client.addresses)}},
            )

    def refresh(self) -> bool:
        """Looks at the roster file once; returns whether the roster changed.

        A file that is wrong is refused and logged once; the members stay as they are. A member
        leaves only when two looks find the same file without it.
        """
        try:
            content = self._settings.roster.read_bytes()
        except OSError:
            content = None  # load_roster words the error
        if content is not None and content == self._seen:
            return False
        self._seen = content
        try:
            roster = load_roster(self._settings.roster, self._environment)
        except ConfigurationError as error:
            if str(error) != self._refused:
                self._refused = str(error)
                log.error("roster refused, the old one stays: %s", error)
            return False
        self._refused = None
        if set(self.roster.names) - set(roster.names) and content != self._doubted:
            # Half of a file that somebody is just writing may be a roster, of fewer members.
            self._doubted, self._seen = content, None
            return False
        self._doubted = None
        if roster.members == self.roster.members:
            return False
        self._take(roster)
        return True

    def _name_twins(self) -> None:
        """Logs members that are the same network, once."""
        same = twins(self.clients)
        for name in same.keys() - self._twins.keys():
            log.error(
                "two members have one vote: it is %s",
                SAME_NETWORK.format(same[name]),
                extra={"fields": {"member": name}},
            )
        self._twins = same

    async def _renew(self) -> None:
        """Opens every channel anew when certificates have changed, so that none runs out."""
        now, stamp = asyncio.get_running_loop().time(), self._security.stamp()
        if stamp == self._certificates and now < self._renew_at:
            return
        # Before the files are read: a change in between is then seen at the next look.
        self._certificates, self._renew_at = stamp, math.inf
        try:
            for client in self.clients:
                await client.renew()
        except ConfigurationError as error:
            # Half of a renewal, mostly: the rest of it is about to be written.
            self._renew_at = now + RETRY_SECONDS
            log.error("certificates not renewed, the old ones stay: %s", error)
        else:
            log.info("certificates renewed")

    async def _follow(self) -> None:
        """Follows the roster file and the members' names, and learns what members are."""
        under_way: dict[tuple[str, MemberClient], asyncio.Task[Any]] = {}
        while True:
            for client in self.clients:
                if client.model is None and ("learn", client) not in under_way:
                    under_way["learn", client] = asyncio.create_task(client.probe())
                    self._keep(under_way["learn", client])
            await asyncio.sleep(ROSTER_POLL_S)
            for key in [each for each, task in under_way.items() if task.done()]:
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    under_way.pop(key).result()
            self.refresh()
            await self._renew()
            self._name_twins()
            for client in self.clients:
                if ("look up", client) not in under_way:
                    under_way["look up", client] = asyncio.create_task(self._look_up(client))
                    self._keep(under_way["look up", client])
