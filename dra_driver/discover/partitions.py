"""MIG of one GPU: which devices exist, and in which mode it is published. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dra_driver.inventory import MigInstance
from dra_driver.nvml.api import ComputeInstance, GpuInstance, GpuReading
from dra_driver.policy import MigPolicy
from topology.mig import MigGeometry
from topology.modes import MigMode

_SWITCHED_AT_ONCE_SINCE = (9, 0)
"""Compute capability (Hopper) from which on switching MIG takes no reset of the GPU (MIG user guide)."""


@dataclass(frozen=True, slots=True)
class Partitions:
    """How a GPU is published. `hidden`: nothing of it can be."""

    mode: MigMode
    geometry: MigGeometry | None
    hidden: str = ""


def instances_of(
    geometry: MigGeometry | None,
    gpu_instances: Sequence[GpuInstance],
    compute_instances: Mapping[int, Sequence[ComputeInstance]],
) -> tuple[MigInstance, ...]:
    """Return what exists, by start; `compute_instances` by id of the GPU instance, without those that have gone."""
    names = {profile.profile_id: profile.name for profile in geometry.profiles} if geometry else {}
    found = []
    for one in gpu_instances:
        if one.id not in compute_instances:
            continue
        bare = MigInstance(
            profile=names.get(one.profile_id, ""),
            profile_id=one.profile_id,
            start=one.start,
            size=one.size,
            gpu_instance=one.id,
        )
        parts = compute_instances[one.id]
        found += [replace(bare, compute_instance=part.id, uuid=part.uuid, fills=part.fills) for part in parts] or [bare]
    return tuple(found)


def partitions_of(
    gpu: GpuReading, geometry: MigGeometry | None, instances: Sequence[MigInstance], policy: MigPolicy
) -> Partitions:
    """Return how a GPU that is found like this is published under the operator's policy."""
    on = gpu.mig is not None and gpu.mig.enabled
    if gpu.virtual or geometry is None:
        hidden = "MIG is on and NVML tells no profiles (it takes root to ask)" if on and not gpu.virtual else ""
        return Partitions(MigMode.DISABLED, None, hidden)
    if policy is MigPolicy.DISABLED:
        if not on:
            return Partitions(MigMode.DISABLED, geometry)
        existing = _only_existing(geometry, instances)
        hidden = "" if existing else "MIG is on, no MIG device exists, and the MIG policy is to make none"
        return Partitions(MigMode.ENABLED, existing, hidden)
    if policy is MigPolicy.DYNAMIC and _switches_at_once(gpu):
        return Partitions(MigMode.DYNAMIC, geometry)
    return Partitions(MigMode.ENABLED if on else MigMode.DISABLED, geometry)


def _switches_at_once(gpu: GpuReading) -> bool:
    """Whether MIG can be switched as claims come and go; not so where nothing is known of the GPU."""
    capability = gpu.cuda_compute_capability
    return bool(capability) and tuple(map(int, capability.split("."))) >= _SWITCHED_AT_ONCE_SINCE


def _only_existing(geometry: MigGeometry, instances: Sequence[MigInstance]) -> MigGeometry | None:
    """Return the geometry with the placements that are taken, and no other."""
    taken = {(instance.profile_id, instance.start) for instance in instances}
    kept = tuple(
        replace(profile, starts=starts)
        for profile in geometry.profiles
        if (starts := tuple(start for start in profile.starts if (profile.profile_id, start) in taken))
    )
    # Another id: geometries are told apart by it.
    return replace(geometry, id=f"{geometry.id}:existing", profiles=kept) if kept else None
