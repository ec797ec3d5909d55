"""What operators may watch of the driver, in Prometheus' text format.

Labels hold methods, kinds, codes and XIDs that are listed in this source, never names of claims, pods or devices; texts
that come from outside (codes, NVML's functions) are bounded. So the number of series does not grow with what a node has
seen.
"""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from dra_driver.errors import DeviceError
from dra_driver.health.xids import counted
from dra_driver.prepare.model import Record
from dra_driver.prepare.sentinel import Finding, Found
from dra_driver.publish.features import EVERYTHING, Features
from dra_driver.publish.taints import NO_TAINTS, Taints
from kube.apimetrics import ApiMetrics
from kube.labels import FAST_S, Bounded

WHOLE, MIG = "gpu", "mig"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """What is read when somebody asks, rather than counted as it happens."""

    records: Callable[[], Iterable[Record]] = tuple
    taints: Callable[[], Taints] = lambda: NO_TAINTS
    ready: Callable[[], bool] = bool


class Metrics:
    """The counters of one process, in a registry of their own. Thread-safe."""

    def __init__(self, gauges: Gauges | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the series and tell nothing
        self.registry = CollectorRegistry()
        self._bounded = Bounded()
        self._calls_bounded = Bounded()
        self._claims_s = self._histogram("claims_duration_seconds", "Time to answer a call of the kubelet.", "method")
        self._claims = self._counter("claims_total", "Claims in calls of the kubelet.", "method", "outcome")
        self._refusals = self._counter("refusals_total", "Claims not prepared or unprepared, by cause.", "cause")
        self._writes = self._counter("slice_writes_total", "Writes of ResourceSlices by HTTP status.", "verb", "code")
        self._slices = self._gauge("slices", "ResourceSlices that are published.")
        self._devices = self._gauge("devices", "Devices that are published.")
        self._generation = self._gauge("pool_generation", "Generation of the pool.")
        self._missing = self._gauge("feature_missing", "1 for what kube-apiserver does not store.", "feature")
        self._xids = self._counter("xids_total", "XIDs, those of applications included.", "xid")
        self._nvml = self._counter("nvml_failures_total", "Calls of NVML that failed in health monitoring.", "call")
        self._findings = self._gauge("findings", "What the last check of the node found wrong.", "kind")
        self.called = ApiMetrics(self.registry).called
        self.features(EVERYTHING)
        self.found(())
        self.registry.register(_OnDemand(gauges or Gauges()))
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def answered(self, method: str, seconds: float, *, claims: int, refused: int) -> None:
        """Count a call of the kubelet and its claims."""
        self._claims_s.labels(method).observe(seconds)
        self._claims.labels(method, "refused").inc(refused)
        self._claims.labels(method, "done").inc(claims - refused)

    def refused(self, fault: DeviceError) -> None:
        """Count a claim that was not prepared, or not unprepared."""
        self._refusals.labels(type(fault).__name__.removesuffix("Error").lower()).inc()

    def wrote(self, verb: str, code: int) -> None:
        """Count a write of a slice."""
        self._writes.labels(verb, self._bounded.value(str(code))).inc()

    def published(self, slices: int, devices: int, generation: int) -> None:
        """Set what is stored."""
        self._slices.set(slices)
        self._devices.set(devices)
        self._generation.set(generation)

    def features(self, features: Features) -> None:
        """Set what the API server stores."""
        for name in EVERYTHING.without("counters", "shares", "taints").missing:
            self._missing.labels(name).set(name in features.missing)

    def xid(self, number: int) -> None:
        """Count an XID."""
        self._xids.labels(counted(number)).inc()

    def failed(self, call: str) -> None:
        """Count a call of NVML that failed."""
        self._nvml.labels(self._calls_bounded.value(call)).inc()

    def found(self, findings: Sequence[Found]) -> None:
        """Set what the last check found."""
        kinds = Count(each.kind for each in findings)
        for kind in Finding:
            self._findings.labels(kind).set(kinds[kind])

    def exposition(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"dovetail_driver_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"dovetail_driver_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"dovetail_driver_{name}", text, labels, buckets=FAST_S, registry=self.registry)


class _OnDemand(Collector):
    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        gauges = self._gauges
        ready = float(gauges.ready())
        yield GaugeMetricFamily("dovetail_driver_ready", "1 once the kubelet knows us and all is published.", ready)
        yield _by(
            "dovetail_driver_prepared_devices", "Devices of prepared claims.", "type", _prepared(gauges.records())
        )
        tainted = Count(taint.key.rpartition("/")[2] for taints in gauges.taints().values() for taint in taints)
        yield _by("dovetail_driver_tainted_devices", "Published devices with a taint.", "taint", tainted)


def _prepared(records: Iterable[Record]) -> Mapping[str, int]:
    kinds = Count(
        MIG if intent.mig is not None or intent.existing_uuid else intent.share.sharing if intent.share else WHOLE
        for record in records
        for intent in record.devices
    )
    return {str(kind): number for kind, number in kinds.items()}


def _by(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, number in sorted(values.items()):
        family.add_metric([value], number)
    return family
