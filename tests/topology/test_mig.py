"""MIG geometry: files, names, legality; every legal layout against an independent enumeration."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from topology import catalog
from topology.errors import InvalidInputError
from topology.mig import (
    EMPTY,
    MigGeometry,
    Occupation,
    configurations,
    interval,
    legal,
    maximal_configurations,
    occupation,
    place,
    placements,
)
from topology.migfile import parse_mig_geometry

DATA = Path(__file__).parent / "data" / "mig"
REFERENCE: dict[str, Any] = yaml.safe_load((DATA / "maximal-configurations.yaml").read_text())
NAMES: dict[str, Any] = yaml.safe_load((DATA / "profile-names.yaml").read_text())
PLACEABLE = [geometry for geometry in catalog.mig_geometries() if geometry.placeable]
SEVEN = [geometry for geometry in PLACEABLE if geometry.memory_slices == 8]

by_id = pytest.mark.parametrize("geometry", PLACEABLE, ids=lambda g: g.id)


def _layouts(family: str, enum_of: dict[str, int]) -> set[frozenset[tuple[int, int]]]:
    layouts = set()
    for layout in REFERENCE[family]["maximal_base"]:
        pairs = [word.split("@") for word in layout]
        layouts.add(frozenset((enum_of[name], int(start)) for name, start in pairs))
    return layouts


def _maximal(geometry: MigGeometry, *, double: bool) -> set[frozenset[tuple[int, int]]]:
    chosen = [p for p in geometry.profiles if not p.attributes and (double or p.nvml_enum != 9)]
    enum_of = {profile.name: profile.nvml_enum for profile in chosen}
    found = maximal_configurations(geometry, chosen)
    layouts = {frozenset((enum_of[name] or 0, start) for name, start in layout) for layout in found}
    assert len(layouts) == len(found)
    return layouts


@by_id
def test_maximal_layouts_equal_the_reference(geometry: MigGeometry) -> None:
    family = "seven_slice_family" if geometry in SEVEN else "four_slice_family"
    origin = catalog.mig_geometry(REFERENCE[family]["product"])
    enum_of = {profile.name: profile.nvml_enum or 0 for profile in origin.profiles}
    assert _maximal(geometry, double=False) == _layouts(family, enum_of)
    counts = REFERENCE[family]["counts"]
    assert len(_layouts(family, enum_of)) == counts["placements_base"]
    double = _maximal(geometry, double=True)
    assert len(double) == counts["placements_with_double_memory_1g"]
    multisets = {frozenset(Counter(enum for enum, _ in layout).items()) for layout in double}
    assert len(multisets) == counts["multisets_with_double_memory_1g"]


@by_id
def test_placements_alone_imply_the_compute_limit(geometry: MigGeometry) -> None:
    used = [sum(profile.compute_slices for profile, _ in layout) for layout in configurations(geometry)]
    assert max(used) == geometry.compute_slices


@by_id
def test_layouts_are_those_sets_of_placements_that_are_disjoint_and_exclusive(geometry: MigGeometry) -> None:
    options = placements(geometry)
    unique = {p.name for p in geometry.profiles if p.attributes}
    if geometry.id == "a30-24gb":
        unique.add("4g.24gb")
    expected = 0
    # Three at a time decide everything: overlaps and engines are conflicts of pairs.
    for chosen in combinations(options, 3):
        cover = Counter(slot for p, start in chosen for slot in range(start, start + p.size))
        engines = sum(p.name in unique for p, _ in chosen)
        expected += max(cover.values()) == 1 and engines <= 1
    assert sum(len(layout) == 3 for layout in configurations(geometry)) == expected


@pytest.mark.parametrize("geometry", SEVEN, ids=lambda g: g.id)
def test_a_gpu_offers_twenty_five_placements(geometry: MigGeometry) -> None:
    assert len(placements(geometry)) == 25


def test_seven_small_ones_then_removal_of_the_first_four_admits_four_slices() -> None:
    geometry = catalog.mig_geometry("a100-40gb")
    four = geometry.profile("4g.20gb")
    seven = occupation(geometry, [("1g.5gb", start) for start in range(7)])
    assert not legal(geometry, seven, four, 0)
    left = occupation(geometry, [("1g.5gb", start) for start in range(4, 7)])
    assert legal(geometry, left, four, 0)


def test_two_small_ones_badly_placed_refuse_three_slices() -> None:
    geometry = catalog.mig_geometry("a100-40gb")
    occupied = occupation(geometry, [("1g.5gb", 0), ("1g.5gb", 4)])
    assert not any(legal(geometry, occupied, geometry.profile("3g.20gb"), start) for start in range(8))
    assert legal(geometry, occupation(geometry, [("1g.5gb", 6)]), geometry.profile("3g.20gb"), 0)


def test_eighteen_gib_do_not_fit_the_profile_labelled_18gb() -> None:
    assert catalog.mig_geometry("NVIDIA H200").profile("1g.18gb").memory_mib == 16384 < 18 * 1024


@pytest.mark.parametrize(("held", "wanted"), [("1g.6gb+me", "2g.12gb+me"), ("2g.12gb+me", "1g.6gb+me")])
def test_on_a30_media_engines_go_to_one_instance(held: str, wanted: str) -> None:
    geometry = catalog.mig_geometry("NVIDIA A30")
    occupied = occupation(geometry, [(held, 0)])
    assert not legal(geometry, occupied, geometry.profile(wanted), 2)
    assert legal(geometry, occupied, geometry.profile("2g.12gb"), 2)
    with pytest.raises(InvalidInputError, match="engines"):
        place(geometry, occupied, geometry.profile(wanted), 2)


@pytest.mark.parametrize("geometry", SEVEN, ids=lambda g: g.id)
def test_the_media_profile_exists_once(geometry: MigGeometry) -> None:
    media = geometry.by_enum(7)
    assert not legal(geometry, occupation(geometry, [(media.name, 0)]), media, 1)
    assert legal(geometry, occupation(geometry, [(media.name, 0)]), geometry.by_enum(0), 1)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(PLACEABLE), st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8)), max_size=12))
def test_what_place_accepts_never_overlaps_and_respects_max_instances(
    geometry: MigGeometry, wishes: list[tuple[int, int]]
) -> None:
    occupied, held = EMPTY, []
    for number, start in wishes:
        profile = geometry.profiles[number % len(geometry.profiles)]
        if legal(geometry, occupied, profile, start):
            assert interval(profile, start) & occupied.slices == 0
            occupied = place(geometry, occupied, profile, start)
            held.append(profile)
        else:
            with pytest.raises(InvalidInputError):
                place(geometry, occupied, profile, start)
    assert occupied.slices.bit_count() == sum(profile.size for profile in held)
    assert all(held.count(profile) <= profile.max_instances for profile in held)


def test_profiles_are_found_by_older_and_resource_names() -> None:
    geometry = catalog.mig_geometry("NVIDIA GB200")
    assert geometry.profile("1g.24gb") is geometry.by_enum(0)
    assert geometry.profile("3g.95gb") is geometry.by_enum(2)
    assert geometry.profile("7g.189gb") is geometry.by_enum(4)
    assert catalog.mig_geometry("a100-80gb").profile("1g.10gb.me").name == "1g.10gb+me"
    with pytest.raises(InvalidInputError, match=r"known: 1g\.23gb"):
        geometry.profile("1g.5gb")
    with pytest.raises(InvalidInputError, match="no profile 5"):
        geometry.by_enum(5)


def test_every_shipped_profile_has_a_reference_name() -> None:
    valid = {entry["name"] for entry in NAMES["valid"]}
    assert {profile.name for geometry in catalog.mig_geometries() for profile in geometry.profiles} <= valid


@pytest.mark.parametrize("product", ["rtx-pro-4500-32gb", "NVIDIA RTX PRO 5000 Blackwell"])
def test_products_without_published_placements_load_but_place_nothing(product: str) -> None:
    geometry = catalog.mig_geometry(product)
    assert geometry.profiles
    for use in (
        lambda: geometry.profile("1g.16gb"),
        lambda: geometry.by_enum(0),
        lambda: placements(geometry),
        lambda: legal(geometry, EMPTY, geometry.profiles[0], 0),
    ):
        with pytest.raises(InvalidInputError, match="never published"):
            use()


def test_products_without_a_geometry_say_so() -> None:
    assert catalog.mig_for_product("Tesla V100-SXM2-32GB") is None
    with pytest.raises(InvalidInputError, match="Tesla V100"):
        catalog.mig_geometry("Tesla V100-SXM2-32GB")


def test_every_mig_capable_product_of_the_machines_is_known() -> None:
    machines = [machine for machine in map(catalog.machine, catalog.machine_names()) if machine.gpu.mig_capable]
    products = {m.product(gpu) for m in machines for gpu in range(m.gpu_count)}
    # Made for one supercomputer; its profiles are not public.
    assert {name for name in products if not catalog.mig_for_product(name)} == {"NVIDIA A100-SXM-64GB"}
    assert catalog.mig_for_product("A100-SXM4-40GB") is catalog.mig_geometry("a100-40gb")


def test_equal_geometries_are_equal_after_a_copy() -> None:
    text = yaml.safe_dump(_file())
    assert parse_mig_geometry(text, "x") == parse_mig_geometry(text, "y")
    assert hash(parse_mig_geometry(text, "x")) == hash(parse_mig_geometry(text, "y"))


def _file() -> dict[str, Any]:
    profile = {
        "name": "1g.6gb",
        "profile_id": 14,
        "nvml_enum": "ONE",
        "nvml_enum_value": 0,
        "compute_slices": 1,
        "memory_slices": 1,
        "placement_starts": [0, 1, 2, 3],
        "placement_size": 1,
        "max_instances": 4,
        "sm_count": 14,
        "memory_mib": 5952,
    }
    return {
        "schema": "mig-geometry/v1",
        "id": "test",
        "title": "Test",
        "status": "seen",
        "products": [{"nvml_name": "A GPU"}],
        "architecture": "Ampere",
        "compute_capability": "8.0",
        "sm_count_full_gpu": 56,
        "memory_slices": 4,
        "compute_slices": 4,
        "min_driver": "",
        "mig_mode_toggle_needs_gpu_reset": True,
        "profiles": [profile],
    }


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("placement_starts", [0, 4], "outside the 4"),
        ("placement_starts", None, "no placements"),
        ("max_instances", 3, "max_instances"),
        ("alternate_names", ["1g.6gb"], "unique"),
        ("placement_size", 99, "placement_size"),
    ],
)
def test_faults_of_a_geometry_file_are_named(key: str, value: object, named: str) -> None:
    document = _file()
    document["profiles"][0][key] = value
    with pytest.raises(InvalidInputError, match=named):
        parse_mig_geometry(yaml.safe_dump(document), "test.yaml")


def test_a_group_must_name_profiles_of_the_file() -> None:
    document = _file() | {"exclusive_groups": [{"members": ["9g.9gb"]}]}
    with pytest.raises(InvalidInputError, match="9g"):
        parse_mig_geometry(yaml.safe_dump(document), "test.yaml")


def test_an_illegal_start_is_refused_with_the_legal_ones() -> None:
    geometry = catalog.mig_geometry("a100-40gb")
    with pytest.raises(InvalidInputError, match="starts: 0, 4"):
        occupation(geometry, [("3g.20gb", 1)])
    with pytest.raises(InvalidInputError, match="overlaps"):
        place(geometry, Occupation(slices=1), geometry.profile("3g.20gb"), 0)


def test_a_product_that_cannot_be_partitioned_is_told_apart_from_an_unknown_one() -> None:
    for name in ("NVIDIA L40S", "L40S", "Tesla T4"):
        with pytest.raises(InvalidInputError, match="is not MIG-capable"):
            catalog.mig_geometry(name)
    with pytest.raises(InvalidInputError, match=r"no MIG geometry is shipped for it\. Known: .*NVIDIA A30"):
        catalog.mig_geometry("NVIDIA X1")
    with pytest.raises(InvalidInputError, match="did you mean 'NVIDIA A30'"):
        catalog.mig_geometry("nvidia a30")


def test_a_longer_product_name_finds_a_geometry_without_placements_only() -> None:
    assert catalog.mig_geometry("NVIDIA RTX PRO 4500 Blackwell Server Edition").id == "rtx-pro-4500-32gb"
    with pytest.raises(InvalidInputError):
        catalog.mig_geometry("NVIDIA A30 MIG 1g.6gb")
