"""Figures of capacity are those that one counts by hand, and fragmentation is the slow reference's."""

from __future__ import annotations

import pytest
from hypothesis import given

from packing.fragmentation import fragmented_share
from packing.kernels.arrays import CPU, LEFT
from packing.mix import DemandMix
from packing.model import Demand, WholeRequest
from packing.policy import DEFAULT_POLICY
from packing.reference_frag import fragmentation
from scheduler.capacity import measure
from tests.packing import clusters
from tests.packing.clusters import World

PAIRS = "a100-8-pcie-nvlink-pairs"


def test_free_gpus_and_linked_sets_are_counted_by_product() -> None:
    nodes = (
        clusters.node("a", clusters.machine_shape(PAIRS)),
        clusters.node("b", clusters.flat_shape(clusters.T4)),
    )
    (a100,) = {gpu.product for gpu in nodes[0].shape.gpus}
    world = World.of(nodes, DemandMix.from_demands([(Demand(requests=(WholeRequest(count=2),)), 1)]), DEFAULT_POLICY)
    figures = measure(world.usage, world.policy)
    assert figures.gpus == figures.free_gpus == {a100: 8, "T4": 1}
    assert figures.largest_link_set == {a100: 2, "T4": 1}, "pairs joined by NVLink, and a GPU alone"


def test_a_pair_broken_is_no_linked_set_any_more() -> None:
    mix = DemandMix.from_demands([(Demand(requests=(WholeRequest(count=1),)), 1)])
    world = World.of((clusters.node("a", clusters.machine_shape(PAIRS)),), mix, "spread")
    (product,) = {gpu.product for gpu in world.nodes[0].shape.gpus}
    sizes = []
    for number in range(8):
        sizes.append(measure(world.usage, world.policy).largest_link_set[product])
        assert world.admit(f"p-{number}", Demand(requests=(WholeRequest(count=1),)))
    assert measure(world.usage, world.policy).free_gpus[product] == 0
    assert measure(world.usage, world.policy).largest_link_set[product] == 0
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (2, 1)


@given(clusters.clusters(), clusters.mixes(), clusters.histories())
@clusters.examples(60)
def test_the_fragmented_share_is_the_references(nodes, mix, history) -> None:
    world = World.of(nodes, mix, DEFAULT_POLICY)
    for number, step in enumerate(history):
        if isinstance(step, Demand):
            world.admit(f"c-{number}", step)
        else:
            world.evict(step)
    lost = idle = 0.0
    for at, node in enumerate(world.fabric.nodes):
        first, last = world.fabric.arrays.gpu_start[at : at + 2]
        left = world.usage.arrays.gpus[first:last, LEFT].tolist()
        idle += sum(left)
        cpu_milli = int(world.usage.arrays.nodes[at, CPU])
        lost += fragmentation(mix.typical_pods(), node.shape.gpus, cpu_milli, left)
    expected = lost / idle if idle else 0.0
    assert fragmented_share(world.usage, world.policy) == pytest.approx(expected, rel=1e-12)
