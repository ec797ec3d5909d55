"""Which of two equally fast GPU sets is the better placed: closeness on PCIe, then NUMA, then network cards.

One integer per set, a number with four digits of which the first that differs decides:

1. PCIe closeness, summed over pairs. Peers that talk over NVLink still share PCIe switches for host and storage
   traffic, and a set inside one switch leaves the other switches whole for the next.
2. Fewer NUMA nodes, so that the pod's CPUs and memory can be near all its GPUs. Below PCIe: hosts exist where NVLink
   partners lie on different nodes, and PCIe closeness already says most of it.
3. Closeness of each GPU to its nearest network card.
4. With NVSwitch, whether the set lies inside an aligned block of indices ({0,1}, {2,3}, {0..3}): boards are cut into
   such blocks for tenants, and nothing above tells their sets apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from topology.facts import MAX_GPUS, PCIE_LEVELS, LinkKind, Machine
from topology.rings import pair_sum, sizes

Int64 = NDArray[np.int64]

_NEAR = {"X": 0} | {level: at + 1 for at, level in enumerate(PCIE_LEVELS)}
_NUMA_DIGIT = MAX_GPUS + 1
_NIC_DIGIT = MAX_GPUS * len(PCIE_LEVELS) + 1


def set_locality(machine: Machine) -> Int64:
    """[2**n] the tie-break of every GPU set; compare sets of equal size only."""
    closeness = pair_sum(np.array([[_NEAR[level] for level in row] for row in machine.pcie.levels], dtype=np.int64))
    gathered = MAX_GPUS - _numa_nodes(machine)
    return ((closeness * _NUMA_DIGIT + gathered) * _NIC_DIGIT + _nic_closeness(machine)) * 2 + _aligned(machine)


def _numa_nodes(machine: Machine) -> Int64:
    """[2**n] number of NUMA nodes each set touches; an unknown node (-1) counts as a node of its own kind."""
    masks = np.arange(1 << machine.gpu_count, dtype=np.int64)
    count = np.zeros(len(masks), dtype=np.int64)
    for node in {device.numa_node for device in machine.devices}:
        here = sum(1 << device.index for device in machine.devices if device.numa_node == node)
        count += masks & here != 0
    return count


def _nic_closeness(machine: Machine) -> Int64:
    """[2**n] sum over the GPUs of a set of the level to the nearest network card."""
    total = np.zeros(1, dtype=np.int64)
    for gpu in range(machine.gpu_count):
        nearest = max((_NEAR[nic.levels[gpu]] for nic in machine.nics), default=0)
        total = np.concatenate([total, total + nearest])
    return total


def _aligned(machine: Machine) -> Int64:
    """[2**n] 1 where the set lies inside an aligned block of the least power of two that can hold it."""
    n = machine.gpu_count
    if machine.nvlink.kind is not LinkKind.NVSWITCH:
        return np.zeros(1 << n, dtype=np.int64)
    masks = np.arange(1 << n, dtype=np.int64)
    size = sizes(n)
    aligned = np.zeros(len(masks), dtype=np.int64)
    for block in (1, 2, 4, 8, 16):
        held = (size <= block) & (size > block // 2)
        for first in range(0, n, block):
            outside = ~np.int64(((1 << block) - 1) << first)
            aligned |= held & (masks & outside == 0)
    return aligned
