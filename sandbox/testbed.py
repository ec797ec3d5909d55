"""One test's part of a cluster that many use: a namespace of its own, and nothing of it left afterwards."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, suppress

from sandbox import objects
from sandbox.api import Api, Manifest, NotFound
from sandbox.controlplane import ControlPlane
from sandbox.fakenodes import LABEL, FakeNodes
from sandbox.waiting import NotYet, wait_for

WORKLOAD = (("v1", "Pod"), (objects.RESOURCE_API, "ResourceClaim"))
"""In the order in which it goes: a claim stays as long as a pod uses it."""
INVENTORY = ((objects.RESOURCE_API, "ResourceSlice"), (objects.RESOURCE_API, "DeviceClass"))
"""What all tests of one control plane would see of each other's GPUs, beside the simulated nodes."""
CLEAN_S = 30.0


class Testbed:
    """A namespace and an empty GPU inventory on a control plane that other tests used and will use."""

    __test__ = False  # the name is no test's

    def __init__(self, control_plane: ControlPlane) -> None:
        self.control_plane = control_plane
        self.api: Api = control_plane.api
        self.namespace = f"test-{secrets.token_hex(4)}"
        self._created: list[Manifest] = []
        self._account: Manifest = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"namespace": self.namespace, "name": "default"},
        }

    def open(self) -> None:
        """Make the namespace and wait until pods can be created in it."""
        self.api.create(objects.namespace(self.namespace))
        self.api.wait(self._account, lambda _: True)

    def create(self, *manifests: Manifest) -> list[Manifest]:
        """Create objects, which go away with the test. Returns them as stored."""
        stored = self.api.create_all(manifests)
        self._created += [manifest for manifest in stored if "namespace" not in manifest["metadata"]]
        return stored

    def add_nodes(self, *nodes: Manifest) -> list[str]:
        """Create simulated nodes and wait until they are ready."""
        return FakeNodes.start(self.control_plane).add(nodes)

    def run(self, pod: Manifest, *, timeout_s: float = 30.0) -> Manifest:
        """Create a pod and wait until it runs. Returns it as stored."""
        self.api.create(pod)
        return self.api.wait(pod, objects.is_running, timeout_s=timeout_s, what="to run")

    def remove_workload(self, *, timeout_s: float = CLEAN_S) -> None:
        """Delete all pods, then all claims, and wait until they are gone."""
        for api_version, kind in WORKLOAD:
            self._empty(api_version, kind, timeout_s)

    def close(self, *, timeout_s: float = CLEAN_S) -> None:
        """Remove the workload, then all inventory; the namespace goes in the background.

        Raises WaitTimeoutError when the workload does not go in time; then it is forced to, and the next test finds
        nothing of it either.
        """
        with ExitStack() as rest:  # all of it runs, the last first, whatever fails
            rest.callback(self.api.delete, objects.namespace(self.namespace))
            rest.callback(self.api.delete_all, "v1", "Node", label_selector="=".join(LABEL))
            for api_version, kind in INVENTORY:
                rest.callback(self.api.delete_all, api_version, kind)
            for manifest in self._created:
                rest.callback(self.api.delete, manifest)
            for api_version, kind in reversed(WORKLOAD):
                rest.callback(self._force, api_version, kind)
            self.remove_workload(timeout_s=timeout_s)

    def _force(self, api_version: str, kind: str) -> None:
        """Delete what is left of a kind in the namespace, without grace and whoever holds it by a finalizer."""
        for stored in self.api.list(api_version, kind, self.namespace):
            self.api.delete(stored, grace_s=0)
            with suppress(NotFound):
                self.api.patch(stored, {"metadata": {"finalizers": None}})

    def _empty(self, api_version: str, kind: str, timeout_s: float) -> None:
        """Delete all objects of a kind in the namespace and wait until they are gone."""
        self.api.delete_all(api_version, kind, self.namespace)

        def look() -> bool | NotYet:
            left = [item["metadata"]["name"] for item in self.api.list(api_version, kind, self.namespace)]
            return NotYet(f"{len(left)} left, such as {left[:3]}") if left else True

        wait_for(f"{self.namespace} to have no {kind}", look, timeout_s=timeout_s)
