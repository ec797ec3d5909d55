"""What kubelets, drivers and clusters go through (kubernetes/test/e2e_node/dra_test.go, test/e2e/dra/dra.go).

Where the kubelet takes more than a minute to try again, the test is among the soak: the same cases with a kubelet that
is quicker are tests/dra_driver/plugin/test_kubelet_*.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sandbox import objects
from sandbox.objects import Manifest
from sandbox.waiting import NotYet, wait_for
from tests.driver_node.box import RETRY_S, RUN_S, Bed, Box, claim, request, uses
from tests.driver_node.conftest import bed_of, partition, prepared

pytestmark = pytest.mark.node
CREATE = "nvmlDeviceCreateGpuInstanceWithPlacement"
DESTROY = "nvmlGpuInstanceDestroy"
IN_USE, INSUFFICIENT_RESOURCES = 19, 23


@pytest.fixture
def bed(h100: Box) -> Iterator[Bed]:
    yield from bed_of(h100)
    h100.twin.clear_faults()


def contents(slices: list[Manifest]) -> list[Any]:
    return [(each["metadata"]["name"], each["spec"].get("devices")) for each in slices]


def restarts(bed: Bed, pod: Manifest) -> int:
    count: int = bed.api.get(pod)["status"]["containerStatuses"][0]["restartCount"]
    return count


def test_a_kubelet_restart_costs_no_pod_anything(h100: Box, bed: Bed) -> None:
    """It wipes the node's slices as it starts; they come back, and what was prepared before is unprepared after."""
    user = partition(h100, bed, "before")
    h100.run(bed, user)
    slices = h100.slices()
    h100.node.programs.kill("kubelet")
    late = partition(h100, bed, "meanwhile")
    bed.api.create(late)
    h100.node.programs.restart("kubelet")
    h100.node.wait_healthy("kubelet")
    uids = {each["metadata"]["uid"] for each in slices}

    def came_back() -> bool | NotYet:
        now = h100.slices()
        same = contents(now) == contents(slices)
        made_anew = uids.isdisjoint(each["metadata"]["uid"] for each in now)
        return True if same and made_anew else NotYet(f"{len(now)} slices, {same=}, {made_anew=}")

    wait_for("slices to be made anew", came_back, timeout_s=RUN_S)
    bed.api.wait(late, objects.is_running, timeout_s=RUN_S)
    assert restarts(bed, user) == 0
    assert prepared(h100) == {"before", "meanwhile"}
    bed.remove_workload()
    assert prepared(h100) == set()


def test_kill_9_of_the_driver_costs_no_pod_anything(h100: Box, bed: Bed) -> None:
    user = partition(h100, bed, "user")
    h100.run(bed, user)
    slices = h100.slices()
    h100.node.programs.kill("driver")
    h100.restart_driver()
    assert h100.slices() == slices, "byte for byte"
    assert restarts(bed, user) == 0
    h100.run(bed, partition(h100, bed, "late"))
    assert prepared(h100) == {"user", "late"}
    kept = {compute.uuid for gpu in h100.twin.state.gpus for each in gpu.instances for compute in each.compute}
    (uuid,) = h100.view(user, "main").devices.values()
    assert uuid in kept
    assert len(kept) == 2
    bed.remove_workload()
    assert prepared(h100) == set()


@pytest.mark.soak
def test_pods_that_end_and_begin_while_the_driver_is_dead_do_so_when_it_is_back(h100: Box, bed: Bed) -> None:
    user, doomed = partition(h100, bed, "user"), partition(h100, bed, "doomed")
    h100.run(bed, user)
    h100.run(bed, doomed)
    before, slices = h100.twin.state.gpus, h100.slices()
    h100.node.programs.kill("driver")
    bed.api.delete(doomed)
    late = partition(h100, bed, "late")
    bed.api.create(late)
    h100.restart_driver()
    bed.api.wait_gone(doomed, timeout_s=RETRY_S)
    bed.api.wait(late, objects.is_running, timeout_s=RETRY_S)
    assert h100.slices() == slices, "byte for byte"
    assert restarts(bed, user) == 0
    assert prepared(h100) == {"user", "late"}
    kept = {compute.uuid for gpu in h100.twin.state.gpus for each in gpu.instances for compute in each.compute}
    (uuid,) = h100.view(user, "main").devices.values()
    assert uuid in kept
    assert len(kept) == 2 == sum(len(gpu.instances) for gpu in before)


def test_a_container_restarts_while_the_driver_is_away(h100: Box, bed: Bed) -> None:
    """The kubelet keeps the CDI names for the life of a pod, so the file outlives the driver's clean end."""
    bed.create(claim(bed.namespace, "user", request("gpu", "mig")))
    user = h100.probing(bed.namespace, "user", {"gpu": "user"}, uses("main"))
    (main,) = user["spec"]["containers"]
    until_told = "while [ ! -e /signal/end ]; do sleep 0.2; done; rm /signal/end"
    main["command"][-1] = main["command"][-1].replace("exec sleep 3600", until_told)
    main["volumeMounts"] = [{"name": "signal", "mountPath": "/signal"}]
    user["spec"] |= {"restartPolicy": "Always", "volumes": [{"name": "signal", "emptyDir": {}}]}
    first = h100.run(bed, user)["main"]
    slices = h100.slices()
    h100.node.programs.stop("driver")
    assert h100.node.programs.status()["driver"].returncode == 0
    uid = bed.api.get(user)["metadata"]["uid"]
    volume = h100.node.paths.kubelet_root / "pods" / uid / "volumes" / "kubernetes.io~empty-dir" / "signal"
    (volume / "end").touch()
    wait_for("another container", lambda: restarts(bed, user) == 1 or NotYet("the first"), timeout_s=RETRY_S)
    assert h100.view(user, "main") == first
    assert h100.slices() == slices
    h100.restart_driver()


def test_a_prepare_that_blocks_keeps_the_pod_pending_and_no_other(h100: Box, bed: Bed) -> None:
    h100.twin.fault(CREATE, hang=True)
    blocked = partition(h100, bed, "blocked")
    bed.api.create(blocked)
    wait_for("it to be begun", lambda: "blocked" in prepared(h100) or NotYet(str(prepared(h100))), timeout_s=RUN_S)
    bed.create(claim(bed.namespace, "whole", request("gpu", "gpu")))
    h100.run(bed, h100.probing(bed.namespace, "whole", {"gpu": "whole"}, uses("main")))
    assert bed.api.get(blocked)["status"]["phase"] == "Pending"
    h100.twin.clear_faults()
    bed.api.wait(blocked, objects.is_running, timeout_s=RETRY_S)


@pytest.mark.soak
def test_a_prepare_that_fails_is_tried_again(h100: Box, bed: Bed) -> None:
    h100.twin.fault(CREATE, code=INSUFFICIENT_RESOURCES)
    pod = partition(h100, bed, "unlucky")
    bed.api.create(pod)
    h100.waits_with(bed, pod, "GPU instance")
    assert sum(len(gpu.instances) for gpu in h100.twin.state.gpus) == 0, "nothing half-made stays"
    bed.api.wait(pod, objects.is_running, timeout_s=RETRY_S)


@pytest.mark.soak
def test_an_unprepare_that_fails_is_tried_again_and_holds_the_name(h100: Box, bed: Bed) -> None:
    """A new claim of the same name waits until the old one is unprepared (kubernetes/kubernetes, dra.go)."""
    pod = partition(h100, bed, "same")
    h100.run(bed, pod)
    h100.twin.fault(DESTROY, code=IN_USE, times=-1)
    bed.api.delete(pod, grace_s=0)
    bed.api.wait_gone(pod)
    old = bed.get_claim("same")
    bed.api.delete(old)
    bed.api.wait_gone(old)
    again = partition(h100, bed, "same")
    again["metadata"]["name"] = "again"
    bed.api.create(again)
    h100.waits_with(bed, again, "same")
    h100.twin.clear_faults()
    bed.api.wait(again, objects.is_running, timeout_s=RETRY_S)
    assert sum(len(gpu.instances) for gpu in h100.twin.state.gpus) == 1


def test_a_pod_that_is_deleted_by_force_is_unprepared(h100: Box, bed: Bed) -> None:
    pod = partition(h100, bed, "forced")
    h100.run(bed, pod)
    bed.api.delete(pod, grace_s=0)
    wait_for("unprepare", lambda: not prepared(h100) or NotYet(str(prepared(h100))), timeout_s=RUN_S)
    assert sum(len(gpu.instances) for gpu in h100.twin.state.gpus) == 0


def test_a_broken_gpu_is_tainted_told_and_well_again(h100: Box, bed: Bed) -> None:
    bed.create(claim(bed.namespace, "one", request("gpu", "gpu")))
    pod = h100.probing(bed.namespace, "user", {"gpu": "one"}, uses("main"))
    (minor,) = h100.run(bed, pod)["main"].gpus

    def taints() -> list[str]:
        return [
            taint["key"]
            for each in h100.slices()
            for device in each["spec"].get("devices", ())
            if device["name"] == f"gpu-{minor}"
            for taint in device.get("taints", ())
        ]

    def health() -> set[str]:
        status = bed.api.get(pod)["status"]["containerStatuses"][0].get("allocatedResourcesStatus", ())
        return {resource["health"] for each in status for resource in each.get("resources", ())}

    h100.twin.lose(minor)
    wait_for("a taint", lambda: bool(taints()) or NotYet("none"), timeout_s=RUN_S)
    wait_for("the kubelet to tell", lambda: "Unhealthy" in health() or NotYet(str(health())), timeout_s=RUN_S)
    h100.twin.recover(minor)
    wait_for("no taint", lambda: not taints() or NotYet(str(taints())), timeout_s=RUN_S)
    wait_for("the kubelet to tell", lambda: health() == {"Healthy"} or NotYet(str(health())), timeout_s=RUN_S)
