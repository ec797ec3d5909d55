"""What is a fault, of what, and when it ends."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dra_driver.health import judge
from dra_driver.health.devices import NO_ANSWER, NO_EVENTS, UNMONITORED, Published, message, published, taints_of
from dra_driver.health.judge import SETTLE_S, after_look, after_xid, label
from dra_driver.health.model import FaultKind, GpuHealth, Look, Part
from dra_driver.health.xids import APPLICATION_XIDS
from dra_driver.inventory import MigInstance
from dra_driver.nvml.api import GpuInstance, RecoveryAction
from dra_driver.publish.taints import DeviceTaint, Effect
from tests.dra_driver.nodes import gpu, node
from topology.catalog import mig_geometry

WELL = GpuHealth()
SOUND = Look(action=RecoveryAction.NONE, instances=())
OLD = Look(action=None, instances=())
"""A look through a driver that knows no recovery actions."""
RESET = Look(action=RecoveryAction.GPU_RESET, instances=())
LOST = Look(lost=True)
PART = Part(gpu_instance=3, start=4, size=2)
ALIVE = (GpuInstance(id=3, profile_id=14, start=4, size=2),)
H100 = mig_geometry("h100-80gb")


def kinds(health: GpuHealth) -> list[tuple[str, str]]:
    return [(fault.kind.value, fault.value) for fault in health.faults]


@pytest.mark.parametrize("xid", sorted(APPLICATION_XIDS))
def test_a_tenants_own_fault_is_none_of_the_gpu(xid: int) -> None:
    assert after_xid(WELL, xid, None, OLD) == WELL
    assert after_xid(WELL, xid, None, SOUND) == WELL


@pytest.mark.parametrize("xid", [13, 48, 79, 95, 119])
def test_the_recovery_action_has_the_first_word(xid: int) -> None:
    """Whatever the table says of an XID: where NVML tells, a GPU is faulty exactly as long as it needs something."""
    assert after_xid(WELL, xid, None, SOUND) == WELL
    assert kinds(after_xid(WELL, xid, None, RESET)) == [("recovery", "gpu-reset"), ("xid", str(xid))]


def test_without_recovery_actions_the_table_decides() -> None:
    assert kinds(after_xid(WELL, 48, None, OLD)) == [("xid", "48")]
    assert after_xid(WELL, 48, None, OLD, frozenset({48})) == WELL
    assert after_xid(WELL, 154, None, OLD) == WELL, "it only says that the action changed"


def test_a_gpu_that_is_gone_is_lost_whatever_the_xid() -> None:
    assert kinds(after_xid(WELL, 13, None, LOST)) == [("lost", "")]


def test_a_storm_of_xids_changes_nothing_after_the_first() -> None:
    first = after_xid(WELL, 48, None, OLD)
    assert all(after_xid(first, xid, None, OLD) == first for xid in range(1, 200))


def settled(health: GpuHealth, look: Look, now_s: float = 0.0) -> GpuHealth:
    return after_look(after_look(health, look, now_s), look, now_s + SETTLE_S)


def test_a_fault_ends_when_no_action_is_needed_any_more_and_not_before_it_has_settled() -> None:
    broken = after_xid(WELL, 95, None, RESET)
    assert kinds(after_look(broken, RESET, 100.0)) == kinds(broken)
    soon = after_look(broken, SOUND, 100.0)
    assert kinds(soon) == kinds(broken)
    assert kinds(after_look(soon, SOUND, 100.0 + SETTLE_S - 0.1)) == kinds(broken)
    assert after_look(soon, SOUND, 100.0 + SETTLE_S) == WELL


def test_what_comes_and_goes_stays_a_fault() -> None:
    health = after_look(WELL, RESET, 0.0)
    for second in range(0, 100, 4):
        health = after_look(health, SOUND if second % 8 else RESET, float(second))
        assert kinds(health) == [("recovery", "gpu-reset")]


def test_a_gpu_that_is_back_is_well_again_and_so_is_what_its_absence_reset() -> None:
    broken = after_look(after_xid(WELL, 48, None, OLD), LOST, 0.0)
    assert kinds(broken) == [("xid", "48"), ("lost", "")]
    assert settled(broken, OLD) == WELL
    assert settled(after_look(WELL, LOST, 0.0), SOUND) == WELL


def test_on_older_drivers_the_fault_of_a_partition_ends_with_it() -> None:
    broken = after_xid(WELL, 48, PART, Look(instances=ALIVE))
    assert kinds(settled(broken, Look(instances=ALIVE))) == [("xid", "48")]
    assert kinds(settled(broken, Look(instances=None))) == [("xid", "48")], "nobody has looked"
    assert settled(broken, Look(instances=())) == WELL
    moved = (replace(ALIVE[0], start=0),)
    assert settled(broken, Look(instances=moved)) == WELL, "ids are used again"


def test_on_older_drivers_that_of_a_gpu_stays() -> None:
    assert kinds(settled(after_xid(WELL, 48, None, OLD), OLD)) == [("xid", "48")]


def test_another_action_takes_the_place_of_the_first() -> None:
    health = after_look(after_look(WELL, RESET, 0.0), Look(action=RecoveryAction.NODE_REBOOT), 1.0)
    assert kinds(health) == [("recovery", "node-reboot")]


def test_every_action_says_what_helps() -> None:
    for action in RecoveryAction:
        if action is not RecoveryAction.NONE:
            (fault,) = after_look(WELL, Look(action=action), 0.0).faults
            assert fault.value == label(action)
            assert judge.ACTIONS[action] in fault.text


LOOKS = st.sampled_from([SOUND, OLD, RESET, LOST, Look(instances=ALIVE), Look(action=RecoveryAction.DRAIN_P2P)])
STEPS = st.lists(
    st.tuples(LOOKS, st.sampled_from([0, 13, 48, 79, 95]), st.sampled_from([None, PART]), st.integers(0, 20))
)


@given(STEPS)
def test_whatever_happened_a_gpu_that_is_sound_for_long_enough_is_well(
    steps: list[tuple[Look, int, Part | None, int]],
) -> None:
    health, now = WELL, 0.0
    for look, xid, part, later in steps:
        now += later
        health = after_xid(health, xid, part, look) if xid else after_look(health, look, now)
        keys = [(fault.kind, fault.part) for fault in health.faults]
        assert len(set(keys)) == len(keys)
        if look.lost:
            assert FaultKind.LOST in [fault.kind for fault in health.faults]
    assert settled(health, SOUND, now) == WELL


# Devices

WHOLE_FAULT = after_xid(WELL, 48, None, OLD)
PART_FAULT = after_xid(WELL, 48, PART, Look(instances=ALIVE))
XID_TAINT = DeviceTaint("gpu.dovetail.dev/xid", "48", Effect.NO_SCHEDULE)


def tainted(health: GpuHealth, *, evict: bool = False) -> dict[str, tuple[DeviceTaint, ...]]:
    devices = published(node(gpu(H100)))["GPU-00000000-0000-0000-0000-000000000000"]
    found = {each.name: taints_of(health, each, stale=False, evict=evict) for each in devices}
    return {name: taints for name, taints in found.items() if taints}


def test_a_fault_of_the_gpu_hits_its_partitions_and_shares() -> None:
    devices = published(node(gpu(H100)))["GPU-00000000-0000-0000-0000-000000000000"]
    assert tainted(WHOLE_FAULT) == {each.name: (XID_TAINT,) for each in devices}
    assert len(devices) > 20


def test_a_fault_of_a_partition_hits_what_has_its_memory_slices() -> None:
    found = tainted(PART_FAULT)
    assert {"gpu-0", "gpu-0-mps", "gpu-0-time-slicing", "gpu-0-mig-7g80gb-0-0"} <= set(found)
    smallest = {name for name in found if "1g10gb-19" in name}
    assert smallest == {"gpu-0-mig-1g10gb-19-4", "gpu-0-mig-1g10gb-19-5"}
    assert "gpu-0-mig-3g40gb-9-0" not in found
    assert "gpu-0-mig-3g40gb-9-4" in found


def test_mig_devices_that_exist_are_hit_too() -> None:
    one = MigInstance(
        profile="1g.10gb", profile_id=19, start=4, size=1, gpu_instance=3, compute_instance=0, uuid="MIG-1"
    )
    (devices,) = published(node(gpu(H100, instances=(one,)))).values()
    hit = [each.name for each in devices if taints_of(PART_FAULT, each, stale=False, evict=False)]
    assert "gpu-0-mig-1g10gb-19-4" in hit


@pytest.mark.parametrize(
    ("look", "effect"),
    [
        (LOST, Effect.NO_EXECUTE),
        (RESET, Effect.NO_EXECUTE),
        (Look(action=RecoveryAction.DRAIN_AND_RESET), Effect.NO_SCHEDULE),
        (Look(action=RecoveryAction.DRAIN_P2P), Effect.NO_SCHEDULE),
    ],
)
def test_only_who_says_so_evicts_and_never_what_may_end_by_itself(look: Look, effect: Effect) -> None:
    health = after_look(WELL, look, 0.0)
    assert {taint.effect for taint in tainted(health)["gpu-0"]} == {Effect.NO_SCHEDULE}
    assert {taint.effect for taint in tainted(health, evict=True)["gpu-0"]} == {effect}


def test_a_gpu_without_events_is_said_to_be_so_and_one_without_answer_gets_nothing_new() -> None:
    device = Published("gpu-0")
    silent = replace(WELL, monitored=False)
    assert [each.effect for each in taints_of(silent, device, stale=False, evict=False)] == [Effect.NONE]
    assert [each.value for each in taints_of(silent, device, stale=True, evict=False)] == ["no-answer"]


def test_the_message_names_cause_and_remedy() -> None:
    health = after_xid(WELL, 95, None, RESET)
    text = message(health, Published("gpu-0"))
    assert text == "the GPU needs help after XID 95 (uncontained ECC error): reset the GPU (nvidia-smi --gpu-reset)"


def test_docs_list_every_taint_with_its_values() -> None:
    text = (Path(__file__).parents[3] / "docs" / "devices.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `gpu.dovetail.dev/(\w+)` \| (.*?) \|", text[text.index("## Faults") :], re.MULTILINE)
    assert {key for key, _ in rows} == {*(kind.value for kind in FaultKind), UNMONITORED}
    listed = {value for _, values in rows for value in re.findall(r"`([^`]+)`", values)}
    actions = {label(action) for action in RecoveryAction if action is not RecoveryAction.NONE}
    assert listed == actions | {NO_ANSWER.value, NO_EVENTS.value}
