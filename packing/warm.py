"""Compiles the kernels of decisions ahead of use: `make setup` and sweeps on several processes call it once.

Machine code is kept on disk (`packing.kernels.jit`), so the next process only loads it.
"""

from __future__ import annotations

import numpy as np

from packing.explain import explain
from packing.fragmentation import fragmented_share
from packing.mix import DemandMix
from packing.model import ClaimId, Demand, GpuModel, Node, NodeName, NodeShape, ShareRequest, Snapshot
from packing.pack import pack
from packing.place import place
from packing.policy import DEFAULT_POLICY, make_policy
from packing.sequence import place_sequence
from topology.quality import flat_quality


def compile_kernels() -> None:
    """Make one decision of every kind on a cluster of one GPU."""
    node = Node(
        name=NodeName("warm"),
        shape=NodeShape("one", (GpuModel(product=""),), flat_quality(1)),
        cpu_milli=0,
        memory_mib=0,
    )
    demand = Demand(requests=(ShareRequest(compute_milli=500),))
    fabric, usage = pack(Snapshot(nodes=(node,)))
    policy = make_policy(DEFAULT_POLICY, DemandMix.from_demands([(demand, 1)]), fabric)
    placement = place(fabric, usage, demand, policy).placement
    assert placement is not None
    usage.apply(ClaimId("warm"), demand, placement)
    usage.taken_milli(ClaimId("warm"))
    explain(fabric, usage, demand, policy)
    fragmented_share(usage, policy)
    place_sequence(fabric, usage, [demand], np.zeros(1, dtype=np.int64), policy)


if __name__ == "__main__":
    compile_kernels()
