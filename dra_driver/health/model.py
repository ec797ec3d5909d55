"""What is known of the health of one GPU, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from dra_driver.nvml.api import GpuInstance, RecoveryAction


class FaultKind(StrEnum):
    """What is wrong. Each is a taint of that name."""

    LOST = "lost"
    """It does not answer: it fell off the bus, or was taken away."""
    RECOVERY = "recovery"
    """NVML says what brings it back; until then it is not to be used."""
    XID = "xid"
    """The kernel driver reported an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A GPU instance, and the memory slices that it has."""

    gpu_instance: int
    start: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong: with the whole GPU, or with a part of it."""

    kind: FaultKind
    value: str = ""
    """The XID, or the action."""
    text: str
    part: Part | None = None
    clean_since_s: float | None = None
    """Since when it is no more, if it is; it goes when that has lasted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at a GPU shows."""

    lost: bool = False
    action: RecoveryAction | None = None
    """None where this version of NVIDIA's driver does not tell."""
    instances: tuple[GpuInstance, ...] | None = None
    """GPU instances; None where nobody looked for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuHealth:
    """What is known of one GPU. `checked_s`: when NVML last answered for it, by the clock of the wall."""

    faults: tuple[Fault, ...] = ()
    monitored: bool = True
    """Whether it reports events."""
    checked_s: float = field(default=0.0, compare=False)
