"""Suites M1 to M3 on the product's own code: `place()` decides, `Usage` keeps the books."""

from __future__ import annotations

from collections.abc import Sequence

from packing.mix import DemandMix
from packing.model import (
    Demand,
    Devices,
    GpuModel,
    MigMode,
    Node,
    NodeName,
    NodeShape,
    PartitionRequest,
)
from packing.policy import DEFAULT_POLICY, Constants
from simulator.quality.migcluster import PRODUCT, PROFILES, geometry
from simulator.quality.product import CPU_MILLI, MEMORY_MIB, Product
from topology.quality import flat_quality

GPU_MEMORY_MIB = 81_920
SM_COUNT = 108
MIX_SCALE = 6000
"""Shares become whole counts of a history."""


class OurPartitions(Product):
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
        demands = tuple(Demand(requests=(PartitionRequest(profile=name),)) for name in PROFILES)
        counts = [round(MIX_SCALE * share) for share in shares]
        mix = DemandMix.from_demands(zip(demands, counts, strict=True))
        super().__init__(nodes, dict(enumerate(demands)), mix, policy, seed, constants)

    def spot(self, devices: Devices) -> int:
        """Return the first memory slice of a job."""
        return devices.start
