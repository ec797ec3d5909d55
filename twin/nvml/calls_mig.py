"""NVML: MIG mode, GPU instances, compute instances, MIG devices."""

from __future__ import annotations

from typing import Any

from topology.mig import MigProfile
from twin import mig
from twin.codes import Code, Refused
from twin.nvml import marshal
from twin.nvml.marshal import (
    engine_counts,
    fill,
    fill_handle,
    number,
    put,
    put_handle,
    put_handles,
    require_version,
    target,
)
from twin.nvml.session import Session, call
from twin.state import GpuInstance


@call("nvmlDeviceGetMigMode")
def mode(session: Session, handle: Any, current: Any, pending: Any) -> None:
    facts, gpu = session.gpu(handle)
    mig.geometry(facts, session.state)
    put(current, gpu.mig_enabled)
    put(pending, gpu.mig_pending)


@call("nvmlDeviceSetMigMode")
def set_mode(session: Session, handle: Any, wanted: Any, activation: Any) -> None:
    """Take a mode; what became of it is the activation status, not the return code."""
    session.gpu(handle)
    session.require_privilege()
    if number(wanted) not in (0, 1):
        raise Refused(Code.INVALID_ARGUMENT, "MIG mode")
    with session.change() as state:
        status = mig.set_mode(state, session.gpu(handle, state)[0], enabled=bool(number(wanted)))
    put(activation, status)


@call("nvmlDeviceGetGpuInstanceProfileInfo", "nvmlDeviceGetGpuInstanceProfileInfoV")
def profile_info(session: Session, handle: Any, enum: Any, result: Any) -> None:
    shape = mig.geometry(session.gpu(handle)[0], session.state)
    _put_profile(result, mig.profile_by_enum(shape, number(enum)))


@call("nvmlDeviceGetGpuInstanceProfileInfoByIdV")
def profile_info_by_id(session: Session, handle: Any, profile_id: Any, result: Any) -> None:
    shape = mig.geometry(session.gpu(handle)[0], session.state)
    _put_profile(result, mig.profile_by_id(shape, number(profile_id)))


def _put_profile(result: Any, profile: MigProfile) -> None:
    struct = target(result)
    if hasattr(struct, "version"):
        require_version(struct, 2, 3)
    fill(
        struct,
        {
            "id": profile.profile_id,
            "sliceCount": profile.compute_slices,
            "instanceCount": profile.max_instances,
            "multiprocessorCount": profile.sm_count or 0,
            **engine_counts(profile.engines),
            "memorySizeMB": profile.memory_mib or 0,
            "name": f"MIG {profile.name}".encode(),
            "isP2pSupported": 0,
            "capabilities": 0,
        },
    )


@call("nvmlDeviceGetGpuInstancePossiblePlacements_v2")
def possible_placements(session: Session, handle: Any, profile_id: Any, array: Any, count: Any) -> None:
    shape = mig.geometry(session.gpu(handle)[0], session.state)
    session.require_privilege()
    profile = mig.profile_by_id(shape, number(profile_id))
    _put_placements(profile.starts, profile.size, array, count)


def _put_placements(starts: Any, size: int, array: Any, count: Any) -> None:
    put(count, len(starts))
    if array is not None:
        for at, start in enumerate(starts):
            fill(target(array)[at], {"start": start, "size": size})


@call("nvmlDeviceGetGpuInstanceRemainingCapacity")
def remaining_capacity(session: Session, handle: Any, profile_id: Any, result: Any) -> None:
    session.require_privilege()
    state = session.state
    facts, gpu = session.gpu(handle, state)
    shape = mig.geometry(facts, state)
    mig.require_enabled(gpu)
    put(result, mig.remaining(shape, gpu, mig.profile_by_id(shape, number(profile_id))))


@call("nvmlDeviceCreateGpuInstance")
def create_gpu_instance(session: Session, handle: Any, profile_id: Any, result: Any) -> None:
    _create_gpu_instance(session, handle, profile_id, None, result)


@call("nvmlDeviceCreateGpuInstanceWithPlacement")
def create_gpu_instance_at(session: Session, handle: Any, profile_id: Any, placement: Any, result: Any) -> None:
    at = target(placement)
    _create_gpu_instance(session, handle, profile_id, (at.start, at.size), result)


def _create_gpu_instance(
    session: Session, handle: Any, profile_id: Any, placement: tuple[int, int] | None, result: Any
) -> None:
    session.require_privilege()
    with session.change() as state:
        facts, _ = session.gpu(handle, state)
        made = mig.create_gpu_instance(state, facts, number(profile_id), placement)
    put_handle(result, made.serial, marshal.GPU_INSTANCE)


@call("nvmlGpuInstanceDestroy")
def destroy_gpu_instance(session: Session, handle: Any) -> None:
    session.require_privilege()
    with session.change() as state:
        _, gpu, instance = session.instance(handle, state)
        mig.destroy_gpu_instance(gpu, instance)


@call("nvmlDeviceGetGpuInstances")
def gpu_instances(session: Session, handle: Any, profile_id: Any, array: Any, count: Any) -> None:
    session.require_privilege()
    state = session.state
    facts, gpu = session.gpu(handle, state)
    profile = mig.profile_by_id(mig.geometry(facts, state), number(profile_id))
    mig.require_enabled(gpu)
    found = [one.serial for one in gpu.instances if one.profile == profile.nvml_enum]
    put(count, len(found))
    if array is not None:
        put_handles(array, found, marshal.GPU_INSTANCE)


@call("nvmlDeviceGetGpuInstanceById")
def gpu_instance_by_id(session: Session, handle: Any, wanted: Any, result: Any) -> None:
    session.require_privilege()
    facts, gpu = session.gpu(handle)
    mig.geometry(facts, session.state)
    mig.require_enabled(gpu)
    for instance in gpu.instances:
        if instance.id == number(wanted):
            put_handle(result, instance.serial, marshal.GPU_INSTANCE)
            return
    raise Refused(Code.NOT_FOUND, "no such GPU instance")


@call("nvmlGpuInstanceGetInfo")
def gpu_instance_info(session: Session, handle: Any, result: Any) -> None:
    facts, _, instance = session.instance(handle, session.state)
    profile, struct = _profile(session, facts.index, instance), target(result)
    fill(struct, {"id": instance.id, "profileId": profile.profile_id})
    fill_handle(struct, "device", facts.index + 1, marshal.GPU)
    fill(struct.placement, {"start": instance.start, "size": profile.size})


def _profile(session: Session, gpu: int, instance: GpuInstance) -> MigProfile:
    return mig.profile_by_enum(mig.geometry(session.facts.gpus[gpu], session.state), instance.profile)


@call("nvmlGpuInstanceGetComputeInstanceProfileInfo", "nvmlGpuInstanceGetComputeInstanceProfileInfoV")
def compute_profile_info(session: Session, handle: Any, enum: Any, engines: Any, result: Any) -> None:
    facts, _, instance = session.instance(handle, session.state)
    profile, wanted, struct = _profile(session, facts.index, instance), number(enum), target(result)
    if hasattr(struct, "version"):
        require_version(struct, 2, 3)
    if number(engines):
        raise Refused(Code.INVALID_ARGUMENT, "engine profile")
    starts = mig.ci_starts(profile.compute_slices, wanted)
    if not starts:
        raise Refused(Code.NOT_SUPPORTED, f"no compute instance profile {wanted}")
    size = mig.CI_SLICES[wanted]
    label = profile.name if size == profile.compute_slices else f"{size}c.{profile.name}"
    fill(
        struct,
        {
            "id": wanted,
            "sliceCount": size,
            "instanceCount": len(starts),
            "multiprocessorCount": (profile.sm_count or 0) * size // profile.compute_slices,
            **engine_counts(profile.engines, shared=True),
            "name": f"MIG {label}".encode(),
            "capabilities": 0,
        },
    )


@call("nvmlGpuInstanceGetComputeInstancePossiblePlacements")
def compute_placements(session: Session, handle: Any, profile_id: Any, array: Any, count: Any) -> None:
    facts, _, instance = session.instance(handle, session.state)
    starts = mig.ci_starts(_profile(session, facts.index, instance).compute_slices, number(profile_id))
    if not starts:
        raise Refused(Code.NOT_SUPPORTED)
    _put_placements(starts, mig.CI_SLICES[number(profile_id)], array, count)


@call("nvmlGpuInstanceGetComputeInstanceRemainingCapacity")
def compute_remaining(session: Session, handle: Any, profile_id: Any, result: Any) -> None:
    session.require_privilege()
    facts, _, instance = session.instance(handle, session.state)
    slices = _profile(session, facts.index, instance).compute_slices
    put(result, len(mig.ci_free_starts(slices, instance, number(profile_id))))


@call("nvmlGpuInstanceCreateComputeInstance")
def create_compute_instance(session: Session, handle: Any, profile_id: Any, result: Any) -> None:
    _create_compute_instance(session, handle, profile_id, None, result)


@call("nvmlGpuInstanceCreateComputeInstanceWithPlacement")
def create_compute_instance_at(session: Session, handle: Any, profile_id: Any, placement: Any, result: Any) -> None:
    at = target(placement)
    _create_compute_instance(session, handle, profile_id, (at.start, at.size), result)


def _create_compute_instance(
    session: Session, handle: Any, profile_id: Any, placement: tuple[int, int] | None, result: Any
) -> None:
    session.require_privilege()
    with session.change() as state:
        facts, _, instance = session.instance(handle, state)
        made = mig.create_compute_instance(state, facts, instance, number(profile_id), placement)
    put_handle(result, made.serial, marshal.COMPUTE_INSTANCE)


@call("nvmlComputeInstanceDestroy")
def destroy_compute_instance(session: Session, handle: Any) -> None:
    session.require_privilege()
    with session.change() as state:
        _, gpu, instance, compute = session.compute(handle, state)
        mig.destroy_compute_instance(gpu, instance, compute)


@call("nvmlGpuInstanceGetComputeInstances")
def compute_instances(session: Session, handle: Any, profile_id: Any, array: Any, count: Any) -> None:
    session.require_privilege()
    _, _, instance = session.instance(handle, session.state)
    found = [one.serial for one in instance.compute if one.profile == number(profile_id)]
    put(count, len(found))
    if array is not None:
        put_handles(array, found, marshal.COMPUTE_INSTANCE)


@call("nvmlGpuInstanceGetComputeInstanceById")
def compute_instance_by_id(session: Session, handle: Any, wanted: Any, result: Any) -> None:
    session.require_privilege()
    _, _, instance = session.instance(handle, session.state)
    for compute in instance.compute:
        if compute.id == number(wanted):
            put_handle(result, compute.serial, marshal.COMPUTE_INSTANCE)
            return
    raise Refused(Code.NOT_FOUND, "no such compute instance")


@call("nvmlComputeInstanceGetInfo_v2")
def compute_instance_info(session: Session, handle: Any, result: Any) -> None:
    _, _, instance, compute = session.compute(handle, session.state)
    struct = target(result)
    fill(struct, {"id": compute.id, "profileId": compute.profile})
    fill_handle(struct, "device", compute.serial, marshal.MIG_DEVICE)
    fill_handle(struct, "gpuInstance", instance.serial, marshal.GPU_INSTANCE)
    fill(struct.placement, {"start": compute.start, "size": compute.size})
