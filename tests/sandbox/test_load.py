"""A load binds every pod once, tells when, and leaves nothing; what cannot be bound is said."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import objects
from sandbox.load.bound import BoundWatch, corrected
from sandbox.load.client import LoadError
from sandbox.load.result import LoadResult, median_rate, percentile
from sandbox.load.run import allocated_twice, burst, churn, compared
from sandbox.load.workload import Workload
from sandbox.schedulers import SchedulerOptions, SecondScheduler
from sandbox.testbed import Testbed

DRIVER = "gpu.load.test"
NODES, GPUS = 3, 4
SECOND = "second"


@pytest.fixture
def gpus(testbed: Testbed) -> Testbed:
    """Three simulated nodes with four GPUs each."""
    names = testbed.add_nodes(*(objects.node(f"load-{number}") for number in range(NODES)))
    devices = [objects.device(f"gpu-{index}", memory="80Gi") for index in range(GPUS)]
    testbed.create(*(objects.resource_slice(name, DRIVER, devices) for name in names))
    testbed.create(objects.device_class("gpu", DRIVER))
    return testbed


@pytest.fixture
def second(gpus: Testbed) -> Iterator[SecondScheduler]:
    options = SchedulerOptions(configuration={"profiles": [{"schedulerName": SECOND}]})
    scheduler = SecondScheduler.start(gpus.control_plane, "load-second", options)
    yield scheduler
    scheduler.stop()


def remains(testbed: Testbed) -> list[str]:
    kinds = [("v1", "Pod"), *((objects.RESOURCE_API, kind) for kind in ("ResourceClaim", "ResourceClaimTemplate"))]
    return [each["metadata"]["name"] for kind in kinds for each in testbed.api.list(*kind, testbed.namespace)]


def is_in_order(result: LoadResult) -> bool:
    return all(free < bound for free, bound in zip(result.free_s, result.bound_s, strict=True))


@pytest.mark.parametrize("claims", ["template", "named", "none"])
def test_a_burst_binds_all_pods_and_leaves_nothing(gpus: Testbed, claims: str) -> None:
    load = Workload(namespace=gpus.namespace, name="burst", pods=NODES * GPUS, claims=claims)  # type: ignore[arg-type]
    result = burst(gpus.control_plane.kubeconfig, load, timeout_s=60)
    assert result.pods == NODES * GPUS
    assert is_in_order(result)
    assert result.lateness_s is not None
    assert remains(gpus) == []


def test_churned_pods_take_the_devices_of_those_before_them(gpus: Testbed) -> None:
    load = Workload(namespace=gpus.namespace, name="churn", pods=3 * NODES * GPUS, claims="named")
    result = churn(gpus.control_plane.kubeconfig, load, alive=NODES * GPUS, timeout_s=60)
    assert result.pods == 3 * NODES * GPUS
    assert is_in_order(result)
    assert remains(gpus) == []


def test_pods_without_devices_are_counted_and_removed(gpus: Testbed, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Workload(namespace=gpus.namespace, name="many", pods=NODES * GPUS + 2)
    wait_for_all = BoundWatch.all

    async def wait_for_those_that_can(watch: BoundWatch, timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            while len(watch.bound_s) < NODES * GPUS:
                await asyncio.sleep(0.05)
        await wait_for_all(watch, 0.5)

    monkeypatch.setattr(BoundWatch, "all", wait_for_those_that_can)
    with pytest.raises(LoadError, match=f"{NODES * GPUS} of {NODES * GPUS + 2} pods are bound after 0.5 s"):
        burst(gpus.control_plane.kubeconfig, load, timeout_s=60)
    assert remains(gpus) == []


def test_a_refused_request_ends_the_load_with_the_servers_words(gpus: Testbed) -> None:
    load = Workload(namespace="no-such-namespace", name="lost", pods=2)
    with pytest.raises(LoadError, match=r"resourceclaimtemplates: 404 .*no-such-namespace.* not found"):
        burst(gpus.control_plane.kubeconfig, load)


def test_schedulers_take_turns_with_the_same_load(gpus: Testbed, second: SecondScheduler) -> None:
    load = Workload(namespace=gpus.namespace, name="turn", pods=NODES * GPUS)
    results = compared(gpus.control_plane.kubeconfig, load, ["default-scheduler", SECOND], rounds=2, timeout_s=60)
    assert [result.scheduler for result in results] == ["default-scheduler", SECOND] * 2
    assert {result.pods for result in results} == {NODES * GPUS}
    ends = [(min(result.free_s), max(result.bound_s)) for result in results]
    assert all(before[1] < after[0] for before, after in pairwise(ends)), "they overlap"
    assert remains(gpus) == []


def test_a_gated_pod_has_a_gate_and_a_free_one_has_none() -> None:
    load = Workload(namespace="n", name="l", pods=1, devices=2, claims="named", scheduler="ours")
    assert load.pod(0, gated=True)["spec"]["schedulingGates"]
    assert "schedulingGates" not in load.pod(0, gated=False)["spec"]
    claim = load.claim(0)
    assert claim is not None
    assert claim["spec"]["devices"]["requests"][0]["exactly"]["count"] == 2
    assert load.pod(0, gated=True)["spec"]["resourceClaims"] == [
        {"name": "gpu", "resourceClaimName": claim["metadata"]["name"]}
    ]


def result(*pairs: tuple[float, float]) -> LoadResult:
    """A result from pairs of free and bound."""
    frees, bounds = zip(*pairs, strict=True)
    return LoadResult(scheduler="s", free_s=frees, bound_s=bounds, lateness_s=0.0)


def test_figures_of_a_load() -> None:
    figures = result((100.0, 100.5), (100.2, 102.0), (101.0, 101.5), (101.0, 101.6)).as_dict()
    assert figures == {
        "scheduler": "s",
        "pods": 4,
        "pods_per_s": 2.0,
        "release_s": 1.0,
        "first_bound_s": 0.5,
        "last_bound_s": 2.0,
        "wait_p50_s": 0.5,
        "wait_p99_s": 1.8,
        "lateness_s": 0.0,
        "breaks": 0,
        "doubled": 0,
    }
    assert median_rate([result((0, 1)), result((0, 2)), result((0, 4))]) == 0.5


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values)


@pytest.mark.parametrize(
    ("arrival", "corrected_to", "late"), [(0.0, 0.0, 0.0), (0.99, 0.99, 0.0), (1.25, 1.0, 0.25), (3.5, 1.0, 2.5)]
)
def test_an_arrival_after_the_second_of_its_binding_is_late_and_corrected(
    arrival: float, corrected_to: float, late: float
) -> None:
    condition = {"type": "PodScheduled", "lastTransitionTime": "2026-01-02T03:04:05Z"}
    pod = {"metadata": {"name": "p"}, "status": {"conditions": [{"type": "Ready"}, condition]}}
    begins_s = 1767323045.0
    times_s, lateness_s = corrected({"p": begins_s + arrival}, [pod])
    assert times_s["p"] == pytest.approx(begins_s + corrected_to)
    assert lateness_s == pytest.approx(late)


def test_a_device_of_two_claims_is_found_unless_it_is_shared() -> None:
    def claim(*results: dict[str, object]) -> objects.Manifest:
        whole = [{"driver": "d", "pool": "p", **result} for result in results]
        return {"status": {"allocation": {"devices": {"results": whole}}}}

    shared: dict[str, object] = {"device": "gpu-1", "shareID": "s"}
    claims = [claim({"device": "gpu-0"}, shared), claim(shared), {"status": {}}, claim({"device": "gpu-2"})]
    assert allocated_twice(claims) == []
    assert allocated_twice([*claims, claim({"device": "gpu-2"})]) == ["d/p/gpu-2"]
