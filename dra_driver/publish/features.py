"""What of the resource API a server stores. Fields behind a disabled feature gate are dropped without a word."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Parts of the API that publishing can do without; all of them are on from Kubernetes 1.36."""

    counters: bool = True
    """DRAPartitionableDevices: without it nothing says that the parts of a GPU exclude each other and the whole."""
    shares: bool = True
    """DRAConsumableCapacity: without it a device is allocated once."""
    taints: bool = True
    """DRADeviceTaints: without it a device that must not be allocated cannot be published."""

    def without(self, *names: str) -> Features:
        """Return what is left when `names` are missing too."""
        return Features(**{each.name: getattr(self, each.name) and each.name not in names for each in fields(self)})

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of what there is not."""
        return tuple(each.name for each in fields(self) if not getattr(self, each.name))


EVERYTHING = Features()
