"""The MIG state machine of one GPU: what may be created and destroyed, and what the driver answers otherwise. Pure.

Placements and exclusive engines are `topology.mig`'s; ids are the lowest free ones, so they are used again.
"""

from __future__ import annotations

import uuid

from topology.mig import MigGeometry, MigProfile, Occupation, interval, legal, side_by_side
from twin.codes import Code, Refused
from twin.facts import GpuFacts
from twin.state import ComputeInstance, GpuInstance, GpuState, State

CI_SLICES = {0: 1, 1: 2, 2: 3, 3: 4, 4: 7, 5: 8, 6: 6, 8: 7}
"""Compute slices by compute instance profile; 8 is 7_SLICE_NVL, which can be asked for but not created here."""
CI_7_SLICE_NVL = 8
_CI_STRIDE = {1: 1, 2: 2, 3: 4, 4: 4, 6: 8, 7: 8, 8: 8}
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "mig.dovetail.dev")


def geometry(facts: GpuFacts, state: State) -> MigGeometry:
    """Return the profiles of the GPU; refused where it cannot be partitioned."""
    if facts.geometry is None or state.behaviour.vgpu_guest:
        raise Refused(Code.NOT_SUPPORTED, "not MIG-capable")
    return facts.geometry


def require_enabled(gpu: GpuState) -> None:
    """Refuse where MIG mode is off."""
    if not gpu.mig_enabled:
        raise Refused(Code.NOT_SUPPORTED, "MIG mode is off")


def profile_by_enum(shape: MigGeometry, enum: int) -> MigProfile:
    """Return the profile NVML calls `enum`."""
    for profile in shape.profiles:
        if profile.nvml_enum == enum:
            return profile
    raise Refused(Code.NOT_SUPPORTED, f"no profile {enum}")


def profile_by_id(shape: MigGeometry, profile_id: int) -> MigProfile:
    """Return the profile with the id that users see."""
    for profile in shape.profiles:
        if profile.profile_id == profile_id:
            return profile
    raise Refused(Code.NOT_SUPPORTED, f"no profile id {profile_id}")


def occupied(shape: MigGeometry, gpu: GpuState) -> Occupation:
    """Return what the GPU instances hold."""
    slices = exclusive = 0
    for instance in gpu.instances:
        profile = profile_by_enum(shape, instance.profile)
        slices |= interval(profile, instance.start)
        exclusive |= profile.takes
    return Occupation(slices, exclusive)


def free_starts(shape: MigGeometry, gpu: GpuState, profile: MigProfile) -> list[int]:
    """Return where an instance of `profile` could start now."""
    taken = occupied(shape, gpu)
    return [start for start in profile.starts if legal(shape, taken, profile, start)]


def remaining(shape: MigGeometry, gpu: GpuState, profile: MigProfile) -> int:
    """Return how many more instances of `profile` fit beside each other now."""
    free = free_starts(shape, gpu, profile)
    return min(side_by_side(free, profile.size), 1 if profile.takes else profile.max_instances)


def create_gpu_instance(
    state: State, facts: GpuFacts, profile_id: int, placement: tuple[int, int] | None
) -> GpuInstance:
    """Create an instance at `placement` (start, size), or where there is room. Occupied: INSUFFICIENT_RESOURCES."""
    gpu = state.gpus[facts.index]
    shape = geometry(facts, state)
    require_enabled(gpu)
    profile = profile_by_id(shape, profile_id)
    free = free_starts(shape, gpu, profile)
    if placement is not None:
        start, size = placement
        if size != profile.size or start not in profile.starts:
            raise Refused(Code.INVALID_ARGUMENT, f"{profile.name} has no placement {start}:{size}")
        free = [start] if start in free else []
    if not free:
        raise Refused(Code.INSUFFICIENT_RESOURCES, f"no room for {profile.name}")
    assert profile.nvml_enum is not None
    made = GpuInstance(
        id=_lowest_free([one.id for one in gpu.instances]),
        serial=state.next_serial(),
        profile=profile.nvml_enum,
        # Where the caller leaves the choice the driver starts from the high end, as far as is known.
        start=free[-1],
    )
    gpu.instances.append(made)
    return made


def destroy_gpu_instance(gpu: GpuState, instance: GpuInstance) -> None:
    """Destroy it; IN_USE while it has compute instances or users."""
    if instance.compute or any(process.gpu_instance == instance.id for process in gpu.processes):
        raise Refused(Code.IN_USE, f"GPU instance {instance.id}")
    gpu.instances.remove(instance)


def ci_starts(slices: int, profile: int) -> list[int]:
    """Return placements of a compute instance profile in a GPU instance of `slices` compute slices; empty: none."""
    size = CI_SLICES.get(profile)
    # A four-slice instance has no three-slice compute instance.
    if size is None or size > slices or (size, slices) == (3, 4):
        return []
    return [start for start in range(0, slices, _CI_STRIDE[size]) if start + size <= slices]


def ci_free_starts(slices: int, instance: GpuInstance, profile: int) -> list[int]:
    """Return where a compute instance could start now."""
    taken = {at for one in instance.compute for at in range(one.start, one.start + one.size)}
    size = CI_SLICES.get(profile, 0)
    return [start for start in ci_starts(slices, profile) if not taken & set(range(start, start + size))]


def create_compute_instance(
    state: State, facts: GpuFacts, instance: GpuInstance, profile: int, placement: tuple[int, int] | None
) -> ComputeInstance:
    """Create a compute instance; `profile` is its id, equal to NVML's enum."""
    slices = profile_by_enum(geometry(facts, state), instance.profile).compute_slices
    if profile == CI_7_SLICE_NVL or not ci_starts(slices, profile):
        raise Refused(Code.NOT_SUPPORTED, f"no compute instance profile {profile}")
    size = CI_SLICES[profile]
    free = ci_free_starts(slices, instance, profile)
    if placement is not None:
        if placement[1] != size or placement[0] not in ci_starts(slices, profile):
            raise Refused(Code.INVALID_ARGUMENT, f"no placement {placement}")
        free = [placement[0]] if placement[0] in free else []
    if not free:
        raise Refused(Code.INSUFFICIENT_RESOURCES, "no free compute slices")
    serial, number = state.next_serial(), _lowest_free([one.id for one in instance.compute])
    again = "" if state.behaviour.repeat_mig_uuids else f"/{serial}"
    name = uuid.uuid5(_NAMESPACE, f"{facts.uuid}/{instance.id}/{number}{again}")
    made = ComputeInstance(id=number, serial=serial, profile=profile, start=free[0], size=size, uuid=f"MIG-{name}")
    instance.compute.append(made)
    return made


def destroy_compute_instance(gpu: GpuState, instance: GpuInstance, compute: ComputeInstance) -> None:
    """Destroy it; IN_USE while a process is on it."""
    on_it = (instance.id, compute.id)
    if any((process.gpu_instance, process.compute_instance) == on_it for process in gpu.processes):
        raise Refused(Code.IN_USE, f"compute instance {compute.id}")
    instance.compute.remove(compute)


def set_mode(state: State, facts: GpuFacts, *, enabled: bool) -> Code:
    """Ask for a MIG mode; returns the activation status, SUCCESS where it is real now, else it is pending."""
    gpu = state.gpus[facts.index]
    geometry(facts, state)
    gpu.mig_pending = enabled
    if gpu.mig_enabled == enabled:
        return Code.SUCCESS
    if gpu.processes or gpu.instances:
        return Code.IN_USE
    if facts.toggle_needs_reset:
        return Code.RESET_REQUIRED if state.behaviour.reset_supported else Code.NOT_SUPPORTED
    gpu.mig_enabled = enabled
    return Code.SUCCESS


def _lowest_free(used: list[int]) -> int:
    return next(number for number in range(len(used) + 1) if number not in used)
