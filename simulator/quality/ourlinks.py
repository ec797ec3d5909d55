"""Suite L on the product's own code: `place()` decides, `Usage` keeps the books."""

from __future__ import annotations

from packing.mix import DemandMix
from packing.model import ClaimId, Demand, Node, NodeName, Snapshot, WholeRequest
from packing.pack import pack
from packing.place import place
from packing.policy import DEFAULT_POLICY, Constants, make_policy
from packing.shapes import shape_of
from simulator.quality.churn import Spot
from simulator.quality.linkclusters import SHARES, SIZES, LinkCluster

CPU_MILLI = 1_000_000
MEMORY_MIB = 1_000_000
"""More than any node is asked for: the suite is about GPUs alone, its jobs ask for nothing else."""


class OurLinks:
    """A policy of the product on a cluster of suite L. It knows the mix of job sizes, as it would from history."""

    def __init__(
        self, cluster: LinkCluster, policy: str = DEFAULT_POLICY, seed: int = 0, constants: Constants | None = None
    ) -> None:
        nodes = tuple(
            Node(name=NodeName(name), shape=shape_of(item), cpu_milli=CPU_MILLI, memory_mib=MEMORY_MIB)
            for name, item in zip(cluster.node_names, cluster.machines, strict=True)
        )
        self._fabric, self._usage = pack(Snapshot(nodes=nodes))
        self._demands = {size: Demand(requests=(WholeRequest(count=size),)) for size in SIZES}
        mix = DemandMix.from_demands(
            (self._demands[size], round(100 * share)) for size, share in zip(SIZES, SHARES, strict=True)
        )
        self._policy = make_policy(policy, mix, self._fabric, seed=seed, constants=constants)

    def take(self, job: int, kind: int) -> Spot | None:
        """Place a job of `kind` GPUs."""
        placement = place(self._fabric, self._usage, self._demands[kind], self._policy).placement
        if placement is None:
            return None
        self._usage.apply(ClaimId(str(job)), self._demands[kind], placement)
        return self._fabric.index[placement.node], sum(1 << gpu for gpu in placement.devices[0].gpus)

    def release(self, job: int) -> None:
        """Give back the GPUs of a job."""
        self._usage.release(ClaimId(str(job)))
