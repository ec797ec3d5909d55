"""Metrics tell what happens, and their number does not grow with what happens."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dra_driver.errors import DeviceError, HeldError, PermanentError
from dra_driver.metrics import Gauges, Metrics
from dra_driver.prepare.model import ClaimRef, DeviceIntent, Made, MigTarget, Phase, Record, ShareTarget
from dra_driver.prepare.sentinel import Finding, Found
from dra_driver.publish.features import Features
from dra_driver.publish.taints import DeviceTaint, Effect
from topology.modes import Sharing

Sample = tuple[str, tuple[tuple[str, str], ...]]
XID = DeviceTaint("gpu.dovetail.dev/xid", "79", Effect.NO_SCHEDULE)


def samples(metrics: Metrics) -> dict[Sample, float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value for family in families for each in family.samples
    }


def busy(metrics: Metrics) -> None:
    for number in range(20_000):
        metrics.answered("NodePrepareResources", 0.001 * (number % 7), claims=3, refused=number % 2)
        metrics.refused(HeldError(f"claim {number}") if number % 2 else PermanentError(f"device {number}"))
        metrics.wrote("update", 200 + number)
        metrics.xid(number)
        metrics.failed(f"nvmlFunction{number}")
        metrics.called(
            "GET", f"/apis/resource.k8s.io/v1/namespaces/ns-{number}/resourceclaims/claim-{number}", 200, 0.01
        )
        metrics.found([Found(Finding.MISSING, f"uid-{number}", f"text {number}")])


def records() -> list[Record]:
    def intent(**facts: object) -> DeviceIntent:
        known: dict[str, object] = {"request": "r", "pool": "p", "device": "d", "gpu_uuid": "GPU-1", "minor": 0}
        return DeviceIntent(**(known | facts))  # type: ignore[arg-type]

    mig = MigTarget(profile="1g.10gb", profile_id=19, start=0, size=1)
    share = ShareTarget(sharing=Sharing.MPS, share_id="s", memory_bytes=1, compute_milli=1)
    devices = (intent(), intent(mig=mig), intent(existing_uuid="MIG-1"), intent(share=share))
    claim = ClaimRef(namespace="ns", name="c", uid="uid")
    made = (Made(),) * len(devices)
    return [Record(claim=claim, boot_id="b", phase=Phase.COMPLETED, devices=devices, made=made)]


def test_t29_whatever_a_node_has_seen_the_series_are_few() -> None:
    """HAMi #2142: a label with the name of a pod makes a series of each."""
    taints = {f"gpu-0-mig-{number}": (XID,) for number in range(1000)}
    metrics = Metrics(Gauges(records=lambda: records() * 1000, taints=lambda: taints, ready=lambda: True))
    before = len(samples(metrics))
    busy(metrics)
    after = samples(metrics)
    assert len(after) <= 1_000
    assert before < len(after)
    text = metrics.exposition().decode()
    assert not any(f"{word}-19999" in text for word in ("ns", "claim", "uid", "gpu-0-mig"))


def test_t29_is_found_when_it_is_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Metrics, fault: DeviceError) -> None:
        self._refusals.labels(str(fault)).inc()

    monkeypatch.setattr(Metrics, "refused", refused)
    with pytest.raises(AssertionError):
        test_t29_whatever_a_node_has_seen_the_series_are_few()


def test_what_happened_is_counted() -> None:
    metrics = Metrics(Gauges(records=records, taints=lambda: {"gpu-0": (XID,), "gpu-0-mps": (XID,)}))
    metrics.answered("NodePrepareResources", 0.003, claims=4, refused=1)
    metrics.refused(HeldError("x"))
    metrics.wrote("create", 409)
    metrics.published(9, 250, 3)
    metrics.features(Features(counters=False))
    metrics.xid(79)
    metrics.xid(7777)
    metrics.found([Found(Finding.MISSING, "uid", "text")])
    found = samples(metrics)

    def of(name: str, **labels: str) -> float:
        return found[f"dovetail_driver_{name}", tuple(sorted(labels.items()))]

    assert of("claims_total", method="NodePrepareResources", outcome="refused") == 1
    assert of("claims_total", method="NodePrepareResources", outcome="done") == 3
    assert of("refusals_total", cause="held") == 1
    assert of("slice_writes_total", verb="create", code="409") == 1
    assert (of("slices"), of("devices"), of("pool_generation")) == (9, 250, 3)
    assert [of("feature_missing", feature=each) for each in ("counters", "shares", "taints")] == [1, 0, 0]
    assert (of("xids_total", xid="79"), of("xids_total", xid="other")) == (1, 1)
    assert of("findings", kind="missing") == 1
    assert of("findings", kind="used-twice") == 0
    assert [of("prepared_devices", type=each) for each in ("gpu", "mig", "mps")] == [1, 2, 1]
    assert of("tainted_devices", taint="xid") == 2
    assert of("ready") == 0
