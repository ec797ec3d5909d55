"""Looks every 30 seconds whether journal, hardware and CDI files still agree, and says what does not.

It also ends what nobody will end: a claim that is gone from the API, that no process uses and that the kubelet does not
list was forgotten by the kubelet (it restarted between prepare and its checkpoint, k/k #116411).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from dra_driver.errors import DeviceError
from dra_driver.inventory import Gpu
from dra_driver.prepare.clash import clash, held_on, over_budget
from dra_driver.prepare.effects import Patient
from dra_driver.prepare.model import DeviceIntent, Made, Phase, Record
from dra_driver.prepare.plan import made_instances
from dra_driver.prepare.reading import asking, read
from dra_driver.prepare.recover import Claims, Report, recover
from dra_driver.prepare.resolve import is_allocation_of
from dra_driver.prepare.state import DeviceState

log = logging.getLogger(__name__)

INTERVAL_S = 30.0


class Finding(StrEnum):
    """What is wrong."""

    USED_TWICE = "used-twice"
    UNOWNED_INSTANCE = "unowned-instance"
    """A MIG device of no claim: somebody else made it, or it was left over."""
    UNOWNED_PROCESS = "unowned-process"
    """A process on a GPU that no claim holds."""
    MISSING = "missing"
    UNKNOWN = "unknown"
    """The record of a claim was lost, and what it may hold is blocked."""
    NOT_UNDONE = "not-undone"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Found:
    """A finding: on which claim (UID) or GPU (UUID), and a sentence for people."""

    kind: Finding
    subject: str
    text: str


class Sentinel:
    """Checks a node. `claims` returns those of the API, `listed` the CDI device names that the kubelet's pods use.

    Both return None when they cannot tell; then no claim is taken for forgotten. One check at a time.
    """

    def __init__(
        self, state: DeviceState, claims: Callable[[], Claims | None], listed: Callable[[], Collection[str] | None]
    ) -> None:
        self._state = state
        self._claims = claims
        self._listed = listed
        self._forgotten: set[str] = set()

    def check(self) -> tuple[Found, ...]:
        """Repair what is ours to repair, end what is forgotten, and return what is left to tell."""
        claims = self._claims()
        report = recover(self._state, claims, at_start=False)
        self._sweep(claims)
        found = [*_of_claims(report)]
        for gpu in self._state.node().gpus:
            try:
                found += self._of_gpu(gpu)
            except DeviceError as fault:
                found.append(Found(Finding.UNREADABLE, gpu.uuid, str(fault)))
        return tuple(found)

    def _sweep(self, claims: Claims | None) -> None:
        """Unprepare claims that were forgotten in this check and in the one before: none is ended in passing."""
        listed = None if claims is None else self._listed()
        if claims is None or listed is None:
            self._forgotten.clear()
            return
        records = self._state.effects.journal.entries().records
        now = {uid for uid, record in records.items() if self._is_forgotten(record, claims, listed)}
        for uid in sorted(now & self._forgotten):
            record = records[uid]
            log.warning("claim is gone and unprepared claim=%s uid=%s", record.claim, uid)
            try:
                self._state.unprepare(record.claim, Patient())
            except DeviceError as fault:
                log.warning("forgotten claim is kept claim=%s reason=%s", record.claim, fault)
        self._forgotten = now

    def _is_forgotten(self, record: Record, claims: Claims, listed: Collection[str]) -> bool:
        if record.phase in (Phase.UNKNOWN, Phase.UNPREPARING):
            return False
        claim = claims.get(record.claim.uid)
        if claim is not None and is_allocation_of(claim, record.devices, self._state.driver):
            return False
        names = {name for ids in self._state.effects.cdi.ids(record) for name in ids}
        return names.isdisjoint(listed) and not self._runs(record)

    def _runs(self, record: Record) -> bool:
        """Whether a process uses a device of the claim; of a share whether any uses its GPU, as nobody tells whose."""
        if record.boot_id != self._state.boot_id:
            return False
        try:
            return any(
                self._users(intent, made)
                for intent, made in zip(record.devices, record.made, strict=True)
                if not intent.admin
            )
        except DeviceError:
            return True

    def _users(self, intent: DeviceIntent, made: Made) -> bool:
        nvml = self._state.effects.nvml
        with asking(f"ask who uses {intent.device}"):
            if intent.mig is None:
                return bool(nvml.processes(intent.gpu_uuid))
            if made.gpu_instance is None or made.compute_instance is None:
                return False
            return bool(nvml.instance_processes(intent.gpu_uuid, made.gpu_instance, made.compute_instance))

    def _of_gpu(self, gpu: Gpu) -> Iterator[Found]:
        # Under its lock nobody is half-way through anything on it.
        with self._state.locks.gpus([gpu.uuid], Patient()):
            records = [
                record
                for record in self._state.effects.journal.entries().records.values()
                if any(intent.gpu_uuid == gpu.uuid for intent in record.devices)
            ]
            current = [record for record in records if record.boot_id == self._state.boot_id]
            instances = read(self._state.effects.nvml, gpu.uuid).instances if gpu.mig is not None else ()
            with asking(f"ask who uses GPU {gpu.uuid}"):
                users = () if records else self._state.effects.nvml.processes(gpu.uuid)
        yield from _used_twice(gpu, records)
        known = made_instances(current, gpu.uuid)
        for each in instances:
            there = each.gpu_instance
            if there.id not in known:
                text = f"GPU instance {there.id} at {there.start} of GPU {gpu.uuid} belongs to no claim"
                yield Found(Finding.UNOWNED_INSTANCE, gpu.uuid, text)
        if users:
            text = f"processes {sorted(users)[:5]} use GPU {gpu.uuid}, which no claim holds"
            yield Found(Finding.UNOWNED_PROCESS, gpu.uuid, text)


def _used_twice(gpu: Gpu, records: list[Record]) -> Iterator[Found]:
    held = [each for each in held_on(records, gpu.uuid) if each[0].phase is not Phase.UNKNOWN]
    for (record, intent), (other, beside) in combinations(held, 2):
        if problem := clash(intent, beside, gpu.mig):
            text = f"{intent.device} of claim {record.claim} {problem} {beside.device} of claim {other.claim}"
            yield Found(Finding.USED_TWICE, gpu.uuid, text)
    if problem := over_budget(held, gpu):
        yield Found(Finding.USED_TWICE, gpu.uuid, f"shares of GPU {gpu.uuid} exceed its {problem}")


def _of_claims(report: Report) -> Iterator[Found]:
    for uid, problem in report.unknown.items():
        yield Found(Finding.UNKNOWN, uid, f"the record of claim {uid} {problem}; what it may hold is blocked")
    for uid, devices in report.missing.items():
        yield Found(Finding.MISSING, uid, f"MIG devices of claim {uid} are gone: {', '.join(devices)}")
    for uid, problem in report.faults.items():
        yield Found(Finding.NOT_UNDONE, uid, problem)
