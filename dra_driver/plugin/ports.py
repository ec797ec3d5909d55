"""What the plugin needs of the rest of the driver, and nothing more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from dra_driver.errors import DeviceError
from dra_driver.prepare.effects import Caller
from dra_driver.prepare.model import ClaimRef, PreparedDevice
from kube.objects import ResourceClaim


class Preparer(Protocol):
    """Prepares devices on this node. Plain synchronous code, called in worker threads, for several claims at once.

    Never for one claim twice at the same time within this process.
    """

    def prepare(self, claim: ResourceClaim, caller: Caller) -> Sequence[PreparedDevice]:
        """Prepare all devices of the claim's allocation that are ours, or return what was prepared before.

        The claim is as the API server has it now: allocated, reserved, with devices of this driver on this node.
        Raises DeviceError; CancelledError where the caller is gone before anything was done.
        """
        ...

    def unprepare(self, claim: ClaimRef, caller: Caller) -> None:
        """Undo it, by the UID alone. A claim that was never prepared is none to undo: no error."""
        ...


class Claims(Protocol):
    """Claims as the API server has them now, not as a cache remembers them."""

    async def get(self, namespace: str, name: str) -> ResourceClaim:
        """Return a claim. Raises kube.errors.ClusterError."""
        ...


class Health(StrEnum):
    """Health of a device, as the kubelet shows it in the status of pods."""

    UNKNOWN = "Unknown"
    HEALTHY = "Healthy"
    UNHEALTHY = "Unhealthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceHealth:
    """Health of one published device. `checked_at`: Unix seconds when that was last known to be so."""

    pool: str
    device: str
    health: Health
    checked_at: float
    message: str = ""


class HealthSource(Protocol):
    """Health of all published devices."""

    def devices(self) -> Sequence[DeviceHealth]:
        """Return the complete list as it is known now. Asked in the event loop: no I/O."""
        ...

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Have `changed` called after each change of the list, from any thread. Returns what ends it."""
        ...


class Reporter(Protocol):
    """Tells people: events and metrics. Called in the event loop, must not wait."""

    def refused(self, claim: ClaimRef, fault: DeviceError) -> None:
        """Tell that a claim was not prepared, or not unprepared."""
        ...

    def answered(self, method: str, seconds: float, *, claims: int, refused: int) -> None:
        """Tell that a call of the kubelet was answered. `method`: NodePrepareResources or NodeUnprepareResources."""
        ...
