"""NVML: initialization, versions, finding GPUs."""

from __future__ import annotations

from typing import Any

from twin.codes import Code, Refused
from twin.nvml.marshal import GPU, MIG_DEVICE, number, put, put_handle, put_text
from twin.nvml.session import Session, call


@call("nvmlInitWithFlags")
def init(session: Session, _flags: Any) -> None:
    """Count one more user of the library in this process."""
    with session.lock:
        session.initialized += 1


@call("nvmlInit_v2")
def init_v2(session: Session) -> None:
    """Count one more user of the library in this process."""
    init(session, 0)


@call("nvmlShutdown")
def shutdown(session: Session) -> None:
    """Count one user less; event sets end with the last."""
    with session.lock:
        session.initialized -= 1
        if not session.initialized:
            session.event_sets.clear()


@call("nvmlSystemGetDriverVersion")
def driver_version(session: Session, text: Any, length: Any) -> None:
    put_text(text, length, session.state.behaviour.driver_version)


@call("nvmlSystemGetNVMLVersion")
def nvml_version(session: Session, text: Any, length: Any) -> None:
    behaviour = session.state.behaviour
    put_text(text, length, f"{behaviour.cuda_version.partition('.')[0]}.{behaviour.driver_version}")


@call("nvmlSystemGetCudaDriverVersion", "nvmlSystemGetCudaDriverVersion_v2")
def cuda_version(session: Session, version: Any) -> None:
    major, _, minor = session.state.behaviour.cuda_version.partition(".")
    put(version, int(major) * 1000 + int(minor or 0) * 10)


@call("nvmlDeviceGetCount_v2")
def count(session: Session, result: Any) -> None:
    put(result, len(session.facts.gpus))


@call("nvmlDeviceGetHandleByIndex_v2")
def by_index(session: Session, index: Any, result: Any) -> None:
    at = number(index)
    if not 0 <= at < len(session.facts.gpus):
        raise Refused(Code.INVALID_ARGUMENT, f"no GPU {at}")
    session.gpu_at(at, session.state)
    put_handle(result, at + 1, GPU)


@call("nvmlDeviceGetHandleByUUID")
def by_uuid(session: Session, text: Any, result: Any) -> None:
    """Find a GPU or a MIG device. GPU_IS_LOST while any GPU is: the search ends there (nvml.h)."""
    wanted, state = (text.value or b"").decode(), session.state
    if any(gpu.lost for gpu in state.gpus):
        raise Refused(Code.GPU_IS_LOST)
    for facts, gpu in zip(session.facts.gpus, state.gpus, strict=True):
        if facts.uuid == wanted:
            put_handle(result, facts.index + 1, GPU)
            return
        for compute in (ci for one in gpu.instances for ci in one.compute):
            if compute.uuid == wanted:
                put_handle(result, compute.serial, MIG_DEVICE)
                return
    raise Refused(Code.NOT_FOUND, wanted)


@call("nvmlDeviceGetHandleByPciBusId_v2")
def by_bus_id(session: Session, text: Any, result: Any) -> None:
    domain, _, rest = (text.value or b"").decode().lower().partition(":")
    for facts in session.facts.gpus:
        known_domain, _, known_rest = facts.pci_address.partition(":")
        if rest in (known_rest, known_rest.partition(".")[0]) and int(domain, 16) == int(known_domain, 16):
            session.gpu_at(facts.index, session.state)
            put_handle(result, facts.index + 1, GPU)
            return
    raise Refused(Code.NOT_FOUND, "no such bus id")
