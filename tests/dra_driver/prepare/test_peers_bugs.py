"""Bugs of other drivers (docs/reliability.md) as tests; `test_seeded_bugs` shows each to fail with its bug."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from dra_driver.errors import DeviceError, HeldError
from dra_driver.prepare import codec
from dra_driver.prepare.effects import Caller, Patient
from dra_driver.prepare.model import MigTarget, Phase
from dra_driver.prepare.recover import recover
from dra_driver.prepare.resolve import claim_ref, targets
from dra_driver.prepare.sentinel import Finding, Sentinel
from kube.objects import ResourceClaim
from tests.dra_driver.prepare.kills import disagreements
from tests.dra_driver.prepare.sites import A100, Site, again, claim, site, uid
from topology.modes import MigMode
from twin.codes import Code

PATIENT = Patient()
PART, BESIDE = "gpu-0-mig-3g40gb-9-0", "gpu-0-mig-1g10gb-19-4"
STATIC = "gpu-0-mig-3g20gb-9-0"
GOLDEN = Path(__file__).with_name("golden")


def test_t02_a_device_that_a_force_deleted_claim_still_holds_is_refused(quick: Path) -> None:
    with site(quick) as host:
        state = host.start()
        for device in ("gpu-1", PART):
            forced, comer = claim(f"forced-{device}", device), claim(f"comer-{device}", device)
            state.prepare(forced, PATIENT)
            # Nothing of it is left in the API; the kubelet has not ended its containers yet.
            recover(state, {comer.metadata.uid: comer})
            assert refused(state.prepare, comer)
            state.unprepare(claim_ref(forced), PATIENT)
            state.prepare(comer, PATIENT)


def test_t05_what_the_kubelet_forgot_is_unprepared_within_two_checks(quick: Path) -> None:
    with site(quick) as host:
        state = host.start()
        forgotten, busy, listed, known = (claim(f"c{at}", f"gpu-{at}-mig-3g40gb-9-0") for at in range(4))
        for each in (forgotten, busy, listed, known):
            state.prepare(each, PATIENT)
        host.twin.process(1, 4242, mig_device=(0, 0))
        names = {f"k8s.gpu.dovetail.dev/claim={listed.metadata.uid}-gpu-2-mig-3g40gb-9-0"}
        sentinel = Sentinel(state, lambda: {known.metadata.uid: known}, lambda: names)
        sentinel.check()
        assert len(state.effects.journal.entries().records) == 4, "none is ended in passing"
        sentinel.check()
        left = set(state.effects.journal.entries().records)
        assert left == {each.metadata.uid for each in (busy, listed, known)}
        assert disagreements(host, state) == []


@pytest.mark.parametrize("mute", ["api", "kubelet"])
def test_t05_nothing_is_forgotten_while_somebody_cannot_be_asked(quick: Path, mute: str) -> None:
    with site(quick) as host:
        state = host.start()
        state.prepare(claim("one", PART), PATIENT)
        sentinel = Sentinel(
            state, lambda: None if mute == "api" else {}, lambda: None if mute == "kubelet" else set[str]()
        )
        for _ in range(3):
            sentinel.check()
        assert len(state.effects.journal.entries().records) == 1


def test_t06_a_claim_of_the_same_name_is_another_claim(quick: Path) -> None:
    with site(quick) as host:
        state = host.start()
        old, new = claim("same", "gpu-0"), claim("same", "gpu-1")
        new = msgspec.structs.replace(new, metadata=msgspec.structs.replace(new.metadata, uid=uid("another")))
        state.prepare(old, PATIENT)
        devices = state.prepare(new, PATIENT)
        assert [each.device for each in devices] == ["gpu-1"]
        state.unprepare(claim_ref(old), PATIENT)
        assert set(state.effects.journal.entries().records) == {new.metadata.uid}


def test_t07_a_claim_that_another_pod_uses_is_not_ended(quick: Path) -> None:
    with site(quick) as host:
        state = host.start()
        shared = claim("shared", PART)
        # Two pods: the kubelet asks twice, and unprepares once, after the last.
        state.prepare(shared, PATIENT)
        state.prepare(shared, PATIENT)
        name = f"k8s.gpu.dovetail.dev/claim={shared.metadata.uid}-{PART}"
        sentinel = Sentinel(state, dict, lambda: {name})
        for _ in range(3):
            sentinel.check()
        assert set(state.effects.journal.entries().records) == {shared.metadata.uid}
        assert host.instances() == [(0, 0, 1)]


def test_t11_records_of_other_versions_are_read_and_what_they_added_is_kept(quick: Path) -> None:
    with site(quick) as host:
        state = host.start()
        for golden in sorted(GOLDEN.iterdir()):
            name = golden.name.partition(".")[0]
            (host.state / f"claims/{name}.json").write_bytes(golden.read_bytes())
            record = state.effects.journal.get(name)
            assert record is not None
            state.effects.journal.put(replace(record, written_by="this version"))
            kept = codec.decode((host.state / f"claims/{name}.json").read_bytes())
            assert kept.record == replace(record, written_by="this version")
            if "newer" in golden.name:
                assert kept.raw is not None
                assert kept.raw.get("prices") == [1, 2]
                assert kept.raw["devices"][0].get("colour") == "green"


def test_t12_a_cut_or_doubled_record_does_not_stop_the_driver(quick: Path) -> None:
    with site(quick) as host:
        state = host.start()
        one, other = claim("one", PART), claim("other", "gpu-1")
        for each in (one, other):
            state.prepare(each, PATIENT)
        for each, spoil in ((one, lambda raw: raw + raw), (other, lambda raw: raw[:40])):
            path = host.state / f"claims/{each.metadata.uid}.json"
            path.write_bytes(spoil(path.read_bytes()))
        fresh = host.start()
        report = recover(fresh, None)
        assert sorted(report.rebuilt) == sorted(each.metadata.uid for each in (one, other))
        assert disagreements(host, fresh) == []
        assert len(list((host.state / "quarantine").iterdir())) == 2


def test_t13_a_lost_record_never_frees_what_its_claim_may_hold(quick: Path) -> None:
    with site(quick) as host:
        state = host.start()
        tenant = claim("tenant", "gpu-0")
        state.prepare(tenant, PATIENT)
        host.twin.process(0, 4242)
        path = host.state / f"claims/{tenant.metadata.uid}.json"
        path.write_bytes(b"\0" * path.stat().st_size)
        state.effects.cdi.remove(tenant.metadata.uid)
        for claims in (None, {}):
            fresh = host.start()
            report = recover(fresh, claims)
            assert list(report.unknown) == [tenant.metadata.uid]
            assert refused(fresh.prepare, claim("comer", "gpu-0"))
        fresh.prepare(claim("elsewhere", "gpu-1"), PATIENT)
        # The API has it after all: now it is known again.
        report = recover(fresh, {tenant.metadata.uid: tenant})
        assert report.rebuilt == {tenant.metadata.uid: "its claim"}
        assert refused(fresh.prepare, claim("comer", "gpu-0"))
        fresh.unprepare(claim_ref(tenant), PATIENT)
        fresh.prepare(claim("comer", "gpu-0"), PATIENT)


SUB_STEPS = (
    "nvmlDeviceSetMigMode",
    "nvmlDeviceCreateGpuInstanceWithPlacement",
    "nvmlGpuInstanceGetInfo",
    "nvmlGpuInstanceGetComputeInstanceProfileInfo",
    "nvmlGpuInstanceCreateComputeInstance",
    "nvmlComputeInstanceGetInfo",
)


def test_t14_each_sub_step_of_mig_that_fails_is_rolled_back(quick: Path) -> None:
    for step in SUB_STEPS:
        for nth in (1, 2):
            with site(quick / f"{step}-{nth}") as host:
                state, before = host.start(), host.hardware()
                host.twin.fault(step, code=Code.UNKNOWN, nth=nth)
                try:
                    state.prepare(claim("one", PART, BESIDE), PATIENT)
                except DeviceError:
                    assert (host.hardware(), host.files()) == (before, []), f"{step} {nth}"
                else:
                    assert disagreements(host, state) == []


def test_t14_a_gpu_instance_without_compute_instance_is_found(quick: Path) -> None:
    with site(quick) as host:
        state, before = host.start(), host.hardware()
        # The driver dies with the GPU instance made, its id never heard.
        host.twin.fault("nvmlDeviceCreateGpuInstanceWithPlacement", code=Code.TIMEOUT, after=True)
        with pytest.raises(DeviceError):
            state.prepare(claim("one", PART), PATIENT)
        recover(host.start(), None)
        assert (host.hardware(), host.files()) == (before, [])


def test_t15_a_mig_device_that_somebody_made_is_used_and_left_alone(quick: Path) -> None:
    with site(quick, A100, MigMode.ENABLED) as host:
        state = host.start()
        there = foreign(host, STATIC)
        mixed = claim("mixed", STATIC, "gpu-0-mig-1g5gb-19-4", "gpu-1-mig-3g20gb-9-0")
        state.prepare(mixed, PATIENT)
        assert len(host.instances()) == 2
        state.unprepare(claim_ref(mixed), PATIENT)
        assert host.instances() == there
        assert host.instances(1) == []
        # Whoever made it may use it still.
        host.twin.process(0, 4242, mig_device=(there[0][0], 0))
        with pytest.raises(DeviceError, match="in use by 1 processes"):
            state.prepare(mixed, PATIENT)
        host.twin.process_gone(4242)
        # A half-made claim beside it: only ours goes.
        host.twin.fault("nvmlGpuInstanceCreateComputeInstance", code=Code.UNKNOWN, nth=1)
        with pytest.raises(DeviceError):
            state.prepare(mixed, PATIENT)
        assert host.instances() == there


def test_t16_mig_is_never_switched_where_a_reset_would_be_needed(quick: Path) -> None:
    with site(quick, A100, MigMode.ENABLED, reset_supported=False) as host:
        state = host.start()
        one = claim("one", STATIC)
        state.prepare(one, PATIENT)
        state.unprepare(claim_ref(one), PATIENT)
        recover(host.start(), {})
        machine = host.twin.state.gpus[0]
        assert (machine.mig_enabled, machine.mig_pending) == (True, True)


def test_t17_mig_devices_that_somebody_made_are_neither_destroyed_nor_fatal(quick: Path) -> None:
    with site(quick) as host:
        there = foreign(host, PART)
        state = host.start()
        report = recover(state, {})
        assert (report.faults, host.instances(), host.mig_enabled()) == ({}, there, True)
        assert refused(state.prepare, claim("whole", "gpu-0"))
        assert refused(state.prepare, claim("overlap", "gpu-0-mig-1g10gb-19-1"))
        beside = claim("beside", BESIDE)
        state.prepare(beside, PATIENT)
        found = Sentinel(state, lambda: {beside.metadata.uid: beside}, set).check()
        assert [each.kind for each in found] == [Finding.UNOWNED_INSTANCE]
        state.unprepare(claim_ref(beside), PATIENT)
        assert (host.instances(), host.mig_enabled()) == (there, True)


def test_t19_after_a_reboot_nothing_of_the_journal_is_believed(quick: Path) -> None:
    with site(quick) as host:
        state = host.start()
        done, half = claim("done", PART), claim("half", PART)
        state.prepare(done, PATIENT)
        record = state.effects.journal.get(done.metadata.uid)
        assert record is not None
        state.effects.journal.put(replace(record, claim=claim_ref(half), phase=Phase.GI_CREATED))
        gpus = host.gpus
        with host.twin.change() as machine:
            machine.gpus[0].instances.clear()
    with again(quick, gpus, boot_id="6d0a7b2c-0000-4000-8000-000000000002") as host:
        # Somebody makes a MIG device, and gets the ids and the place that ours had.
        there = foreign(host, PART)
        fresh = host.start()
        recover(fresh, {done.metadata.uid: done})
        assert refused(fresh.prepare, claim("comer", "gpu-0-mig-1g10gb-19-0")), "held until the kubelet unprepares it"
        fresh.unprepare(claim_ref(done), PATIENT)
        assert host.instances() == there
        assert host.files() == []


def test_t27_what_failed_leaves_no_trace_and_no_open_file(quick: Path) -> None:
    with site(quick) as host:
        state, before = host.start(), host.hardware()
        one = claim("one", PART, BESIDE, "gpu-1")
        opened = 0
        for _ in range(30):
            host.twin.fault("nvmlGpuInstanceCreateComputeInstance", code=Code.INSUFFICIENT_RESOURCES, nth=2)
            with pytest.raises(DeviceError):
                state.prepare(one, PATIENT)
            assert (host.hardware(), host.files()) == (before, [])
            opened = opened or open_files()
        assert open_files() == opened
        state.prepare(claim("whole", "gpu-0"), PATIENT)


def foreign(host: Site, device: str) -> list[tuple[int, int, int]]:
    """Let an administrator make the MIG device called so on GPU 0; what is there then."""
    gpu = host.gpus.gpus[0]
    target = targets(gpu)[device]
    assert isinstance(target, MigTarget)
    host.nvml.set_mig_mode(gpu.uuid, enabled=True)
    instance = host.nvml.create_gpu_instance(gpu.uuid, target.profile_id, target.start)
    host.nvml.create_compute_instance(gpu.uuid, instance)
    return host.instances()


def refused(prepare: Callable[[ResourceClaim, Caller], object], asked: ResourceClaim) -> bool:
    """Whether a claim is refused because another holds its device."""
    try:
        prepare(asked, PATIENT)
    except HeldError:
        return True
    return False


def open_files() -> int:
    """How many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
