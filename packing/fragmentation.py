"""How much of what is idle the mix could not use, over a whole cluster (FGD, Weng et al., USENIX ATC 2023)."""

from __future__ import annotations

import numpy as np

from packing.kernels.arrays import LEFT, FabricArrays, Ints, PolicyArrays, UsageArrays
from packing.kernels.jit import direct, kernel
from packing.kernels.sequence import node_fragmentation
from packing.policy import Policy
from packing.usage import Usage


@kernel
def sum_fragmentation(fabric: FabricArrays, usage: UsageArrays, policy: PolicyArrays, scratch: Ints) -> float:
    """Return the idle compute (thousandths of a GPU) of all nodes that a pod drawn from the mix could not use."""
    total = 0.0
    for node in range(fabric.node_shape.size):
        total += node_fragmentation(fabric, usage, policy, node, scratch)
    return total


_sum_fragmentation = direct(sum_fragmentation)


def fragmented_share(usage: Usage, policy: Policy) -> float:
    """Return the share, 0 to 1, of the idle compute that a pod drawn from the mix of `policy` could not use."""
    assert policy.fabric is usage.fabric, "the policy was made for another fabric"
    idle_milli = int(usage.arrays.gpus[:, LEFT].sum())
    if not idle_milli:
        return 0.0
    scratch = np.zeros((2, max(1, policy.arrays.fgd_sizes.size)), dtype=np.int64)
    return float(_sum_fragmentation(usage.fabric.arrays, usage.arrays, policy.arrays, scratch)) / idle_milli
