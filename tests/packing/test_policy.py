"""Constants of the default policy as arrays: what its settings become on clusters of any size."""

from __future__ import annotations

from functools import cache

import pytest

from packing.fabric import Fabric
from packing.kernels.arrays import GIGA
from packing.mix import DemandMix
from packing.model import GpuModel, Node, NodeName, NodeShape, Snapshot
from packing.pack import pack
from packing.policy import CONSTANTS, DEFAULT_POLICY, WAIT_POLICY, make_policy
from topology.quality import flat_quality


@cache
def like_nodes(count: int) -> Fabric:
    shape = NodeShape("one", (GpuModel(product="X"),), flat_quality(1))
    nodes = (Node(name=NodeName(f"n{i}"), shape=shape, cpu_milli=1000, memory_mib=1000) for i in range(count))
    return pack(Snapshot(nodes=tuple(nodes)))[0]


@pytest.mark.parametrize(
    ("nodes", "default", "wait"),
    [
        (1, 6_000_000, 6_000_000),
        (41, 6_000_000, 6_000_000),
        (42, 6_000_000, 5_952_381),
        (1_250, 6_000_000, 200_000),
        (1_251, 5_995_204, 199_840),
        (100_000, 75_000, 2_500),
    ],
)
def test_the_price_of_a_rank_falls_where_the_span_would_pass_its_limit(nodes: int, default: int, wait: int) -> None:
    """In nano-GPUs: 0.006 GPUs from node to node, at most 7.5 (`dovetail-wait`: 0.25) from the first to the last."""
    for name, expected in ((DEFAULT_POLICY, default), (WAIT_POLICY, wait)):
        weight = make_policy(name, DemandMix(()), like_nodes(nodes)).arrays.rank_weight
        assert weight == expected
        # Rounded to whole nano-GPUs a node.
        assert weight * (nodes - 1) <= CONSTANTS[name].rank_span * GIGA + nodes / 2
