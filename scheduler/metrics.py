"""What operators may watch, in Prometheus' text format. Invariant: the number of series does not grow with the pods.

Labels hold verbs, kinds, products and reasons, never names of pods, claims or nodes; of texts that come from outside
only the first MAX_VALUES get a series of their own, the rest is counted as OTHER.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from kube.apimetrics import ApiMetrics
from kube.labels import FAST_S, Bounded


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How well what is free can be used."""

    fragmentation: float = 0.0
    """Share of the free GPUs that the mix of demand cannot use, 0 to 1."""
    gpus: Mapping[str, int] = field(default_factory=dict)
    free_gpus: Mapping[str, int] = field(default_factory=dict)
    """By product."""
    largest_link_set: Mapping[str, int] = field(default_factory=dict)
    """Product -> most free GPUs of one node that are linked all to all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """What is read when somebody asks, rather than counted as it happens."""

    capacity: Callable[[], Capacity] = Capacity
    reservations: Callable[[], Mapping[str, int]] = dict
    """By state."""
    watch_lag_s: Callable[[], Mapping[str, float]] = dict
    """Kind -> seconds since the API server was last heard."""
    malformed: Callable[[], Mapping[str, int]] = dict
    """Kind -> objects that could not be read since the start."""
    ready: Callable[[], bool] = bool


class Metrics:
    """The counters of one process, in a registry of their own."""

    def __init__(self, gauges: Gauges | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the series and tell nothing that the process's start does not
        self.registry = CollectorRegistry()
        self._reasons = Bounded()
        self._verb_s = Histogram(
            "dovetail_extender_duration_seconds",
            "Time to answer kube-scheduler, from the headers read to the answer encoded.",
            ["verb"],
            buckets=FAST_S,
            registry=self.registry,
        )
        self._answers = Counter(
            "dovetail_extender_requests_total", "Requests by HTTP status.", ["verb", "code"], registry=self.registry
        )
        self._decisions = Counter(
            "dovetail_decisions_total", "Decisions of filter.", ["outcome", "reason"], registry=self.registry
        )
        self.called = ApiMetrics(self.registry).called
        self.registry.register(_OnDemand(gauges or Gauges()))
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def answered(self, verb: str, code: int, seconds: float) -> None:
        """Count an answer of ours."""
        self._verb_s.labels(verb).observe(seconds)
        self._answers.labels(verb, str(code)).inc()

    def decided(self, outcome: str, reason: str = "") -> None:
        """Count a decision: `placed`, `passed` (asks for no device), `rejected` with its reason, or `error`."""
        self._decisions.labels(outcome, self._reasons.value(reason)).inc()

    def exposition(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)


class _OnDemand(Collector):
    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges
        self._products = Bounded()

    def collect(self) -> Iterable[Metric]:
        gauges = self._gauges
        capacity = gauges.capacity()
        yield _gauge("dovetail_ready", "Whether pods are placed: 1 once all caches are filled.", float(gauges.ready()))
        yield _gauge("dovetail_fragmentation_ratio", "Share of free GPUs no pod can use.", capacity.fragmentation)
        yield _by("dovetail_gpus", "GPUs by product.", "product", self._merged(capacity.gpus, sum))
        yield _by("dovetail_gpus_free", "Wholly free GPUs.", "product", self._merged(capacity.free_gpus, sum))
        text = "Most free GPUs of one node that are linked all to all."
        sets = self._merged(capacity.largest_link_set, max)
        yield _by("dovetail_largest_free_link_set", text, "product", sets)
        yield _by("dovetail_reservations", "Devices reserved for pods, by state.", "state", gauges.reservations())
        lag = gauges.watch_lag_s()
        yield _by("dovetail_watch_silence_seconds", "Since kube-apiserver was last heard.", "kind", lag)
        malformed = CounterMetricFamily("dovetail_malformed_objects", "Objects left out.", labels=["kind"])
        for kind, number in _sorted(gauges.malformed()):
            malformed.add_metric([kind], number)
        yield malformed

    def _merged(self, by_product: Mapping[str, int], merge: Callable[[list[int]], int]) -> dict[str, int]:
        merged: dict[str, list[int]] = {}
        for product, number in sorted(by_product.items()):
            merged.setdefault(self._products.value(product), []).append(number)
        return {product: merge(numbers) for product, numbers in merged.items()}


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _by(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in _sorted(values):
        family.add_metric([key], value)
    return family


def _sorted(values: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    return iter(sorted(values.items()))
