"""Requests to the API server as metrics, the same of every program."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from kube.labels import FAST_S, Bounded, resource_of


class ApiMetrics:
    """Counts and times requests; `called` is what `ApiClient.watch_calls` takes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._codes = Bounded()
        self._seconds = Histogram(
            "dovetail_api_duration_seconds",
            "Time of requests to kube-apiserver.",
            ["verb"],
            buckets=FAST_S,
            registry=registry,
        )
        self._requests = Counter(
            "dovetail_api_requests_total",
            "Requests to kube-apiserver by HTTP status; 0 where none came.",
            ["verb", "resource", "code"],
            registry=registry,
        )

    def called(self, method: str, path: str, code: int, seconds: float) -> None:
        """Count a request, by HTTP method and path."""
        verb = method.lower()
        self._seconds.labels(verb).observe(seconds)
        self._requests.labels(verb, resource_of(path), self._codes.value(str(code))).inc()
