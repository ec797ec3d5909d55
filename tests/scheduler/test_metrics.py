"""Metrics tell what happens, and their number does not grow with what happens."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kube.labels import MAX_VALUES, OTHER, Bounded, resource_of
from scheduler.metrics import Capacity, Gauges, Metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value for family in families for each in family.samples
    }


def test_hi12_a_hundred_thousand_pods_make_no_more_series_than_a_few() -> None:
    gauges = Gauges(
        capacity=lambda: Capacity(free_gpus={f"product-{number}": 1 for number in range(1000)}),
        reservations=lambda: {"held": 1, "writing": 2},
        watch_lag_s=lambda: dict.fromkeys(("Node", "Pod", "ResourceSlice", "ResourceClaim"), 0.1),
    )
    metrics = Metrics(gauges)
    for pod in range(100_000):
        metrics.decided("rejected", f"pod-{pod} does not fit")
        metrics.answered("filter", 200, 0.001 * (pod % 7))
        metrics.called("PUT", "/apis/resource.k8s.io/v1/namespaces/ns/resourceclaims/a/status", 200 + pod % 5, 0.01)
    assert len(samples(metrics)) <= 2_000


def test_decisions_latencies_and_writes_are_counted() -> None:
    metrics = Metrics()
    metrics.decided("placed")
    metrics.decided("rejected", "no-gpu")
    metrics.decided("rejected", "no-gpu")
    metrics.answered("filter", 200, 0.003)
    metrics.called("PUT", "/apis/resource.k8s.io/v1/namespaces/ns/resourceclaims/a/status", 409, 0.02)
    found = samples(metrics)
    assert found["dovetail_decisions_total", (("outcome", "rejected"), ("reason", "no-gpu"))] == 2
    assert found["dovetail_extender_duration_seconds_bucket", (("le", "0.004"), ("verb", "filter"))] == 1
    assert found["dovetail_extender_duration_seconds_bucket", (("le", "0.002"), ("verb", "filter"))] == 0
    of_write = (("code", "409"), ("resource", "resourceclaims/status"), ("verb", "put"))
    assert found["dovetail_api_requests_total", of_write] == 1


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/api/v1/namespaces/default/pods/p/binding", "pods/binding"),
        ("/api/v1/namespaces/default", "namespaces"),
        ("/api/v1/nodes", "nodes"),
        ("/apis/resource.k8s.io/v1/namespaces/n/resourceclaims/c/status", "resourceclaims/status"),
        ("/apis/resource.k8s.io/v1/namespaces/n/resourceclaims/c", "resourceclaims"),
        ("/apis/resource.k8s.io/v1", OTHER),
        ("/version", OTHER),
    ],
)
def test_calls_are_counted_by_resource_and_never_by_name(path: str, resource: str) -> None:
    assert resource_of(path) == resource


def test_capacity_is_read_when_asked_for() -> None:
    capacity = [Capacity(fragmentation=0.25, free_gpus={"H100": 3}, largest_link_set={"H100": 2})]
    metrics = Metrics(Gauges(capacity=lambda: capacity[0], ready=lambda: True))
    assert samples(metrics)["dovetail_gpus_free", (("product", "H100"),)] == 3
    capacity[0] = Capacity(free_gpus={"H100": 1})
    found = samples(metrics)
    assert found["dovetail_gpus_free", (("product", "H100"),)] == 1
    assert found["dovetail_ready", ()] == 1


def test_products_beyond_the_limit_are_summed() -> None:
    metrics = Metrics(Gauges(capacity=lambda: Capacity(free_gpus={f"p{number:03}": 2 for number in range(60)})))
    assert samples(metrics)["dovetail_gpus_free", (("product", OTHER),)] == 2 * (60 - MAX_VALUES)


def test_texts_from_outside_are_escaped() -> None:
    metrics = Metrics()
    metrics.decided("rejected", 'a"b\\c\nd')
    assert samples(metrics)["dovetail_decisions_total", (("outcome", "rejected"), ("reason", 'a"b\\c\nd'))] == 1


def test_known_values_stay_known_when_the_limit_is_reached() -> None:
    bounded = Bounded(limit=2)
    assert [bounded.value(text) for text in ("a", "b", "c", "a")] == ["a", "b", OTHER, "a"]
