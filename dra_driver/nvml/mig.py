"""MIG through NVML: profiles, what exists, and the four changes. All in values; handles never leave a call."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pynvml

from dra_driver.nvml.api import (
    ComputeInstance,
    GpuInstance,
    NotFoundError,
    NotSupportedError,
    NvmlError,
    ProfileReading,
)
from dra_driver.nvml.session import Handle, Struct, ask, ask_or, fault
from topology.mig import MigEngines

FUNCTION_NOT_FOUND = pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
SHARED_ENGINES = pynvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED
COMPUTE_PROFILES = tuple(
    enum
    for enum in range(pynvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT)
    if enum not in (pynvml.NVML_COMPUTE_INSTANCE_PROFILE_7_SLICE_NVL, pynvml.NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE_REV1)
)
"""What may fill a GPU instance. The revisions have as many slices as the plain ones, and A100 refuses 7_SLICE_NVL."""


def set_mode(handle: Handle, *, enabled: bool) -> None:
    """Switch MIG. Where it does not come into force at once, it is set back and the reason raised.

    nvidia-ml-py loses the activation status when the call fails and does not look at it when the call succeeds.
    """
    mode = pynvml.NVML_DEVICE_MIG_ENABLE if enabled else pynvml.NVML_DEVICE_MIG_DISABLE
    before, _ = ask(pynvml.nvmlDeviceGetMigMode, handle)
    activation = ctypes.c_uint()
    function = ask(_function, "nvmlDeviceSetMigMode")
    code = function(handle, mode, ctypes.byref(activation)) or activation.value
    if code == pynvml.NVML_SUCCESS:
        return
    if before != mode:
        function(handle, before, ctypes.byref(ctypes.c_uint()))
    raise fault("nvmlDeviceSetMigMode", code)


def _function(name: str) -> Callable[..., int]:
    found: Callable[..., int] = pynvml._nvmlGetFunctionPointer(name)  # noqa: SLF001
    return found


def profiles(handle: Handle) -> tuple[ProfileReading, ...]:
    """Return the GPU instance profiles that this GPU has, by enum, with their placements."""
    found = []
    for enum in range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
        info = _info(pynvml.nvmlDeviceGetGpuInstanceProfileInfo, handle, enum)
        placements = () if info is None else _placements(handle, info.id)
        if info is not None and placements:
            found.append(_profile(enum, info, placements))
    return tuple(found)


def _info(function: Callable[..., Any], *arguments: object) -> Struct | None:
    """Ask for a profile's information in its second form, in its first where the driver has no other."""
    try:
        return ask(function, *arguments)
    except NotSupportedError as error:
        return ask_or(None, function, *arguments, 1) if error.code == FUNCTION_NOT_FOUND else None
    except NvmlError as error:
        if error.code == pynvml.NVML_ERROR_INVALID_ARGUMENT:
            return None
        raise


def _placements(handle: Handle, profile_id: int) -> tuple[Struct, ...]:
    count = ctypes.c_uint()
    ask(pynvml.nvmlDeviceGetGpuInstancePossiblePlacements, handle, profile_id, None, ctypes.byref(count))
    array = (pynvml.c_nvmlGpuInstancePlacement_t * count.value)()
    if count.value:
        ask(pynvml.nvmlDeviceGetGpuInstancePossiblePlacements, handle, profile_id, array, ctypes.byref(count))
    return tuple(array[: count.value])


def _profile(enum: int, info: Struct, placements: Sequence[Struct]) -> ProfileReading:
    # A profile has one size wherever it is placed.
    size = placements[0].size
    return ProfileReading(
        enum=enum,
        profile_id=info.id,
        name=getattr(info, "name", "").removeprefix("MIG ").strip(),
        compute_slices=info.sliceCount,
        size=size,
        starts=tuple(sorted(placement.start for placement in placements if placement.size == size)),
        max_instances=info.instanceCount,
        multiprocessors=info.multiprocessorCount,
        memory_mib=info.memorySizeMB,
        engines=MigEngines(
            copy=info.copyEngineCount,
            decoder=info.decoderCount,
            encoder=info.encoderCount,
            jpeg=info.jpegCount,
            ofa=info.ofaCount,
        ),
    )


def gpu_instances(handle: Handle, known: Sequence[ProfileReading]) -> tuple[GpuInstance, ...]:
    """Return the GPU instances that exist, by start. One that goes while they are listed is not among them."""
    found = []
    for profile in known:
        room = (pynvml.c_nvmlGpuInstance_t * max(profile.max_instances, 1))()
        for instance in _listed(pynvml.nvmlDeviceGetGpuInstances, handle, profile.profile_id, room):
            info = ask_or(None, pynvml.nvmlGpuInstanceGetInfo, instance)
            if info is not None:
                at = info.placement
                found.append(GpuInstance(id=info.id, profile_id=info.profileId, start=at.start, size=at.size))
    return tuple(sorted(found, key=lambda instance: (instance.start, instance.id)))


def _listed(function: Callable[..., Any], owner: Handle, profile_id: int, room: Struct) -> list[Handle]:
    count = ctypes.c_uint(len(room))
    listed = ask_or(None, function, owner, profile_id, room, ctypes.byref(count))
    return [] if listed is None else list(room[: count.value])


def compute_instances(gpu_instance: Handle) -> tuple[ComputeInstance, ...]:
    """Return the compute instances of a GPU instance, by id."""
    found = []
    for enum in range(pynvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT):
        info = _info(pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo, gpu_instance, enum, SHARED_ENGINES)
        if info is not None:
            room = (pynvml.c_nvmlComputeInstance_t * max(info.instanceCount, 1))()
            listed = _listed(pynvml.nvmlGpuInstanceGetComputeInstances, gpu_instance, info.id, room)
            for one in listed:
                with suppress(NotFoundError):
                    found.append(compute_instance(one))
    return tuple(sorted(set(found), key=lambda instance: instance.id))


def compute_instance(handle: Handle) -> ComputeInstance:
    """Return what a compute instance is. Its own device handle has the UUID: walking MIG devices takes seconds."""
    info = ask(pynvml.nvmlComputeInstanceGetInfo_v2, handle)
    parts = ask_or(None, pynvml.nvmlDeviceGetAttributes_v2, info.device)
    return ComputeInstance(
        id=info.id,
        gpu_instance=ask(pynvml.nvmlGpuInstanceGetInfo, info.gpuInstance).id,
        uuid=ask(pynvml.nvmlDeviceGetUUID, info.device),
        profile_id=info.profileId,
        fills=parts is None or parts.computeInstanceSliceCount >= parts.gpuInstanceSliceCount,
    )


def create_gpu_instance(handle: Handle, profile: ProfileReading, start: int) -> int:
    """Create a GPU instance at exactly this placement and return its id."""
    placement = pynvml.c_nvmlGpuInstancePlacement_t(start, profile.size)
    made = ask(pynvml.nvmlDeviceCreateGpuInstanceWithPlacement, handle, profile.profile_id, ctypes.byref(placement))
    try:
        return int(ask(pynvml.nvmlGpuInstanceGetInfo, made).id)
    except NvmlError:
        # What nobody knows the id of, nobody could ever destroy.
        with suppress(NvmlError):
            ask(pynvml.nvmlGpuInstanceDestroy, made)
        raise


def create_compute_instance(gpu_instance: Handle, compute_slices: int) -> ComputeInstance:
    """Create the compute instance that has all `compute_slices` of a GPU instance."""
    made = ask(
        pynvml.nvmlGpuInstanceCreateComputeInstance, gpu_instance, _filling_profile(gpu_instance, compute_slices)
    )
    try:
        return compute_instance(made)
    except NvmlError:
        with suppress(NvmlError):
            ask(pynvml.nvmlComputeInstanceDestroy, made)
        raise


def _filling_profile(gpu_instance: Handle, compute_slices: int) -> int:
    for enum in COMPUTE_PROFILES:
        info = _info(pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo, gpu_instance, enum, SHARED_ENGINES)
        if info is not None and info.sliceCount == compute_slices:
            return int(info.id)
    call = "nvmlGpuInstanceGetComputeInstanceProfileInfo"
    text = f"no compute instance profile has the {compute_slices} slices of the GPU instance"
    raise NotSupportedError(call, pynvml.NVML_ERROR_NOT_SUPPORTED, text)
