"""Claims prepared on this node: at most one does something to a claim or a GPU, and what is done stands in the journal.

The journal is asked, never a memory of it: another instance of the driver may have written it a moment ago.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from dra_driver.config.merge import settings_for
from dra_driver.errors import CancelledError, DeviceError, GpuGoneError, HeldError, RetryableError
from dra_driver.inventory import NodeGpus
from dra_driver.nvml.api import NoRoomError
from dra_driver.prepare.act import Effects, answer, make, missing_instances, repair
from dra_driver.prepare.codec import CorruptError
from dra_driver.prepare.effects import Caller
from dra_driver.prepare.locks import Locks
from dra_driver.prepare.model import ClaimRef, DeviceIntent, Phase, PreparedDevice, Record
from dra_driver.prepare.plan import needs_reading, plan
from dra_driver.prepare.reading import OnGpu, read
from dra_driver.prepare.rebuild import from_claim
from dra_driver.prepare.resolve import SettingsFor, claim_ref, intents, is_allocation_of
from dra_driver.prepare.undo import undo
from dra_driver.publish.names import DRIVER_NAME
from kube.objects import ResourceClaim

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """Prepares and unprepares claims. `node` returns the GPUs as they are published now; `boot_id` is the kernel's."""

    effects: Effects
    locks: Locks
    node: Callable[[], NodeGpus]
    boot_id: str
    driver: str = DRIVER_NAME
    written_by: str = ""
    settings: SettingsFor = settings_for

    def prepare(self, claim: ResourceClaim, caller: Caller) -> Sequence[PreparedDevice]:
        """Prepare the devices of a claim that are ours, or return what was prepared before.

        Raises DeviceError; what was begun is then undone, or stays recorded and held until it is.
        """
        ref = claim_ref(claim)
        with self.locks.claim(ref.uid, caller):
            record = self.record_of(ref.uid)
            before = self._prepared_before(claim, record, caller)
            if before is not None:
                return before
            wanted = intents(claim, self.node(), self.settings, self.driver)
            with self.gpus((*wanted, *_devices(record)), caller):
                return answer(self.effects, self._prepare(ref, wanted, record))

    def unprepare(self, claim: ClaimRef, caller: Caller) -> None:
        """Undo a claim, by its UID alone; one that is not known is undone already. Raises DeviceError.

        What a GPU has that is gone stays recorded and held, for recovery to undo: no pod waits for its end.
        """
        with self.locks.claim(claim.uid, caller):
            record = self.record_of(claim.uid)
            with self.gpus(_devices(record), caller):
                if record is None:
                    self.effects.cdi.remove(claim.uid)
                else:
                    try:
                        self.undo(record)
                    except GpuGoneError as fault:
                        log.warning("the rest is undone when its GPU is back claim=%s reason=%s", claim, fault)

    def record_of(self, uid: str) -> Record | None:
        """Return the record of a claim. Raises RetryableError where it cannot be read: recovery rebuilds it."""
        try:
            return self.effects.journal.get(uid)
        except CorruptError as fault:
            raise RetryableError(f"the record of claim {uid} {fault}; the next check rebuilds it") from fault

    def others(self, uid: str) -> tuple[Record, ...]:
        """Return the records of all other claims. Raises RetryableError where one cannot be read."""
        entries = self.effects.journal.entries()
        for other, problem in entries.corrupt.items():
            if other != uid:
                raise RetryableError(
                    f"the record of claim {other} {problem}; what it holds is not known until the next check"
                )
        return tuple(record for record in entries.records.values() if record.claim.uid != uid)

    @contextmanager
    def gpus(self, devices: Sequence[DeviceIntent], caller: Caller) -> Iterator[None]:
        """Hold the GPUs of devices, for a caller who still waits. Raises RetryableError, CancelledError."""
        with self.locks.gpus((intent.gpu_uuid for intent in devices), caller):
            if caller.is_gone():
                raise CancelledError("the caller gave up before anything was done; a later call starts anew")
            yield

    def undo(self, record: Record, *, refused: bool = False) -> None:
        """Undo a claim, under its locks. Raises DeviceError; a later call goes on where this one ended."""
        undo(self.effects, record, self.others(record.claim.uid), self.boot_id, refused=refused)

    def _prepared_before(
        self, claim: ResourceClaim, record: Record | None, caller: Caller
    ) -> Sequence[PreparedDevice] | None:
        """Return the devices of a completed claim; None where its MIG devices are gone and must be made anew."""
        if record is None or record.phase is not Phase.COMPLETED or record.boot_id != self.boot_id:
            return None
        if not is_allocation_of(claim, record.devices, self.driver):
            raise HeldError(
                f"claim {record.claim} was prepared for another allocation, which holds its devices until the kubelet"
                " unprepares it; the pods that used it must end first"
            )
        with self.gpus(record.devices, caller):
            if gone := missing_instances(self.effects.nvml, record):
                log.warning("MIG devices are gone and made anew claim=%s devices=%s", record.claim, ",".join(gone))
                return None
            repair(self.effects, record)
            return answer(self.effects, record)

    def _prepare(self, ref: ClaimRef, wanted: Sequence[DeviceIntent], record: Record | None) -> Record:
        if record is not None and record.phase is Phase.UNKNOWN:
            record = self._known_again(ref, wanted)
            if record.phase is Phase.COMPLETED:
                repair(self.effects, record)
                return record
        if record is not None and record.boot_id == self.boot_id:
            self.undo(record)
        node, on_gpus = self._look(wanted)
        planned = plan(ref, wanted, node, self.others(ref.uid), on_gpus, self.boot_id, self.written_by)
        self.effects.journal.put(planned)
        try:
            return make(self.effects, planned, on_gpus)
        except Exception as fault:
            self._roll_back(ref, refused=isinstance(fault.__cause__, NoRoomError))
            raise

    def _known_again(self, ref: ClaimRef, wanted: Sequence[DeviceIntent]) -> Record:
        """Find out what was made for a claim whose record was lost, now that it is here."""
        node, on_gpus = self._look(wanted)
        record = from_claim(ref, wanted, node, self.others(ref.uid), on_gpus, self.boot_id)
        self.effects.journal.put(record)
        return record

    def _look(self, wanted: Sequence[DeviceIntent]) -> tuple[NodeGpus, dict[str, OnGpu]]:
        node = self.node()
        return node, {uuid: read(self.effects.nvml, uuid) for uuid in needs_reading(wanted, node)}

    def _roll_back(self, ref: ClaimRef, *, refused: bool) -> None:
        try:
            record = self.record_of(ref.uid)
            if record is not None:
                self.undo(record, refused=refused)
        except DeviceError as fault:
            # The first error is the one to tell; the record says what is left, and holds it.
            log.warning("half-made claim is kept until it can be undone claim=%s reason=%s", ref, fault)


def _devices(record: Record | None) -> tuple[DeviceIntent, ...]:
    return () if record is None else record.devices
