"""The kubelet is down while pods come and go (kubernetes/test/e2e_node/dra_test.go).

After its start the kubelet takes about a minute to see to pods that are gone; its quick double in `dra_driver/plugin`
plays the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.waiting import NotYet, wait_for
from tests.driver_node.box import RETRY_S, Bed, Box, claim, request, uses
from tests.driver_node.conftest import bed_of, partition, prepared

pytestmark = pytest.mark.node
CREATE, INSUFFICIENT_RESOURCES = "nvmlDeviceCreateGpuInstanceWithPlacement", 23


@pytest.fixture
def bed(h100: Box) -> Iterator[Bed]:
    yield from bed_of(h100)
    h100.twin.clear_faults()


@pytest.fixture
def down(h100: Box) -> Iterator[None]:
    """Has the kubelet up again after a failed test."""
    yield
    if h100.node.programs.status()["kubelet"].pid is None:
        start(h100)


def start(here: Box) -> None:
    here.node.programs.restart("kubelet")
    here.node.wait_healthy("kubelet")


@pytest.mark.soak
def test_a_pod_deleted_while_the_kubelet_is_down_is_unprepared(h100: Box, bed: Bed, down: None) -> None:
    """By force, so that pod and claim are gone from the API: the kubelet knows them from its checkpoint alone."""
    pod = partition(h100, bed, "user")
    h100.run(bed, pod)
    h100.node.programs.kill("kubelet")
    bed.api.delete(pod, grace_s=0)
    bed.api.wait_gone(pod)
    old = bed.get_claim("user")
    bed.api.delete(old)
    bed.api.wait_gone(old, timeout_s=RETRY_S)
    assert prepared(h100) == {"user"}
    start(h100)
    wait_for("unprepare", lambda: not prepared(h100) or NotYet(str(prepared(h100))), timeout_s=RETRY_S)
    assert sum(len(gpu.instances) for gpu in h100.twin.state.gpus) == 0


@pytest.mark.soak
def test_a_pod_deleted_while_the_kubelet_is_down_is_not_prepared(h100: Box, bed: Bed, down: None) -> None:
    """It never started; after the restart the kubelet asks to unprepare it, and for nothing else."""
    h100.twin.fault(CREATE, code=INSUFFICIENT_RESOURCES, times=-1)
    pod = partition(h100, bed, "doomed")
    bed.api.create(pod)
    h100.waits_with(bed, pod, "GPU instance")
    h100.node.programs.kill("kubelet")
    bed.api.delete(pod, grace_s=0)
    bed.api.wait_gone(pod)
    h100.twin.clear_faults()
    prepares, unprepares = h100.calls("NodePrepareResources"), h100.calls("NodeUnprepareResources")
    start(h100)

    def asked() -> bool | NotYet:
        now = h100.calls("NodeUnprepareResources")
        return True if now > unprepares else NotYet(f"{now} claims unprepared, {unprepares} before")

    wait_for("unprepare to be asked", asked, timeout_s=RETRY_S)
    bed.create(claim(bed.namespace, "next", request("gpu", "gpu")))
    h100.run(bed, h100.probing(bed.namespace, "next", {"gpu": "next"}, uses("main")))
    assert h100.calls("NodePrepareResources") == prepares + 1, "of the next pod"
    assert prepared(h100) == {"next"}
