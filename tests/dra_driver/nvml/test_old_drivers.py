"""What a driver version lacks is None or empty, or a typed error: never a crash, never a wrong value."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dra_driver.nvml.api import DriverNotLoadedError, GpuReading, LinkReading, NotSupportedError, NvmlError
from tests.dra_driver.twins import machine_below
from topology.facts import FabricFacts

MACHINE = "gb200-nvl72-node"
NOTHING_WITHOUT = {
    "nvmlInitWithFlags",
    "nvmlSystemGetDriverVersion",
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetMinorNumber",
    "nvmlDeviceGetName",
    "nvmlDeviceGetPciInfo_v3",
}
"""Older than MIG, DRA and every driver that could run here; without them a GPU has no identity."""
NO_MIG_WITHOUT = {"nvmlDeviceGetGpuInstancePossiblePlacements_v2"}


def functions_asked(folder: Path) -> list[str]:
    with machine_below(folder, MACHINE, mig_enabled=True) as (twin, nvml, library):
        nvml.system()
        nvml.gpus()
        uuid = twin.gpu(0).uuid
        number = nvml.create_gpu_instance(uuid, nvml.gpu_instance_profiles(uuid)[0].profile_id, 0)
        nvml.create_compute_instance(uuid, number)
        nvml.gpu_instances(uuid)
        nvml.compute_instances(uuid, number)
        nvml.processes(uuid)
        nvml.recovery_action(uuid)
        nvml.compute_mode(uuid)
        return sorted(library.calls)


def readings(folder: Path, lacks: str) -> Sequence[GpuReading] | NvmlError:
    with machine_below(folder, MACHINE, mig_enabled=True, lacks=[lacks]) as (twin, nvml, _):
        uuid = twin.gpu(0).uuid
        try:
            nvml.system()
            nvml.gpu_instance_profiles(uuid)
            nvml.gpu_instances(uuid)
            nvml.processes(uuid)
            nvml.recovery_action(uuid)
            return nvml.gpus()
        except NvmlError as error:
            return error


def test_a_driver_without_any_one_function_still_tells_the_rest(tmp_path: Path) -> None:
    whole = readings(tmp_path / "whole", "nothing")
    assert not isinstance(whole, NvmlError)
    asked = functions_asked(tmp_path / "asked")
    assert len(asked) > 30
    for function in asked:
        told = readings(tmp_path / function, function)
        if function in NOTHING_WITHOUT | NO_MIG_WITHOUT:
            assert isinstance(told, NotSupportedError | DriverNotLoadedError), function
            continue
        assert not isinstance(told, NvmlError), f"{function}: {told}"
        for gpu, known in zip(told, whole, strict=True):
            for field in dataclasses.fields(gpu):
                here, there = getattr(gpu, field.name), getattr(known, field.name)
                assert here == there or is_unknown(here), f"{function}: {field.name} is {here}, not {there}"


def is_unknown(told: Any) -> bool:
    """Also of links that one thing is unknown of, and of rows."""
    if isinstance(told, tuple):
        return all(is_unknown(part) or part == "X" or isinstance(part, LinkReading) for part in told)
    return told in (None, "", 0, FabricFacts())


@pytest.mark.parametrize("lacks", [[], ["nvmlDeviceGetGpuInstanceProfileInfoV"]])
def test_profiles_come_in_the_first_form_too_without_names(lacks: list[str], tmp_path: Path) -> None:
    with machine_below(tmp_path, "dgx-a100-40", lacks=lacks) as (twin, nvml, _):
        profiles = nvml.gpu_instance_profiles(twin.gpu(0).uuid)
    assert [profile.profile_id for profile in profiles] == [19, 14, 9, 5, 0, 20, 15]
    assert [profile.name for profile in profiles][:2] == (["", ""] if lacks else ["1g.5gb", "2g.10gb"])


def test_compute_instances_are_made_with_the_first_form_too(tmp_path: Path) -> None:
    lacks = ["nvmlGpuInstanceGetComputeInstanceProfileInfoV"]
    with machine_below(tmp_path, "dgx-a100-40", mig_enabled=True, lacks=lacks) as (twin, nvml, _):
        uuid = twin.gpu(0).uuid
        device = nvml.create_compute_instance(uuid, nvml.create_gpu_instance(uuid, 9, 4))
        assert device.fills


def test_link_speeds_fall_back_to_the_common_one_and_links_without_speed_are_links(tmp_path: Path) -> None:
    with machine_below(tmp_path, "dgx1-v100", lacks=["nvmlDeviceGetFieldValues"]) as (_, nvml, _):
        gpu = nvml.gpus()[0]
    assert [link.mbps for link in gpu.links] == [0] * 6


def test_processes_come_from_the_second_form_too(tmp_path: Path) -> None:
    lacks = [f"nvmlDeviceGet{kind}RunningProcesses_v3" for kind in ("Compute", "Graphics", "MPSCompute")]
    with machine_below(tmp_path, "t4-4-pcie", lacks=lacks) as (twin, nvml, _):
        twin.process(0, 77)
        assert list(nvml.processes(twin.gpu(0).uuid)) == [77]


def test_a_driver_that_does_not_tell_recovery_actions_tells_none(tmp_path: Path) -> None:
    with machine_below(tmp_path, "t4-4-pcie", lacks=["field 230"]) as (twin, nvml, _):
        assert nvml.recovery_action(twin.gpu(0).uuid) is None
