"""The thread on a twin: XIDs, actions and lost GPUs are on the board in time, whatever NVML does meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from dra_driver.health.board import STALE_S, HealthBoard
from dra_driver.health.monitor import HealthMonitor, Watching
from dra_driver.inventory import NodeGpus
from dra_driver.nvml.api import GpuEvent
from dra_driver.plugin.ports import Health
from dra_driver.publish.taints import Effect
from dra_driver.simulated import simulated_gpus
from sandbox.waiting import NotYet, wait_for
from tests.dra_driver.twins import NODE, machine_below
from topology.catalog import machine
from twin import Twin
from twin.codes import Code, EventType
from twin.nvml.library import Library
from twin.state import Event, add_event

MACHINE = "hgx-h100-8"
PATIENCE_S = 30.0
QUICK = Watching(look_s=0.2, wait_s=0.1, settle_s=0.4, first_fault_s=0.01, most_fault_s=0.1)


@dataclass
class Counted:
    xids: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def xid(self, number: int) -> None:
        self.xids.append(number)

    def failed(self, call: str) -> None:
        self.failures.append(call)


@dataclass
class Rig:
    twin: Twin
    board: HealthBoard
    node: NodeGpus
    counted: Counted
    library: Library
    monitor: HealthMonitor
    changes: list[float] = field(default_factory=list)

    def health(self, device: str) -> Health:
        return next(each.health for each in self.board.devices() if each.device == device)

    def keys(self, device: str) -> list[str]:
        return [f"{taint.key.rpartition('/')[2]}={taint.value}" for taint in self.board.taints().get(device, ())]

    def until(self, what: str, true: Callable[[], bool], *, timeout_s: float = PATIENCE_S) -> None:
        def look() -> bool | NotYet:
            return true() or NotYet(f"taints of {sorted(self.board.taints())}")

        wait_for(what, look, timeout_s=timeout_s)


@contextmanager
def rigged(folder: Path, *, watching: Watching = QUICK, **options: Any) -> Iterator[Rig]:
    with machine_below(folder, MACHINE, **options) as (twin, nvml, library):
        seen = {reading.uuid: reading for reading in nvml.gpus()}
        node = simulated_gpus(machine(MACHINE), NODE)
        assert [gpu.uuid for gpu in node.gpus] == list(seen)
        board, counted = HealthBoard(), Counted()
        monitor = HealthMonitor(nvml, board, watching=watching, counts=counted)
        board.show(node)
        rig = Rig(twin, board, node, counted, library, monitor)
        board.subscribe(lambda: rig.changes.append(time.monotonic()))
        with monitor:
            rig.until("the first look", lambda: rig.health("gpu-0") is Health.HEALTHY)
            yield rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rigged(tmp_path) as made:
        yield made


def test_an_xid_is_a_taint_and_in_the_stream_and_a_lost_gpu_too(rig: Rig) -> None:
    rig.twin.xid(2, 95, recovery_action=1)
    rig.until("the taint", lambda: rig.keys("gpu-2") == ["recovery=gpu-reset", "xid=95"])
    assert rig.health("gpu-2") is Health.UNHEALTHY
    told = next(each for each in rig.board.devices() if each.device == "gpu-2-mps")
    assert "XID 95 (uncontained ECC error)" in told.message
    assert told.health is Health.UNHEALTHY
    assert {name.split("-")[1] for name in rig.board.taints()} == {"2"}
    rig.twin.lose(3)
    rig.until("the loss", lambda: rig.keys("gpu-3") == ["lost="])


def test_what_makes_no_event_is_looked_for_often_enough_to_be_told_within_five_seconds() -> None:
    """bench/test_bench_health.py has the figures."""
    assert Watching().look_s + Watching().wait_s < 5


def test_a_fault_goes_when_the_gpu_is_well_again(rig: Rig) -> None:
    rig.twin.xid(1, 79, recovery_action=1)
    rig.until("the taint", lambda: bool(rig.keys("gpu-1")))
    rig.twin.recovery_action(1, 0)
    rig.until("the end", lambda: not rig.board.taints())
    assert rig.health("gpu-1") is Health.HEALTHY


def test_a_gpu_that_falls_off_the_bus_is_lost_until_it_is_back_and_its_events_come_again(rig: Rig) -> None:
    rig.twin.lose(4)
    rig.until("the loss", lambda: rig.keys("gpu-4") == ["lost="])
    assert rig.health("gpu-4-mig-1g10gb-19-0") is Health.UNHEALTHY
    assert rig.health("gpu-5") is Health.HEALTHY
    rig.twin.recover(4)
    rig.until("its return", lambda: not rig.board.taints())
    rig.twin.xid(4, 48, recovery_action=2)
    rig.until("a new fault", lambda: "recovery=node-reboot" in rig.keys("gpu-4"))


def test_events_from_before_a_loss_are_not_lost_with_it(tmp_path: Path) -> None:
    """From the loss on NVML's event wait answers nothing else; what came before it was thrown away."""
    with rigged(tmp_path, lacks=("field 230", "event 0x4000", "event 0x8000")) as rig:
        with rig.twin.change() as state:
            add_event(state, Event(number=0, gpu=1, kind=EventType.XID, data=48))
            add_event(state, Event(number=0, gpu=0, kind=EventType.XID, data=79))
            state.gpus[0].lost = True
        rig.until("the loss", lambda: rig.keys("gpu-0") == ["lost="])
        rig.until("both XIDs", lambda: rig.counted.xids == [48, 79])
        assert rig.keys("gpu-1") == ["xid=48"]
        assert "XID 79" in next(iter(rig.board.wrong().values()))


def test_a_lost_gpu_makes_nobody_ask_again_and_again(tmp_path: Path) -> None:
    """NVML's event wait returns at once while a GPU that it watches is lost; the others are watched without it."""
    with rigged(tmp_path, watching=replace(QUICK, first_fault_s=PATIENCE_S, most_fault_s=PATIENCE_S)) as rig:
        rig.twin.lose(0)
        rig.until("the loss", lambda: rig.keys("gpu-0") == ["lost="])
        # What happens while the others are registered anew comes as no event; their looks would find it.
        waits = rig.library.calls["nvmlEventSetWait_v2"]
        rig.until("the others watched", lambda: rig.library.calls["nvmlEventSetWait_v2"] > waits + 1)
        rig.twin.xid(1, 95, recovery_action=1)
        rig.until("an event of another", lambda: "xid=95" in rig.keys("gpu-1"))
        before = rig.library.calls["nvmlEventSetWait_v2"]
        looks = rig.library.calls["nvmlDeviceGetFieldValues"]
        rig.until("looks", lambda: rig.library.calls["nvmlDeviceGetFieldValues"] > looks + 5 * 7)
        assert rig.library.calls["nvmlEventSetWait_v2"] - before < 50


def test_gpus_without_events_are_looked_at_and_no_more(tmp_path: Path) -> None:
    """What NVML's event wait does with nothing to wait for is not said: it is not called."""
    with machine_below(tmp_path, MACHINE) as (twin, nvml, library):
        nvml.gpus()
        twin.fault("nvmlDeviceRegisterEvents", code=Code.NOT_SUPPORTED, times=-1)
        board = HealthBoard()
        board.show(simulated_gpus(machine(MACHINE), NODE))
        with HealthMonitor(nvml, board, watching=QUICK):
            twin.recovery_action(1, 1)
            wait_for("the taint", lambda: "recovery" in str(board.taints().get("gpu-1")) or NotYet("none"))
        assert {taint.value for taint in board.taints()["gpu-0"]} == {"no-events"}
        assert library.calls["nvmlEventSetWait_v2"] == 0


def test_a_loss_goes_not_by_because_nvml_fails_while_events_come(rig: Rig) -> None:
    rig.twin.lose(2)
    rig.until("the loss", lambda: rig.keys("gpu-2") == ["lost="])
    uuid = rig.twin.gpu(2).uuid
    rig.monitor.__exit__(None, None, None)
    for call in ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetFieldValues", "nvmlDeviceGetHandleByUUID"):
        rig.twin.fault(call, code=Code.UNKNOWN, times=-1)
    before = rig.board.taints()
    for _ in range(3):
        rig.monitor.take([GpuEvent(uuid=uuid, kind=EventType.XID, xid=79)])
    assert {name: {taint.key for taint in its} for name, its in rig.board.taints().items()}.keys() >= before.keys()


def test_a_tenants_own_xid_is_counted_and_nothing_else(rig: Rig) -> None:
    changes = len(rig.changes)
    for xid in (13, 31, 43, 45):
        rig.twin.xid(0, xid)
    rig.until("the count", lambda: rig.counted.xids == [13, 31, 43, 45])
    assert len(rig.changes) == changes
    assert rig.board.taints() == {}


def test_without_recovery_actions_an_xid_of_a_mig_device_hits_that_part(tmp_path: Path) -> None:
    with machine_below(tmp_path, MACHINE) as (twin, nvml, _):
        node = simulated_gpus(machine(MACHINE), NODE)
        uuid = node.gpus[0].uuid
        nvml.gpus()
        nvml.set_mig_mode(uuid, enabled=True)
        profile = next(each for each in nvml.gpu_instance_profiles(uuid) if each.profile_id == 19)
        instance = nvml.create_gpu_instance(uuid, profile.profile_id, 2)
        made = nvml.create_compute_instance(uuid, instance)
        board = HealthBoard()
        board.show(node)
        nvml.recovery_action = lambda uuid: None  # type: ignore[method-assign]  # as an older driver
        with HealthMonitor(nvml, board, watching=QUICK):
            wait_for("the first look", lambda: board.devices()[0].checked_at > 0 or NotYet("none"))
            twin.xid(0, 48, mig_device=(instance, made.id))
            wait_for("the taint", lambda: bool(board.taints()) or NotYet("none"))
            tainted = set(board.taints())
            assert {name for name in tainted if "1g10gb-19" in name} == {"gpu-0-mig-1g10gb-19-2"}
            assert "gpu-0" in tainted
            nvml.destroy_compute_instance(uuid, instance, made.id)
            nvml.destroy_gpu_instance(uuid, instance)
            wait_for("the end", lambda: not board.taints() or NotYet("some"))


@pytest.mark.parametrize("code", [Code.UNKNOWN, Code.TIMEOUT, Code.NO_PERMISSION, Code.GPU_IS_LOST, Code.UNINITIALIZED])
@pytest.mark.parametrize(
    "function", ["nvmlEventSetWait", "nvmlEventSetCreate", "nvmlDeviceRegisterEvents", "nvmlDeviceGetFieldValues"]
)
def test_the_thread_survives_every_fault_of_nvml(rig: Rig, function: str, code: Code) -> None:
    """FI-10: each call fails a few times; events are seen after it."""
    rig.twin.fault(function, code=code, times=5)
    rig.twin.lose(7)
    rig.until("the loss", lambda: rig.keys("gpu-7")[:1] == ["lost="])
    rig.until("all its faults", lambda: rig.twin.state.faults[0].times == 0)
    rig.twin.xid(6, 95, recovery_action=1)
    rig.until("a later event", lambda: "recovery=gpu-reset" in rig.keys("gpu-6"))


def test_a_gpu_whose_instances_may_not_be_read_is_well_all_the_same(tmp_path: Path) -> None:
    with machine_below(tmp_path, MACHINE) as (twin, nvml, _):
        nvml.gpus()
        twin.fault("nvmlDeviceGetMigMode", code=Code.NO_PERMISSION, times=-1)
        twin.fault("nvmlDeviceGetGpuInstances", code=Code.NO_PERMISSION, times=-1)
        twin.fault("nvmlDeviceGetGpuInstanceProfileInfo", code=Code.NO_PERMISSION, times=-1)
        board = HealthBoard()
        board.show(simulated_gpus(machine(MACHINE), NODE))
        monitor = HealthMonitor(nvml, board, watching=QUICK)
        monitor.look()
        assert {each.health for each in board.devices()} == {Health.HEALTHY}
        assert board.taints() == {}


def test_a_call_that_hangs_makes_its_gpu_unknown_and_keeps_new_work_off(tmp_path: Path) -> None:
    now = [1000.0]
    with machine_below(tmp_path, MACHINE) as (twin, nvml, _):
        nvml.gpus()
        board = HealthBoard(wall=lambda: now[0])
        board.show(simulated_gpus(machine(MACHINE), NODE))
        with HealthMonitor(nvml, board, watching=QUICK, wall=lambda: now[0]):
            wait_for("the first look", lambda: board.devices()[0].checked_at > 0 or NotYet("none"))
            twin.fault("nvmlDeviceGetFieldValues", hang=True)
            wait_for("the hang", lambda: twin.state.faults[0].times == 0 or NotYet("not called"))
            now[0] += STALE_S + 1
            taints = board.taints()
            assert {taint.value for each in taints.values() for taint in each} == {"no-answer"}
            assert {taint.effect for each in taints.values() for taint in each} == {Effect.NO_SCHEDULE}
            twin.clear_faults()
            wait_for("answers", lambda: not board.taints() or NotYet("some"))


def test_gpus_that_are_published_later_are_watched_too(tmp_path: Path) -> None:
    with machine_below(tmp_path, MACHINE) as (twin, nvml, _):
        nvml.gpus()
        board = HealthBoard()
        with HealthMonitor(nvml, board, watching=QUICK):
            board.show(simulated_gpus(machine(MACHINE), NODE))
            wait_for("a look", lambda: any(each.checked_at for each in board.devices()) or NotYet("none"))
            twin.xid(0, 95, recovery_action=1)
            wait_for("the taint", lambda: bool(board.taints()) or NotYet("none"))
