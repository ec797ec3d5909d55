"""One instance of the driver after another on a node (kubernetes/test/e2e/dra/dra.go: failed and sequential update)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from dovetail import sandbox_cmd_driver as driver_program
from sandbox.controlplane import ControlPlane
from sandbox.objects import Manifest
from sandbox.waiting import NotYet, wait_for
from tests.driver_node.box import Bed, Box
from tests.driver_node.conftest import bed_of, partition, prepared, started

pytestmark = pytest.mark.node
WIPE_S = 30.0
"""How long the kubelet waits for a driver to come back before it removes its slices (kubernetes, dramanager)."""
SURVIVES_S = 25.0
"""As upstream: so long a gap is safe."""
NEW = "driver-new"


@pytest.fixture(scope="module")
def here(control_plane: ControlPlane) -> Iterator[Box]:
    """A box whose driver has sockets of its own, as that of a pod has."""
    yield from started(control_plane, "hgx-h100-8", "updated-1", f"--pod-uid={uuid4()}")


@pytest.fixture
def bed(here: Box) -> Iterator[Bed]:
    yield from bed_of(here)


def contents(slices: list[Manifest]) -> list[Any]:
    return [(each["metadata"]["name"], each["spec"].get("devices")) for each in slices]


def test_a_failed_update_leaves_slices_and_pods_alone(here: Box, bed: Bed) -> None:
    """The new instance is ready, then gone: the old one was there all the time, and prepares and unprepares on."""
    user = partition(here, bed, "before")
    here.run(bed, user)
    slices = here.slices()
    driver_program.start(here.plane, here.node, here.gpus, f"--pod-uid={uuid4()}", name=NEW)
    assert here.slices() == slices, "byte for byte, resourceVersion included"
    here.node.programs.kill(NEW)
    here.run(bed, partition(here, bed, "after"))
    assert here.slices() == slices
    assert bed.api.get(user)["status"]["containerStatuses"][0]["restartCount"] == 0
    bed.remove_workload()
    assert prepared(here) == set()
    assert here.node.programs.status()[driver_program.NAME].pid is not None


def test_a_sequential_update_leaves_slices_and_pods_alone(here: Box, bed: Bed) -> None:
    """One instance ends, the next begins; pods that come and go meanwhile are in `test_lifecycle.py`, with kill -9."""
    old = partition(here, bed, "old")
    seen = here.run(bed, old)["main"]
    slices = here.slices()
    here.node.programs.stop(driver_program.NAME)
    assert here.slices() == slices
    here.restart_driver()
    assert here.slices() == slices, "byte for byte, resourceVersion included"
    here.run(bed, partition(here, bed, "new"))
    assert here.view(old, "main") == seen
    assert prepared(here) == {"old", "new"}
    bed.remove_workload()
    assert prepared(here) == set()


@pytest.mark.soak
def test_slices_of_a_driver_that_stays_away_go_after_25_s_and_come_back_with_it(here: Box, bed: Bed) -> None:
    user = partition(here, bed, "user")
    seen = here.run(bed, user)["main"]
    slices = here.slices()
    here.node.programs.stop(driver_program.NAME)
    began_s = time.monotonic()
    wait_for("the kubelet to wipe", lambda: not here.slices() or NotYet("they are there"), timeout_s=3 * WIPE_S)
    assert time.monotonic() - began_s > SURVIVES_S
    here.restart_driver()
    assert contents(here.slices()) == contents(slices)
    assert {each["metadata"]["uid"] for each in here.slices()}.isdisjoint(each["metadata"]["uid"] for each in slices)
    assert here.view(user, "main") == seen
    bed.remove_workload()
    assert prepared(here) == set()
