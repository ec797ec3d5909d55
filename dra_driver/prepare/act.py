"""Does what was planned, step by step, each recorded before the next; what must be undone is `undo`'s."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dra_driver.errors import RetryableError
from dra_driver.nvml.api import ComputeInstance, Nvml
from dra_driver.prepare.effects import CdiFiles, SharingControl
from dra_driver.prepare.journal import Journal
from dra_driver.prepare.model import DeviceIntent, Made, Phase, PreparedDevice, Record
from dra_driver.prepare.plan import is_partition, needs_mig_off, where
from dra_driver.prepare.reading import OnGpu, asking, read
from dra_driver.prepare.resolve import gpu_wide


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """Everything that preparing changes."""

    nvml: Nvml
    cdi: CdiFiles
    sharing: SharingControl
    journal: Journal


def make(effects: Effects, record: Record, on_gpus: Mapping[str, OnGpu]) -> Record:
    """Make a planned claim real. Raises DeviceError, with the journal saying how far it came."""
    _check_existing(effects.nvml, record)
    _switch_mig(effects.nvml, record, on_gpus)
    record = _create_gpu_instances(effects, record)
    record = _create_compute_instances(effects, record)
    record = _apply_sharing(effects, record)
    record = replace(record, phase=Phase.COMPLETED)
    effects.cdi.write(record)
    effects.journal.put(record)
    return record


def check_idle(nvml: Nvml, intent: DeviceIntent, gpu_instance: int, compute_instance: int) -> None:
    """Raise RetryableError while a process uses a MIG device."""
    with asking(f"ask who uses {where(intent)}"):
        users = nvml.instance_processes(intent.gpu_uuid, gpu_instance, compute_instance)
    if users:
        some = ", ".join(map(str, sorted(users)[:5]))
        raise RetryableError(
            f"{where(intent)} is in use by {len(users)} processes (pid {some}); it is left alone until they end"
        )


def with_made(record: Record, at: int, made: Made) -> Record:
    """Return the record with what was made for one device replaced."""
    return replace(record, made=(*record.made[:at], made, *record.made[at + 1 :]))


def repair(effects: Effects, record: Record) -> tuple[str, ...]:
    """Put back what is missing around a completed claim, except MIG devices. Returns what was missing."""
    missing = []
    for intent in record.devices:
        wide = gpu_wide(intent)
        if wide is not None and not effects.sharing.is_applied(intent.gpu_uuid, wide):
            effects.sharing.apply(intent.gpu_uuid, wide)
            missing.append(f"sharing of {intent.device}")
    if not effects.cdi.is_current(record):
        effects.cdi.write(record)
        missing.append("CDI file")
    return tuple(missing)


def missing_instances(nvml: Nvml, record: Record) -> tuple[str, ...]:
    """Return names of MIG devices of a completed claim that do not exist (any more).

    A UUID alone says little: the driver makes it of ids, which are used again, also for another placement.
    """
    partitioned = {intent.gpu_uuid for intent in record.devices if intent.mig is not None}
    live = {
        (uuid, there.gpu_instance.start, there.gpu_instance.id, compute.id, compute.uuid)
        for uuid in sorted(partitioned)
        for there in read(nvml, uuid).instances
        for compute in there.compute
    }
    return tuple(
        intent.device
        for intent, made in zip(record.devices, record.made, strict=True)
        if intent.mig is not None
        and (intent.gpu_uuid, intent.mig.start, made.gpu_instance, made.compute_instance, made.uuid) not in live
    )


def answer(effects: Effects, record: Record) -> tuple[PreparedDevice, ...]:
    """Return what the kubelet is told of a completed claim."""
    return tuple(
        PreparedDevice(
            requests=(intent.request,),
            pool=intent.pool,
            device=intent.device,
            cdi_ids=ids,
            share_id="" if intent.share is None else intent.share.share_id,
        )
        for intent, ids in zip(record.devices, effects.cdi.ids(record), strict=True)
    )


def _check_existing(nvml: Nvml, record: Record) -> None:
    """Refuse a MIG device that somebody else made while somebody else uses it."""
    for intent, made in zip(record.devices, record.made, strict=True):
        if intent.existing_uuid and not intent.admin:
            assert made.gpu_instance is not None
            assert made.compute_instance is not None
            check_idle(nvml, intent, made.gpu_instance, made.compute_instance)


def _switch_mig(nvml: Nvml, record: Record, on_gpus: Mapping[str, OnGpu]) -> None:
    for uuid, on_gpu in sorted(on_gpus.items()):
        devices = [intent for intent in record.devices if intent.gpu_uuid == uuid]
        if not on_gpu.mig_enabled and any(map(is_partition, devices)):
            _set_mig_mode(nvml, uuid, enabled=True)
        if on_gpu.mig_enabled and any(map(needs_mig_off, devices)):
            _set_mig_mode(nvml, uuid, enabled=False)


def _set_mig_mode(nvml: Nvml, uuid: str, *, enabled: bool) -> None:
    what = f"switch MIG {'on' if enabled else 'off'} on GPU {uuid}"
    with asking(what):
        nvml.set_mig_mode(uuid, enabled=enabled)
        now = nvml.mig_mode(uuid)
    if now is None or now.enabled is not enabled:
        raise RetryableError(f"cannot {what}: NVML agreed and it did not happen")


def _create_gpu_instances(effects: Effects, record: Record) -> Record:
    for at, intent in enumerate(record.devices):
        if is_partition(intent) and intent.mig is not None:
            with asking(f"create the GPU instance of {where(intent)}"):
                created = effects.nvml.create_gpu_instance(intent.gpu_uuid, intent.mig.profile_id, intent.mig.start)
            record = with_made(record, at, replace(record.made[at], gpu_instance=created))
            record = _recorded(effects, record, Phase.GI_CREATED)
    return record


def _create_compute_instances(effects: Effects, record: Record) -> Record:
    for at, intent in enumerate(record.devices):
        if is_partition(intent):
            created = _create_compute_instance(effects.nvml, intent, record.made[at])
            record = with_made(record, at, replace(record.made[at], compute_instance=created.id, uuid=created.uuid))
            record = _recorded(effects, record, Phase.CI_CREATED)
    return record


def _create_compute_instance(nvml: Nvml, intent: DeviceIntent, made: Made) -> ComputeInstance:
    assert made.gpu_instance is not None
    with asking(f"create the compute instance of {where(intent)}"):
        return nvml.create_compute_instance(intent.gpu_uuid, made.gpu_instance)


def _apply_sharing(effects: Effects, record: Record) -> Record:
    wide = {intent.gpu_uuid: settings for intent in record.devices if (settings := gpu_wide(intent)) is not None}
    for uuid, settings in sorted(wide.items()):
        effects.sharing.apply(uuid, settings)
    return _recorded(effects, record, Phase.SHARING_APPLIED) if wide else record


def _recorded(effects: Effects, record: Record, phase: Phase) -> Record:
    record = replace(record, phase=phase)
    effects.journal.put(record)
    return record
