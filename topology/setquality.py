"""The table of set quality of a machine, as a value: `topology.quality` makes it, with a solver that loads slowly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the driver names the type, and has no use for 10 MB of arrays
    import numpy as np
    from numpy.typing import NDArray

    Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SetQuality:
    """Quality of every GPU set of one machine. Arrays are read-only and indexed by set mask (bit i = GPU i)."""

    gpu_count: int
    quality_mbps: Int64
    """[2**n] Q in MB/s; 0 for sets of fewer than two GPUs."""
    nvlink: NDArray[np.uint8]
    """[2**n] 1 where NVLink alone joins the set; 0 for fewer than two GPUs, which have nothing to join."""
    locality: Int64
    """[2**n] tie-break below Q, higher is better; compare sets of equal size only."""
