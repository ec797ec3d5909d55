"""MIG through the binding: exactly what is asked for, all or nothing, errors typed by what helps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from dra_driver.nvml.api import (
    InUseError,
    NoRoomError,
    NotFoundError,
    NotSupportedError,
    NvmlError,
    ResetRequiredError,
)
from dra_driver.nvml.binding import PynvmlNvml
from tests.dra_driver.twins import machine_below
from topology.catalog import machine, machine_names, mig_for_product
from twin import Twin
from twin.codes import Code

A100, H100 = "dgx-a100-40", "hgx-h100-8"
PARTITIONED = [
    name for name in machine_names() if (its := mig_for_product(machine(name).product(0))) is not None and its.placeable
]


@pytest.fixture
def a100(tmp_path: Path) -> Iterator[tuple[Twin, PynvmlNvml]]:
    with machine_below(tmp_path, A100, mig_enabled=True) as (twin, nvml, _):
        yield twin, nvml


@pytest.fixture
def h100(tmp_path: Path) -> Iterator[tuple[Twin, PynvmlNvml]]:
    with machine_below(tmp_path, H100) as (twin, nvml, _):
        yield twin, nvml


@pytest.mark.parametrize("name", PARTITIONED)
def test_every_placement_of_every_product_is_created_as_asked(name: str, tmp_path: Path) -> None:
    """The 7g of an A100 among them, for which 7_SLICE_NVL is refused (dra-driver-nvidia-gpu #1480)."""
    with machine_below(tmp_path, name, mig_enabled=True) as (twin, nvml, _):
        uuid = twin.gpu(0).uuid
        profiles = nvml.gpu_instance_profiles(uuid)
        assert profiles
        for profile in profiles:
            for start in profile.starts:
                number = nvml.create_gpu_instance(uuid, profile.profile_id, start)
                (made,) = nvml.gpu_instances(uuid)
                assert (made.id, made.profile_id, made.start, made.size) == (
                    number,
                    profile.profile_id,
                    start,
                    profile.size,
                )
                device = nvml.create_compute_instance(uuid, number)
                assert device.fills
                assert device.uuid.startswith("MIG-")
                assert list(nvml.compute_instances(uuid, number)) == [device]
                nvml.destroy_compute_instance(uuid, number, device.id)
                nvml.destroy_gpu_instance(uuid, number)
        assert not nvml.gpu_instances(uuid)


def test_n1480_the_revision_of_a_compute_profile_is_never_taken(a100: tuple[Twin, PynvmlNvml]) -> None:
    """7g.40gb on an A100 failed, as enum 8 (7_SLICE_NVL) has seven slices as well (dra-driver-nvidia-gpu #1480)."""
    twin, nvml = a100
    uuid = twin.gpu(0).uuid
    seven = next(profile for profile in nvml.gpu_instance_profiles(uuid) if profile.compute_slices == 7)
    device = nvml.create_compute_instance(uuid, nvml.create_gpu_instance(uuid, seven.profile_id, 0))
    assert device.profile_id == pynvml.NVML_COMPUTE_INSTANCE_PROFILE_7_SLICE


def test_a_taken_placement_is_no_room(a100: tuple[Twin, PynvmlNvml]) -> None:
    twin, nvml = a100
    uuid = twin.gpu(0).uuid
    nvml.create_gpu_instance(uuid, 9, 4)
    with pytest.raises(NoRoomError):
        nvml.create_gpu_instance(uuid, 9, 4)
    assert len(nvml.gpu_instances(uuid)) == 1


def test_a_profile_that_the_product_does_not_have_is_named(a100: tuple[Twin, PynvmlNvml]) -> None:
    twin, nvml = a100
    with pytest.raises(NotFoundError, match="no GPU instance profile 77"):
        nvml.create_gpu_instance(twin.gpu(0).uuid, 77, 0)


def test_nothing_is_left_of_a_gpu_instance_whose_id_could_not_be_read(a100: tuple[Twin, PynvmlNvml]) -> None:
    """An instance of unknown id could be destroyed by nobody."""
    twin, nvml = a100
    twin.fault("nvmlGpuInstanceGetInfo", code=Code.UNKNOWN)
    with pytest.raises(NvmlError, match="nvmlGpuInstanceGetInfo"):
        nvml.create_gpu_instance(twin.gpu(0).uuid, 19, 0)
    assert not twin.state.gpus[0].instances


@pytest.mark.parametrize("call", ["nvmlComputeInstanceGetInfo", "nvmlDeviceGetUUID"])
def test_nothing_is_left_of_a_compute_instance_that_could_not_be_read(call: str, a100: tuple[Twin, PynvmlNvml]) -> None:
    twin, nvml = a100
    uuid = twin.gpu(0).uuid
    number = nvml.create_gpu_instance(uuid, 19, 0)
    twin.fault(call, code=Code.UNKNOWN)
    with pytest.raises(NvmlError, match=call):
        nvml.create_compute_instance(uuid, number)
    assert not nvml.compute_instances(uuid, number)
    nvml.destroy_gpu_instance(uuid, number)


def test_what_a_process_uses_is_not_destroyed(a100: tuple[Twin, PynvmlNvml]) -> None:
    twin, nvml = a100
    uuid = twin.gpu(0).uuid
    number = nvml.create_gpu_instance(uuid, 19, 3)
    device = nvml.create_compute_instance(uuid, number)
    twin.process(0, 4711, mig_device=(number, device.id))
    assert list(nvml.instance_processes(uuid, number, device.id)) == [4711]
    assert list(nvml.processes(uuid)) == [4711], "a GPU's processes are those of its parts too"
    with pytest.raises(InUseError):
        nvml.destroy_compute_instance(uuid, number, device.id)
    with pytest.raises(InUseError):
        nvml.destroy_gpu_instance(uuid, number)
    twin.process_gone(4711)
    nvml.destroy_compute_instance(uuid, number, device.id)
    nvml.destroy_gpu_instance(uuid, number)


def test_what_is_gone_is_not_found(a100: tuple[Twin, PynvmlNvml]) -> None:
    twin, nvml = a100
    uuid = twin.gpu(0).uuid
    for gone in (
        lambda: nvml.destroy_gpu_instance(uuid, 5),
        lambda: nvml.destroy_compute_instance(uuid, 5, 0),
        lambda: nvml.compute_instances(uuid, 5),
        lambda: nvml.create_compute_instance(uuid, 5),
    ):
        with pytest.raises(NotFoundError):
            gone()
    assert not nvml.instance_processes(uuid, 5, 0)


def test_an_instance_split_by_somebody_else_shows_its_parts(a100: tuple[Twin, PynvmlNvml]) -> None:
    twin, nvml = a100
    uuid = twin.gpu(0).uuid
    number = nvml.create_gpu_instance(uuid, 9, 0)
    instance = pynvml.nvmlDeviceGetGpuInstanceById(pynvml.nvmlDeviceGetHandleByUUID(uuid), number)
    for _ in range(2):
        pynvml.nvmlGpuInstanceCreateComputeInstance(instance, pynvml.NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE)
    parts = nvml.compute_instances(uuid, number)
    assert [part.id for part in parts] == [0, 1]
    assert not any(part.fills for part in parts)
    assert len({part.uuid for part in parts}) == 2


def test_mig_is_switched_at_once_where_it_can_be(h100: tuple[Twin, PynvmlNvml]) -> None:
    twin, nvml = h100
    uuid = twin.gpu(5).uuid
    nvml.set_mig_mode(uuid, enabled=True)
    reading = nvml.mig_mode(uuid)
    assert reading is not None
    assert reading.enabled
    assert not nvml.gpu_instances(uuid)
    nvml.set_mig_mode(uuid, enabled=False)
    reading = nvml.mig_mode(uuid)
    assert reading is not None
    assert not reading.enabled


def test_no_mode_is_left_pending_where_it_takes_a_reset(tmp_path: Path) -> None:
    """It would become real with a reset that somebody does for another reason (dra-driver-nvidia-gpu #883)."""
    with machine_below(tmp_path, A100) as (twin, nvml, _):
        uuid = twin.gpu(0).uuid
        with pytest.raises(ResetRequiredError):
            nvml.set_mig_mode(uuid, enabled=True)
        reading = nvml.mig_mode(uuid)
        assert reading is not None
        assert (reading.enabled, reading.pending) == (False, False)


def test_no_mode_is_left_pending_where_a_client_holds_the_gpu(h100: tuple[Twin, PynvmlNvml]) -> None:
    twin, nvml = h100
    uuid = twin.gpu(0).uuid
    twin.process(0, 99)
    with pytest.raises(InUseError):
        nvml.set_mig_mode(uuid, enabled=True)
    reading = nvml.mig_mode(uuid)
    assert reading is not None
    assert (reading.enabled, reading.pending) == (False, False)


def test_a_refused_call_keeps_its_own_reason(h100: tuple[Twin, PynvmlNvml]) -> None:
    twin, nvml = h100
    twin.fault("nvmlDeviceSetMigMode", code=Code.NO_PERMISSION)
    with pytest.raises(NvmlError, match="nvmlDeviceSetMigMode: not permitted"):
        nvml.set_mig_mode(twin.gpu(0).uuid, enabled=True)


def test_n1092_gpus_that_cannot_be_partitioned_have_no_mode_profiles_or_instances(tmp_path: Path) -> None:
    with machine_below(tmp_path, "l40s-4-pcie") as (twin, nvml, _):
        uuid = twin.gpu(0).uuid
        assert nvml.mig_mode(uuid) is None
        assert not nvml.gpu_instance_profiles(uuid)
        assert not nvml.gpu_instances(uuid)
        with pytest.raises(NotSupportedError):
            nvml.set_mig_mode(uuid, enabled=True)


def test_profiles_are_read_once(tmp_path: Path) -> None:
    """Each partition that is prepared asks for them: 18 enums and two calls for placements."""
    with machine_below(tmp_path, A100, mig_enabled=True) as (twin, nvml, library):
        uuid = twin.gpu(0).uuid
        nvml.create_gpu_instance(uuid, 19, 6)
        asked = library.calls["nvmlDeviceGetGpuInstanceProfileInfoV"]
        nvml.create_gpu_instance(uuid, 19, 5)
        nvml.gpu_instances(uuid)
        assert library.calls["nvmlDeviceGetGpuInstanceProfileInfoV"] == asked


def test_mig_stays_off_while_a_monitor_holds_the_gpu_that_no_list_of_processes_has(
    h100: tuple[Twin, PynvmlNvml],
) -> None:
    """DCGM does; left pending, MIG would be on after a reset that somebody does for another reason."""
    twin, nvml = h100
    uuid = twin.gpu(0).uuid
    twin.process(0, 4242, kind="monitor")
    assert not nvml.processes(uuid)
    with pytest.raises(InUseError):
        nvml.set_mig_mode(uuid, enabled=True)
    mode = nvml.mig_mode(uuid)
    assert mode is not None
    assert (mode.enabled, mode.pending) == (False, False)
