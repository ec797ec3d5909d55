"""A node on which somebody made MIG devices: they are given as they are, and nothing that they are in the way of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dra_driver.inventory import MigInstance
from dra_driver.publish import resource_slices
from dra_driver.publish.features import Features
from dra_driver.simulated import simulated_gpus
from kube.cluster import Cluster
from kube.objects import ResourceSlice
from tests.kube.asking import GPU, device_class, exactly
from tests.kube.builders import DRIVER, claim, decoded, node, pod
from topology.catalog import machine

MIG = f'device.attributes["{DRIVER}"].type == "mig"'
STATIC = Features(counters=False, shares=False, taints=False)


def cluster(features: Features = Features()) -> Cluster:  # noqa: B008 - frozen
    """Two A100: on the first there is a 3g.40gb at slice 4; the second is free."""
    one = MigInstance(
        profile="3g.40gb", profile_id=9, start=4, size=4, gpu_instance=1, compute_instance=0, uuid="MIG-1"
    )
    gpus = simulated_gpus(machine("dgx-a100-80"), "node-1").gpus[:2]
    found = replace(
        simulated_gpus(machine("dgx-a100-80"), "node-1"), gpus=(replace(gpus[0], instances=(one,)), gpus[1])
    )
    made = Cluster()
    made.put(node("node-1"))
    made.put(device_class(DRIVER, GPU))
    made.put(device_class("mig", MIG))
    for each in resource_slices(found, features=features):
        made.put(decoded(each, ResourceSlice))
    return made


def given(on: Cluster, count: int, *expressions: str, of: str = "mig") -> list[str] | None:
    on.put(claim("c", requests=[exactly("r", of, *expressions, count=count)]))
    decision = on.decide(on.resolve(pod(claims=["c"])))
    if decision.allocation is None:
        return None
    return sorted(each.device.name for each in decision.allocation.claims[0])


def with_profile(name: str) -> str:
    return f'device.attributes["{DRIVER}"].profile == "{name}"'


EXISTS = f'"uuid" in device.attributes["{DRIVER}"]'


def test_the_device_that_exists_can_be_given_by_what_it_is() -> None:
    assert given(cluster(), 1, EXISTS) == ["gpu-0-mig-3g40gb-9-4"]
    assert given(cluster(STATIC), 1) == ["gpu-0-mig-3g40gb-9-4"], "on an older server it is all there is of MIG"


def test_what_it_is_in_the_way_of_is_not_given() -> None:
    assert given(cluster(), 2, of=DRIVER) is None, "only one GPU is whole"
    assert given(cluster(), 1, of=DRIVER) == ["gpu-1"]
    assert given(cluster(), 4, with_profile("3g.40gb")) == [
        "gpu-0-mig-3g40gb-9-0",
        "gpu-0-mig-3g40gb-9-4",
        "gpu-1-mig-3g40gb-9-0",
        "gpu-1-mig-3g40gb-9-4",
    ]
    assert given(cluster(), 5, with_profile("3g.40gb")) is None


@pytest.mark.parametrize(("count", "fits"), [(11, True), (12, False)])
def test_small_ones_fit_beside_it_as_the_hardware_lets_them(count: int, fits: bool) -> None:
    """Four compute slices are left on the first GPU, seven are on the second."""
    assert (given(cluster(), count, with_profile("1g.10gb")) is not None) is fits
