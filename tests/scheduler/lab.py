"""A real control plane where things go wrong: our extender behind a proxy that holds, loses and refuses its calls."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from dovetail.sandbox_cmd_scheduler import NAME
from sandbox import objects
from sandbox.api import Api, Manifest
from sandbox.chaos.components import Component
from sandbox.chaos.faults import Action, Armed, Fault, Match
from sandbox.chaos.proxy import ApiProxy
from sandbox.controlplane import ControlPlane
from sandbox.testbed import Testbed
from sandbox.waiting import NotYet, wait_for
from tests.scheduler.harness import OurScheduler, add_gpu_nodes
from tests.scheduler.invariants import check_settled

MACHINE, GPUS = "hgx-h100-8", 8
RESOURCE = "nvidia.com/gpu"
"""An extended resource that a DeviceClass of the lab serves."""
GPU_CLASS = "gpu.dovetail.dev"

WRITES: Mapping[str, Match] = {
    "finalizer": Match(verbs=["patch"], resources=["resourceclaims"]),
    "allocation": Match(verbs=["patch"], resources=["resourceclaims/status"]),
    "binding": Match(verbs=["create"], resources=["pods/binding"]),
}
"""Of a pod with a claim, in their order."""
EXTENDED_WRITES: Mapping[str, Match] = {
    "creation": Match(verbs=["create"], resources=["resourceclaims"]),
    "status": Match(verbs=["patch"], resources=["pods/status"]),
    "allocation": WRITES["allocation"],
    "binding": WRITES["binding"],
}
"""Of a pod that asks for extended resources."""


@dataclass(frozen=True, slots=True)
class Lab:
    """One namespace, nodes with GPUs, and our scheduler."""

    testbed: Testbed
    proxy: ApiProxy
    ours: OurScheduler

    @classmethod
    @contextmanager
    def on(
        cls, control_plane: ControlPlane, *flags: str, nodes: int, asked_by: Mapping[str, Any] | None = None
    ) -> Iterator[Lab]:
        """Set all up, and take it away at the end."""
        testbed = Testbed(control_plane)
        testbed.open()
        try:
            add_gpu_nodes(testbed, {MACHINE: nodes})
            testbed.create(extended_class("nvidia", RESOURCE))
            with ApiProxy(control_plane.kubeconfig) as proxy:
                ours = OurScheduler.start(control_plane, *flags, asked_by=asked_by, kubeconfig=proxy.kubeconfig)
                try:
                    yield cls(testbed, proxy, ours)
                finally:
                    ours.stop()
        finally:
            testbed.close()

    @property
    def api(self) -> Api:
        """The administrator's own way."""
        return self.testbed.api

    @property
    def namespace(self) -> str:
        """Of everything here."""
        return self.testbed.namespace

    @property
    def extender(self) -> Component:
        """The process."""
        return Component(self.testbed.control_plane, self.ours.extender.name)

    # Faults

    @contextmanager
    def fault(
        self, write: Match, pod: str, action: Action, *, forwarded: bool = False, skip: int = 0
    ) -> Iterator[Armed]:
        """Let one write for one pod go wrong; its claims are named after it. A creation has no name to match."""
        names = [] if write.verbs == ["create"] and write.resources == ["resourceclaims"] else [pod, f"{pod}-*"]
        match = replace(write, names=names, namespaces=[self.namespace])
        with self.proxy.fault(Fault(match=match, action=action, forwarded=forwarded, skip=skip, times=1)) as armed:
            yield armed

    def wait_acted(self, faults: Collection[Armed]) -> None:
        """Wait until every fault has met its request, and those that come after it have seen it served."""
        wait_for("all faults to act", lambda: all(map(self._has_acted, faults)) or NotYet(_idle(faults)))

    def _has_acted(self, armed: Armed) -> bool:
        met = [each for each in self.proxy.records() if armed.fault in each.faults]
        return bool(met) and (not armed.fault.forwarded or all(each.served is not None for each in met))

    def waiting(self, faults: Collection[Armed]) -> bool:
        """Whether the requests that met these faults are still without an answer."""
        met = [each for each in self.proxy.records() if any(armed.fault in each.faults for armed in faults)]
        return all(each.seen is None and not each.reset for each in met)

    # Workload

    def pod(self, name: str, *, devices: int = 1, scheduler: str = NAME, **options: Any) -> Manifest:
        """Create a pod of ours with a claim of the same name."""
        self.api.create(self.claim(name, devices=devices))
        return self.api.create(objects.pod(self.namespace, name, claim=name, scheduler=scheduler, **options))

    def claim(self, name: str, *, devices: int = 1) -> Manifest:
        """Return a claim for whole GPUs."""
        return objects.claim(self.namespace, name, GPU_CLASS, count=devices)

    def says(self, *texts: str) -> Callable[[Manifest], bool | str]:
        """Return what says whether the events of a pod have one of some texts."""

        def look(pod: Manifest) -> bool | str:
            events = self.api.events(pod)
            return any(text in events for text in texts) or events

        return look

    def extended_pod(self, name: str, *, devices: int = 1, resource: str = RESOURCE) -> Manifest:
        """Create a pod of ours that asks by an extended resource."""
        return self.api.create(asking(objects.pod(self.namespace, name, scheduler=NAME), resource, devices))

    def wait_bound(self, pods: Collection[str], *, timeout_s: float = 90.0) -> Mapping[str, str]:
        """Wait until pods have nodes; returns them by name. The account of a time-out has their events."""

        def look() -> Mapping[str, str] | NotYet:
            assert self.extender.pid is not None, self.ours.extender.log()[-2000:]
            found = self.api.list("v1", "Pod", self.namespace)
            nodes = {pod["metadata"]["name"]: pod["spec"].get("nodeName") for pod in found}
            left = [name for name in pods if not nodes.get(name)]
            return NotYet(f"not bound: {', '.join(left)}") if left else {name: nodes[name] for name in pods}

        def account() -> str:
            left = [pod for pod in self.api.list("v1", "Pod", self.namespace) if not pod["spec"].get("nodeName")]
            return "\n".join(self.api.events(pod) for pod in left[:5])

        return wait_for("pods to be bound", look, timeout_s=timeout_s, every_s=0.1, account=account)

    def clear(self) -> None:
        """See that all is sound, then remove the workload, which leaves nothing."""
        check_settled(self.api)
        self.testbed.remove_workload(timeout_s=60)


def gpu_slice(node: str) -> Manifest:
    """Return the slice of a node with four GPUs."""
    gpu = {"type": {"string": "gpu"}}
    return objects.resource_slice(node, GPU_CLASS, [objects.device(f"gpu-{at}", attributes=gpu) for at in range(4)])


def extended_class(name: str, resource: str) -> Manifest:
    """Return a DeviceClass of whole GPUs that serves an extended resource."""
    found = objects.device_class(name, GPU_CLASS, f'device.attributes["{GPU_CLASS}"].type == "gpu"')
    found["spec"]["extendedResourceName"] = resource
    return found


def asking(pod: Manifest, resource: str, count: int) -> Manifest:
    """Return the pod, its container asking for so much of a resource."""
    (container,) = pod["spec"]["containers"]
    amount = {resource: str(count)}
    return {
        **pod,
        "spec": {**pod["spec"], "containers": [{**container, "resources": {"requests": amount, "limits": amount}}]},
    }


def _idle(faults: Collection[Armed]) -> str:
    idle = [armed.fault for armed in faults if armed.acted == 0]
    return f"{len(idle)} of {len(faults)} have not: {', '.join(str(each.match.names) for each in idle)[:300]}"
