"""Suites M1 to M3 on the product's own code: `place()` decides, `Usage` keeps the books."""

from __future__ import annotations

from collections.abc import Sequence

from packing.mix import DemandMix
from packing.model import (
    ClaimId,
    Demand,
    GpuModel,
    MigMode,
    Node,
    NodeName,
    NodeShape,
    PartitionRequest,
    Snapshot,
)
from packing.pack import pack
from packing.place import place
from packing.policy import DEFAULT_POLICY, Constants, make_policy
from simulator.quality.churn import Spot
from simulator.quality.migcluster import PRODUCT, PROFILES, geometry
from topology.quality import flat_quality

CPU_MILLI = 1_000_000
MEMORY_MIB = 1_000_000
"""More than any node is asked for: requests ask for a partition and nothing else."""
GPU_MEMORY_MIB = 81_920
SM_COUNT = 108
MIX_SCALE = 6000
"""Shares become whole counts of a history."""


class OurPartitions:
    """A policy of the product on `gpus` nodes of one GPU in MIG mode. It knows the mix, as FGD-MIG does."""

    def __init__(
        self,
        gpus: int,
        shares: Sequence[float],
        policy: str = DEFAULT_POLICY,
        seed: int = 0,
        constants: Constants | None = None,
    ) -> None:
        model = GpuModel(
            product=PRODUCT,
            architecture=geometry().architecture,
            memory_mib=GPU_MEMORY_MIB,
            sm_count=SM_COUNT,
            mig=geometry(),
        )
        shape = NodeShape("mig", (model,), flat_quality(1))
        nodes = tuple(
            Node(
                name=NodeName(f"mig-{i:04}"),
                shape=shape,
                cpu_milli=CPU_MILLI,
                memory_mib=MEMORY_MIB,
                mig_mode=MigMode.ENABLED,
            )
            for i in range(gpus)
        )
        self._fabric, self._usage = pack(Snapshot(nodes=nodes))
        self._demands = tuple(Demand(requests=(PartitionRequest(profile=name),)) for name in PROFILES)
        counts = [round(MIX_SCALE * share) for share in shares]
        mix = DemandMix.from_demands(zip(self._demands, counts, strict=True))
        self._policy = make_policy(policy, mix, self._fabric, seed=seed, constants=constants)

    def take(self, job: int, kind: int) -> Spot | None:
        """Place an instance of profile `kind`."""
        placement = place(self._fabric, self._usage, self._demands[kind], self._policy).placement
        if placement is None:
            return None
        self._usage.apply(ClaimId(str(job)), self._demands[kind], placement)
        return self._fabric.index[placement.node], placement.devices[0].start

    def release(self, job: int) -> None:
        """Give back the slices of a job."""
        self._usage.release(ClaimId(str(job)))
