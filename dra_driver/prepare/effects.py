"""What prepare does to the node besides NVML and the journal, as Protocols: each effect can be counted, failed, killed.

All methods are idempotent: what is so already stays so. They raise DeviceError (RetryableError where another attempt
may do), block for a bounded time, and come from several threads; those of one claim or of one GPU never at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dra_driver.config.model import Interval, Strategy
from dra_driver.prepare.model import Record


class Caller(Protocol):
    """Who asked for a claim to be prepared or unprepared."""

    def is_gone(self) -> bool:
        """Whether the call was cancelled or is past its deadline; then it must not begin to change anything."""
        ...


class Patient:
    """A caller that never gives up: recovery, the sentinel."""

    def is_gone(self) -> bool:
        """Return False."""
        return False


class CdiFiles(Protocol):
    """CDI files, one for each claim. Only files of our kind are seen or touched."""

    def ids(self, record: Record) -> tuple[tuple[str, ...], ...]:
        """Return the fully qualified CDI names of each device, along `record.devices`. Pure."""
        ...

    def write(self, record: Record) -> None:
        """Write the file of the claim, whole or not at all, with a copy of `record` in it (`codec.encode`)."""
        ...

    def is_current(self, record: Record) -> bool:
        """Whether the file is as `write` would leave it."""
        ...

    def remove(self, claim_uid: str) -> None:
        """Remove the file of a claim."""
        ...

    def claims(self) -> Sequence[str]:
        """Return the UIDs of claims that have a file, also an unreadable one."""
        ...

    def discard_unfinished(self) -> int:
        """Remove what crashes have left of writes, and return how many. Asked at the start alone."""
        ...

    def copy_of(self, claim_uid: str) -> Record | None:
        """Return the record that was written into the file; None where there is no file, or no whole copy."""
        ...


@dataclass(frozen=True, slots=True)
class GpuWide:
    """What sharing sets for all users of a GPU at once. `interval` counts with time slicing alone."""

    strategy: Strategy = Strategy.DEFAULT
    interval: Interval = Interval.DEFAULT


class SharingControl(Protocol):
    """How the users of a GPU share it: time slice, compute mode, MPS control daemon."""

    def apply(self, gpu_uuid: str, wide: GpuWide) -> None:
        """Make the GPU so, and wait until it is (an MPS daemon answers)."""
        ...

    def release(self, gpu_uuid: str) -> None:
        """Put the GPU back to defaults; an MPS daemon of ours is stopped."""
        ...

    def is_applied(self, gpu_uuid: str, wide: GpuWide) -> bool:
        """Whether the GPU is so; for MPS whether its daemon answers."""
        ...

    def leftovers(self) -> Sequence[str]:
        """Return UUIDs of GPUs with traces of `apply` that no `release` followed (a daemon, its folders)."""
        ...
