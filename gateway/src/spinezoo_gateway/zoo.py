"""The members as they are now: one client each, following the roster file while it changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from spinezoo_contract.errors import ConfigurationError, OptionError
from spinezoo_contract.types import MemberStatus

from spinezoo_gateway.members import MemberClient
from spinezoo_gateway.roster import Roster, load_roster
from spinezoo_gateway.settings import MAX_DEADLINE_MS, GatewaySettings

log = logging.getLogger("spinezoo.gateway")


class Zoo:
    """All members of the roster. Belongs to one event loop."""

    def __init__(
        self, settings: GatewaySettings, environment: Mapping[str, str], max_message_bytes: int
    ) -> None:
        """Reads the roster; opens nothing.

        Raises:
            ConfigurationError: The roster is wrong; the message names the line or the variable.
        """
        self._settings = settings
        self._environment = dict(environment)
        self._max_message_bytes = max_message_bytes
        self.roster: Roster = load_roster(settings.roster, self._environment)
        self._clients: dict[str, MemberClient] = {}
        self._refused: str | None = None
        self._seen: bytes | None = None
        self._background: set[asyncio.Task[Any]] = set()

    @property
    def clients(self) -> tuple[MemberClient, ...]:
        """One client a member, sorted by name."""
        return tuple(self._clients[name] for name in sorted(self._clients))

    def select(self, names: Sequence[str]) -> tuple[MemberClient, ...]:
        """The named members, sorted by name; no names selects all.

        Raises:
            OptionError: A name is not in the roster.
        """
        if not names:
            return self.clients
        unknown = sorted(set(names) - set(self._clients))
        if unknown:
            raise OptionError(
                f"no member is called {', '.join(map(repr, unknown))}; "
                f"the roster has {', '.join(sorted(self._clients))}"
            )
        return tuple(self._clients[name] for name in sorted(names))

    async def start(self) -> None:
        """Opens the channels and begins to follow the roster file."""
        self._take(self.roster)
        self._keep(asyncio.create_task(self._follow(), name="roster"))

    async def stop(self) -> None:
        """Closes everything."""
        for task in tuple(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await asyncio.gather(*(client.close() for client in self._clients.values()))
        self._clients.clear()

    async def statuses(self) -> list[tuple[MemberClient, MemberStatus]]:
        """Asks every member whether it is serving now; sorted by name."""
        clients = self.clients
        return list(zip(clients, await asyncio.gather(*(c.probe() for c in clients)), strict=True))

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _take(self, roster: Roster) -> None:
        """Makes the clients those of the roster; members that leave finish their films first."""
        wanted = {member.name: member for member in roster.members}
        for name, client in list(self._clients.items()):
            member = wanted.get(name)
            if member is None or member.target != client.member.target:
                del self._clients[name]
                # Calls under way have at most this long.
                self._keep(asyncio.create_task(client.close(MAX_DEADLINE_MS / 1000.0)))
                if member is None:
                    log.info("member left", extra={"fields": {"member": name}})
        for name, member in wanted.items():
            if name in self._clients:
                self._clients[name].member = member  # weight or deadline may have changed
            else:
                self._clients[name] = MemberClient(member, self._max_message_bytes)
                fields = {"member": name, "target": member.target}
                log.info("member joined", extra={"fields": fields})
        self.roster = roster

    def refresh(self) -> bool:
        """Looks at the roster file once; returns whether the roster changed.

        A file that is wrong is refused and logged once; the members stay as they are.
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
        if roster.members == self.roster.members:
            return False
        self._take(roster)
        return True

    async def _follow(self) -> None:
        """Follows the roster file, and learns what members are as they come up."""
        learning: dict[MemberClient, asyncio.Task[MemberStatus]] = {}
        while True:
            for client in self.clients:
                if client.model is None and client not in learning:
                    task = asyncio.create_task(client.probe())
                    learning[client] = task
                    self._keep(task)
            await asyncio.sleep(self._settings.roster_poll_s)
            for client in [each for each, task in learning.items() if task.done()]:
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    learning.pop(client).result()
            self.refresh()
