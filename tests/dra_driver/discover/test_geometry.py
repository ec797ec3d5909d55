"""MIG geometry from NVML's profiles: NVML wins, the catalog names and orders, differences are told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dra_driver.discover.geometry import geometry_of, label
from tests.dra_driver.discover.readings import A100_40, MIB, profile, reading
from topology.catalog import mig_geometry
from topology.mig import configurations, legal, occupation


def test_an_old_driver_without_names_gets_those_of_the_catalog() -> None:
    geometry, notes = geometry_of(reading(), A100_40)
    assert geometry is not None
    assert geometry.id == "a100-40gb"
    assert {profile.name for profile in geometry.profiles} == {
        "1g.5gb", "1g.5gb+me", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"
    }  # fmt: skip
    assert notes == ()


def test_an_unknown_product_is_partitioned_as_its_driver_says() -> None:
    """Names by the formula of go-nvlib, one +me at a time, and another id than any in the catalog."""
    unknown = reading(product="NVIDIA A101")
    geometry, notes = geometry_of(unknown, A100_40)
    assert geometry is not None
    assert geometry.id == "nvml:NVIDIA A101"
    assert [profile.name for profile in geometry.profiles] == [
        "1g.5gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb", "1g.5gb+me", "1g.10gb"
    ]  # fmt: skip
    assert (geometry.memory_slices, geometry.compute_slices) == (8, 7)
    with_me = geometry.profile("1g.5gb+me")
    assert legal(geometry, occupation(geometry, [("1g.5gb", 0)]), with_me, 1)
    assert not legal(geometry, occupation(geometry, [("1g.5gb+me", 0)]), with_me, 1)
    assert notes == ()


def test_placements_of_nvml_win_over_the_catalog_and_it_is_noted() -> None:
    """As if a driver allowed 4g at 4 too, and had no double-memory 1g."""
    changed = tuple(
        replace(its, starts=(0, 4), max_instances=2) if its.enum == 3 else its for its in A100_40 if its.enum != 9
    )
    geometry, notes = geometry_of(reading(3), changed)
    assert geometry is not None
    assert geometry.profile("4g.20gb").starts == (0, 4)
    assert "1g.10gb" not in [profile.name for profile in geometry.profiles]
    assert len(notes) == 2
    assert all("NVML" in note and "NVIDIA A100-SXM4-40GB" in note for note in notes)
    assert "{0,4}:4" in notes[0]
    assert "profile 9: none;" in notes[1]


def test_memory_and_multiprocessors_of_nvml_win_without_a_word() -> None:
    """They differ by driver: a B200's 1g was seen with 20.50, 22.00 and 22.50 GiB."""
    changed = tuple(replace(its, memory_mib=its.memory_mib - 128) for its in A100_40)
    geometry, notes = geometry_of(reading(), changed)
    assert geometry is not None
    assert geometry.profile("1g.5gb").memory_mib == 4864 - 128
    assert notes == ()


def test_no_profiles_no_geometry() -> None:
    assert geometry_of(reading(), ()) == (None, ())


TOTAL_MIB = {
    "a100-40gb": 40_960, "a100-80gb": 81_920, "a30-24gb": 24_576, "h100-80gb": 81_559, "h100-nvl-94gb": 95_830,
    "h200-141gb": 143_771, "b200-180gb": 183_359, "gb200-186gb": 189_471,
}  # fmt: skip
"""Memory of products whose labels were seen, as NVML tells it."""


@pytest.mark.parametrize("name", TOTAL_MIB)
def test_labels_are_those_that_nvidia_prints(name: str) -> None:
    """Halves away from zero: 22.5 of a B200 is 23, 70.5 of an H200 is 71."""
    gpu = reading(memory_bytes=TOTAL_MIB[name] * MIB)
    for its in mig_geometry(name).profiles:
        if its.memory_mib is not None and its.nvml_enum is not None and its.profile_id is not None:
            read = profile(
                its.nvml_enum, its.profile_id, its.compute_slices, its.starts, its.size, memory_mib=its.memory_mib
            )
            assert label(gpu, read) in (its.name, *its.alternate_names)


def test_what_a_driver_adds_is_placed_like_everything_else() -> None:
    """A profile that the catalog does not have comes last, and every set of placements without overlap is legal."""
    extra = profile(12, 33, 4, (0,), 4, memory_mib=19968)
    geometry, notes = geometry_of(reading(), (*A100_40, extra))
    assert geometry is not None
    assert geometry.profiles[-1].name == "4g.20gb+gfx"
    assert len(notes) == 1
    assert sum(1 for _ in configurations(geometry, [geometry.profiles[-1], geometry.profile("3g.20gb")])) == 1 + 3 + 2
