"""Another driver on the node, which fails, beside ours, which works (kubernetes/test/e2e_node/dra_test.go)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox import objects
from sandbox.objects import Manifest
from tests.driver_node.box import RETRY_S, RUN_S, Bed, Box, claim, request, uses
from tests.driver_node.conftest import prepared
from tests.sandbox import draplugin

pytestmark = pytest.mark.node
OTHER, FAULT = "other.example.com", "told to fail"


class Other(draplugin.DraPlugin):
    """A driver of two devices that fails while it is told to."""

    failing: threading.Event
    failed: threading.Event
    """It has failed."""
    done: list[str]
    """Claims that it has unprepared."""

    def NodePrepareResources(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        self._fail()
        return super().NodePrepareResources(request, context)

    def NodeUnprepareResources(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        self._fail()
        self.done += [each.name for each in request.claims]
        return super().NodeUnprepareResources(request, context)

    def _fail(self) -> None:
        if self.failing.is_set():
            self.failed.set()
            raise OSError(FAULT)


@pytest.fixture
def other(h100: Box) -> Iterator[Other]:
    """The other driver, registered."""
    plugin = Other(h100.node, OTHER, h100.plane.api)
    plugin.failing, plugin.failed, plugin.done = threading.Event(), threading.Event(), []
    with draplugin.serving(plugin):
        yield plugin


@pytest.fixture
def bed(h100: Box, other: Other) -> Iterator[Bed]:
    bed = h100.bed()
    yield bed
    other.failing.clear()
    bed.close(timeout_s=RETRY_S)


@pytest.fixture
def mixed(h100: Box, bed: Bed) -> Iterator[Manifest]:
    """A pod whose one claim has a MIG device of ours and a device of the other driver."""
    published = objects.resource_slice(h100.node.name, OTHER, [objects.device(name) for name in draplugin.DEVICES])
    bed.create(objects.device_class(OTHER, OTHER))
    theirs = {"name": "other", "exactly": {"deviceClassName": OTHER, "allocationMode": "ExactCount", "count": 1}}
    bed.create(published, claim(bed.namespace, "mixed", request("gpu", "mig"), theirs))
    yield h100.probing(bed.namespace, "mixed", {"gpu": "mixed"}, uses("main"))
    for manifest in (published, objects.device_class(OTHER, OTHER)):
        bed.api.delete(manifest)


def test_each_driver_prepares_its_own_devices_of_a_claim(h100: Box, bed: Bed, other: Other, mixed: Manifest) -> None:
    view = h100.run(bed, mixed)["main"]
    assert view.capabilities == 2
    assert set(view.devices.values()) == {
        compute.uuid for gpu in h100.twin.state.gpus for each in gpu.instances for compute in each.compute
    }
    assert prepared(h100) == {"mixed"}
    bed.remove_workload()
    assert set(other.done) == {"mixed"}
    assert prepared(h100) == set()


@pytest.mark.soak
def test_a_pod_runs_when_one_driver_fails_and_then_prepares(h100: Box, bed: Bed, other: Other, mixed: Manifest) -> None:
    """The kubelet asks the drivers in any order, and again from the first: ours gives what it gave."""
    other.failing.set()
    bed.api.create(mixed)
    h100.waits_with(bed, mixed, FAULT)
    assert len(h100.records()) <= 1
    other.failing.clear()
    bed.api.wait(mixed, objects.is_running, timeout_s=RETRY_S)
    assert prepared(h100) == {"mixed"}
    assert sum(len(gpu.instances) for gpu in h100.twin.state.gpus) == 1


def test_a_pod_goes_when_one_driver_fails_and_then_unprepares(
    h100: Box, bed: Bed, other: Other, mixed: Manifest
) -> None:
    h100.run(bed, mixed)
    other.failing.set()
    bed.api.delete(mixed)
    assert other.failed.wait(RUN_S)
    assert bed.api.find(mixed) is not None
    other.failing.clear()
    bed.api.wait_gone(mixed, timeout_s=RETRY_S)
    assert set(other.done) == {"mixed"}
    assert prepared(h100) == set()
