"""Resets: of a GPU, of the node. What they undo and what outlives them. Pure rules over the state."""

from __future__ import annotations

from twin.codes import Code, Refused
from twin.facts import GpuFacts, MachineFacts
from twin.state import GpuState, State


def reset_gpu(state: State, facts: GpuFacts) -> None:
    """Reset a GPU: the pending MIG mode becomes real, instances and modes are gone. Refused while it is in use."""
    if not state.behaviour.reset_supported or state.behaviour.vgpu_guest:
        raise Refused(Code.NOT_SUPPORTED, "this platform resets no GPU")
    gpu = state.gpus[facts.index]
    if gpu.processes:
        raise Refused(Code.IN_USE, f"GPU {facts.index} has processes")
    state.gpus[facts.index] = _fresh(mig=gpu.mig_pending)


def recover_gpu(state: State, facts: GpuFacts) -> None:
    """Bring back a GPU that was lost, as a repair or a bus reset does: what was on it is gone."""
    gpu = state.gpus[facts.index]
    if gpu.lost:
        state.gpus[facts.index] = _fresh(mig=gpu.mig_pending and facts.toggle_needs_reset)
        # The change of its need is told as an event by the caller.
        state.gpus[facts.index].recovery_action = gpu.recovery_action


def reboot(state: State, facts: MachineFacts) -> None:
    """Boot the node anew: no process, instance or mode outlives it, but Ampere's MIG mode, which the board keeps."""
    state.boots += 1
    state.mps.clear()
    state.events.clear()
    state.gpus = [
        _fresh(mig=gpu.mig_pending and one.toggle_needs_reset) for one, gpu in zip(facts.gpus, state.gpus, strict=True)
    ]


def _fresh(*, mig: bool) -> GpuState:
    return GpuState(mig_enabled=mig, mig_pending=mig)
