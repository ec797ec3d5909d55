"""A whole row of arrivals at once: what `place()` then `Usage.apply` would do, without Python between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from packing.fabric import Fabric
from packing.kernels.sequence import place_all
from packing.memory import Memory
from packing.model import Demand
from packing.policy import Policy
from packing.usage import Usage


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SequenceTrace:
    """One entry per arrival."""

    node: NDArray[np.int64]
    """Node index, -1 where the pod was refused."""
    devices: NDArray[np.int64]
    """GPU indices of the node, bit mask."""
    used_milli: NDArray[np.int64]
    """GPU in use after the arrival, thousandths; counts what this sequence placed."""
    fragmented_milli: NDArray[np.float64]
    """FGD's fragmentation of the cluster after the arrival, thousandths of a GPU."""


def place_sequence(
    fabric: Fabric, usage: Usage, demands: Sequence[Demand], order: NDArray[np.int64], policy: Policy
) -> SequenceTrace:
    """Place `demands[i]` for each i of `order`, one after the other; what does not fit is dropped.

    `usage` ends up full but holds no claims for these pods: it is for measuring, not for going on.
    """
    assert usage.fabric is fabric, "usage and fabric belong together"
    assert policy.fabric is fabric, "the policy was made for another fabric"
    classes = np.array([usage.classes.index(demand) for demand in demands], dtype=np.int64)
    memory = Memory.of_rows(policy, len(classes))
    arrivals = len(order)
    node, devices, used = (np.zeros(arrivals, dtype=np.int64) for _ in range(3))
    fragmented = np.zeros(arrivals)
    place_all(
        fabric.arrays,
        usage.arrays,
        policy.arrays,
        usage.classes.arrays,
        classes,
        np.ascontiguousarray(order, dtype=np.int64),
        memory.cache,
        memory.local,
        memory.choice,
        np.zeros(len(fabric.nodes)),
        node,
        devices,
        used,
        fragmented,
    )
    return SequenceTrace(node=node, devices=devices, used_milli=used, fragmented_milli=fragmented)
