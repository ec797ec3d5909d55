"""Bandwidth of every GPU pair as dense int64 matrices in MB/s (GB/s x 1000), per direction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from topology.machine import PCIE_GBYTE_S, Machine

Int64 = NDArray[np.int64]

LEVEL_PERMILLE = {"X": 0, "PIX": 1000, "PXB": 950, "PHB": 850, "NODE": 750, "SYS": 500}
"""What is left of a PCIe port's rate over each distance. Our own factors: only their order is well founded."""


def nvlink_counts(machine: Machine) -> Int64:
    """[n, n] NVLink links per pair; with switches the links of either GPU into them, which all its peers share."""
    return np.array(machine.nvlink.matrix, dtype=np.int64)


def nvlink_mbps(machine: Machine) -> Int64:
    """[n, n] NVLink rate of each pair; 0 where not linked."""
    rate = machine.nvlink.gbyte_s_per_link_per_direction * 1000
    mbps: Int64 = np.rint(nvlink_counts(machine) * rate).astype(np.int64)
    return mbps


def pcie_mbps(machine: Machine) -> Int64:
    """[n, n] PCIe rate of each pair by generation and distance; 0 on the diagonal."""
    stated = machine.pcie.gbyte_s_per_direction
    rate = PCIE_GBYTE_S[machine.pcie.generation] if stated is None else stated
    permille = np.array([[LEVEL_PERMILLE[level] for level in row] for row in machine.pcie.levels], dtype=np.int64)
    mbps: Int64 = np.rint(permille * rate).astype(np.int64)
    return mbps
