"""What a serving process counts, for Prometheus (extra ``server``).

Works alone and under ``bentoml serve``: ``prometheus_client`` is imported when the first
:class:`ServerMetrics` is made, by when BentoML has named its directory of shared values.
"""

from __future__ import annotations

STAGE_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Upper bounds of the latency histogram, in s."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Content type of :meth:`ServerMetrics.render`."""


class ServerMetrics:
    """Requests, latency by stage, queue length and failures by reason of one process."""

    def __init__(self) -> None:
        import prometheus_client as prometheus

        self.registry = prometheus.CollectorRegistry()
        self._requests = prometheus.Counter(
            "spinezoo_requests",
            "Requests answered, by method and status code.",
            ["method", "code"],
            registry=self.registry,
        )
        self._failures = prometheus.Counter(
            "spinezoo_failures",
            "Requests that failed, by error class.",
            ["reason"],
            registry=self.registry,
        )
        self._stages = prometheus.Histogram(
            "spinezoo_stage_seconds",
            "Wall clock by stage: decode, queue, prepare, infer, finish, total.",
            ["stage"],
            buckets=STAGE_BUCKETS_S,
            registry=self.registry,
        )
        self._queue = prometheus.Gauge(
            "spinezoo_queue_length",
            "Requests that wait for the network.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )

        self._queue_limit = prometheus.Gauge(
            "spinezoo_queue_limit",
            "Most requests that may wait for the network (SPINEZOO_QUEUE_LIMIT).",
            multiprocess_mode="livemax",
            registry=self.registry,
        )

    def request(self, method: str, code: str) -> None:
        """Counts an answered request."""
        self._requests.labels(method, code).inc()

    def failure(self, reason: str) -> None:
        """Counts a failed request by the name of its error class."""
        self._failures.labels(reason).inc()

    def stage(self, stage: str, milliseconds: float) -> None:
        """Observes the time of a stage, in ms."""
        self._stages.labels(stage).observe(milliseconds / 1000.0)

    def queue_length(self, length: int) -> None:
        """Sets the number of requests that wait."""
        self._queue.set(length)

    def queue_limit(self, limit: int) -> None:
        """Sets the number of requests that may wait."""
        self._queue_limit.set(limit)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        import prometheus_client as prometheus

        return prometheus.generate_latest(self.registry)


def render_all(own: ServerMetrics | None) -> bytes:
    """What a process counts, and what libraries count in it, such as BentoML."""
    import prometheus_client as prometheus

    return (b"" if own is None else own.render()) + prometheus.generate_latest()
