"""A real API server stores the slices as they are written, and kube-scheduler's own allocator reads them as meant."""

from __future__ import annotations

from typing import Any

import pytest

from dra_driver.publish import DRIVER_NAME, resource_slices
from dra_driver.simulated import simulated_gpus
from sandbox import objects
from sandbox.testbed import Testbed
from tests.dra_driver.nodes import GEOMETRIES, gpu, gpu_with_everything, node
from topology.catalog import machine, machine_names, mig_geometry
from topology.mig import MigGeometry

Json = dict[str, Any]


def read_back(testbed: Testbed, slices: list[Json]) -> list[Json]:
    testbed.create(*slices)
    return [testbed.api.get(one)["spec"] for one in slices]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: geometry.id)
def test_sixteen_gpus_of_every_product_are_stored_unchanged(testbed: Testbed, geometry: MigGeometry) -> None:
    slices = resource_slices(node(*(gpu_with_everything(geometry, index, 16) for index in range(16))))
    assert read_back(testbed, slices) == [one["spec"] for one in slices]


def test_every_machine_of_the_catalog_is_stored_unchanged(testbed: Testbed) -> None:
    slices = [one for name in machine_names() for one in resource_slices(simulated_gpus(machine(name), name))]
    assert read_back(testbed, slices) == [one["spec"] for one in slices]


def test_a_node_without_gpus_is_stored_unchanged(testbed: Testbed) -> None:
    slices = resource_slices(node())
    assert read_back(testbed, slices) == [one["spec"] for one in slices]


class Tenants:
    """Pods on a node with one H100, placed by the in-tree scheduler; each has a claim of its own name."""

    def __init__(self, testbed: Testbed) -> None:
        self.testbed = testbed
        testbed.add_nodes(objects.node("h100"))
        testbed.create(*resource_slices(node(gpu(mig_geometry("h100-80gb")), name="h100")))
        for kind in ("gpu", "mig", "share"):
            expression = f'device.attributes["{DRIVER_NAME}"].type == "{kind}"'
            testbed.create(objects.device_class(kind, DRIVER_NAME, expression))

    def ask(self, name: str, kind: str, *, capacity: dict[str, str] | None = None, **attributes: str) -> None:
        selectors = [f'device.attributes["{DRIVER_NAME}"].{key} == "{text}"' for key, text in attributes.items()]
        claim = objects.claim(self.testbed.namespace, name, kind, *selectors)
        if capacity is not None:
            claim["spec"]["devices"]["requests"][0]["exactly"]["capacity"] = {"requests": capacity}
        self.testbed.create(claim, self._pod(name))

    def gets(self, name: str) -> str:
        self.testbed.api.wait(self._pod(name), objects.is_running)
        (result,) = self._claim(name)["status"]["allocation"]["devices"]["results"]
        assert (result["driver"], result["pool"]) == (DRIVER_NAME, f"h100/{DRIVER_NAME}")
        return str(result["device"])

    def is_refused(self, name: str) -> bool:
        def refused(pod: Json) -> bool | str:
            conditions = {one["type"]: one for one in pod["status"].get("conditions", [])}
            return conditions.get("PodScheduled", {}).get("reason") == "Unschedulable" or str(conditions)

        self.testbed.api.wait(self._pod(name), refused)
        return "allocation" not in self._claim(name).get("status", {})

    def leaves(self, *names: str) -> None:
        for name in names:
            self.testbed.api.delete(self._pod(name), grace_s=0)
            self.testbed.api.wait_gone(self._pod(name))

    def _pod(self, name: str) -> Json:
        return objects.pod(self.testbed.namespace, name, claim=name)

    def _claim(self, name: str) -> Json:
        return self.testbed.api.get(objects.claim(self.testbed.namespace, name, "gpu"))


def test_the_in_tree_scheduler_keeps_whole_partitioned_and_shared_apart(testbed: Testbed) -> None:
    """KEP-4815 and KEP-5075 as kube-scheduler implements them, on one GPU, in the order that we publish."""
    tenants = Tenants(testbed)
    tenants.ask("small", "mig", profile="1g.10gb")
    assert tenants.gets("small") == "gpu-0-mig-1g10gb-19-6", "the cheapest slice is listed first"
    tenants.ask("half", "mig", profile="3g.40gb")
    assert tenants.gets("half") == "gpu-0-mig-3g40gb-9-0", "the upper half is taken by the small one"
    tenants.ask("whole", "gpu")
    assert tenants.is_refused("whole")
    tenants.leaves("small", "half")
    assert tenants.gets("whole") == "gpu-0"

    tenants.ask("share-1", "share", sharing="mps", capacity={"memory": "40Gi", "computeMilli": "600"})
    assert tenants.is_refused("share-1")
    tenants.leaves("whole")
    assert tenants.gets("share-1") == "gpu-0-mps"
    tenants.ask("share-2", "share", sharing="mps", capacity={"memory": "30Gi"})
    assert tenants.gets("share-2") == "gpu-0-mps", "a share pays for the counters of its GPU once"
    for refused, sharing, memory in (("share-3", "mps", "20Gi"), ("turns", "time-slicing", "1Gi")):
        tenants.ask(refused, "share", sharing=sharing, capacity={"memory": memory})
        assert tenants.is_refused(refused)
    tenants.ask("part", "mig", profile="1g.10gb")
    assert tenants.is_refused("part")
