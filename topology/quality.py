"""Set quality Q: the bandwidth a collective gets over a set of GPUs, for every set of a machine.

Q(S) in GB/s per direction:
* NVSwitch: the fewest switch links of a GPU in S, times the rate of a link. All pairs share those links.
* two GPUs: their links times the rate; without NVLink their PCIe rate.
* three to eight GPUs: 2 x rate x the most link-disjoint NVLink rings through S. Single-ring measures tie sets whose
  real bandwidth differs by two.
* no such ring, or more than eight GPUs: the weakest edge of the best single ring, over NVLink or PCIe. PCIe never adds
  rings, since each GPU has one port.
NVLink never makes a set worse than the PCIe it also has, so adding a link never lowers Q.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from topology.cycles import disjoint_cycles
from topology.facts import MAX_GPUS, LinkKind
from topology.locality import set_locality
from topology.machine import Machine
from topology.rates import nvlink_counts, nvlink_mbps, pcie_mbps
from topology.rings import has_ring, least_pair, sizes, widest_ring
from topology.setquality import SetQuality as SetQuality  # noqa: PLC0414 - made here, taken from here

if TYPE_CHECKING:
    from topology.setquality import Int64

MAX_COUNTED_RINGS = 8
"""Largest set whose disjoint rings are counted; the number of candidate rings grows with (k-1)!."""


@lru_cache(maxsize=256)
def set_quality(machine: Machine) -> SetQuality:
    """Q, NVLink reach and locality of every set of `machine`. 1 to 16 GPUs; cached per machine."""
    nvlink = nvlink_mbps(machine)
    pcie = pcie_mbps(machine)
    if machine.nvlink.kind is LinkKind.NVSWITCH:
        through_switches = least_pair(nvlink)
        joined = through_switches > 0
        fallback = np.where(joined, _single_ring(pcie), _single_ring(np.maximum(nvlink, pcie)))
        quality = np.maximum(through_switches, fallback)
    else:
        joined = (_pairs_only(nvlink) > 0) | has_ring(nvlink > 0)
        quality = np.maximum(_counted_rings(machine, joined), _single_ring(np.maximum(nvlink, pcie)))
    return _frozen(machine.gpu_count, quality, joined.astype(np.uint8), set_locality(machine))


@lru_cache(maxsize=MAX_GPUS + 1)
def flat_quality(gpu_count: int) -> SetQuality:
    """Return the quality of a machine whose links are unknown: every set of equal size is as good as any other."""
    assert 0 <= gpu_count <= MAX_GPUS
    zeros = np.zeros(1 << gpu_count, dtype=np.int64)
    return _frozen(gpu_count, zeros, zeros.astype(np.uint8), zeros.copy())


def _single_ring(mbps: Int64) -> Int64:
    """[2**n] the weakest edge of the best ring through each set; the ring of two is their edge."""
    return np.maximum(widest_ring(mbps), _pairs_only(mbps))


def _pairs_only(mbps: Int64) -> Int64:
    """[2**n] the rate of sets of two, 0 for all others."""
    n = len(mbps)
    result = np.zeros(1 << n, dtype=np.int64)
    for i in range(n):
        for j in range(i + 1, n):
            result[1 << i | 1 << j] = mbps[i, j]
    return result


def _counted_rings(machine: Machine, joined: NDArray[np.bool_]) -> Int64:
    """[2**n] 2 x rate x disjoint NVLink rings for sets of three to eight, 0 for all others."""
    links = nvlink_counts(machine)
    size = sizes(machine.gpu_count)
    rate = machine.nvlink.gbyte_s_per_link_per_direction * 1000
    result = np.zeros(len(size), dtype=np.int64)
    for mask in np.flatnonzero(joined & (size >= 3) & (size <= MAX_COUNTED_RINGS)):
        gpus = [i for i in range(len(links)) if mask >> i & 1]
        inner = tuple(tuple(int(count) for count in row) for row in links[np.ix_(gpus, gpus)])
        result[mask] = round(2 * rate * disjoint_cycles(inner))
    return result


def _frozen(n: int, quality: Int64, nvlink: NDArray[np.uint8], locality: Int64) -> SetQuality:
    for array in (quality, nvlink, locality):
        array.setflags(write=False)
    return SetQuality(n, quality, nvlink, locality)
