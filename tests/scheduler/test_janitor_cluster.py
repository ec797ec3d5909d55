"""What nobody mends without the janitor, shown on a real kube-scheduler, and how it ends with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from kubernetes import client, config

from dovetail.sandbox_cmd_scheduler import NAME
from sandbox import objects
from sandbox.api import Manifest
from sandbox.chaos.faults import Answer, Fault, Match
from sandbox.chaos.proxy import ApiProxy
from sandbox.testbed import Testbed
from sandbox.waiting import NotYet, wait_for
from tests.scheduler.harness import OurScheduler
from tests.scheduler.invariants import FINALIZER, Picture, check_settled
from tests.scheduler.lab import GPU_CLASS, gpu_slice

pytestmark = pytest.mark.cluster

BARE = "not-simulated"
"""A node where no pod ever runs."""
SMALL = Match(verbs=["create"], resources=["pods/binding"], names=["infeasible"])


class Wrong:
    """A cluster where everything is wrong that the janitor knows."""

    def __init__(self, testbed: Testbed) -> None:
        self.testbed = testbed
        self.api = testbed.api
        self.namespace = testbed.namespace
        facts = client.Configuration()
        facts.proxy = None
        config.load_kube_config(str(testbed.control_plane.kubeconfig), client_configuration=facts)  # type: ignore[no-untyped-call]
        self.core = client.CoreV1Api(client.ApiClient(configuration=facts))

    def set_up(self) -> None:
        """Two simulated nodes, and one where pods are bound by hand."""
        self.testbed.add_nodes(objects.node("one"), objects.node("two"))
        cordoned = objects.node(BARE)
        cordoned["spec"] = {"unschedulable": True}
        self.testbed.create(cordoned, *(gpu_slice(node) for node in ("one", "two", BARE)))
        self.testbed.create(objects.device_class(GPU_CLASS, GPU_CLASS))

    def infeasible(self, proxy: ApiProxy) -> None:
        """A claim is allocated on a node that is cordoned before the pod is bound; the other node has all GPUs free."""
        with proxy.fault(Fault(match=SMALL, action=Answer(429))) as armed:
            pod = self.pod("infeasible")
            wait_for("a Binding to be refused", lambda: armed.acted > 0 or NotYet("none"))
            (node,) = self.nodes_of("infeasible")
            self.api.patch(objects.node(node), {"spec": {"unschedulable": True}})
            self.api.wait(pod, lambda stored: "nodes are available" in str(stored["status"]) or str(stored["status"]))

    def doubled(self) -> None:
        """Two claims have one device; the pod of neither runs."""
        first, later = (self.pod(name, scheduler="nobody") for name in ("first", "later"))
        while later["metadata"]["creationTimestamp"] == first["metadata"]["creationTimestamp"]:  # whole seconds
            self.api.delete(later, grace_s=0)
            later = self.api.create(objects.pod(self.namespace, "later", claim="later", scheduler="nobody"))
        for pod in (first, later):
            self.allocate(pod["metadata"]["name"], "gpu-0", pod)
            self.bind(pod)

    def bare(self) -> None:
        """Pods have a node and no devices; for one of them there are none there."""
        for name, count in (("bare", 1), ("too-much", 5)):
            self.api.create(objects.claim(self.namespace, name, GPU_CLASS, count=count))
            self.bind(self.api.create(objects.pod(self.namespace, name, claim=name, scheduler=NAME)))

    def for_nobody(self) -> None:
        """A claim has a device and no user, and another has the finalizer and no device."""
        for name in ("unowned", "leftover"):
            claim = self.api.create(objects.claim(self.namespace, name, GPU_CLASS))
            self.api.patch(claim, {"metadata": {"finalizers": [FINALIZER]}})
        self.allocate("unowned", "gpu-3")

    def pod(self, name: str, *, scheduler: str = NAME) -> Manifest:
        """Create a pod with a claim of its name."""
        self.api.create(objects.claim(self.namespace, name, GPU_CLASS))
        return self.api.create(objects.pod(self.namespace, name, claim=name, scheduler=scheduler))

    def allocate(self, name: str, device: str, *users: Manifest) -> None:
        """Write an allocation as another scheduler would that sees nobody beside it."""
        result = {"request": "gpu", "driver": GPU_CLASS, "pool": BARE, "device": device}
        field = {"key": "metadata.name", "operator": "In", "values": [BARE]}
        allocation = {
            "devices": {"results": [result]},
            "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [field]}]},
        }
        reserved = [
            {"resource": "pods", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]} for pod in users
        ]
        claim = objects.claim(self.namespace, name, GPU_CLASS)
        self.api.patch(claim, {"metadata": {"finalizers": [FINALIZER]}})
        self.api.patch(claim, {"status": {"allocation": allocation, "reservedFor": reserved}}, subresource="status")

    def bind(self, pod: Manifest) -> None:
        """Bind a pod to the node where nothing runs, as a person might."""
        target = client.V1ObjectReference(api_version="v1", kind="Node", name=BARE)
        metadata = client.V1ObjectMeta(name=pod["metadata"]["name"])
        binding = client.V1Binding(metadata=metadata, target=target)
        self.core.create_namespaced_binding(self.namespace, binding, _preload_content=False)

    def claims(self) -> Mapping[str, Manifest]:
        """Claims by name."""
        return {
            each["metadata"]["name"]: each
            for each in self.api.list(objects.RESOURCE_API, "ResourceClaim", self.namespace)
        }

    def pods(self) -> Mapping[str, str | None]:
        """Pod -> its node; those on their way out are left out."""
        return {
            pod["metadata"]["name"]: pod["spec"].get("nodeName")
            for pod in self.api.list("v1", "Pod", self.namespace)
            if "deletionTimestamp" not in pod["metadata"]
        }

    def reap(self) -> None:
        """End the pods that are deleted, as the kubelet would that is not there."""
        for pod in self.api.list("v1", "Pod", self.namespace):
            if "deletionTimestamp" in pod["metadata"]:
                self.api.delete(pod, grace_s=0)

    def nodes_of(self, name: str) -> Sequence[str]:
        """Nodes of a claim's devices."""
        allocation = self.claims()[name].get("status", {}).get("allocation", {})
        return [each["pool"] for each in allocation.get("devices", {}).get("results", [])]

    def wrongs(self) -> set[str]:
        """Return what is wrong, in words."""
        claims, pods, picture = self.claims(), self.pods(), Picture.take(self.api)
        found = {
            "infeasible": pods.get("infeasible") is None,
            "doubled": any("gpu-0 is given 2 times" in each for each in picture.broken()),
            "bare": "allocation" not in claims["bare"].get("status", {}),
            "too-much": "too-much" in pods,
            "unowned": "allocation" in claims["unowned"].get("status", {}),
            "leftover": FINALIZER in claims["leftover"]["metadata"].get("finalizers", []),
        }
        return {name for name, wrong in found.items() if wrong}


ALL = {"infeasible", "doubled", "bare", "too-much", "unowned", "leftover"}


@pytest.fixture
def schedulers(testbed: Testbed) -> Iterator[Callable[..., OurScheduler]]:
    """Start schedulers with a janitor of the test's choice; they end with the test."""
    with ExitStack() as stack:

        def start(janitor: str, **options: Any) -> OurScheduler:
            program = ("tests.scheduler.program", janitor)
            ours = OurScheduler.start(testbed.control_plane, name=f"janitor-{janitor}", program=program, **options)
            stack.callback(ours.stop)
            return ours

        yield start


def test_what_is_stuck_without_the_janitor_ends_with_it(
    testbed: Testbed, schedulers: Callable[..., OurScheduler]
) -> None:
    wrong = Wrong(testbed)
    wrong.set_up()
    with ApiProxy(testbed.control_plane.kubeconfig) as proxy:
        ours = schedulers("off", kubeconfig=proxy.kubeconfig)
        wrong.doubled()
        wrong.bare()
        wrong.for_nobody()
        wrong.infeasible(proxy)
        # A pod that kube-scheduler tries after all of this is placed: it is not for want of an attempt that they stay.
        testbed.run(objects.pod(wrong.namespace, "healthy", scheduler=NAME))
        assert wrong.wrongs() == ALL
        ours.stop()
    ours = schedulers("soon")

    def mended() -> bool | NotYet:
        wrong.reap()
        left = wrong.wrongs()
        return NotYet(f"{sorted(left)}") if left else True

    wait_for("the janitor to mend all", mended, timeout_s=90, account=ours.extender.log)
    pods = wrong.pods()
    assert {"first", "bare", "infeasible", "healthy"} == set(pods), "the later pod is gone, and the one that cannot be"
    assert wrong.nodes_of("bare") == [BARE]
    assert wrong.nodes_of("infeasible") == [pods["infeasible"]]
    assert "came later" in wrong.api.events(objects.pod(wrong.namespace, "later"))
    assert "without devices" in wrong.api.events(objects.pod(wrong.namespace, "too-much"))
    for name in ("first", "bare"):
        wrong.api.delete(objects.pod(wrong.namespace, name), grace_s=0)  # no kubelet is there to see them end
    check_settled(wrong.api)
