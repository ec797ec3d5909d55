"""pynvml's calls that tests of the twin make often, with values in and out."""

from __future__ import annotations

from ctypes import byref, c_uint
from typing import Any

import pynvml


def gpu(index: int = 0) -> Any:
    return pynvml.nvmlDeviceGetHandleByIndex(index)


def placements(handle: Any, profile_id: int) -> list[tuple[int, int]]:
    count = c_uint()
    pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, profile_id, None, byref(count))
    array = (pynvml.c_nvmlGpuInstancePlacement_t * count.value)()
    pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, profile_id, array, byref(count))
    return [(one.start, one.size) for one in array]


def create(handle: Any, profile_id: int, start: int, size: int) -> Any:
    placement = pynvml.c_nvmlGpuInstancePlacement_t(start, size)
    return pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(handle, profile_id, byref(placement))


def gpu_instances(handle: Any, profile_id: int) -> list[Any]:
    array, count = (pynvml.c_nvmlGpuInstance_t * 16)(), c_uint()
    pynvml.nvmlDeviceGetGpuInstances(handle, profile_id, array, byref(count))
    return list(array[: count.value])


def compute_instances(instance: Any, profile_id: int) -> list[Any]:
    array, count = (pynvml.c_nvmlComputeInstance_t * 16)(), c_uint()
    pynvml.nvmlGpuInstanceGetComputeInstances(instance, profile_id, array, byref(count))
    return list(array[: count.value])


def mig_uuid(compute: Any) -> str:
    return str(pynvml.nvmlDeviceGetUUID(pynvml.nvmlComputeInstanceGetInfo(compute).device))


def code(function: Any, *arguments: object) -> int:
    """Return what the call answers."""
    try:
        function(*arguments)
    except pynvml.NVMLError as error:
        return int(error.value)
    return 0
