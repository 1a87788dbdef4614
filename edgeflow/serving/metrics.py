"""Metrics of the server, for Prometheus."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCH_BUCKETS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


class Metrics:
    """Metrics of one server, in their own registry."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "edgeflow_serve_requests",
            "Inference requests by protocol and outcome.",
            ("protocol", "outcome"),
            registry=self._registry,
        )
        self.duration = Histogram(
            "edgeflow_serve_request_duration_seconds",
            "From a request's admission to its answer.",
            ("protocol",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.in_flight = Gauge(
            "edgeflow_serve_in_flight", "Requests admitted and not answered.", registry=self._registry
        )
        self.limit = Gauge("edgeflow_serve_limit", "Requests that may be in flight.", registry=self._registry)
        self.ready = Gauge(
            "edgeflow_serve_ready", "1 if the server is ready for requests, else 0.", registry=self._registry
        )
        self.batch = Histogram(
            "edgeflow_serve_batch_requests",
            "Requests per batch; empty without --batch.",
            buckets=_BATCH_BUCKETS,
            registry=self._registry,
        )

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
