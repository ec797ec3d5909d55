"""Suite L on the product's own code: `place()` decides, `Usage` keeps the books."""

from __future__ import annotations

from packing.mix import DemandMix
from packing.model import Demand, Node, NodeName, WholeRequest
from packing.policy import DEFAULT_POLICY, Constants
from packing.shapes import shape_of
from simulator.quality.linkclusters import SHARES, SIZES, LinkCluster
from simulator.quality.product import CPU_MILLI, MEMORY_MIB, Product


class OurLinks(Product):
    """A policy of the product on a cluster of suite L. It knows the mix of job sizes, as it would from history."""

    def __init__(
        self, cluster: LinkCluster, policy: str = DEFAULT_POLICY, seed: int = 0, constants: Constants | None = None
    ) -> None:
        nodes = tuple(
            Node(name=NodeName(name), shape=shape_of(item), cpu_milli=CPU_MILLI, memory_mib=MEMORY_MIB)
            for name, item in zip(cluster.node_names, cluster.machines, strict=True)
        )
        demands = {size: Demand(requests=(WholeRequest(count=size),)) for size in SIZES}
        mix = DemandMix.from_demands(
            (demands[size], round(100 * share)) for size, share in zip(SIZES, SHARES, strict=True)
        )
        super().__init__(nodes, demands, mix, policy, seed, constants)
