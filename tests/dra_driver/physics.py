"""What the hardware allows on one GPU, straight from the MIG files: nothing here knows of counters or slices.

A tenant is the whole GPU, a partition, or a share with its amounts. Slow and plain on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import yaml

ENGINES = ("copy", "decoder", "encoder", "jpeg", "ofa")


@dataclass(frozen=True)
class Whole:
    pass


@dataclass(frozen=True)
class Partition:
    profile_id: int
    start: int


@dataclass(frozen=True)
class Share:
    sharing: str
    memory_mib: int
    milli: int


Tenant = Whole | Partition | Share


@dataclass(frozen=True, eq=False)
class GpuHardware:
    """One GPU of the geometry file `geometry_id`."""

    geometry_id: str
    memory_mib: int
    file: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        text = files("topology").joinpath("data", "mig", f"{self.geometry_id}.yaml").read_text("utf-8")
        object.__setattr__(self, "file", yaml.safe_load(text))

    def tenants(self) -> list[Tenant]:
        """Every tenant the GPU can have; shares without amounts."""
        partitions = [
            Partition(profile["profile_id"], start)
            for profile in self.file["profiles"]
            for start in profile["placement_starts"]
        ]
        return [Whole(), *partitions, Share("time-slicing", 1, 0), Share("mps", 1, 0)]

    def allows(self, tenants: list[Tenant]) -> bool:
        if len({type(tenant) for tenant in tenants}) > 1:
            return False
        if all(isinstance(tenant, Whole) for tenant in tenants):
            return len(tenants) <= 1
        if all(isinstance(tenant, Share) for tenant in tenants):
            return self._allows_shares([tenant for tenant in tenants if isinstance(tenant, Share)])
        return self._allows_partitions([tenant for tenant in tenants if isinstance(tenant, Partition)])

    def _allows_shares(self, shares: list[Share]) -> bool:
        return (
            len({share.sharing for share in shares}) == 1
            and sum(share.memory_mib for share in shares) <= self.memory_mib
            and sum(share.milli for share in shares) <= 1000
        )

    def _allows_partitions(self, partitions: list[Partition]) -> bool:
        profiles = {profile["profile_id"]: profile for profile in self.file["profiles"]}
        held = [profiles[partition.profile_id] for partition in partitions]
        slices = [
            at
            for partition, profile in zip(partitions, held, strict=True)
            for at in range(partition.start, partition.start + profile["placement_size"])
        ]
        return (
            len(set(slices)) == len(slices)
            and all(held.count(profile) <= profile["max_instances"] for profile in held)
            and sum(profile["compute_slices"] for profile in held) <= self.file["compute_slices"]
            and all(
                sum(profile["name"] in group["members"] for profile in held) <= 1
                for group in self.file["exclusive_groups"]
            )
            and all(
                sum(profile["engines"][engine] for profile in held)
                <= max(profile["engines"][engine] for profile in profiles.values())
                for engine in ENGINES
            )
        )
