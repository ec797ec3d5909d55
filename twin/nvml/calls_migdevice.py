"""NVML: MIG devices, that is compute instances seen as devices."""

from __future__ import annotations

from typing import Any

from twin import mig
from twin.codes import Code, Refused
from twin.nvml import marshal
from twin.nvml.calls_device import is_mig_device
from twin.nvml.marshal import MIG_DEVICE, engine_counts, fill, number, put, put_handle, target
from twin.nvml.session import Session, call

MAX_MIG_DEVICES = 7


@call("nvmlDeviceIsMigDeviceHandle")
def is_mig(_session: Session, handle: Any, result: Any) -> None:
    put(result, is_mig_device(handle))


@call("nvmlDeviceGetGpuInstanceId")
def gpu_instance_id(session: Session, handle: Any, result: Any) -> None:
    put(result, session.compute(handle, session.state, MIG_DEVICE)[2].id)


@call("nvmlDeviceGetComputeInstanceId")
def compute_instance_id(session: Session, handle: Any, result: Any) -> None:
    put(result, session.compute(handle, session.state, MIG_DEVICE)[3].id)


@call("nvmlDeviceGetDeviceHandleFromMigDeviceHandle")
def parent(session: Session, handle: Any, result: Any) -> None:
    put_handle(result, session.compute(handle, session.state, MIG_DEVICE)[0].index + 1, marshal.GPU)


@call("nvmlDeviceGetMaxMigDeviceCount")
def max_count(session: Session, handle: Any, result: Any) -> None:
    """Give 0 where MIG is off or unknown."""
    facts, gpu = session.gpu(handle)
    put(result, _most(facts.geometry.compute_slices if facts.geometry else 0) if gpu.mig_enabled else 0)


def _most(slices: int) -> int:
    return min(slices, MAX_MIG_DEVICES)


@call("nvmlDeviceGetMigDeviceHandleByIndex")
def by_index(session: Session, handle: Any, index: Any, result: Any) -> None:
    facts, gpu = session.gpu(handle)
    shape, wanted = mig.geometry(facts, session.state), number(index)
    if not 0 <= wanted < _most(shape.compute_slices):
        raise Refused(Code.INVALID_ARGUMENT, f"MIG device {wanted}")
    found = [ci.serial for one in gpu.instances for ci in one.compute]
    if wanted >= len(found):
        raise Refused(Code.NOT_FOUND, f"MIG device {wanted}")
    put_handle(result, found[wanted], MIG_DEVICE)


@call("nvmlDeviceGetAttributes_v2")
def attributes(session: Session, handle: Any, result: Any) -> None:
    """Tell the size of a MIG device; GPUs have no such attributes."""
    if not is_mig_device(handle):
        session.gpu(handle)
        raise Refused(Code.NOT_SUPPORTED, "not a MIG device")
    facts, _, instance, compute = session.compute(handle, session.state, MIG_DEVICE)
    profile = mig.profile_by_enum(mig.geometry(facts, session.state), instance.profile)
    fill(
        target(result),
        {
            "multiprocessorCount": (profile.sm_count or 0) * compute.size // profile.compute_slices,
            **engine_counts(profile.engines, shared=True),
            "gpuInstanceSliceCount": profile.compute_slices,
            "computeInstanceSliceCount": compute.size,
            "memorySizeMB": profile.memory_mib or 0,
        },
    )
