"""A record that was lost, from what is left: the copy in the CDI file, the claim in the API, the hardware. Pure.

What a claim may hold stays held until it is known: whoever loses a record never takes its GPUs for free.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from dra_driver.inventory import Gpu, NodeGpus
from dra_driver.prepare.clash import held_on
from dra_driver.prepare.model import ClaimRef, DeviceIntent, Made, Phase, Record
from dra_driver.prepare.plan import made_instances
from dra_driver.prepare.reading import OnGpu
from dra_driver.prepare.resolve import gpu_wide
from dra_driver.publish.names import gpu_name, pool_name
from topology.modes import MigMode


def from_copy(copy: Record) -> Record:
    """Return the record that was written beside a claim's CDI file: everything was made by then."""
    return replace(copy, phase=Phase.COMPLETED)


def from_claim(
    claim: ClaimRef,
    intents: Sequence[DeviceIntent],
    node: NodeGpus,
    others: Sequence[Record],
    on_gpus: Mapping[str, OnGpu],
    boot_id: str,
) -> Record:
    """Return what must have been made for a claim, given what is there.

    A MIG device exactly where the claim was given one is taken for ours where the driver switches MIG itself; elsewhere
    somebody else may have made it, so it is never destroyed. With less than all of it there the claim was half made.
    """
    known = {gpu.uuid: gpu for gpu in node.gpus}
    devices, made = [], []
    for intent in intents:
        device, its = _found(intent, known[intent.gpu_uuid], others, on_gpus.get(intent.gpu_uuid))
        devices.append(device)
        made.append(its)
    whole = all(each.uuid for device, each in zip(devices, made, strict=True) if device.mig is not None)
    return Record(
        claim=claim,
        boot_id=boot_id,
        phase=Phase.COMPLETED if whole else Phase.GI_CREATED,
        devices=tuple(devices),
        made=tuple(made),
    )


def unknown(
    uid: str, node: NodeGpus, others: Sequence[Record], suspects: Collection[str] | None, boot_id: str, driver: str
) -> Record | None:
    """Return a record that blocks every GPU the claim may hold; None where there is none.

    `suspects` are UUIDs of GPUs where something runs or exists, None where the claim may be in use for all we know.
    """
    devices = tuple(
        DeviceIntent(
            request="", pool=pool_name(driver, node.node), device=gpu_name(gpu), gpu_uuid=gpu.uuid, minor=gpu.minor
        )
        for gpu in node.gpus
        if (suspects is None or gpu.uuid in suspects) and not _is_held_whole(gpu, others)
    )
    if not devices:
        return None
    claim = ClaimRef(namespace="?", name="?", uid=uid)
    return Record(
        claim=claim, boot_id=boot_id, phase=Phase.UNKNOWN, devices=devices, made=tuple(Made() for _ in devices)
    )


def _found(intent: DeviceIntent, gpu: Gpu, others: Sequence[Record], on_gpu: OnGpu | None) -> tuple[DeviceIntent, Made]:
    made = Made(sharing_applied=gpu_wide(intent) is not None)
    if intent.mig is None or intent.admin or on_gpu is None:
        return intent, made
    made = replace(made, mig_switched_on=gpu.mig_mode is MigMode.DYNAMIC)
    taken = made_instances(others, gpu.uuid)
    for there in on_gpu.instances:
        if there.is_at(intent.mig) and there.gpu_instance.id not in taken:
            made = replace(made, gpu_instance=there.gpu_instance.id)
            if len(there.compute) == 1:
                made = replace(made, compute_instance=there.compute[0].id, uuid=there.compute[0].uuid)
    if made.uuid and gpu.mig_mode is not MigMode.DYNAMIC:
        return replace(intent, existing_uuid=made.uuid), made
    return intent, made


def _is_held_whole(gpu: Gpu, others: Sequence[Record]) -> bool:
    return any(
        intent.mig is None and intent.share is None and record.phase is not Phase.UNKNOWN
        for record, intent in held_on(others, gpu.uuid)
    )
