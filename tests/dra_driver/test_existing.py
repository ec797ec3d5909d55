"""MIG devices that exist are offered as they are, and what they take nobody else can be given."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from dra_driver.inventory import Gpu, MigInstance
from dra_driver.publish import resource_slices
from dra_driver.publish.features import Features
from dra_driver.publish.taints import DeviceTaint, Effect
from dra_driver.slices.publisher import with_lost, without_own
from tests.dra_driver.apirules import Pool, faults
from tests.dra_driver.nodes import GEOMETRIES, gpu, node
from tests.dra_driver.physics import GpuHardware, Partition, Tenant
from tests.dra_driver.test_legality import MEMORY_MIB, device_names, random_set
from topology.catalog import mig_geometry
from topology.mig import MigGeometry
from topology.modes import MigMode

SEED = 20261121
STATIC = Features(counters=False, shares=False, taints=False)
H100 = mig_geometry("h100-80gb")
geometries = pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: geometry.id)


def instance(geometry: MigGeometry, tenant: Partition, **facts: object) -> MigInstance:
    profile = next(each for each in geometry.profiles if each.profile_id == tenant.profile_id)
    known: dict[str, object] = {
        "profile": profile.name,
        "profile_id": tenant.profile_id,
        "start": tenant.start,
        "size": profile.size,
        "gpu_instance": tenant.start + 1,
        "compute_instance": 0,
        "uuid": f"MIG-{tenant.profile_id}-{tenant.start}",
    }
    return MigInstance(**(known | facts))  # type: ignore[arg-type]


def existing(draw: random.Random, hardware: GpuHardware) -> list[Partition]:
    """Some instances that the hardware allows beside each other."""
    while True:
        found = [each for each in random_set(draw, hardware)[: draw.randrange(1, 4)] if isinstance(each, Partition)]
        if found and hardware.allows([*found]):
            return found


def cut(geometry: MigGeometry, *tenants: Partition, **facts: object) -> Gpu:
    return gpu(geometry, instances=tuple(instance(geometry, each) for each in tenants), **facts)


@geometries
def test_beside_what_exists_exactly_what_the_hardware_still_allows_can_be_allocated(geometry: MigGeometry) -> None:
    hardware, draw = GpuHardware(geometry.id, MEMORY_MIB), random.Random(SEED)
    for _ in range(12):
        there = existing(draw, hardware)
        pool = Pool(resource_slices(node(cut(geometry, *there))))
        names = device_names(pool)
        others = [each for each in hardware.tenants() if each not in there]
        assert {each for each in others if each in names} == {
            each for each in others if hardware.allows([*there, each])
        }
        assert set(there) <= set(names)
        for pair in itertools.combinations([each for each in names if each not in there], 2):
            beside: list[Tenant] = [*there, *pair]
            free = pool.admits([(names[each], {}) for each in pair])
            taken = pool.admits([(names[each], {}) for each in beside])
            assert free == taken == hardware.allows(beside), (SEED, there, pair)


def test_they_carry_the_uuid_that_they_have_and_come_first() -> None:
    slices = resource_slices(node(cut(H100, Partition(19, 6), Partition(9, 0))))
    devices = [device for each in slices for device in each["spec"].get("devices", ())]
    first, second, *others = devices
    assert [first["name"], second["name"]] == ["gpu-0-mig-1g10gb-19-6", "gpu-0-mig-3g40gb-9-0"]
    assert first["attributes"]["uuid"] == {"string": "MIG-19-6"}
    assert first["attributes"]["parentUUID"] == {"string": "GPU-00000000-0000-0000-0000-000000000000"}
    assert "consumesCounters" not in first
    assert all("uuid" not in device["attributes"] for device in others)
    assert {device["attributes"]["type"]["string"] for device in devices} == {"mig"}, "the GPU cannot be had whole"


def test_what_is_not_a_device_of_its_own_blocks_and_is_not_offered() -> None:
    """A GPU instance without a compute instance, or with several: it takes its part, and nobody can be given it."""
    half = Partition(9, 0)
    bare = gpu(H100, instances=(instance(H100, half, compute_instance=None, uuid=""),))
    parts = gpu(H100, instances=tuple(instance(H100, half, compute_instance=at, fills=False) for at in range(3)))
    for one in (bare, parts):
        pool = Pool(resource_slices(node(one)))
        assert "gpu-0-mig-3g40gb-9-0" not in pool.devices
        assert set(device_names(pool)) == {
            each
            for each in GpuHardware(H100.id, MEMORY_MIB).tenants()
            if GpuHardware(H100.id, MEMORY_MIB).allows([half, each])
        }


def test_beside_an_instance_that_nobody_knows_nothing_is_made() -> None:
    strange = replace(instance(H100, Partition(19, 0)), profile="", profile_id=77)
    known = instance(H100, Partition(19, 3))
    slices = resource_slices(node(gpu(H100, instances=(strange, known))))
    assert [*Pool(slices).devices] == ["gpu-0-mig-1g10gb-19-3"]


@geometries
def test_limits_hold_beside_what_exists(geometry: MigGeometry) -> None:
    draw, hardware = random.Random(SEED), GpuHardware(geometry.id, MEMORY_MIB)
    gpus = [replace(cut(geometry, *existing(draw, hardware)), index=at, minor=at, uuid=f"GPU-{at}") for at in range(16)]
    for features in (Features(), Features(shares=False), STATIC):
        assert faults(resource_slices(node(*gpus), features=features)) == []


def test_a_gpu_with_mig_devices_is_not_linked_to_the_others() -> None:
    """NVLink between GPUs ends where one is partitioned; domains must not promise it."""
    whole = [gpu(H100, at, nvlink_count=8, nvlinks=tuple(4 if at != to else 0 for to in range(3))) for at in range(3)]
    before = domains(*whole)
    after = domains(replace(whole[0], instances=(instance(H100, Partition(19, 0)),)), *whole[1:])
    assert before == {"gpu-0": "nvlink-0", "gpu-1": "nvlink-0", "gpu-2": "nvlink-0"}
    assert after == {"gpu-1": "nvlink-1", "gpu-2": "nvlink-1"}


def domains(*gpus: Gpu) -> dict[str, str]:
    return {
        name: device["attributes"]["nvlinkDomain"]["string"]
        for name, device in Pool(resource_slices(node(*gpus))).devices.items()
        if "nvlinkDomain" in device["attributes"]
    }


class TestFewerFeatures:
    """What an older API server gets: nothing whose exclusion it would not store."""

    def test_without_counters_whole_gpus_and_what_exists(self) -> None:
        gpus = (
            gpu(H100, 0),
            cut(H100, Partition(19, 0), index=1, minor=1, uuid="GPU-1"),
            gpu(H100, 2, mig_mode=MigMode.ENABLED),
            gpu(None, 3),
        )
        slices = resource_slices(node(*gpus), features=STATIC)
        pool = Pool(slices)
        assert set(pool.devices) == {"gpu-0", "gpu-1-mig-1g10gb-19-0", "gpu-3"}
        assert pool.totals == {}
        text = str(slices)
        assert not any(
            word in text for word in ("consumesCounters", "sharedCounters", "allowMultiple", "requestPolicy")
        )

    def test_without_shares_the_rest_is_as_before(self) -> None:
        pool = Pool(resource_slices(node(gpu(H100)), features=Features(shares=False)))
        full = Pool(resource_slices(node(gpu(H100, sharing=()))))
        assert pool.devices == full.devices

    @pytest.mark.parametrize(("effect", "stays"), [(Effect.NONE, True), (Effect.NO_SCHEDULE, False)])
    def test_without_taints_what_must_be_kept_off_is_left_out(self, effect: Effect, stays: bool) -> None:
        taints = {"gpu-0": (DeviceTaint("gpu.dovetail.dev/xid", "79", effect),)}
        pool = Pool(resource_slices(node(gpu(None), gpu(None, 1)), taints=taints, features=Features(taints=False)))
        assert ("gpu-0" in pool.devices) is stays
        assert "taints" not in str(pool.devices)

    def test_a_pool_of_which_nothing_is_left_is_still_announced(self) -> None:
        only = node(gpu(H100, mig_mode=MigMode.ENABLED))
        (one,) = resource_slices(only, features=STATIC)
        assert one["spec"]["pool"]["resourceSliceCount"] == 1


def test_the_instances_of_our_own_claims_are_placements_as_before() -> None:
    one, other = instance(H100, Partition(19, 0)), instance(H100, Partition(19, 3))
    cut_twice = node(gpu(H100, instances=(one, other)))
    uuid = cut_twice.gpus[0].uuid
    assert without_own(cut_twice, {(uuid, 19, 0), (uuid, 19, 3)}) == node(gpu(H100))
    assert without_own(cut_twice, {(uuid, 19, 0), ("GPU-other", 19, 3)}).gpus[0].instances == (other,)


def test_a_lost_gpu_stays_published_until_it_is_back_or_replaced() -> None:
    before = node(gpu(None, 0), gpu(None, 1), gpu(None, 2))
    now = node(gpu(None, 0), gpu(None, 2))
    assert with_lost(before, now, {before.gpus[1].uuid}) == before
    assert with_lost(before, now, ()) == now
    new = gpu(None, 1, uuid="GPU-new")
    swapped = node(gpu(None, 0), new, gpu(None, 2))
    assert with_lost(before, swapped, {before.gpus[1].uuid}) == swapped
