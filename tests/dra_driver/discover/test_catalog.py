"""A node that is discovered is the node that is simulated, for every machine in the catalog.

NVML, sysfs and machine files are compared field by field wherever two of them tell something: what the planner and the
sandbox publish of a machine is then what the driver publishes on it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from dra_driver.discover import Discovered, discover
from dra_driver.inventory import Gpu
from dra_driver.policy import MigPolicy
from dra_driver.publish import resource_slices
from dra_driver.roots import Roots
from dra_driver.simulated import simulated_gpus
from tests.dra_driver.twins import NODE, machine_below
from topology.catalog import machine, machine_names
from topology.mig import MigGeometry, MigProfile
from topology.modes import MigMode
from twin.tree.sysfs import write_sys

SAME = {field.name for field in dataclasses.fields(Gpu)} - {"brand", "fabric", "mig", "mig_mode", "instances"}
CONTRADICTORY = {"a10g-8-pcie": {"nic_level", "nics"}}
"""Its GPUs lie on one bus and, by their levels, in two sockets; sysfs can say one of these only."""
FABRIC = ("state", "status", "cluster_uuid", "clique_id")
PROFILE = {field.name for field in dataclasses.fields(MigProfile)} - {"inferred_fields"}
NEEDS_NO_RESET = [name for name in machine_names() if machine(name).gpu.architecture in ("Hopper", "Blackwell")]


def found(folder: Path, name: str, policy: MigPolicy = MigPolicy.DYNAMIC, *, mig: bool = False) -> Discovered:
    with machine_below(folder, name, mig_enabled=mig) as (twin, nvml, _):
        write_sys(folder, twin.facts, "580.105.08")
        return discover(nvml, Roots(sys=folder / "sys"), NODE, policy)


@pytest.mark.parametrize("name", machine_names())
def test_discovered_is_simulated(name: str, tmp_path: Path) -> None:
    discovered, simulated = found(tmp_path, name).node, simulated_gpus(machine(name), NODE)
    assert (discovered.node, discovered.driver_version) == (simulated.node, simulated.driver_version)
    assert discovered.cuda_driver_version == simulated.cuda_driver_version
    assert len(discovered.gpus) == len(simulated.gpus)
    for one, other in zip(discovered.gpus, simulated.gpus, strict=True):
        for field in SAME - CONTRADICTORY.get(name, set()):
            assert getattr(one, field) == getattr(other, field), f"GPU {one.index}: {field}"
        assert one.brand
        assert not one.instances
        assert [getattr(one.fabric, field) for field in FABRIC] == [getattr(other.fabric, field) for field in FABRIC]
        assert_same_geometry(one.mig, other.mig)


@pytest.mark.parametrize("name", machine_names())
def test_a_machine_as_known_needs_no_note(name: str, tmp_path: Path) -> None:
    assert found(tmp_path, name).notes == ()


def assert_same_geometry(one: MigGeometry | None, other: MigGeometry | None) -> None:
    assert (one is None) == (other is None)
    if one is None or other is None:
        return
    assert (one.id, one.memory_slices, one.compute_slices) == (other.id, other.memory_slices, other.compute_slices)
    assert [profile.name for profile in one.profiles] == [profile.name for profile in other.profiles]
    for here, there in zip(one.profiles, other.profiles, strict=True):
        for field in PROFILE:
            known = getattr(there, field)
            assert getattr(here, field) == known or known is None, f"{here.name}: {field}"


@pytest.mark.parametrize("name", machine_names())
@pytest.mark.parametrize("on", [False, True])
@pytest.mark.parametrize("policy", MigPolicy)
def test_the_mode_is_what_the_policy_allows_on_what_is_found(
    name: str, on: bool, policy: MigPolicy, tmp_path: Path
) -> None:
    """Only Hopper and later switch at once; a GPU whose MIG is on is never offered whole where that is not so."""
    switches = machine(name).gpu.architecture != "Ampere"
    for gpu in found(tmp_path, name, policy, mig=on).node.gpus:
        if gpu.mig is None:
            assert gpu.mig_mode is MigMode.DISABLED
        elif policy is MigPolicy.DYNAMIC and switches:
            assert gpu.mig_mode is MigMode.DYNAMIC
        else:
            assert gpu.mig_mode is (MigMode.ENABLED if on else MigMode.DISABLED)


@pytest.mark.parametrize("name", NEEDS_NO_RESET)
def test_what_is_published_differs_only_where_a_machine_file_knows_less(name: str, tmp_path: Path) -> None:
    """Devices, their order, and who excludes whom."""
    one, other = (resource_slices(node) for node in (found(tmp_path, name).node, simulated_gpus(machine(name), NODE)))
    assert names_and_counters(one) == names_and_counters(other)


def names_and_counters(slices: list[dict[str, Any]]) -> list[tuple[str, list[list[str]]]]:
    return [
        (device["name"], [list(taken["counters"]) for taken in device.get("consumesCounters", ())])
        for entry in slices
        for device in entry["spec"].get("devices", ())
    ]
