"""The named tests of other drivers' bugs find them: each fails when its bug is planted (docs/reliability.md)."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pynvml
import pytest

from dra_driver.prepare import codec, plan, recover, state, undo
from dra_driver.prepare.journal import Entries, Journal
from dra_driver.prepare.model import ClaimRef, DeviceIntent
from dra_driver.prepare.sentinel import Sentinel
from dra_driver.prepare.state import DeviceState
from tests.dra_driver.prepare import test_peers_bugs as named

Patch = pytest.MonkeyPatch
Proof = Callable[[Path], None]


def a_force_deleted_claim_holds_nothing(patch: Patch) -> None:
    """What is held is asked of the API, where the claim is gone (k/k #141471)."""
    patch.setattr(plan, "_check_held", lambda intent, gpu, held: None)


def nobody_sweeps(patch: Patch) -> None:
    """A claim that the kubelet forgot stays for ever (k/k #116411)."""
    patch.setattr(Sentinel, "_sweep", lambda self, claims: None)


def claims_are_known_by_name(patch: Patch) -> None:
    """A claim of the same name is taken for the same claim (k/k #131513)."""

    def named_alike(claim: Any) -> ClaimRef:
        one = uuid.uuid5(uuid.NAMESPACE_DNS, claim.metadata.full_name)
        return ClaimRef(namespace=claim.metadata.namespace, name=claim.metadata.name, uid=str(one))

    patch.setattr(state, "claim_ref", named_alike)
    patch.setattr(named, "claim_ref", named_alike)
    patch.setattr(state, "is_allocation_of", lambda claim, devices, driver: True)


def a_claim_without_a_process_is_free(patch: Patch) -> None:
    """A claim is ended although the kubelet's pods still use it (k/k #140212)."""
    real = Sentinel._is_forgotten
    patch.setattr(Sentinel, "_is_forgotten", lambda self, record, claims, listed: real(self, record, claims, ()))


def the_digest_is_over_the_structure(patch: Patch) -> None:
    """A field that another version added makes a record corrupt (k/k #127653, NVIDIA #1080)."""
    real = codec.decode

    def decode(data: bytes) -> codec.Decoded:
        decoded = real(data)
        if codec.encode(decoded.record) != data:
            raise codec.CorruptError("checksum differs")
        return decoded

    patch.setattr("dra_driver.prepare.journal.decode", decode)


def what_others_added_is_dropped(patch: Patch) -> None:
    """A rewrite loses the fields of a newer version."""
    patch.setattr(codec, "keep_unknown", lambda earlier, content: content)


def a_bad_record_ends_the_driver(patch: Patch) -> None:
    """A record that cannot be read is an error that nobody catches (k/k #135711)."""

    def entries(self: Journal) -> Entries:
        read = [decoded.record for name in self._names(".json") if (decoded := self._read(name)) is not None]
        return Entries({record.claim.uid: record for record in read}, {})

    patch.setattr(Journal, "entries", entries)


def a_bad_record_is_forgotten(patch: Patch) -> None:
    """A driver that cannot read its state starts without any (NVIDIA #1100)."""
    patch.setattr(recover._Pass, "_found_out", lambda self, uid, node, others: (None, "nothing"))


def what_is_half_made_stays(patch: Patch) -> None:
    """A MIG device whose making failed is not rolled back (NVIDIA #1452)."""
    patch.setattr(DeviceState, "_roll_back", lambda self, ref, refused: None)


def instances_without_compute_are_invisible(patch: Patch) -> None:
    """MIG devices are looked for by their compute instances (NVIDIA, a comment in its source)."""
    patch.setattr(undo, "_with_unrecorded", lambda nvml, record, others: record)


def every_mig_device_is_ours(patch: Patch) -> None:
    """A MIG device that an administrator made is cleaned up like our own (NVIDIA #1055)."""

    def any_mig(intent: DeviceIntent) -> bool:
        return intent.mig is not None

    patch.setattr(undo, "is_partition", any_mig)


def mig_goes_off_when_a_gpu_is_empty(patch: Patch) -> None:
    """MIG is switched off with the last device, whoever switched it on (NVIDIA #883)."""

    def switch_off(nvml: Any, record: Any, *_: Any) -> None:
        for intent in record.devices:
            pynvml.nvmlDeviceSetMigMode(pynvml.nvmlDeviceGetHandleByUUID(intent.gpu_uuid), 0)

    patch.setattr(undo, "_switch_mig_off", switch_off)


def what_no_claim_has_is_destroyed(patch: Patch) -> None:
    """Every MIG device that no claim names is removed at the start (NVIDIA #149)."""

    def recovering(here: DeviceState, claims: Any, *, at_start: bool = True) -> Any:
        for gpu in here.node().gpus:
            for each in here.effects.nvml.gpu_instances(gpu.uuid):
                for compute in here.effects.nvml.compute_instances(gpu.uuid, each.id):
                    here.effects.nvml.destroy_compute_instance(gpu.uuid, each.id, compute.id)
                here.effects.nvml.destroy_gpu_instance(gpu.uuid, each.id)
        return recover.recover(here, claims, at_start=at_start)

    patch.setattr(named, "recover", recovering)


def a_reboot_changes_nothing(patch: Patch) -> None:
    """The journal of an earlier boot is believed (NVIDIA #951)."""
    real = undo.undo

    def believing(effects: Any, record: Any, held: Any, boot_id: str, *, refused: bool = False) -> None:
        there = [made if made.gpu_instance is None else replace(made, uuid="") for made in record.made]
        trusted = replace(record, boot_id=boot_id, made=tuple(replace(each, compute_instance=None) for each in there))
        real(effects, trusted, held, boot_id, refused=refused)

    patch.setattr(state, "undo", believing)


def failures_are_counted_as_use(patch: Patch) -> None:
    """What failed to be made stays on the books (HAMi #2245)."""
    patch.setattr(Journal, "remove", lambda self, uid: None)


SEEDED: list[tuple[Callable[[Patch], None], Proof]] = [
    (a_force_deleted_claim_holds_nothing, named.test_t02_a_device_that_a_force_deleted_claim_still_holds_is_refused),
    (nobody_sweeps, named.test_t05_what_the_kubelet_forgot_is_unprepared_within_two_checks),
    (claims_are_known_by_name, named.test_t06_a_claim_of_the_same_name_is_another_claim),
    (a_claim_without_a_process_is_free, named.test_t07_a_claim_that_another_pod_uses_is_not_ended),
    (the_digest_is_over_the_structure, named.test_t11_records_of_other_versions_are_read_and_what_they_added_is_kept),
    (what_others_added_is_dropped, named.test_t11_records_of_other_versions_are_read_and_what_they_added_is_kept),
    (a_bad_record_ends_the_driver, named.test_t12_a_cut_or_doubled_record_does_not_stop_the_driver),
    (a_bad_record_is_forgotten, named.test_t13_a_lost_record_never_frees_what_its_claim_may_hold),
    (what_is_half_made_stays, named.test_t14_each_sub_step_of_mig_that_fails_is_rolled_back),
    (instances_without_compute_are_invisible, named.test_t14_a_gpu_instance_without_compute_instance_is_found),
    (every_mig_device_is_ours, named.test_t15_a_mig_device_that_somebody_made_is_used_and_left_alone),
    (mig_goes_off_when_a_gpu_is_empty, named.test_t16_mig_is_never_switched_where_a_reset_would_be_needed),
    (what_no_claim_has_is_destroyed, named.test_t17_mig_devices_that_somebody_made_are_neither_destroyed_nor_fatal),
    (a_reboot_changes_nothing, named.test_t19_after_a_reboot_nothing_of_the_journal_is_believed),
    (failures_are_counted_as_use, named.test_t27_what_failed_leaves_no_trace_and_no_open_file),
]


@pytest.mark.parametrize(("bug", "proof"), SEEDED, ids=lambda each: each.__name__)
def test_the_named_test_fails_with_its_bug(bug: Callable[[Patch], None], proof: Proof, quick: Path) -> None:
    proof(quick / "right")
    with pytest.MonkeyPatch.context() as patch:
        bug(patch)
        with pytest.raises((AssertionError, codec.CorruptError)):
            proof(quick / "wrong")
