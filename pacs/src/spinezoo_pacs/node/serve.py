"""Starts the node: ``python -m spinezoo_pacs.node.serve node.yaml``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

from spinezoo_contract.errors import ConfigurationError
from spinezoo_serving.disk import alone_in
from spinezoo_serving.endpoints import HttpEndpoint, make_app
from spinezoo_serving.logs import configure_logging
from spinezoo_serving.metrics import ServerMetrics
from spinezoo_serving.security import ServerSecurity
from spinezoo_serving.state import Phase, ServingState
from spinezoo_serving.tokens import TokenFile
from spinezoo_spine.films.limits import DecoderLimits

from spinezoo_pacs.node.intake import Intake
from spinezoo_pacs.node.page import NodeMetrics, not_readable, routes
from spinezoo_pacs.node.scp import FilmReceiver
from spinezoo_pacs.node.settings import NodeSettings, read_settings
from spinezoo_pacs.node.spool import QUEUE, Spool
from spinezoo_pacs.node.stow import Stow
from spinezoo_pacs.node.vault import Vault
from spinezoo_pacs.node.worker import Workers
from spinezoo_pacs.quiet import silence_libraries
from spinezoo_pacs.results.equipment import software_version

log = logging.getLogger("spinezoo.pacs")

CLEAN_EVERY_S = 600.0
"""Time between two looks for what may be deleted, in s."""

DRAIN_S = 20.0
"""Time that films under way have after SIGTERM, in s."""


class Node:
    """Everything of one node process, not yet started."""

    def __init__(self, settings: NodeSettings) -> None:
        """Opens the spool.

        Raises:
            ConfigurationError: A certificate or the spool is wrong.
        """
        self.settings = settings
        DecoderLimits.from_env()  # wrong ones end the start, not each film
        self._held = contextlib.ExitStack()
        try:
            self._held.enter_context(alone_in(settings.spool, "another node"))
            vault = Vault.from_file(settings.spool_key)
            self.spool = Spool(settings.spool, settings.limits, vault)
        except (OSError, sqlite3.OperationalError) as error:
            told = error.strerror if isinstance(error, OSError) else error
            raise ConfigurationError(
                f"the spool {settings.spool} cannot be used ({told}); give a folder that this user "
                "may write, on a local disk with room"
            ) from error
        except sqlite3.Error as error:
            raise ConfigurationError(
                f"the queue {settings.spool / QUEUE} is damaged ({error}); put back a copy of it, "
                "or move the spool away and send its films again"
            ) from error
        software_version()  # results say it; it must be known before the first film
        server_metrics = ServerMetrics()
        self.metrics = NodeMetrics(server_metrics.registry, self.spool)
        self.workers = Workers(settings, self.spool, self.metrics.count)
        intake = Intake(self.spool, self.metrics.count, self.workers.wake)
        self.receiver = FilmReceiver(settings, intake)
        self.state = ServingState()
        security = ServerSecurity.from_env()
        security.check()
        tokens = TokenFile.for_server(security, settings.host)
        page = routes(settings, self.spool, self.metrics)
        # Without tokens there is no STOW-RS: nobody could be told from anybody.
        films = Stow(settings, intake, tokens).routes if tokens is not None else []
        self._trouble = ""
        apps = [
            make_app(self.state, server_metrics, each, trouble=self._look)
            for each in ([*page, *films], page)
        ]
        for app in apps:
            app.add_exception_handler(sqlite3.Error, not_readable)
        self.http = HttpEndpoint(
            settings.host,
            settings.http_port,
            apps[0],
            security=security,
            plain=apps[1],
            settings="host and http_port",
        )

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT; films under way are finished, the rest stays.

        Raises:
            ConfigurationError: A port is taken.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        try:
            self.receiver.start()
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {self.settings.host}:{self.settings.port} ({error.strerror}); "
                "stop what uses the port, or set port"
            ) from error
        self.workers.start()
        await self.http.start()
        self.state.move(Phase.SERVING)
        fields = {"dicom": self.receiver.port, "http": self.http.port}
        log.info("listening", extra={"fields": fields})
        while not stop.is_set():
            await asyncio.to_thread(self._clean)
            try:
                await asyncio.wait_for(stop.wait(), CLEAN_EVERY_S)
            except TimeoutError:
                continue
        self.state.move(Phase.DRAINING)
        await asyncio.to_thread(self.receiver.stop)
        await asyncio.to_thread(self.workers.stop, DRAIN_S)
        await self.http.stop()
        self.spool.close()
        self._held.close()

    def _look(self) -> str:
        """What keeps the spool from being used, by name; logged when it changes."""
        name = self.spool.trouble()
        if name != self._trouble:
            self._trouble = name
            if name:
                log.error("not ready", extra={"fields": {"reason": name}})
            else:
                log.info("ready again")
        return name

    def _clean(self) -> None:
        try:
            settings = self.settings
            gone = self.spool.forget(settings.retention_h * 3600, settings.aside_retention_h * 3600)
        except (OSError, sqlite3.Error):
            log.exception("cleaning failed")
        else:
            if gone:
                log.info("films deleted", extra={"fields": {"films": gone}})


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the node; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_pacs.node.serve",
        description="Take films from a PACS, ask the zoo, send results back.",
    )
    parser.add_argument("settings", type=Path, help="YAML file; see docs/pacs.md")
    configure_logging("pacs")
    silence_libraries()
    try:
        node = Node(read_settings(parser.parse_args(arguments).settings))
        asyncio.run(node.run())
    except ConfigurationError as error:
        log.critical("cannot start: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
