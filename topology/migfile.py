"""Parses and checks a MIG geometry file (schema mig-geometry/v1). Pure: text in, `MigGeometry` out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from topology.documents import convert, load_document
from topology.errors import InvalidInputError, InvalidInputsError
from topology.mig import MigEngines, MigGeometry, MigProfile, side_by_side

SCHEMA = "mig-geometry/v1"
MAX_SLICES = 16

Slices = Annotated[int, Meta(ge=1, le=MAX_SLICES)]
Count = Annotated[int, Meta(ge=0, le=1024)]


class _Product(Struct, frozen=True, forbid_unknown_fields=True):
    nvml_name: str
    status: str = ""
    pci_device_id: str | None = None
    memory_total_mib: int | None = None


class _Group(Struct, frozen=True, forbid_unknown_fields=True):
    members: tuple[str, ...]
    rule: str = ""
    status: str = ""


class _Engines(Struct, frozen=True, forbid_unknown_fields=True):
    copy: Count = 0
    decoder: Count = 0
    encoder: Count = 0
    jpeg: Count = 0
    ofa: Count = 0


class _Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    alternate_names: tuple[str, ...] = ()
    profile_id: int | None
    nvml_enum: str | None
    nvml_enum_value: int | None
    compute_slices: Slices
    memory_slices: Slices | None
    placement_starts: tuple[Annotated[int, Meta(ge=0, lt=MAX_SLICES)], ...] | None
    placement_size: Slices | None
    max_instances: Slices
    sm_count: int | None
    memory_mib: int | None
    engines: _Engines | None = None
    attributes: tuple[str, ...] = ()
    p2p_supported: bool = False
    compute_instance_slices: tuple[int, ...] | None = None
    inferred_fields: tuple[str, ...] = ()


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: str
    id: str
    title: str
    status: str
    products: tuple[_Product, ...]
    architecture: str
    compute_capability: str
    sm_count_full_gpu: int | None
    memory_slices: Slices | None
    compute_slices: Slices | None
    min_driver: str
    mig_mode_toggle_needs_gpu_reset: bool | None
    profiles: tuple[_Profile, ...]
    exclusive_groups: tuple[_Group, ...] = ()
    sources: tuple[Any, ...] = ()
    notes: tuple[Any, ...] = ()


def parse_mig_geometry(text: str, name: str) -> MigGeometry:
    """Return the geometry described by `text`; `name` is used in messages.

    A file without placements loads (its names are known) but refuses every use that needs them.
    Raises InvalidInputError, or InvalidInputsError with every fault found.
    """
    raw = convert(load_document(text, name, SCHEMA), _File, name)
    faults = tuple(InvalidInputError(name, field, problem) for field, problem in _faults(raw))
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise InvalidInputsError(name, faults)
    bits = _exclusive_bits(raw)
    return MigGeometry(
        id=raw.id,
        title=raw.title,
        products=tuple(product.nvml_name for product in raw.products),
        architecture=raw.architecture,
        memory_slices=raw.memory_slices or 0,
        compute_slices=raw.compute_slices or 0,
        profiles=tuple(_profile(profile, bits[profile.name]) for profile in raw.profiles),
    )


def _profile(raw: _Profile, bits: int) -> MigProfile:
    return MigProfile(
        name=raw.name,
        alternate_names=raw.alternate_names,
        nvml_enum=raw.nvml_enum_value,
        profile_id=raw.profile_id,
        compute_slices=raw.compute_slices,
        starts=raw.placement_starts or (),
        size=raw.placement_size or 0,
        max_instances=raw.max_instances,
        sm_count=raw.sm_count,
        memory_mib=raw.memory_mib,
        engines=MigEngines(**msgspec.structs.asdict(raw.engines)) if raw.engines else None,
        attributes=raw.attributes,
        inferred_fields=raw.inferred_fields,
        takes=bits,
        blocked_by=bits,
    )


def _exclusive_bits(raw: _File) -> dict[str, int]:
    """One bit per exclusive group, then one per profile whose `max_instances` its placements do not imply."""
    bits = dict.fromkeys((profile.name for profile in raw.profiles), 0)
    groups = [group.members for group in raw.exclusive_groups]
    grouped = {member for members in groups for member in members}
    groups += [(p.name,) for p in raw.profiles if p.name not in grouped and _room(p) > p.max_instances]
    for at, members in enumerate(groups):
        for member in members:
            bits[member] |= 1 << at
    return bits


def _room(profile: _Profile) -> int:
    return side_by_side(profile.placement_starts or (), profile.placement_size or 0)


def _faults(raw: _File) -> Iterator[tuple[str, str]]:
    names = [name for profile in raw.profiles for name in (profile.name, *profile.alternate_names)]
    if len(set(names)) != len(names):
        yield "profiles", "two profiles share a name; names must be unique in a geometry"
    for group in raw.exclusive_groups:
        for member in group.members:
            if member not in names:
                yield "exclusive_groups", f"names {member!r}, which is not a profile here"
    if raw.memory_slices is None:
        return
    grouped = {member for group in raw.exclusive_groups for member in group.members}
    for profile in raw.profiles:
        if profile.placement_starts is None or profile.placement_size is None:
            yield f"profiles.{profile.name}", "has no placements although memory_slices is given"
        elif any(start + profile.placement_size > raw.memory_slices for start in profile.placement_starts):
            yield f"profiles.{profile.name}", f"has a placement outside the {raw.memory_slices} memory slices"
        elif _room(profile) > profile.max_instances > 1 or (profile.name in grouped and profile.max_instances > 1):
            # One bit can say "at most one" and nothing between.
            yield f"profiles.{profile.name}.max_instances", "must be 1 or what the placements allow"
