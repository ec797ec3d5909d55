"""Who uses a GPU: processes on it or on a MIG device, compute mode, time slice. Pure rules over the state."""

from __future__ import annotations

from twin.codes import Code, ComputeMode, Refused
from twin.facts import GpuFacts
from twin.state import GpuState, Process, State


def on_gpu(gpu: GpuState, gpu_instance: int | None, compute_instance: int | None) -> list[Process]:
    """Return processes on a MIG device, or (None, None) on the whole GPU."""
    return [
        one for one in gpu.processes if (one.gpu_instance, one.compute_instance) == (gpu_instance, compute_instance)
    ]


def attach(state: State, facts: GpuFacts, process: Process) -> None:
    """Put a process on a GPU, as the start of a CUDA program would; refused where MIG or the compute mode forbids."""
    gpu = state.gpus[facts.index]
    if gpu.lost:
        raise Refused(Code.GPU_IS_LOST)
    if gpu.mig_enabled != (process.gpu_instance is not None):
        raise Refused(Code.NOT_SUPPORTED, "with MIG on processes run on MIG devices, else on the GPU")
    if process.gpu_instance is not None:
        exists = any(
            ci.id == process.compute_instance
            for one in gpu.instances
            if one.id == process.gpu_instance
            for ci in one.compute
        )
        if not exists:
            raise Refused(Code.NOT_FOUND, f"MIG device {process.gpu_instance}/{process.compute_instance}")
    mates = [one for one in on_gpu(gpu, process.gpu_instance, process.compute_instance) if one.kind == "compute"]
    if process.kind != "graphics" and gpu.compute_mode == ComputeMode.PROHIBITED:
        raise Refused(Code.IN_USE, "compute mode is PROHIBITED")
    if process.kind == "compute" and gpu.compute_mode == ComputeMode.EXCLUSIVE_PROCESS and mates:
        raise Refused(Code.IN_USE, "compute mode is EXCLUSIVE_PROCESS and a process has it")
    gpu.processes.append(process)


def set_compute_mode(state: State, facts: GpuFacts, mode: ComputeMode) -> None:
    """Say who may use the GPU; programs that run are left alone, as the real driver does."""
    if state.behaviour.vgpu_guest:
        raise Refused(Code.NOT_SUPPORTED, "a virtual GPU")
    state.gpus[facts.index].compute_mode = int(mode)


def set_time_slice(state: State, facts: GpuFacts, level: int) -> None:
    """Set the time slice, 0 default, 1 short, 2 medium, 3 long."""
    if not facts.time_slice_supported or state.behaviour.vgpu_guest:
        raise Refused(Code.NOT_SUPPORTED, "time slices")
    if level not in range(4):
        raise Refused(Code.INVALID_ARGUMENT, f"time slice {level}")
    state.gpus[facts.index].time_slice = level
