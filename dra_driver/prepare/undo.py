"""Undoes a claim, complete or half made, in the reverse order of `act`: from the record and NVML alone.

A GPU that is gone keeps nobody waiting: all else is undone, and what was made on it stays in the record.

What is destroyed must be ours (in the record, by id, placement and UUID) and idle. A record that is being undone never
goes back: it is undone further, now or later, until it is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from dra_driver.errors import GpuGoneError, RetryableError
from dra_driver.nvml.api import (
    InUseError,
    NotFoundError,
    NotSupportedError,
    Nvml,
    ResetRequiredError,
)
from dra_driver.prepare.act import Effects, check_idle, with_made
from dra_driver.prepare.clash import held_on
from dra_driver.prepare.model import DeviceIntent, Made, Phase, Record
from dra_driver.prepare.plan import is_partition, made_instances, where
from dra_driver.prepare.reading import Instance, asking, read

log = logging.getLogger(__name__)

_MAKING = (Phase.PLANNED, Phase.GI_CREATED)
"""Phases in which an instance may exist that the record does not have."""


def undo(effects: Effects, record: Record, held: Sequence[Record], boot_id: str, *, refused: bool = False) -> None:
    """Undo a claim; `held` are the records of others. Under its locks. Raises DeviceError: then it is tried again.

    GpuGoneError: all is undone but what a GPU has that is gone.
    `refused`: NVML said that the place is taken, so what is there now is not ours.
    """
    others = [other for other in held if other.boot_id == boot_id]
    if record.boot_id != boot_id or record.phase is Phase.UNKNOWN:
        # Nothing that an earlier boot made exists; of what a lost record made, no MIG device is known to be ours.
        effects.cdi.remove(record.claim.uid)
        if record.boot_id == boot_id:
            _release_sharing(effects, {intent.gpu_uuid for intent in record.devices}, others)
        effects.journal.remove(record.claim.uid)
        return
    record = _begin(effects, record, others, look=record.phase in _MAKING and not refused)
    effects.cdi.remove(record.claim.uid)
    _release_sharing(effects, {intent.gpu_uuid for intent, made in _devices(record) if made.sharing_applied}, others)
    gone: dict[str, GpuGoneError] = {}
    record = _destroy(effects, record, gone)
    _switch_mig_off(effects.nvml, record, others, gone)
    if gone:
        raise next(iter(gone.values()))
    effects.journal.remove(record.claim.uid)


def _begin(effects: Effects, record: Record, others: Sequence[Record], *, look: bool) -> Record:
    if record.phase is Phase.UNPREPARING:
        return record
    if look:
        record = _with_unrecorded(effects.nvml, record, others)
    record = replace(record, phase=Phase.UNPREPARING)
    effects.journal.put(record)
    return record


def _with_unrecorded(nvml: Nvml, record: Record, others: Sequence[Record]) -> Record:
    """Find GPU instances that were made and not recorded: exactly there, where the plan had seen nothing.

    A compute instance is made only after its GPU instance is recorded, so one that has any is somebody else's.
    """
    for at, intent in enumerate(record.devices):
        if is_partition(intent) and intent.mig is not None and record.made[at].gpu_instance is None:
            known = made_instances([*others, record], intent.gpu_uuid)
            for there in read(nvml, intent.gpu_uuid).instances:
                if there.is_at(intent.mig) and not there.compute and there.gpu_instance.id not in known:
                    record = with_made(record, at, replace(record.made[at], gpu_instance=there.gpu_instance.id))
    return record


def _release_sharing(effects: Effects, gpus: Collection[str], others: Sequence[Record]) -> None:
    for uuid in sorted(gpus, reverse=True):
        if not uses_sharing(others, uuid):
            effects.sharing.release(uuid)


def uses_sharing(records: Iterable[Record], gpu_uuid: str) -> bool:
    """Whether a claim may use what is set for all users of a GPU: one whose record was lost may."""
    return any(
        made.sharing_applied or record.phase is Phase.UNKNOWN
        for record in records
        for intent, made in _devices(record)
        if intent.gpu_uuid == gpu_uuid
    )


def _destroy(effects: Effects, record: Record, gone: dict[str, GpuGoneError]) -> Record:
    for step in (_destroy_compute_instance, _destroy_gpu_instance):
        for at in reversed(range(len(record.devices))):
            with _unless_gone(record.devices[at].gpu_uuid, gone):
                record = step(effects, record, at)
    return record


def _destroy_compute_instance(effects: Effects, record: Record, at: int) -> Record:
    intent, made = record.devices[at], record.made[at]
    there = _ours(effects.nvml, intent, made)
    if there is None or not there.compute:
        return record
    for compute in there.compute:
        check_idle(effects.nvml, intent, compute.gpu_instance, compute.id)
        with _destroying(f"destroy the compute instance of {where(intent)}", effects.nvml, intent, there):
            effects.nvml.destroy_compute_instance(intent.gpu_uuid, compute.gpu_instance, compute.id)
    record = with_made(record, at, replace(made, compute_instance=None, uuid=there.compute[0].uuid))
    effects.journal.put(record)
    return record


def _destroy_gpu_instance(effects: Effects, record: Record, at: int) -> Record:
    intent, made = record.devices[at], record.made[at]
    there = _ours(effects.nvml, intent, made)
    if there is not None:
        with _destroying(f"destroy the GPU instance of {where(intent)}", effects.nvml, intent, there):
            effects.nvml.destroy_gpu_instance(intent.gpu_uuid, there.gpu_instance.id)
    if made.gpu_instance is None or not is_partition(intent):
        return record
    record = with_made(record, at, replace(made, gpu_instance=None, compute_instance=None, uuid=""))
    effects.journal.put(record)
    return record


def _ours(nvml: Nvml, intent: DeviceIntent, made: Made) -> Instance | None:
    """Return the GPU instance that we made, None where it is gone: ids are used again, so all is compared."""
    if not is_partition(intent) or intent.mig is None or made.gpu_instance is None:
        return None
    instances = read(nvml, intent.gpu_uuid).instances
    there = next((each for each in instances if each.gpu_instance.id == made.gpu_instance), None)
    if there is None or not there.is_at(intent.mig):
        return None
    if made.uuid:
        recorded = {made.uuid} if made.compute_instance is not None else set()
        return there if {compute.uuid for compute in there.compute} <= recorded else None
    # Made and not recorded by a crash: the GPU instance is ours, so is what is on it.
    return there


def _switch_mig_off(nvml: Nvml, record: Record, others: Sequence[Record], gone: dict[str, GpuGoneError]) -> None:
    """Switch MIG off where we switched it on and nothing is left that needs it; leave it on while somebody holds it."""
    switched = {intent.gpu_uuid for intent, made in _devices(record) if made.mig_switched_on}
    for uuid in sorted(switched, reverse=True):
        if any(intent.mig is not None for _, intent in held_on(others, uuid)):
            continue
        with _unless_gone(uuid, gone):
            if not read(nvml, uuid).instances:
                _set_mig_off(nvml, uuid)


def _set_mig_off(nvml: Nvml, uuid: str) -> None:
    with asking(f"switch MIG off on GPU {uuid}"):
        mode = nvml.mig_mode(uuid)
        if mode is None or not (mode.enabled or mode.pending):
            return
        try:
            nvml.set_mig_mode(uuid, enabled=False)
        except (InUseError, NotSupportedError, ResetRequiredError) as fault:
            # A monitor may hold it for ever, and no pod should wait for that: who needs it off switches it off.
            log.warning("MIG stays on uuid=%s reason=%s", uuid, fault)


@contextmanager
def _unless_gone(uuid: str, gone: dict[str, GpuGoneError]) -> Iterator[None]:
    """Note a GPU that turns out to be gone, and go on with the others."""
    try:
        yield
    except GpuGoneError as fault:
        gone.setdefault(uuid, fault)


@contextmanager
def _destroying(what: str, nvml: Nvml, intent: DeviceIntent, there: Instance) -> Iterator[None]:
    """As `asking`; what is gone already is what was wanted. NVML is not believed: it must have changed."""
    try:
        with asking(what):
            yield
    except RetryableError as fault:
        if not isinstance(fault.__cause__, NotFoundError) or there in read(nvml, intent.gpu_uuid).instances:
            raise


def _devices(record: Record) -> tuple[tuple[DeviceIntent, Made], ...]:
    return tuple(zip(record.devices, record.made, strict=True))
