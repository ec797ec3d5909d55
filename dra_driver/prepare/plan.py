"""What is to be done for a claim, in full, before anything is done: pure, and refused here where it cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dra_driver.errors import GpuGoneError, HeldError, PermanentError, RetryableError
from dra_driver.inventory import Gpu, NodeGpus
from dra_driver.prepare.clash import Held, clash, held_on, over_budget
from dra_driver.prepare.model import ClaimRef, DeviceIntent, Made, MigTarget, Phase, Record
from dra_driver.prepare.reading import Instance, OnGpu
from dra_driver.prepare.resolve import gpu_wide
from topology.modes import MigMode

NOTHING = Made()


def plan(
    claim: ClaimRef,
    intents: Sequence[DeviceIntent],
    node: NodeGpus,
    held: Sequence[Record],
    on_gpus: Mapping[str, OnGpu],
    boot_id: str,
    written_by: str = "",
) -> Record:
    """Return the record of a claim that can be prepared beside what `held` (other claims) and the GPUs have.

    `on_gpus` has the GPUs that `needs_reading` names. Raises HeldError where another claim or somebody's MIG device is
    in the way, PermanentError where the claim itself is at fault.
    """
    known = {gpu.uuid: gpu for gpu in node.gpus}
    planned: list[DeviceIntent] = []
    made: list[Made] = []
    for intent in intents:
        gpu = known.get(intent.gpu_uuid)
        if gpu is None:
            raise GpuGoneError(f"{where(intent)}: GPU {intent.gpu_uuid} has just gone from node {node.node}")
        _check_own(planned, intent, gpu)
        _check_held(intent, gpu, held)
        settled, begun = _settle(intent, gpu, on_gpus.get(gpu.uuid), held, (planned, made), boot_id)
        planned.append(settled)
        made.append(replace(begun, sharing_applied=gpu_wide(intent) is not None))
    _check_budgets(claim, planned, known, held)
    return Record(
        claim=claim,
        boot_id=boot_id,
        phase=Phase.PLANNED,
        devices=tuple(planned),
        made=tuple(made),
        written_by=written_by,
    )


def needs_reading(intents: Sequence[DeviceIntent], node: NodeGpus) -> tuple[str, ...]:
    """Return UUIDs of GPUs whose instances matter: all that can be partitioned, and are not just looked at."""
    divisible = {gpu.uuid for gpu in node.gpus if gpu.mig is not None}
    used = {intent.gpu_uuid for intent in intents if not intent.admin or intent.mig is not None}
    return tuple(sorted(used & divisible))


def where(intent: DeviceIntent) -> str:
    """Name a device for people."""
    return f"device {intent.device} (request {intent.request})"


def is_partition(intent: DeviceIntent) -> bool:
    """Whether it is a MIG device that we make."""
    return intent.mig is not None and not intent.existing_uuid and not intent.admin


def needs_mig_off(intent: DeviceIntent) -> bool:
    """Whether it cannot be used while MIG is on."""
    return intent.mig is None and not intent.admin


def _check_own(planned: Sequence[DeviceIntent], intent: DeviceIntent, gpu: Gpu) -> None:
    for other in planned:
        if problem := clash(intent, other, gpu.mig):
            raise PermanentError(f"{where(intent)} {problem} {where(other)} of the same claim; delete the pod")


def _check_held(intent: DeviceIntent, gpu: Gpu, held: Sequence[Record]) -> None:
    if intent.admin:
        return
    for record, other in held_on(held, gpu.uuid):
        if problem := clash(intent, other, gpu.mig):
            raise HeldError(f"{where(intent)} {problem} {other.device}, {_held_by(record)}")


def _held_by(record: Record) -> str:
    if record.phase is Phase.UNKNOWN:
        return (
            f"which claim {record.claim.uid} may hold, whose record was lost;"
            " it is freed when that is found out, or the claim unprepared"
        )
    if record.phase is Phase.UNPREPARING:
        return f"what claim {record.claim} (uid {record.claim.uid}) held and is being undone; the driver's log says why"
    return f"held by claim {record.claim} (uid {record.claim.uid}) until the kubelet unprepares it"


def _check_budgets(
    claim: ClaimRef, planned: Sequence[DeviceIntent], known: Mapping[str, Gpu], held: Sequence[Record]
) -> None:
    asked = Record(claim=claim, boot_id="", phase=Phase.PLANNED, devices=tuple(planned), made=())
    for uuid in {intent.gpu_uuid for intent in planned if intent.share is not None}:
        own: list[Held] = [each for each in held_on([asked], uuid) if each[1].share is not None]
        others: list[Held] = [each for each in held_on(held, uuid) if each[1].share is not None]
        if problem := over_budget(own, known[uuid]):
            raise PermanentError(f"{where(own[0][1])}: the claim's shares of the GPU exceed its {problem}")
        if problem := over_budget([*own, *others], known[uuid]):
            names = ", ".join(sorted({f"claim {record.claim}" for record, _ in others}))
            raise HeldError(f"{where(own[0][1])}: with what {names} hold, its GPU would be over its {problem}")


def _settle(
    intent: DeviceIntent,
    gpu: Gpu,
    on_gpu: OnGpu | None,
    held: Sequence[Record],
    so_far: tuple[Sequence[DeviceIntent], Sequence[Made]],
    boot_id: str,
) -> tuple[DeviceIntent, Made]:
    """Say of one device whether it exists, and what must be switched for it."""
    if on_gpu is None or (intent.admin and intent.mig is None):
        return intent, NOTHING
    current = [record for record in held if record.boot_id == boot_id]
    if intent.mig is None:
        _check_foreign(intent, None, on_gpu, made_instances(current, gpu.uuid))
        _check_can_switch(intent, gpu, on_gpu, wanted=False)
        return intent, NOTHING
    there = next((instance for instance in on_gpu.instances if instance.is_at(intent.mig)), None)
    if there is not None:
        return _as_it_is(intent, there)
    if intent.admin:
        raise RetryableError(f"{where(intent)} does not exist now; admin access makes nothing")
    _check_foreign(intent, intent.mig, on_gpu, made_instances(current, gpu.uuid))
    _check_can_switch(intent, gpu, on_gpu, wanted=True)
    flagged = _we_switched(current, gpu.uuid) or any(
        made.mig_switched_on and other.gpu_uuid == gpu.uuid for other, made in zip(*so_far, strict=True)
    )
    return intent, Made(mig_switched_on=flagged or not on_gpu.mig_enabled)


def _as_it_is(intent: DeviceIntent, there: Instance) -> tuple[DeviceIntent, Made]:
    """Take a MIG device that somebody made exactly there: it is used, and never destroyed."""
    if len(there.compute) != 1:
        raise RetryableError(
            f"{where(intent)}: GPU instance {there.gpu_instance.id} that somebody else made is exactly there, with"
            f" {len(there.compute)} compute instances instead of one; remove it (nvidia-smi mig -dci, -dgi)"
        )
    compute = there.compute[0]
    made = Made(gpu_instance=there.gpu_instance.id, compute_instance=compute.id, uuid=compute.uuid)
    return replace(intent, existing_uuid=compute.uuid), made


def _check_foreign(intent: DeviceIntent, target: MigTarget | None, on_gpu: OnGpu, ours: set[int]) -> None:
    for instance in on_gpu.instances:
        if instance.gpu_instance.id not in ours and (target is None or instance.overlaps(target)):
            raise HeldError(
                f"{where(intent)}: GPU instance {instance.gpu_instance.id} at {instance.gpu_instance.start}, made by"
                " somebody else, is in the way; it is left alone, remove it (nvidia-smi mig -dci, -dgi)"
            )


def _check_can_switch(intent: DeviceIntent, gpu: Gpu, on_gpu: OnGpu, *, wanted: bool) -> None:
    if bool(on_gpu.mig_enabled) is not wanted and gpu.mig_mode is not MigMode.DYNAMIC:
        raise RetryableError(
            f"{where(intent)}: MIG of GPU {gpu.uuid} is {'off' if wanted else 'on'}, and the driver may not switch it"
            f" (published as {gpu.mig_mode}); switch it back, or restart the driver to publish what is there"
        )


def made_instances(records: Sequence[Record], gpu_uuid: str) -> set[int]:
    """Return ids of the GPU instances on a GPU that claims hold."""
    return {
        made.gpu_instance
        for record in records
        for intent, made in zip(record.devices, record.made, strict=True)
        if intent.gpu_uuid == gpu_uuid and not intent.admin and made.gpu_instance is not None
    }


def _we_switched(records: Sequence[Record], gpu_uuid: str) -> bool:
    return any(
        made.mig_switched_on
        for record in records
        for intent, made in zip(record.devices, record.made, strict=True)
        if intent.gpu_uuid == gpu_uuid
    )
