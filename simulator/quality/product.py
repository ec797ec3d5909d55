"""The product as an allocator of a suite: `place()` decides, `Usage` keeps the books."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from packing.mix import DemandMix
from packing.model import ClaimId, Demand, Devices, MigMode, Node, NodeName, Snapshot
from packing.pack import pack
from packing.place import place
from packing.policy import Constants, make_policy
from packing.shapes import shape_of
from simulator.quality.churn import Spot
from simulator.quality.mixeddemand import MACHINE
from topology.catalog import machine

CPU_MILLI: Final = 1_000_000
MEMORY_MIB: Final = 1_000_000
"""More than any node is asked for: the suites are about GPUs alone, their jobs ask for nothing else."""


class Product:
    """A policy of the product on some nodes. It knows the mix of what it is asked for, as it would from history."""

    def __init__(
        self,
        nodes: Sequence[Node],
        demands: Mapping[int, Demand],
        mix: DemandMix,
        policy: str,
        seed: int,
        constants: Constants | None,
    ) -> None:
        self.fabric, self.usage = pack(Snapshot(nodes=tuple(nodes)))
        self.demands = demands
        self.policy = make_policy(policy, mix, self.fabric, seed=seed, constants=constants)

    def take(self, job: int, kind: int) -> Spot | None:
        """Place a job that asks for `demands[kind]`."""
        demand = self.demands[kind]
        placement = place(self.fabric, self.usage, demand, self.policy).placement
        if placement is None:
            return None
        self.usage.apply(ClaimId(str(job)), demand, placement)
        return self.fabric.index[placement.node], self.spot(placement.devices[0])

    def release(self, job: int) -> None:
        """Give back what a job holds."""
        self.usage.release(ClaimId(str(job)))

    def spot(self, devices: Devices) -> int:
        """Return the GPUs of a job, bit mask."""
        return sum(1 << gpu for gpu in devices.gpus)


def pool_nodes(count: int) -> tuple[Node, ...]:
    """Return `count` like nodes of eight A100 80GB that the driver may partition."""
    shape = shape_of(machine(MACHINE))
    digits = len(str(count))
    return tuple(
        Node(
            name=NodeName(f"node-{i:0{digits}}"),
            shape=shape,
            cpu_milli=CPU_MILLI,
            memory_mib=MEMORY_MIB,
            mig_mode=MigMode.DYNAMIC,
        )
        for i in range(count)
    )
