"""What opaque configuration comes to for one device, once classes and claims are merged."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Strategy(StrEnum):
    """How those who hold a whole GPU, a share or a MIG device use it together."""

    DEFAULT = "default"
    """As the GPU is: several processes may use it in turns, with the driver's own time slice."""
    TIME_SLICING = "time-slicing"
    MPS = "mps"
    EXCLUSIVE = "exclusive"
    """One process at a time (compute mode EXCLUSIVE_PROCESS)."""


class Interval(StrEnum):
    """Time slice of a GPU: `nvidia-smi compute-policy --set-timeslice` 0 to 3."""

    DEFAULT = "Default"
    SHORT = "Short"
    MEDIUM = "Medium"
    LONG = "Long"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of one device. Those of other strategies have their defaults.

    Limits are for each process of the claim under MPS; None: no other than the share's own.
    """

    strategy: Strategy = Strategy.DEFAULT
    interval: Interval = Interval.DEFAULT
    active_thread_percentage: int | None = None
    pinned_memory_bytes: int | None = None
