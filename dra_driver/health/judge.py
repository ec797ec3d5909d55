"""From XIDs and looks to faults. Pure.

NVML's recovery action has the first word: where the driver tells it, a GPU is faulty exactly as long as it needs one.
Older drivers do not; there an XID is a fault unless it is a tenant's own (`health.xids`). Such a fault has no end that
NVML tells: that of a partition ends with the partition, that of a GPU when the GPU was gone and is back, or when the
driver starts anew, as it must for a GPU to be reset.

A fault is there at once, and goes when it has been gone for `settle_s`. Of faults of one kind on the same part the
first stays, so a storm of XIDs changes nothing after its first.
"""

from __future__ import annotations

from dataclasses import replace

from dra_driver.health.model import Fault, FaultKind, GpuHealth, Look, Part
from dra_driver.health.xids import APPLICATION_XIDS, TELLS_OF_ACTION, named
from dra_driver.nvml.api import RecoveryAction

SETTLE_S = 10.0
"""How long a GPU must be well before it is used again; one that comes and goes is not."""

ACTIONS = {
    RecoveryAction.GPU_RESET: "reset the GPU (nvidia-smi --gpu-reset)",
    RecoveryAction.NODE_REBOOT: "reboot the node",
    RecoveryAction.DRAIN_P2P: "end the work that reaches it from other GPUs",
    RecoveryAction.DRAIN_AND_RESET: "let its work end, then reset the GPU",
    RecoveryAction.RECOVER_IMEX_DOMAIN: "recover its IMEX domain",
    RecoveryAction.BUS_RESET: "reset its PCIe bus",
    RecoveryAction.SYSTEM_REBOOT: "reboot the system",
}


def label(action: RecoveryAction) -> str:
    """Return the action as the value of a taint: `gpu-reset`."""
    return action.name.lower().replace("_", "-")


def after_xid(
    health: GpuHealth, xid: int, part: Part | None, look: Look, ignored: frozenset[int] = frozenset()
) -> GpuHealth:
    """Return the health after an XID on `part`, None for the whole GPU; `look` was had right after it.

    XIDs in `ignored` are taken for tenants' own.
    """
    if look.lost:
        return _with(health, lost_fault(named(xid)))
    if look.action is not None:
        return _with(health, *_action_faults(look.action, xid))
    if xid in APPLICATION_XIDS | ignored | {TELLS_OF_ACTION}:
        return health
    text = f"{named(xid)}; restart the driver's pod once the GPU has been reset"
    return _with(health, Fault(kind=FaultKind.XID, value=str(xid), text=text, part=part))


def after_look(health: GpuHealth, look: Look, now_s: float, settle_s: float = SETTLE_S) -> GpuHealth:
    """Return the health after a look. `now_s` is of a clock that never goes back."""
    if look.lost:
        return _with(_again(health, FaultKind.LOST), lost_fault())
    if look.action not in (None, RecoveryAction.NONE):
        assert look.action is not None
        health = _with(_again(health, FaultKind.RECOVERY, FaultKind.XID), *_action_faults(look.action))
    was_lost = any(fault.kind is FaultKind.LOST for fault in health.faults)
    left = [_aged(fault, now_s) if _is_over(fault, look, was_lost=was_lost) else fault for fault in health.faults]
    kept = [fault for fault in left if fault.clean_since_s is None or now_s - fault.clean_since_s < settle_s]
    return replace(health, faults=tuple(kept))


def lost_fault(cause: str = "") -> Fault:
    """Return the fault of a GPU that does not answer."""
    text = "the GPU does not answer" + (f" after {cause}" if cause else "") + "; look at the node's kernel log"
    return Fault(kind=FaultKind.LOST, text=text)


def _action_faults(action: RecoveryAction, xid: int = 0) -> tuple[Fault, ...]:
    if action is RecoveryAction.NONE:
        return ()
    cause = f" after {named(xid)}" if xid else ""
    fault = Fault(kind=FaultKind.RECOVERY, value=label(action), text=f"the GPU needs help{cause}: {ACTIONS[action]}")
    return (fault, Fault(kind=FaultKind.XID, value=str(xid), text=fault.text)) if xid else (fault,)


def _with(health: GpuHealth, *faults: Fault) -> GpuHealth:
    """Add faults; one that is there stays as it is, but an action replaces another."""
    found = list(health.faults)
    for fault in faults:
        same = next((at for at, each in enumerate(found) if (each.kind, each.part) == (fault.kind, fault.part)), None)
        if same is None:
            found.append(fault)
        elif fault.kind is FaultKind.RECOVERY and found[same].value != fault.value:
            found[same] = fault
        else:
            found[same] = replace(found[same], clean_since_s=None)
    return replace(health, faults=tuple(found))


def _again(health: GpuHealth, *kinds: FaultKind) -> GpuHealth:
    """Take back that faults of some kinds have ended."""
    faults = [replace(fault, clean_since_s=None) if fault.kind in kinds else fault for fault in health.faults]
    return replace(health, faults=tuple(faults))


def _is_over(fault: Fault, look: Look, *, was_lost: bool) -> bool:
    """Whether the look shows that a fault is no more."""
    if fault.kind is FaultKind.LOST:
        return True
    if look.action is not None:
        return look.action is RecoveryAction.NONE
    if fault.kind is FaultKind.RECOVERY:
        return False  # it was told once; silence proves nothing
    if fault.part is not None and look.instances is not None:
        part = (fault.part.gpu_instance, fault.part.start, fault.part.size)
        if part not in [(each.id, each.start, each.size) for each in look.instances]:
            return True
    return was_lost or fault.clean_since_s is not None


def _aged(fault: Fault, now_s: float) -> Fault:
    return fault if fault.clean_since_s is not None else replace(fault, clean_since_s=now_s)
