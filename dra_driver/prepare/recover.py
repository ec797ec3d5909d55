"""Makes journal, hardware and CDI files agree, in one pass: at every start, and then every 30 seconds.

A claim whose locks can be had and that is neither complete nor gone was left by a crash: it is undone, and the kubelet
asks again. Nobody's work is disturbed: complete claims stay, and what is not in a record is not ours.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dra_driver.errors import DeviceError, PermanentError
from dra_driver.inventory import NodeGpus
from dra_driver.prepare import rebuild
from dra_driver.prepare.act import missing_instances, repair
from dra_driver.prepare.codec import CorruptError
from dra_driver.prepare.effects import Patient
from dra_driver.prepare.model import DeviceIntent, Phase, Record
from dra_driver.prepare.plan import made_instances, needs_reading
from dra_driver.prepare.reading import asking, read
from dra_driver.prepare.resolve import claim_ref, intents, is_given_here
from dra_driver.prepare.state import DeviceState
from dra_driver.prepare.undo import uses_sharing
from kube.objects import ResourceClaim

log = logging.getLogger(__name__)

Claims = Mapping[str, ResourceClaim]
"""All claims of the API by UID, or at least those allocated on this node."""


@dataclass(slots=True)
class Report:
    """What a pass found and did, by claim UID or GPU UUID."""

    undone: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    repaired: dict[str, tuple[str, ...]] = field(default_factory=dict)
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """MIG devices of complete claims that are gone; the next Prepare makes them anew."""
    rebuilt: dict[str, str] = field(default_factory=dict)
    """Claims whose record was lost, and from what it was rebuilt."""
    unknown: dict[str, str] = field(default_factory=dict)
    """Those of which it could not (yet), and what was wrong with the record."""
    released: list[str] = field(default_factory=list)
    """GPUs whose sharing nobody used."""
    faults: dict[str, str] = field(default_factory=dict)
    """What could not be done now; the next pass tries again."""


def recover(state: DeviceState, claims: Claims | None, *, at_start: bool = True) -> Report:
    """Make everything agree. `claims` is None while the API server does not answer.

    A fault of one claim is in the report, and stops no other. Raises RetryableError where the journal cannot be listed.
    """
    effects = state.effects
    one_pass = _Pass(state, claims)
    if at_start:
        effects.cdi.discard_unfinished()
    one_pass.each(effects.journal.unfinished(), one_pass.discard_unfinished)
    entries = effects.journal.entries()
    one_pass.each(entries.corrupt, one_pass.rebuild)
    one_pass.each([uid for uid in effects.cdi.claims() if uid not in entries.records], one_pass.rebuild)
    one_pass.each(effects.journal.entries().records, one_pass.settle)
    one_pass.each(effects.sharing.leftovers(), one_pass.release)
    return one_pass.report


class _Pass:
    def __init__(self, state: DeviceState, claims: Claims | None) -> None:
        self._state = state
        self._effects = state.effects
        self._claims = claims
        self.report = Report()

    def each(self, names: Iterable[str], step: Callable[[str], None]) -> None:
        for name in names:
            try:
                step(name)
            except DeviceError as fault:
                log.warning("recovery is not done name=%s reason=%s", name, fault)
                self.report.faults[name] = str(fault)
            except Exception as fault:  # The surprise of one claim must not stop the driver of all others.
                log.exception("recovery failed name=%s", name)
                self.report.faults[name] = f"internal error, {type(fault).__name__}: {fault}; please report it"

    def discard_unfinished(self, uid: str) -> None:
        with self._state.locks.claim(uid, Patient()):
            self._effects.journal.discard_unfinished(uid)

    def release(self, gpu_uuid: str) -> None:
        with self._state.locks.gpus([gpu_uuid], Patient()):
            entries = self._effects.journal.entries()
            if entries.corrupt:
                # It may be just that claim which uses it.
                return
            current = [record for record in entries.records.values() if record.boot_id == self._state.boot_id]
            if not uses_sharing(current, gpu_uuid):
                self._effects.sharing.release(gpu_uuid)
                self.report.released.append(gpu_uuid)

    def settle(self, uid: str) -> None:
        with self._state.locks.claim(uid, Patient()):
            record = self._state.record_of(uid)
            if record is None:
                return
            if record.phase is Phase.UNKNOWN:
                self._rebuild(uid, "was lost")
                return
            with self._state.gpus(record.devices, Patient()):
                self._settle(record)

    def rebuild(self, uid: str) -> None:
        with self._state.locks.claim(uid, Patient()):
            try:
                record = self._effects.journal.get(uid)
            except CorruptError as fault:
                self._rebuild(uid, str(fault), is_corrupt=True)
            else:
                # A claim with a CDI file and without a record; or it has come since we looked.
                if record is None and uid in self._effects.cdi.claims():
                    self._rebuild(uid, "is not there")

    def _settle(self, record: Record) -> None:
        uid = record.claim.uid
        if record.phase is not Phase.COMPLETED:
            self._state.undo(record)
            self.report.undone.append(uid)
        elif record.boot_id != self._state.boot_id:
            self._effects.cdi.remove(uid)
            self.report.kept.append(uid)
        else:
            self.report.kept.append(uid)
            if missing := missing_instances(self._effects.nvml, record):
                self.report.missing[uid] = missing
            elif repaired := repair(self._effects, record):
                self.report.repaired[uid] = repaired

    def _rebuild(self, uid: str, problem: str, *, is_corrupt: bool = False) -> None:
        node = self._state.node()
        with self._state.locks.gpus([gpu.uuid for gpu in node.gpus], Patient()):
            others = [record for record in self._effects.journal.entries().records.values() if record.claim.uid != uid]
            record, source = self._found_out(uid, node, others)
            if is_corrupt:
                # In place until it is replaced: a crash in between must not leave nothing.
                aside = self._effects.journal.quarantine(uid)
                log.error("record set aside claim=%s file=%s reason=%s", uid, aside, problem)
            if record is None:
                self._effects.cdi.remove(uid)
                self._effects.journal.remove(uid)
            else:
                self._effects.journal.put(record)
        if record is not None and record.phase is Phase.UNKNOWN:
            self.report.unknown[uid] = problem
        else:
            self.report.rebuilt[uid] = source

    def _found_out(self, uid: str, node: NodeGpus, others: Sequence[Record]) -> tuple[Record | None, str]:
        copy = self._effects.cdi.copy_of(uid)
        if copy is not None:
            return rebuild.from_copy(copy), "its CDI file"
        claim = None if self._claims is None else self._claims.get(uid)
        boot_id, driver = self._state.boot_id, self._state.driver
        wanted = None if claim is None else self._wanted(claim, node)
        if claim is not None and wanted is not None:
            on_gpus = {uuid: read(self._effects.nvml, uuid) for uuid in needs_reading(wanted, node)}
            return rebuild.from_claim(claim_ref(claim), wanted, node, others, on_gpus, boot_id), "its claim"
        is_here = claim is not None and is_given_here(claim, node, driver)
        suspects = None if self._claims is None or is_here else self._in_use(node, others)
        return rebuild.unknown(uid, node, others, suspects, boot_id, driver), "nothing: its claim is gone, nothing runs"

    def _wanted(self, claim: ResourceClaim, node: NodeGpus) -> tuple[DeviceIntent, ...] | None:
        """Return what a claim was given; None where that cannot have been prepared here as it stands in the API now."""
        if claim.status.allocation is None:
            return None
        try:
            return intents(claim, node, self._state.settings, self._state.driver)
        except PermanentError as fault:
            log.warning("the claim does not tell what it holds claim=%s reason=%s", claim_ref(claim), fault)
            return None

    def _in_use(self, node: NodeGpus, others: Sequence[Record]) -> set[str]:
        """Return UUIDs of GPUs on which something runs, or a MIG device exists, that no record explains."""
        found = set()
        for gpu in node.gpus:
            with asking(f"ask who uses GPU {gpu.uuid}"):
                runs = bool(self._effects.nvml.processes(gpu.uuid))
            known = made_instances(others, gpu.uuid)
            exists = read(self._effects.nvml, gpu.uuid).instances if gpu.mig is not None else ()
            if runs or any(each.gpu_instance.id not in known for each in exists):
                found.add(gpu.uuid)
        return found
