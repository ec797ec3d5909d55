"""What of a GPU is offered: as a whole, as MIG placements, as MIG devices that exist, in shares.

A MIG device that somebody else made is offered as it is. It takes its part of the GPU whether or not a claim has it, so
that part is taken off what the other placements of the GPU share; the GPU as a whole, and shares of it, are not there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dra_driver.inventory import Gpu, MigInstance
from dra_driver.publish.counters import Amounts, gpu_counters, partition_counters
from dra_driver.publish.features import Features
from dra_driver.publish.order import by_blocking_cost
from topology.mig import MigGeometry, MigProfile
from topology.modes import MigMode, Sharing


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What is offered of one GPU. `counters`: how much there is of what its parts share; empty where nothing is."""

    gpu: Gpu
    whole: bool
    existing: tuple[tuple[MigProfile, MigInstance], ...] = ()
    placements: tuple[tuple[MigProfile, int], ...] = ()
    sharing: tuple[Sharing, ...] = ()
    counters: Amounts


def offered(gpu: Gpu, features: Features) -> Offer:
    """Return what is offered of a GPU where the API server stores `features`."""
    gpu = _as_it_is(gpu)
    whole = gpu.mig_mode is not MigMode.ENABLED
    sharing = gpu.sharing if whole and features.shares and features.counters else ()
    existing, used, unknown = _existing(gpu)
    if not features.counters or unknown:
        return Offer(gpu=gpu, whole=whole, existing=existing, counters={})
    totals = _left(gpu_counters(gpu), used)
    placements = () if gpu.mig is None or gpu.mig_mode is MigMode.DISABLED else _placements(gpu.mig, totals)
    counters = totals if placements or sharing else {}
    return Offer(gpu=gpu, whole=whole, existing=existing, placements=placements, sharing=sharing, counters=counters)


def _as_it_is(gpu: Gpu) -> Gpu:
    """Return a GPU that is partitioned already as one that stays so: its MIG mode cannot be left."""
    return replace(gpu, mig_mode=MigMode.ENABLED) if gpu.instances else gpu


def _existing(gpu: Gpu) -> tuple[tuple[tuple[MigProfile, MigInstance], ...], list[Amounts], bool]:
    """Return the MIG devices that can be offered, what all instances take, and whether any takes nobody knows what."""
    offers, used, unknown, seen = [], [], False, set()
    for instance in gpu.instances:
        profile = _profile(gpu.mig, instance)
        if gpu.mig is None or profile is None:
            unknown = True
            continue
        if instance.gpu_instance not in seen:  # there is an entry for each of its compute instances
            used.append(partition_counters(gpu.mig, profile, instance.start))
        seen.add(instance.gpu_instance)
        if instance.uuid and instance.fills:
            offers.append((profile, instance))
    return tuple(offers), used, unknown


def _profile(geometry: MigGeometry | None, instance: MigInstance) -> MigProfile | None:
    for profile in geometry.profiles if geometry else ():
        if (profile.profile_id, profile.size) == (instance.profile_id, instance.size):
            return profile if instance.start in profile.starts else None
    return None


def _left(totals: Amounts, used: list[Amounts]) -> Amounts:
    left = {name: total - sum(each.get(name, 0) for each in used) for name, total in totals.items()}
    return {name: amount for name, amount in left.items() if amount > 0} if used else totals


def _placements(geometry: MigGeometry, left: Amounts) -> tuple[tuple[MigProfile, int], ...]:
    return tuple(
        (profile, start)
        for profile, start in by_blocking_cost(geometry)
        if all(amount <= left.get(name, 0) for name, amount in partition_counters(geometry, profile, start).items())
    )
