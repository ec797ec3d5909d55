"""NVML: what one GPU is and who may use it."""

from __future__ import annotations

from typing import Any

from twin.codes import ARCHITECTURES, NO_INSTANCE, Code, ComputeMode, Refused
from twin.nvml import marshal
from twin.nvml.marshal import fill, number, put, put_text, require_version, target
from twin.nvml.session import Session, call
from twin.processes import on_gpu, set_compute_mode
from twin.state import Process

MIB = 1 << 20


def is_mig_device(handle: Any) -> bool:
    """Whether a handle names a MIG device."""
    return marshal.read_handle(handle)[1] == marshal.MIG_DEVICE


@call("nvmlDeviceGetUUID")
def uuid(session: Session, handle: Any, text: Any, length: Any) -> None:
    if is_mig_device(handle):
        put_text(text, length, session.compute(handle, session.state, marshal.MIG_DEVICE)[3].uuid)
    else:
        put_text(text, length, session.gpu(handle)[0].uuid)


@call("nvmlDeviceGetName")
def name(session: Session, handle: Any, text: Any, length: Any) -> None:
    if is_mig_device(handle):
        facts, _, instance, _compute = session.compute(handle, session.state, marshal.MIG_DEVICE)
        assert facts.geometry is not None
        profile = next(one for one in facts.geometry.profiles if one.nvml_enum == instance.profile)
        put_text(text, length, f"{facts.product} MIG {profile.name}")
    else:
        put_text(text, length, session.gpu(handle)[0].product)


@call("nvmlDeviceGetIndex")
def index(session: Session, handle: Any, result: Any) -> None:
    put(result, session.gpu(handle)[0].index)


@call("nvmlDeviceGetMinorNumber")
def minor(session: Session, handle: Any, result: Any) -> None:
    put(result, session.gpu(handle)[0].minor)


@call("nvmlDeviceGetBrand")
def brand(session: Session, handle: Any, result: Any) -> None:
    put(result, session.gpu(handle)[0].brand)


@call("nvmlDeviceGetArchitecture")
def architecture(session: Session, handle: Any, result: Any) -> None:
    put(result, ARCHITECTURES.get(session.gpu(handle)[0].architecture, 0xFFFFFFFF))


@call("nvmlDeviceGetCudaComputeCapability")
def compute_capability(session: Session, handle: Any, major: Any, minor_: Any) -> None:
    high, _, low = session.gpu(handle)[0].compute_capability.partition(".")
    put(major, int(high))
    put(minor_, int(low))


@call("nvmlDeviceGetNumGpuCores")
def cores(session: Session, handle: Any, result: Any) -> None:
    known = session.gpu(handle)[0].cores
    if known is None:
        raise Refused(Code.NOT_SUPPORTED)
    put(result, known)


@call("nvmlDeviceGetModuleId")
def module_id(session: Session, handle: Any, result: Any) -> None:
    known = session.gpu(handle)[0].module_id
    if known is None:
        raise Refused(Code.NOT_SUPPORTED)
    put(result, known)


@call("nvmlDeviceGetVirtualizationMode")
def virtualization_mode(session: Session, handle: Any, result: Any) -> None:
    session.gpu(handle)
    put(result, 2 if session.state.behaviour.vgpu_guest else 0)


@call("nvmlDeviceGetAddressingMode")
def addressing_mode(session: Session, handle: Any, result: Any) -> None:
    facts, _ = session.gpu(handle)
    struct = target(result)
    require_version(struct, 1)
    if not facts.addressing_mode:
        raise Refused(Code.NOT_SUPPORTED)
    struct.value = facts.addressing_mode


@call("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2")
def memory(session: Session, handle: Any, result: Any) -> None:
    struct = target(result)
    if hasattr(struct, "version"):
        require_version(struct, 2)
    total, used = _memory_mib(session, handle)
    free = max(0, total - used)
    fill(struct, {"total": total * MIB, "free": free * MIB, "used": used * MIB, "reserved": 0})


def _memory_mib(session: Session, handle: Any) -> tuple[int, int]:
    if not is_mig_device(handle):
        facts, gpu = session.gpu(handle)
        return facts.memory_mib, sum(one.memory_mib for one in gpu.processes)
    facts, gpu, instance, _ = session.compute(handle, session.state, marshal.MIG_DEVICE)
    assert facts.geometry is not None
    profile = next(one for one in facts.geometry.profiles if one.nvml_enum == instance.profile)
    used = sum(one.memory_mib for one in gpu.processes if one.gpu_instance == instance.id)
    return profile.memory_mib or 0, used


@call("nvmlDeviceGetPciInfo_v3")
def pci_info(session: Session, handle: Any, result: Any) -> None:
    facts, _ = session.gpu(handle)
    put_pci(result, facts.pci_address, facts.pci_device_id)


def put_pci(result: Any, address: str, device_id: int) -> None:
    """Write a PCI address into an nvmlPciInfo_t, in its spelling: eight digits of domain, upper case."""
    domain, bus, rest = address.split(":")
    device = rest.partition(".")[0]
    wide = f"{int(domain, 16):08X}:{bus.upper()}:{device.upper()}.0"
    fill(
        target(result),
        {
            "busIdLegacy": wide[4:].encode(),
            "busId": wide.encode(),
            "domain": int(domain, 16),
            "bus": int(bus, 16),
            "device": int(device, 16),
            "pciDeviceId": device_id,
        },
    )


@call("nvmlDeviceGetComputeMode")
def compute_mode(session: Session, handle: Any, result: Any) -> None:
    put(result, session.gpu(handle)[1].compute_mode)


@call("nvmlDeviceSetComputeMode")
def change_compute_mode(session: Session, handle: Any, mode: Any) -> None:
    session.gpu(handle)
    session.require_privilege()
    wanted = number(mode)
    if wanted not in list(ComputeMode):
        raise Refused(Code.NOT_SUPPORTED if wanted == 1 else Code.INVALID_ARGUMENT, f"compute mode {wanted}")
    with session.change() as state:
        set_compute_mode(state, session.gpu(handle, state)[0], ComputeMode(wanted))


@call("nvmlDeviceGetPersistenceMode")
def persistence_mode(session: Session, handle: Any, result: Any) -> None:
    put(result, session.gpu(handle)[1].persistence)


@call("nvmlDeviceSetPersistenceMode")
def change_persistence_mode(session: Session, handle: Any, mode: Any) -> None:
    session.require_privilege()
    with session.change() as state:
        session.gpu(handle, state)[1].persistence = bool(number(mode))


@call("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")
def compute_processes(session: Session, handle: Any, count: Any, array: Any) -> None:
    _put_processes(_processes(session, handle, "compute"), count, array)


@call("nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2")
def graphics_processes(session: Session, handle: Any, count: Any, array: Any) -> None:
    _put_processes(_processes(session, handle, "graphics"), count, array)


@call("nvmlDeviceGetMPSComputeRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses_v2")
def mps_processes(session: Session, handle: Any, count: Any, array: Any) -> None:
    _put_processes(_processes(session, handle, "mps"), count, array)


def _processes(session: Session, handle: Any, kind: str) -> list[Process]:
    if is_mig_device(handle):
        _, gpu, instance, compute = session.compute(handle, session.state, marshal.MIG_DEVICE)
        return [one for one in on_gpu(gpu, instance.id, compute.id) if one.kind == kind]
    return [one for one in session.gpu(handle)[1].processes if one.kind == kind]


def _put_processes(found: list[Process], count: Any, array: Any) -> None:
    room = number(target(count))
    put(count, len(found))
    if room < len(found) or (array is None and found):
        raise Refused(Code.INSUFFICIENT_SIZE)
    for at, process in enumerate(found):
        fill(
            target(array)[at],
            {
                "pid": process.pid,
                "usedGpuMemory": process.memory_mib * MIB,
                "gpuInstanceId": NO_INSTANCE if process.gpu_instance is None else process.gpu_instance,
                "computeInstanceId": NO_INSTANCE if process.compute_instance is None else process.compute_instance,
            },
        )
