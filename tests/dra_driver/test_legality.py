"""The counters admit exactly what the hardware allows: a GPU is whole, partitioned or shared, and partitions fit."""

from __future__ import annotations

import dataclasses
import itertools
import random
import re

import pytest

from dra_driver.inventory import MIB
from dra_driver.publish import resource_slices
from tests.dra_driver.apirules import Pool
from tests.dra_driver.nodes import GEOMETRIES, gpu, node
from tests.dra_driver.physics import GpuHardware, Partition, Share, Tenant, Whole
from topology.mig import MigEngines, MigGeometry, MigProfile
from topology.modes import MigMode, Sharing

MEMORY_MIB = 81559
SETS = 10_000
SEED = 20261121
# How NVIDIA's driver reads its own names back.
PARTITION_NAME = re.compile(r"gpu-(\d+)-mig-(.+)-(\d+)-(\d+)")

geometries = pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: geometry.id)


def published(geometry: MigGeometry, **facts: object) -> Pool:
    return Pool(resource_slices(node(gpu(geometry, memory_bytes=MEMORY_MIB * MIB, **facts))))


def device_names(pool: Pool) -> dict[Tenant, str]:
    names: dict[Tenant, str] = {}
    for name, device in pool.devices.items():
        kind = device["attributes"]["type"]["string"]
        if kind == "gpu":
            names[Whole()] = name
        elif kind == "mig":
            _, _, profile_id, start = PARTITION_NAME.fullmatch(name).groups()  # type: ignore[union-attr]
            names[Partition(int(profile_id), int(start))] = name
        else:
            names[Share(device["attributes"]["sharing"]["string"], 1, 0)] = name
    return names


def allocations(names: dict[Tenant, str], tenants: list[Tenant]) -> list[tuple[str, dict[str, int]]]:
    made = []
    for tenant in tenants:
        if isinstance(tenant, Share):
            asked = {"memory": tenant.memory_mib * MIB, "computeMilli": tenant.milli}
            made.append((names[Share(tenant.sharing, 1, 0)], asked))
        else:
            made.append((names[tenant], {}))
    return made


@geometries
def test_every_tenant_the_hardware_knows_is_a_device_and_no_other(geometry: MigGeometry) -> None:
    pool, hardware = published(geometry), GpuHardware(geometry.id, MEMORY_MIB)
    names = device_names(pool)
    assert set(names) == set(hardware.tenants())
    assert len(names) == len(pool.devices)


@geometries
def test_counters_agree_with_the_hardware_on_every_pair(geometry: MigGeometry) -> None:
    pool, hardware = published(geometry), GpuHardware(geometry.id, MEMORY_MIB)
    names = device_names(pool)
    pairs = list(itertools.combinations_with_replacement(hardware.tenants(), 2))
    wrong = [p for p in pairs if pool.admits(allocations(names, list(p))) != hardware.allows(list(p))]
    assert wrong == []


def random_set(draw: random.Random, hardware: GpuHardware) -> list[Tenant]:
    """Mostly partitions side by side, half the time with one tenant too many; else shares of random amounts."""
    if draw.random() < 0.2:
        sharing = draw.choice(["time-slicing", "mps"])
        shares: list[Tenant] = [
            Share(sharing, draw.randrange(1, MEMORY_MIB // 2), draw.randrange(1001) // 3)
            for _ in range(draw.randrange(1, 5))
        ]
        return [*shares, draw.choice(hardware.tenants())] if draw.random() < 0.2 else shares
    profiles = {profile["profile_id"]: profile for profile in hardware.file["profiles"]}
    partitions = [tenant for tenant in hardware.tenants() if isinstance(tenant, Partition)]
    draw.shuffle(partitions)
    taken, tenants = 0, list[Tenant]()
    for partition in partitions[: draw.randrange(2, len(partitions))]:
        mask = ((1 << profiles[partition.profile_id]["placement_size"]) - 1) << partition.start
        if not taken & mask:
            taken |= mask
            tenants.append(partition)
    return [*tenants, draw.choice(hardware.tenants())] if draw.random() < 0.5 else tenants


@geometries
def test_counters_agree_with_the_hardware_on_random_sets(geometry: MigGeometry) -> None:
    pool, hardware = published(geometry), GpuHardware(geometry.id, MEMORY_MIB)
    names, draw = device_names(pool), random.Random(SEED)
    allowed = 0
    for _ in range(SETS):
        tenants = random_set(draw, hardware)
        expected = hardware.allows(tenants)
        assert pool.admits(allocations(names, tenants)) == expected, (SEED, tenants)
        allowed += expected
    assert SETS / 10 < allowed < SETS * 9 / 10, "one-sided sets would prove little"


@geometries
def test_a_gpu_fixed_in_mig_mode_offers_partitions_only(geometry: MigGeometry) -> None:
    pool, hardware = published(geometry, mig_mode=MigMode.ENABLED), GpuHardware(geometry.id, MEMORY_MIB)
    partitions = [tenant for tenant in hardware.tenants() if isinstance(tenant, Partition)]
    names = device_names(pool)
    assert set(names) == set(partitions)
    for pair in itertools.combinations_with_replacement(partitions, 2):
        assert pool.admits(allocations(names, list(pair))) == hardware.allows(list(pair))


@pytest.mark.parametrize("capable", [GEOMETRIES[0], None], ids=["mig-capable", "not-capable"])
def test_without_mig_a_gpu_is_whole_or_shared_in_one_way(capable: MigGeometry | None) -> None:
    pool = Pool(resource_slices(node(gpu(capable, mig_mode=MigMode.DISABLED))))
    assert set(pool.devices) == {"gpu-0", "gpu-0-time-slicing", "gpu-0-mps"}
    for one, other in itertools.combinations(pool.devices, 2):
        assert not pool.admits([(one, {"memory": MIB}), (other, {"memory": MIB})])
    assert pool.admits([("gpu-0-mps", {"memory": MIB})] * 48)


def test_gpus_do_not_exclude_each_other() -> None:
    pool = Pool(resource_slices(node(*(gpu(GEOMETRIES[0], index) for index in range(16)))))
    assert pool.admits([(f"gpu-{index}", {}) for index in range(16)])


def test_a_share_without_amounts_gets_all_memory_and_reserves_no_compute() -> None:
    pool = Pool(resource_slices(node(gpu(None))))
    share = ("gpu-0-time-slicing", dict[str, int]())
    assert pool.admits([share])
    assert not pool.admits([share, ("gpu-0-time-slicing", {"memory": MIB})])
    others = [("gpu-0-time-slicing", {"memory": MIB})] * 100
    assert pool.admits([*others, ("gpu-0-time-slicing", {"memory": MIB, "computeMilli": 1000})])


def test_a_gpu_that_is_not_shared_nor_partitioned_needs_no_counters() -> None:
    slices = resource_slices(node(gpu(None, sharing=())))
    assert [list(one["spec"]) for one in slices] == [["driver", "nodeName", "pool", "devices"]]
    assert "consumesCounters" not in slices[0]["spec"]["devices"][0]


def limited(name: str, profile_id: int, *, most: int = 1, takes: int = 0) -> MigProfile:
    return MigProfile(
        name=name,
        profile_id=profile_id,
        compute_slices=1,
        starts=(0, 1, 2, 3),
        size=1,
        max_instances=most,
        takes=takes,
        blocked_by=takes,
    )


def test_limits_that_no_engine_implies_are_counted_too() -> None:
    """Drivers report profiles whose engines are unknown: what they may not do together must hold all the same."""
    profiles = (limited("1g.8gb", 1, most=3), limited("1g.8gb+me", 2, takes=1), limited("1g.8gb+gfx", 3, takes=1))
    geometry = MigGeometry(id="x", products=("X",), memory_slices=4, compute_slices=4, profiles=profiles)
    pool = Pool(resource_slices(node(gpu(geometry))))

    def admits(*instances: tuple[int, int]) -> bool:
        names = device_names(pool)
        return pool.admits([(names[Partition(*instance)], {}) for instance in instances])

    assert admits((1, 0), (1, 1), (1, 2))
    assert not admits((1, 0), (1, 1), (1, 2), (1, 3))
    assert admits((1, 0), (1, 1), (1, 2), (3, 3))
    assert not admits((2, 0), (2, 1))
    assert not admits((2, 0), (3, 1))


def test_a_limit_holds_although_the_engines_would_just_suffice() -> None:
    media = limited("1g.8gb+me", 1, takes=1)
    media = dataclasses.replace(media, engines=MigEngines(jpeg=1))
    whole = MigProfile(name="4g", profile_id=0, compute_slices=4, starts=(0,), size=4, engines=MigEngines(jpeg=2))
    geometry = MigGeometry(id="x", products=("X",), memory_slices=4, compute_slices=4, profiles=(media, whole))
    pool = Pool(resource_slices(node(gpu(geometry))))
    names = device_names(pool)
    assert not pool.admits([(names[Partition(1, 0)], {}), (names[Partition(1, 1)], {})])


def test_sizes_that_a_driver_rounds_up_do_not_forbid_what_fits() -> None:
    """Four partitions of 45312 MiB beside each other are legal although the largest profile reports less in all."""
    whole = MigProfile(name="4g", profile_id=0, compute_slices=4, starts=(0,), size=4, memory_mib=180_000)
    part = MigProfile(
        name="1g", profile_id=1, compute_slices=1, starts=(0, 1, 2, 3), size=1, max_instances=4, memory_mib=45_312
    )
    geometry = MigGeometry(id="x", products=("X",), memory_slices=4, compute_slices=4, profiles=(part, whole))
    pool = Pool(resource_slices(node(gpu(geometry))))
    names = device_names(pool)
    assert pool.admits([(names[Partition(1, start)], {}) for start in range(4)])
    assert not pool.admits([(names[Partition(0, 0)], {}), (names[Partition(1, 0)], {})])
    assert not pool.admits([(names[Whole()], {}), (names[Partition(1, 0)], {})])


def test_sharing_is_offered_as_told() -> None:
    pool = Pool(resource_slices(node(gpu(None, sharing=(Sharing.MPS,)))))
    assert set(pool.devices) == {"gpu-0", "gpu-0-mps"}
