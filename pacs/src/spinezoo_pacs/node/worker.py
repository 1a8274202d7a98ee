"""What is done with a film of the queue: ask the gateway, keep the results, send them."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import groupby

from spinezoo_contract.client import EnsembleClient
from spinezoo_contract.errors import (
    AccessError,
    BadInputError,
    ConfigurationError,
    DeadlineError,
    InvalidOutputError,
    NotServingError,
    QueueFullError,
    SpineZooError,
    TooLargeError,
)
from spinezoo_contract.tls import client_settings
from spinezoo_contract.types import EnsembleOptions, MeasureOptions
from spinezoo_spine.films.reader import read_film

from spinezoo_pacs.errors import NotTakenError, RefusedError
from spinezoo_pacs.node.sender import Sender
from spinezoo_pacs.node.settings import NodeSettings
from spinezoo_pacs.node.spool import QueuedFilm, QueuedResult, Spool, no_room
from spinezoo_pacs.results import Source, SourceError, make_results

log = logging.getLogger("spinezoo.pacs.worker")

IDLE_S = 0.5
"""Longest time between two looks at the queue, in s."""

WAITED_FOR = (NotServingError, DeadlineError, QueueFullError, AccessError, ConfigurationError)
"""Errors that are not the film's fault: it is tried again until they are gone."""


class Workers:
    """Threads that empty the queue."""

    def __init__(self, settings: NodeSettings, spool: Spool, count: Callable[[str], None]) -> None:
        """Makes them; :meth:`start` lets them run.

        Raises:
            ConfigurationError: TLS of the client is wrong.
        """
        self._settings, self._spool, self._count = settings, spool, count
        self._gateway = EnsembleClient(
            settings.gateway, timeout_s=settings.gateway_s, **client_settings()
        )
        self._options = EnsembleOptions(measures=MeasureOptions() if settings.measures else None)
        self._sender = Sender(settings)
        self._held: deque[QueuedFilm] = deque()
        """Films that could not be put back because the queue could not be written."""
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"worker-{number}", daemon=True)
            for number in range(settings.workers)
        ]

    def start(self) -> None:
        """Lets them run."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Says that there is something to do."""
        self._wake.set()

    def stop(self, timeout_s: float) -> None:
        """Lets each finish the film it has; the rest is done after the next start.

        Args:
            timeout_s: Time that all of them have together, in s.
        """
        self._stop.set()
        self._wake.set()
        end = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._gateway.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._release_held()
                film = self._spool.claim(self._settings.retry.most_s)
            except Exception:
                log.exception("the queue cannot be used")
                self._stop.wait(5.0)
                continue
            if film is None:
                self._wake.wait(IDLE_S)
                self._wake.clear()
                continue
            try:
                self._work_on(film)
            except Exception:
                # The spool itself failed, as with a full disk; the film stays claimed until then.
                log.exception("a film could not be put back")
                self._held.append(film)
                self._stop.wait(5.0)

    def _release_held(self) -> None:
        """Puts films back once the queue can be written again."""
        while self._held:
            film = self._held.popleft()
            try:
                self._spool.put_back(film, "waits-disk", 0.0, failed=False)
            except Exception:
                self._held.append(film)
                raise

    def _work_on(self, film: QueuedFilm) -> None:
        """Takes a film as far as it goes; never raises for the film's sake."""
        retry = self._settings.retry
        try:
            if film.state == "waiting":
                self._answer(film)
            self._send(film)
        except SourceError as error:
            self._aside(film, error.reason)
        except (BadInputError, TooLargeError) as error:
            self._aside(film, f"refused-{type(error).__name__}")
        except WAITED_FOR as error:
            self._back(film, f"waits-{type(error).__name__}", failed=False)
        except (InvalidOutputError, RefusedError, SpineZooError) as error:
            if film.failures + 1 >= retry.attempts:
                self._aside(film, f"failed-{type(error).__name__}")
            else:
                self._back(film, f"failed-{type(error).__name__}", failed=True)
        except Exception as error:
            if no_room(error):
                self._back(film, "waits-disk", failed=False)
                return
            log.exception("unexpected error")
            if film.failures + 1 >= retry.attempts:
                self._aside(film, f"error-{type(error).__name__}")
            else:
                self._back(film, f"error-{type(error).__name__}", failed=True)

    def _answer(self, film: QueuedFilm) -> None:
        peers = self._settings.destinations(film.sender)
        data = self._spool.film_data(film)
        source = Source(data)
        answer = self._gateway.segment(data, self._options, kind="dicom", request_id=film.key)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = read_film(data, kind="dicom")
        # The hour of arrival, so that a film that is answered again gives the same bytes.
        made_at = datetime.fromtimestamp(int(film.received_at))
        made = make_results(
            source,
            answer,
            pixels,
            made_at,
            kinds=self._settings.results,
            viewer=self._settings.viewer,
        )
        if not made.datasets:
            # The sender would wait for ever for a film that the queue calls done.
            raise SourceError(
                "no-outlines", "no outlines are given, and only those are sent; add sr to results"
            )
        files: dict[str, tuple[str, bytes]] = {
            kind: (str(made.datasets[kind].SOPInstanceUID), content)
            for kind, content in made.files().items()
        }
        self._spool.keep_results(film, files, [peer.ae_title for peer in peers])
        self._count("answered" if made.verdict.trusted else "answered-without-outlines")

    def _send(self, film: QueuedFilm) -> None:
        """Sends what is left to every destination; one that fails keeps no other waiting."""
        failures: list[Exception] = []
        for title, results in groupby(self._spool.results(film), key=lambda each: each.destination):
            try:
                self._send_to(title, film, list(results))
            except Exception as error:
                failures.append(error)
        if failures:
            # While one is waited for, the film is not set aside for another's sake.
            waited = [each for each in failures if isinstance(each, WAITED_FOR) or no_room(each)]
            raise (waited or failures)[0]
        self._spool.finish(film)
        self._count("done")
        log.info("film answered", extra={"fields": {"film": film.key}})

    def _send_to(self, title: str, film: QueuedFilm, results: Sequence[QueuedResult]) -> None:
        """Sends results to one destination.

        Raises:
            Exception: Whatever keeps one from being sent; those before it are marked as sent.
        """
        peer = self._settings.peer(title)
        if peer is None:
            raise ConfigurationError(f"{title} is no peer any more, and results wait; add it")
        left = []
        for result in results:
            # What was on its way when the process ended may have arrived.
            if result.state == "sending" and self._sender.has(peer, film.study_uid, result.sop_uid):
                self._spool.mark(film, result, "sent")
            else:
                left.append(result)
        if not left:
            return
        with self._sender.link(peer) as link:
            for result in left:
                content = self._spool.result_data(film, result.kind)
                self._spool.mark(film, result, "sending")
                try:
                    link.store(content)
                except NotTakenError:
                    self._spool.mark(film, result, "not_taken")
                    self._count(f"not-taken-{result.kind}")
                    continue
                self._spool.mark(film, result, "sent")
                self._count(f"sent-{result.kind}")

    def _aside(self, film: QueuedFilm, reason: str) -> None:
        self._spool.set_aside(film, reason)
        self._count("aside")
        log.error("film set aside", extra={"fields": {"film": film.key, "reason": reason}})

    def _back(self, film: QueuedFilm, reason: str, *, failed: bool) -> None:
        wait_s = self._settings.retry.wait_s(film.waits + 1)
        self._spool.put_back(film, reason, wait_s, failed=failed)
        self._count("put-back")
        fields = {"film": film.key, "reason": reason, "wait_s": round(wait_s, 1)}
        log.warning("film waits", extra={"fields": fields})
