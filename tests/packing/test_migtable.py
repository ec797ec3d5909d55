"""MIG tables against plain enumeration over `topology.mig`, for every geometry and every state."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from packing.migtable import MigTable, build_mig_table
from topology import catalog
from topology.errors import InvalidInputError
from topology.mig import EMPTY, MigGeometry, MigProfile, Occupation, configurations, interval, legal, place

PLACEABLE = [geometry for geometry in catalog.mig_geometries() if geometry.placeable]
by_id = pytest.mark.parametrize("geometry", PLACEABLE, ids=lambda g: g.id)


def _legal(geometry: MigGeometry, profile: MigProfile, mask: int) -> list[int]:
    return [start for start in range(16) if legal(geometry, Occupation(slices=mask), profile, start)]


def _frag(geometry: MigGeometry, table: MigTable, mask: int) -> int:
    free = geometry.memory_slices - mask.bit_count()
    return sum(
        int(weight) * (free - profile.size * _most(geometry, profile, mask))
        for weight, profile in zip(table.weights, geometry.profiles, strict=True)
        if weight
    )


def _most(geometry: MigGeometry, profile: MigProfile, mask: int) -> int:
    """The most partitions of a profile that fit side by side."""
    afters = [mask | interval(profile, start) for start in _legal(geometry, profile, mask)]
    return max((1 + _most(geometry, profile, after) for after in afters), default=0)


@by_id
def test_legal_starts_and_fragmentation_of_every_state(geometry: MigGeometry) -> None:
    table = build_mig_table(geometry)
    for mask in range(1 << geometry.memory_slices):
        assert table.free_slices[mask] == geometry.memory_slices - mask.bit_count()
        assert table.frag[mask] == _frag(geometry, table, mask)
        for p, profile in enumerate(geometry.profiles):
            assert table.legal_starts[p, mask] == sum(1 << start for start in _legal(geometry, profile, mask))


@by_id
def test_best_start_leaves_least_fragmentation_then_most_placements_then_is_lowest(geometry: MigGeometry) -> None:
    table = build_mig_table(geometry)

    def rank(profile: MigProfile, mask: int, start: int) -> tuple[int, int, int]:
        after = mask | interval(profile, start)
        left = sum(len(_legal(geometry, other, after)) for other in geometry.profiles)
        return _frag(geometry, table, after), -left, start

    for mask in range(1 << geometry.memory_slices):
        for p, profile in enumerate(geometry.profiles):
            starts = _legal(geometry, profile, mask)
            expected = min(starts, key=lambda start: rank(profile, mask, start)) if starts else -1
            assert table.best_start[p, mask] == expected


@by_id
def test_remaining_is_the_most_instances_of_a_profile_that_can_join(geometry: MigGeometry) -> None:
    table = build_mig_table(geometry)
    for p, profile in enumerate(geometry.profiles):
        layouts = list(configurations(geometry, [profile]))
        for mask in range(1 << geometry.memory_slices):
            sets = [sum(interval(profile, start) for _, start in layout) for layout in layouts]
            most = max(len(layout) for layout, taken in zip(layouts, sets, strict=True) if not taken & mask)
            assert table.remaining[p, mask] == most


@by_id
def test_exclusive_bits_say_the_same_as_legality(geometry: MigGeometry) -> None:
    table = build_mig_table(geometry)
    for held in geometry.profiles:
        occupied = place(geometry, EMPTY, held, held.starts[0])
        for p, wanted in enumerate(geometry.profiles):
            for start in wanted.starts:
                free = bool(table.legal_starts[p, occupied.slices] >> start & 1)
                clear = not table.excl_block[p] & table.excl_take[geometry.profiles.index(held)]
                assert legal(geometry, occupied, wanted, start) == (free and clear)


def test_small_partitions_go_to_the_end_where_large_ones_cannot_start() -> None:
    geometry = catalog.mig_geometry("a100-40gb")
    table = build_mig_table(geometry)
    assert table.best_start[geometry.index("1g.5gb"), 0] == 6
    assert table.best_start[geometry.index("3g.20gb"), 0] == 4
    # With the second half taken by three slices, two slices stay together in the first.
    assert table.best_start[geometry.index("2g.10gb"), 0b1111_0000] in (0, 2)


def test_three_slices_beside_three_strand_nothing_but_compute() -> None:
    geometry = catalog.mig_geometry("h100-80gb")
    table = build_mig_table(geometry)
    assert table.free_slices[0b1111_1111] == 0
    assert table.frag[0b1111_1111] == 0


def test_weights_say_what_demand_is_expected() -> None:
    geometry = catalog.mig_geometry("a100-40gb")
    table = build_mig_table(geometry, {"3g.20gb": 1_000_000})
    # Only whole halves count now: a partition in the broken half costs nothing more.
    assert table.frag[0b0000_0001] == 3_000_000
    assert table.best_start[geometry.index("1g.5gb"), 0b0000_0001] in (1, 2, 3)


def test_default_weights_are_equal_and_sum_to_a_million() -> None:
    for geometry in PLACEABLE:
        table = build_mig_table(geometry)
        plain = [int(w) for w, p in zip(table.weights, geometry.profiles, strict=True) if not p.attributes]
        assert sum(plain) == table.weights.sum() == 1_000_000
        assert max(plain) - min(plain) <= 1


@pytest.mark.parametrize("weights", [{"9g.1gb": 1}, {"1g.5gb": -1}, {"1g.5gb": 600_000, "2g.10gb": 600_000}])
def test_weights_out_of_range_are_refused(weights: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError):
        build_mig_table(catalog.mig_geometry("a100-40gb"), weights)


def test_a_geometry_without_placements_has_no_table() -> None:
    with pytest.raises(InvalidInputError, match="never published"):
        build_mig_table(catalog.mig_geometry("rtx-pro-4500-32gb"))


def test_arrays_are_read_only_int64() -> None:
    table = build_mig_table(catalog.mig_geometry("NVIDIA A30"))
    for name in MigTable.__slots__:
        array = getattr(table, name)
        if name != "geometry":
            assert array.dtype == np.int64
            assert not array.flags.writeable


def test_the_node_driver_needs_no_compiler() -> None:
    code = (
        "import sys; from topology import catalog; from packing.migtable import build_mig_table;"
        "build_mig_table(catalog.mig_geometry('NVIDIA A30'));"
        "sys.exit(any(name in sys.modules for name in ('numba', 'networkx', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
