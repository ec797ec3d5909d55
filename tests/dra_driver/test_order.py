"""The order of devices is what kube-scheduler's first fit makes of it: little is blocked, linked GPUs stay together."""

from __future__ import annotations

import pytest

from dra_driver.publish import resource_slices
from dra_driver.simulated import simulated_gpus
from tests.dra_driver.apirules import Pool, devices
from tests.dra_driver.nodes import GEOMETRIES, gpu, node
from tests.dra_driver.physics import GpuHardware, Partition
from tests.dra_driver.test_legality import PARTITION_NAME
from topology.catalog import machine, mig_geometry
from topology.mig import MigGeometry


def partitions(geometry: MigGeometry) -> list[Partition]:
    names = devices(resource_slices(node(gpu(geometry))))
    found = (PARTITION_NAME.fullmatch(name) for name in names)
    return [Partition(int(match[3]), int(match[4])) for match in found if match]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: geometry.id)
def test_no_placement_is_listed_before_one_that_blocks_fewer(geometry: MigGeometry) -> None:
    hardware, listed = GpuHardware(geometry.id, 1), partitions(geometry)
    blocked = [sum(not hardware.allows([one, other]) for other in listed) for one in listed]
    assert blocked == sorted(blocked)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: geometry.id)
def test_the_first_small_partition_leaves_the_most_large_ones(geometry: MigGeometry) -> None:
    """In order of names it would take slice 0, which costs the most."""
    hardware, listed = GpuHardware(geometry.id, 1), partitions(geometry)
    sizes = {p["profile_id"]: p["placement_size"] for p in hardware.file["profiles"]}
    half = max(sizes.values()) // 2

    def large_left(start: int) -> int:
        small = Partition(listed[0].profile_id, start)
        return sum(sizes[p.profile_id] == half and hardware.allows([small, p]) for p in listed)

    starts = [p.start for p in listed if p.profile_id == listed[0].profile_id]
    assert sizes[listed[0].profile_id] == 1
    assert large_left(listed[0].start) == max(map(large_left, starts))


def first_fit(pool: Pool, profile: str) -> str:
    found = (n for n, d in pool.devices.items() if d["attributes"].get("profile", {}).get("string") == profile)
    return next(found)


def test_h100_places_small_partitions_from_the_cheap_end() -> None:
    pool = Pool(resource_slices(node(gpu(mig_geometry("h100-80gb")))))
    assert first_fit(pool, "1g.10gb") == "gpu-0-mig-1g10gb-19-6"
    assert first_fit(pool, "2g.20gb") == "gpu-0-mig-2g20gb-14-4"
    assert first_fit(pool, "3g.40gb") == "gpu-0-mig-3g40gb-9-4"


@pytest.mark.parametrize(
    ("name", "wholes"),
    [
        ("rtx8000-4-nvlink-pairs", [0, 3, 1, 2]),
        ("a100-8-pcie-nvlink-pairs", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("dgx1-v100", [0, 3, 2, 1, 4, 7, 5, 6]),
        ("hgx-h100-8", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("t4-4-pcie", [0, 1, 2, 3]),
    ],
)
def test_whole_gpus_are_listed_by_their_links_and_broken_from_the_other_end(name: str, wholes: list[int]) -> None:
    slices = resource_slices(simulated_gpus(machine(name), "n"))
    listed = [
        (device["attributes"]["type"]["string"], device["attributes"]["index"]["int"])
        for device in devices(slices).values()
    ]
    assert [index for kind, index in listed if kind == "gpu"] == wholes
    assert list(dict.fromkeys(index for kind, index in listed if kind != "gpu")) == wholes[::-1]
    assert [kind for kind, _ in listed[-len(wholes) :]] == ["gpu"] * len(wholes)
