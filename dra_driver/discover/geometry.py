"""The MIG geometry of a GPU as its driver reports it. Pure.

What NVML says wins. The catalog adds what NVML does not say: names where an old driver has none, which profiles exclude
each other, and the order in which placements are listed, so that a real node publishes what a simulated one does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from dra_driver.nvml.api import GpuReading, ProfileReading
from topology.catalog import mig_for_product
from topology.mig import MigGeometry, MigProfile, side_by_side

_GIB = 1 << 30
_MIB = 1 << 20
_EIGHTHS = 8
_ATTRIBUTES = {
    **dict.fromkeys((7, 8), "+me"),
    **dict.fromkeys((10, 11, 12, 17), "+gfx"),
    **dict.fromkeys((13, 14), "-me"),
    **dict.fromkeys((15, 16), "+me.all"),
}
"""By NVML's enum of GPU instance profiles."""


def geometry_of(gpu: GpuReading, profiles: Sequence[ProfileReading]) -> tuple[MigGeometry | None, tuple[str, ...]]:
    """Return the geometry, None where there are no profiles, and notes on what differs from the catalog."""
    known = mig_for_product(gpu.product)
    if known is not None and not known.placeable:
        known = None
    if not profiles:
        return None, ()
    catalogued = {profile.nvml_enum: profile for profile in known.profiles} if known else {}
    order = {enum: at for at, enum in enumerate(catalogued)}
    listed = sorted(profiles, key=lambda profile: (order.get(profile.enum, len(order)), profile.enum))
    built = tuple(_profile(gpu, profile, catalogued.get(profile.enum)) for profile in listed)
    built = _exclusive(built, catalogued)
    geometry = MigGeometry(
        id=known.id if known else f"nvml:{gpu.product}",
        title=known.title if known else gpu.product,
        products=known.products if known else (gpu.product,),
        architecture=gpu.architecture or (known.architecture if known else ""),
        memory_slices=max(start + profile.size for profile in built for start in profile.starts),
        compute_slices=max(profile.compute_slices for profile in built),
        profiles=built,
    )
    return geometry, tuple(_differences(gpu, geometry, known)) if known else ()


def _profile(gpu: GpuReading, profile: ProfileReading, known: MigProfile | None) -> MigProfile:
    name = profile.name or (known.name if known else label(gpu, profile))
    return MigProfile(
        name=name,
        alternate_names=tuple(
            other for other in ((known.name, *known.alternate_names) if known else ()) if other != name
        ),
        nvml_enum=profile.enum,
        profile_id=profile.profile_id,
        compute_slices=profile.compute_slices,
        starts=profile.starts,
        size=profile.size,
        max_instances=profile.max_instances,
        sm_count=profile.multiprocessors,
        memory_mib=profile.memory_mib,
        engines=profile.engines,
        attributes=known.attributes if known else tuple(filter(None, [_ATTRIBUTES.get(profile.enum, "").lstrip("+")])),
    )


def label(gpu: GpuReading, profile: ProfileReading) -> str:
    """Return the name of a profile as NVIDIA/go-nvlib makes it: memory as eighths of the GPU's, in whole GB."""
    eighths = math.ceil(profile.memory_mib * _MIB / gpu.memory_bytes * _EIGHTHS)
    # Halves are rounded away from zero, unlike Python's round().
    gigabytes = math.floor(eighths * math.ceil(gpu.memory_bytes / _GIB) / _EIGHTHS + 0.5)
    return f"{profile.compute_slices}g.{gigabytes}gb{_ATTRIBUTES.get(profile.enum, '')}"


def _exclusive(built: tuple[MigProfile, ...], known: dict[int | None, MigProfile]) -> tuple[MigProfile, ...]:
    """Give profiles of which one may exist a bit, the catalog's where it has them (it knows which share an engine)."""
    taken = max((profile.takes.bit_length() for profile in known.values()), default=0)
    marked = []
    for profile in built:
        its = known.get(profile.nvml_enum)
        takes, blocked_by = (its.takes, its.blocked_by) if its else (0, 0)
        if not takes and profile.max_instances == 1 < side_by_side(profile.starts, profile.size):
            takes = blocked_by = 1 << taken
            taken += 1
        marked.append(replace(profile, takes=takes, blocked_by=blocked_by))
    return tuple(marked)


def _differences(gpu: GpuReading, found: MigGeometry, known: MigGeometry) -> list[str]:
    here = {profile.nvml_enum: profile for profile in found.profiles}
    there = {profile.nvml_enum: profile for profile in known.profiles}
    notes = []
    for enum in sorted({*here, *there}, key=lambda enum: -1 if enum is None else enum):
        one, other = _placing(here.get(enum)), _placing(there.get(enum))
        if one != other:
            notes.append(
                f"GPU {gpu.index} ({gpu.product}): NVML says of MIG profile {enum}: {one}; known is: {other}. "
                f"What NVML says is used"
            )
    return notes


def _placing(profile: MigProfile | None) -> str:
    if profile is None:
        return "none"
    starts = ",".join(map(str, profile.starts))
    return f"id {profile.profile_id}, {{{starts}}}:{profile.size}, at most {profile.max_instances}"
