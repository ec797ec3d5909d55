"""Mistakes of peers' health monitoring, planted here: each is found by a test of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dra_driver.health import judge
from dra_driver.health.devices import Published
from dra_driver.health.model import Fault, GpuHealth, Look
from dra_driver.health.monitor import HealthMonitor
from dra_driver.nvml.api import NvmlError
from tests.dra_driver.health import test_judge, test_monitor
from twin.codes import Code

Patch = pytest.MonkeyPatch


def a_fault_of_the_gpu_misses_its_parts(patch: Patch) -> None:
    """NVIDIA's driver finds no match for a full-GPU XID on a GPU with static MIG (its device_health.go)."""
    patch.setattr(Published, "is_hit", lambda self, fault: (fault.part is None) == (self.slices is None))


def nothing_ends_before_a_restart(patch: Patch) -> None:
    """Taints stay until the plugin is restarted (NVIDIA DRA driver v0.5, PR #1455)."""
    patch.setattr(judge, "_is_over", lambda fault, look, *, was_lost: False)


def every_xid_is_judged_by_the_table(patch: Patch) -> None:
    """The recovery action is not asked (before NVIDIA's PR #1441)."""
    real = judge.after_xid

    def after_xid(health: GpuHealth, xid: int, part: object, look: Look, *rest: frozenset[int]) -> GpuHealth:
        return real(health, xid, None, Look(lost=look.lost, instances=look.instances), *rest)

    patch.setattr(judge, "after_xid", after_xid)
    patch.setattr(test_judge, "after_xid", after_xid)


def every_xid_is_written(patch: Patch) -> None:
    """The value of a taint follows the last XID, so that a storm rewrites the slices."""

    def replaced(health: GpuHealth, *faults: Fault) -> GpuHealth:
        return GpuHealth(faults=faults or health.faults)

    patch.setattr(judge, "_with", replaced)


def one_lost_gpu_is_all(patch: Patch) -> None:
    """One GPU_IS_LOST marks all devices (NVIDIA's driver)."""
    real = HealthMonitor._lost
    patch.setattr(HealthMonitor, "_lost", lambda self: frozenset(self._health) if real(self) else frozenset())


def the_first_fault_of_nvml_ends_the_thread(patch: Patch) -> None:
    """An event loop that returns on an error of the wait sees nothing from then on."""

    def run(self: HealthMonitor) -> None:
        try:
            while not self._stop.is_set():
                self._follow()
        except NvmlError:
            return

    patch.setattr(HealthMonitor, "run", run)


PURE: list[tuple[Callable[[Patch], None], Callable[[], None]]] = [
    (a_fault_of_the_gpu_misses_its_parts, test_judge.test_a_fault_of_the_gpu_hits_its_partitions_and_shares),
    (
        nothing_ends_before_a_restart,
        test_judge.test_a_fault_ends_when_no_action_is_needed_any_more_and_not_before_it_has_settled,
    ),
    (every_xid_is_judged_by_the_table, lambda: test_judge.test_the_recovery_action_has_the_first_word(48)),
    (every_xid_is_written, test_judge.test_a_storm_of_xids_changes_nothing_after_the_first),
]


@pytest.mark.parametrize(("plant", "proof"), PURE, ids=lambda value: getattr(value, "__name__", ""))
def test_planted_bugs_are_found(plant: Callable[[Patch], None], proof: Callable[[], None], monkeypatch: Patch) -> None:
    proof()
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        proof()


def test_a_planted_loss_of_all_is_found(tmp_path: Path, monkeypatch: Patch) -> None:
    one_lost_gpu_is_all(monkeypatch)
    with test_monitor.rigged(tmp_path) as rig, pytest.raises(AssertionError):
        test_monitor.test_a_gpu_that_falls_off_the_bus_is_lost_until_it_is_back_and_its_events_come_again(rig)


def test_a_planted_end_of_the_thread_is_found(tmp_path: Path, monkeypatch: Patch) -> None:
    the_first_fault_of_nvml_ends_the_thread(monkeypatch)
    with test_monitor.rigged(tmp_path) as rig:
        rig.twin.fault("nvmlEventSetWait", code=Code.UNKNOWN)
        rig.monitor._thread.join(test_monitor.PATIENCE_S)
        assert not rig.monitor._thread.is_alive(), "the planted bug ends it, the real one goes on (test_monitor)"
