"""The status page, its numbers as JSON, and metrics; no patient data on any of them."""

from __future__ import annotations

import html
import sqlite3
import threading
from collections.abc import Sequence
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from spinezoo_pacs.node.settings import NodeSettings
from spinezoo_pacs.node.spool import QUEUE, Spool, error_name


class NodeMetrics:
    """Counts what happens, by name."""

    def __init__(self, registry: CollectorRegistry, spool: Spool) -> None:
        """Registers the node's metrics."""
        self._events = Counter(
            "spinezoo_pacs_events",
            "What happened to films, results and associations, by name.",
            ["what"],
            registry=registry,
        )
        registry.register(_Queue(spool))
        self._lock = threading.Lock()
        self._seen: dict[str, int] = {}

    @property
    def seen(self) -> dict[str, int]:
        """How often each has happened, by name."""
        with self._lock:
            return dict(sorted(self._seen.items()))

    def count(self, what: str) -> None:
        """Counts one event."""
        self._events.labels(what).inc()
        with self._lock:
            self._seen[what] = self._seen.get(what, 0) + 1


class _Queue(Collector):
    """Films by state, asked of the spool when Prometheus asks."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def collect(self) -> list[GaugeMetricFamily]:
        """One gauge with a label for the state."""
        gauge = GaugeMetricFamily("spinezoo_pacs_films", "Films in the spool.", labels=["state"])
        for state, number in self._spool.counts().items():
            gauge.add_metric([state], number)
        return [gauge]


def routes(settings: NodeSettings, spool: Spool, metrics: NodeMetrics) -> list[Route]:
    """The page and its JSON."""

    def status() -> dict[str, object]:
        return {
            "ae_title": settings.ae_title,
            "films": spool.counts(),
            "results_not_taken": spool.not_taken(),
            "events": metrics.seen,
            "notable": [
                {"film": key, "state": state, "reason": reason, "received_at": _time(at)}
                for key, state, reason, at in spool.notable()
            ],
        }

    def as_json(_: Request) -> Response:
        return JSONResponse(status())

    def as_page(_: Request) -> Response:
        return HTMLResponse(_page(status()))

    return [Route("/", as_page), Route("/status.json", as_json)]


def not_readable(_: Request, error: Exception) -> Response:
    """What a caller is told where the queue cannot be read."""
    assert isinstance(error, sqlite3.Error)
    text = f"the queue cannot be read ({QUEUE}: {error_name(error)}); see the node's log"
    return PlainTextResponse(text, 503)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _table(head: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    def line(cells: tuple[object, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in cells) + "</tr>"

    return "<table>" + line(head, "th") + "".join(line(row, "td") for row in rows) + "</table>"


def _page(status: dict[str, object]) -> str:
    films, events, notable = status["films"], status["events"], status["notable"]
    assert isinstance(films, dict)
    assert isinstance(events, dict)
    assert isinstance(notable, list)
    rows = [(n["film"], n["state"], n["reason"], n["received_at"]) for n in notable]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>SpineZoo DICOM node</title>"
        "<style>body{font-family:sans-serif;margin:2em}td,th{padding:.2em 1em;text-align:left}"
        "</style>"
        f"<h1>DICOM node {html.escape(str(status['ae_title']))}</h1>"
        f"<h2>Films</h2>{_table(('state', 'films'), list(films.items()))}"
        "<p>waiting: not answered yet; answered: results wait to be sent; aside: needs a person "
        "(docs/pacs.md says what each reason means)</p>"
        "<h2>Set aside, or waiting for something</h2>"
        f"{_table(('film', 'state', 'reason', 'received'), rows)}"
        f"<h2>Since the start</h2>{_table(('what', 'number'), list(events.items()))}</html>"
    )
