"""Evictions by a real kube-scheduler, which sees no devices: only where they free what the pod lacks, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dovetail.sandbox_cmd_scheduler import NAME
from sandbox import objects
from sandbox.api import Manifest
from sandbox.controlplane import ControlPlane
from tests.scheduler.lab import GPUS, Lab

pytestmark = pytest.mark.cluster

URGENT = "urgent"


@pytest.fixture(scope="module")
def shared_lab(control_plane: ControlPlane) -> Iterator[Lab]:
    with Lab.on(control_plane, nodes=1) as lab:
        yield lab


@pytest.fixture
def lab(shared_lab: Lab) -> Iterator[Lab]:
    content = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": URGENT}}
    shared_lab.testbed.create({**content, "value": 1000})
    yield shared_lab
    shared_lab.clear()
    shared_lab.api.delete(content)


def on(node: str) -> Manifest:
    return {"nodeSelector": {"kubernetes.io/hostname": node}}


def with_cores(pod: Manifest, cores: int) -> Manifest:
    """Let the container of a pod ask for cores."""
    (container,) = pod["spec"]["containers"]
    container.setdefault("resources", {})["requests"] = {"cpu": str(cores)}
    return pod


def run(lab: Lab, name: str, cores: int, node: str, **spec: Any) -> None:
    """Create a pod of ours without devices on a node, an ordinary one unless `spec` says otherwise."""
    lab.api.create(with_cores(objects.pod(lab.namespace, name, scheduler=NAME, **on(node), **spec), cores))


def urgent(lab: Lab, name: str, cores: int) -> Manifest:
    """Create a pod of priority for one GPU."""
    lab.api.create(lab.claim(name))
    pod = objects.pod(lab.namespace, name, claim=name, scheduler=NAME, priorityClassName=URGENT)
    return lab.api.create(with_cores(pod, cores))


def names(lab: Lab) -> set[str]:
    """Pods that are there and not on their way out."""
    pods = lab.api.list("v1", "Pod", lab.namespace)
    return {pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}


def test_t24_nobody_is_evicted_where_cores_are_not_what_lacks(lab: Lab) -> None:
    """All GPUs are taken; elsewhere cores are, and evictions would give the pod a node without GPUs."""
    lab.pod("all-gpus", devices=GPUS)
    lab.testbed.add_nodes(*(objects.node(f"bare-{at}", capacity={"cpu": "2"}) for at in range(3)))
    there = {"all-gpus"}
    for at in range(3):
        there |= {f"bare-{at}-a", f"bare-{at}-b"}
        run(lab, f"bare-{at}-a", 1, f"bare-{at}")
        run(lab, f"bare-{at}-b", 1, f"bare-{at}")
    lab.wait_bound(there)
    waits = urgent(lab, "waits", 1)
    lab.api.wait(waits, lab.says("preemption: no candidate node for preemption"))
    assert names(lab) == {*there, "waits"}
    assert "nominatedNodeName" not in lab.api.get(waits)["status"]


def test_exactly_the_pods_are_evicted_whose_cores_help(lab: Lab) -> None:
    """Of four ordinary pods on the one node that has GPUs free, two have to go."""
    (node,) = (each["metadata"]["name"] for each in lab.api.list("v1", "Node") if "hgx" in each["metadata"]["name"])
    cores = int(lab.api.get(objects.node(node))["status"]["allocatable"]["cpu"])
    lab.pod("half", devices=GPUS // 2)
    run(lab, "most", cores - 4, node, priorityClassName=URGENT)
    for name in "abcd":
        run(lab, name, 1, node)
    lab.wait_bound(["most", "half", *"abcd"])
    urgent(lab, "urgent", 2)
    assert lab.wait_bound(["urgent"]) == {"urgent": node}
    left = names(lab)
    assert {"most", "half", "urgent"} <= left
    assert len(left & set("abcd")) == 2


def test_a_pod_is_evicted_that_has_both_cores_and_gpus(lab: Lab) -> None:
    """The node lacks cores and GPUs; the pod that has both goes, and its devices are taken over.

    It is the only one that may go: kube-scheduler proposes one set of victims, without knowing who has devices, and
    another set would be refused (device-aware preemption is not done yet).
    """
    (node,) = (each["metadata"]["name"] for each in lab.api.list("v1", "Node") if "hgx" in each["metadata"]["name"])
    cores = int(lab.api.get(objects.node(node))["status"]["allocatable"]["cpu"])
    lab.api.create(lab.claim("both", devices=1))
    lab.api.create(with_cores(objects.pod(lab.namespace, "both", claim="both", scheduler=NAME), 2))
    lab.pod("most-gpus", devices=GPUS - 1)
    run(lab, "most", cores - 2, node, priorityClassName=URGENT)
    lab.wait_bound(["both", "most-gpus", "most"])
    urgent(lab, "urgent", 2)
    assert lab.wait_bound(["urgent"]) == {"urgent": node}
    assert names(lab) == {"most-gpus", "most", "urgent"}
