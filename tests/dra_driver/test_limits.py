"""Whatever a node has, its slices keep within every limit of the API, and the same node gives the same bytes."""

from __future__ import annotations

import json

import pytest

from dra_driver.publish import resource_slices
from tests.dra_driver.apirules import faults
from tests.dra_driver.nodes import GEOMETRIES, gpu, gpu_with_everything, node
from topology.errors import InvalidInputError
from topology.mig import MigGeometry, MigProfile
from topology.modes import MigMode

geometries = pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: geometry.id)


def test_there_are_twelve_products_with_placements() -> None:
    assert len(GEOMETRIES) == 12


@geometries
def test_limits_hold_for_one_to_sixteen_gpus_of_every_product(geometry: MigGeometry) -> None:
    for count in range(1, 17):
        gpus = [gpu_with_everything(geometry, index, count) for index in range(count)]
        assert faults(resource_slices(node(*gpus, name="n" * 253), generation=count)) == []


@geometries
@pytest.mark.parametrize("mode", [MigMode.DISABLED, MigMode.ENABLED])
def test_limits_hold_where_the_mig_mode_is_fixed(geometry: MigGeometry, mode: MigMode) -> None:
    for count in (1, 9, 16):
        gpus = [gpu_with_everything(geometry, index, count, mig_mode=mode) for index in range(count)]
        assert faults(resource_slices(node(*gpus))) == []


@geometries
def test_every_placement_whole_gpu_and_share_is_announced_once(geometry: MigGeometry) -> None:
    slices = resource_slices(node(*(gpu(geometry, index) for index in range(8))))
    kinds = [d["attributes"]["type"]["string"] for one in slices for d in one["spec"].get("devices", [])]
    placements = sum(len(profile.starts) for profile in geometry.profiles)
    assert (kinds.count("mig"), kinds.count("gpu"), kinds.count("share")) == (8 * placements, 8, 16)


@geometries
def test_same_node_same_bytes_and_a_change_of_one_gpu_changes_one_parts_slice(geometry: MigGeometry) -> None:
    before = node(*(gpu(geometry, index) for index in range(8)))
    assert json.dumps(resource_slices(before)) == json.dumps(resource_slices(before))
    after = node(*(gpu(geometry, index, numa_node=1 if index == 3 else None) for index in range(8)))
    pairs = zip(resource_slices(before), resource_slices(after), strict=True)
    assert sum(old != new for old, new in pairs) == 2, "its parts, and the slice of whole GPUs"


def test_a_node_without_gpus_still_says_that_its_driver_is_there() -> None:
    (only,) = resource_slices(node())
    assert faults([only]) == []
    assert "devices" not in only["spec"]


def test_long_node_names_stay_apart_and_nodes_keep_their_slices_apart() -> None:
    names = ["n" * 252 + "a", "n" * 252 + "b", "n", "m"]
    slices = [resource_slices(node(gpu(), name=name)) for name in names]
    assert all(faults(of_node) == [] for of_node in slices)
    assert len({one["metadata"]["name"] for of_node in slices for one in of_node}) == sum(map(len, slices))
    assert len({of_node[0]["spec"]["pool"]["name"] for of_node in slices}) == len(names)


def many(profiles: int, slices: int = 8) -> MigGeometry:
    kinds = tuple(
        MigProfile(name=f"1g.{p}gb", profile_id=p, compute_slices=1, starts=tuple(range(slices)), size=1)
        for p in range(profiles)
    )
    return MigGeometry(id="many", products=("X",), memory_slices=slices, compute_slices=slices, profiles=kinds)


def test_more_placements_than_a_slice_holds_go_into_several() -> None:
    slices = resource_slices(node(gpu(many(20))))
    assert faults(slices) == []
    assert [len(one["spec"].get("devices", [])) for one in slices] == [0, 64, 64, 34, 1]


def test_more_counters_than_a_set_holds_are_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match=r"GPU 0: mig: needs \d+ counters; a counter set holds 32"):
        resource_slices(node(gpu(many(40))))


def test_a_profile_name_too_long_for_a_device_is_refused_by_name() -> None:
    profile = MigProfile(name="g" * 60, profile_id=1, compute_slices=1, starts=(0,), size=1)
    geometry = MigGeometry(id="x", products=("X",), memory_slices=1, compute_slices=1, profiles=(profile,))
    with pytest.raises(InvalidInputError, match="longer than 63 characters"):
        resource_slices(node(gpu(geometry)))
