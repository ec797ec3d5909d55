"""A box of PCIe cards with NVLink bridges between pairs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.driver_node.box import DRIVER, Bed, Box, claim, request, uses
from tests.driver_node.conftest import bed_of

pytestmark = pytest.mark.node


@pytest.fixture
def bed(pairs: Box) -> Iterator[Bed]:
    yield from bed_of(pairs)


def test_every_pair_that_is_asked_for_is_bridged(pairs: Box, bed: Bed) -> None:
    """Four claims for two GPUs each, on a machine where only four pairs are linked: all four fit."""
    link = {"requests": ["gpu"], "matchAttribute": f"{DRIVER}/nvlinkDomain"}
    seen = []
    for number in range(4):
        name = f"pair-{number}"
        bed.create(claim(bed.namespace, name, request("gpu", "gpu", count=2), constraints=[link]))
        (view,) = pairs.run(bed, pairs.probing(bed.namespace, name, {"gpu": name}, uses("main"))).values()
        assert view.passed == set(view.nodes.values())
        one, other = sorted(view.gpus)
        assert pairs.twin.gpu(one).nvlinks[other], f"GPUs {one} and {other} are linked"
        seen += [one, other]
    assert sorted(seen) == list(range(8))


def test_shares_of_mps_have_limits_of_their_own(pairs: Box, bed: Bed) -> None:
    amounts = {"small": {"memory": "10Gi", "computeMilli": "250"}, "large": {"memory": "30Gi", "computeMilli": "500"}}
    views = {}
    for name, amount in amounts.items():
        bed.create(claim(bed.namespace, name, request("gpu", "mps", capacity=amount)))
        views[name] = pairs.run(bed, pairs.probing(bed.namespace, name, {"gpu": name}, uses("main")))["main"]
        assert views[name].passed == set(views[name].nodes.values())
    small, large = views["small"].environment, views["large"].environment
    assert small["CUDA_MPS_PIPE_DIRECTORY"] == large["CUDA_MPS_PIPE_DIRECTORY"]
    assert (small["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"], large["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"]) == ("25", "50")
    assert small["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] != large["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"]
    (minor,) = views["small"].gpus
    assert pairs.twin.state.gpus[minor].compute_mode == 3, "EXCLUSIVE_PROCESS: the daemon is the one process"
    bed.remove_workload()
    assert pairs.twin.state.gpus[minor].compute_mode == 0
