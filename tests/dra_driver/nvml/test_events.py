"""Events: XIDs with the MIG device that they concern, lost GPUs, recovery actions; nothing where nothing happens."""

from __future__ import annotations

from pathlib import Path

import pynvml
import pytest

from dra_driver.nvml.api import DriverNotLoadedError
from tests.dra_driver.twins import machine_below
from twin.codes import Code

WAIT_S = 10.0
AT_ONCE_S = 0.0


def test_an_xid_tells_gpu_and_number(tmp_path: Path) -> None:
    with machine_below(tmp_path, "dgx-a100-40") as (twin, nvml, _):
        with nvml.watch([facts.uuid for facts in twin.facts.gpus]) as watch:
            assert not watch.unwatched
            assert watch.wait(AT_ONCE_S) is None
            twin.xid(6, 74)
            event = watch.wait(WAIT_S)
        assert event is not None
        assert (event.uuid, event.xid) == (twin.gpu(6).uuid, 74)
        assert (event.gpu_instance, event.compute_instance) == (None, None)


def test_an_xid_of_a_partition_tells_which(tmp_path: Path) -> None:
    with machine_below(tmp_path, "dgx-a100-40", mig_enabled=True) as (twin, nvml, _):
        uuid = twin.gpu(0).uuid
        number = nvml.create_gpu_instance(uuid, 9, 4)
        device = nvml.create_compute_instance(uuid, number)
        with nvml.watch([uuid]) as watch:
            twin.xid(0, 31, mig_device=(number, device.id))
            event = watch.wait(WAIT_S)
        assert event is not None
        assert (event.xid, event.gpu_instance, event.compute_instance) == (31, number, device.id)


def test_a_recovery_action_is_no_xid(tmp_path: Path) -> None:
    with machine_below(tmp_path, "hgx-h100-4gpu") as (twin, nvml, _):
        with nvml.watch([twin.gpu(0).uuid]) as watch:
            twin.recovery_action(0, 1)
            event = watch.wait(WAIT_S)
        assert event is not None
        assert (event.kind, event.xid) == (pynvml.nvmlEventTypeGpuRecoveryAction, 0)


def test_a_gpu_that_fell_off_the_bus_is_still_named(tmp_path: Path) -> None:
    with machine_below(tmp_path, "hgx-h100-4gpu") as (twin, nvml, _):
        with nvml.watch([twin.gpu(3).uuid]) as watch:
            twin.lose(3)
            event = watch.wait(WAIT_S)
        assert event is not None
        assert (event.uuid, event.xid) == (twin.gpu(3).uuid, 79)


def test_gpus_without_events_are_named_and_do_not_hinder_the_others(tmp_path: Path) -> None:
    with machine_below(tmp_path, "hgx-h100-4gpu") as (twin, nvml, _):
        twin.fault("nvmlDeviceRegisterEvents", code=Code.NOT_SUPPORTED, gpu=1)
        with nvml.watch([facts.uuid for facts in twin.facts.gpus]) as watch:
            assert list(watch.unwatched) == [twin.gpu(1).uuid]
            twin.xid(2, 48)
            event = watch.wait(WAIT_S)
        assert event is not None
        assert event.uuid == twin.gpu(2).uuid


def test_a_driver_that_goes_ends_the_wait_with_an_error(tmp_path: Path) -> None:
    """Otherwise the thread that waits would think for ever that all is well."""
    with machine_below(tmp_path, "hgx-h100-4gpu") as (twin, nvml, _), nvml.watch([twin.gpu(0).uuid]) as watch:
        twin.fault("nvmlEventSetWait", code=Code.UNINITIALIZED)
        with pytest.raises(DriverNotLoadedError):
            watch.wait(WAIT_S)


def test_the_event_set_is_freed_also_when_registering_fails(tmp_path: Path) -> None:
    with machine_below(tmp_path, "hgx-h100-4gpu") as (twin, nvml, library):
        with nvml.watch([twin.gpu(0).uuid]):
            pass
        twin.fault("nvmlDeviceRegisterEvents", code=Code.UNKNOWN)
        with pytest.raises(Exception, match="nvmlDeviceRegisterEvents"):
            nvml.watch([twin.gpu(0).uuid])
        assert library.calls["nvmlEventSetFree"] == library.calls["nvmlEventSetCreate"] == 2


def test_an_event_set_of_an_earlier_session_is_neither_asked_nor_freed(tmp_path: Path) -> None:
    """It ended with its session; NVML would follow a dead pointer, and the process would die."""
    with machine_below(tmp_path, "hgx-h100-4gpu") as (twin, nvml, library):
        with nvml.watch([twin.gpu(0).uuid]) as watch:
            nvml.close()
            nvml.gpus()
            with pytest.raises(DriverNotLoadedError):
                watch.wait(AT_ONCE_S)
        assert library.calls["nvmlEventSetWait_v2"] == library.calls["nvmlEventSetFree"] == 0
