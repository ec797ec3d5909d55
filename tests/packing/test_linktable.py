"""Link tables against plain brute force, and what they say about real machines."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packing.kernels.linksets import choose_sets, pack_disjoint
from packing.linktable import DEFAULT_WEIGHTS, SIZES, LinkTable, build_link_table, k_sets, set_worth
from topology import catalog
from topology.errors import InvalidInputError
from topology.quality import SetQuality, flat_quality, set_quality

SMALL = [name for name in catalog.machine_names() if catalog.machine(name).gpu_count <= 8]


def _table(machine: str) -> LinkTable:
    return build_link_table(set_quality(catalog.machine(machine)))


def _bits(mask: int) -> tuple[int, ...]:
    return tuple(gpu for gpu in range(16) if mask >> gpu & 1)


def _mask(*gpus: int) -> int:
    return sum(1 << gpu for gpu in gpus)


def _subsets(mask: int, k: int) -> Iterator[int]:
    return (_mask(*gpus) for gpus in combinations(_bits(mask), k))


class Slow:
    """The same answers from sets of disjoint sets, one at a time, in Python integers."""

    def __init__(self, quality: SetQuality, weights: tuple[int, ...]) -> None:
        self.n = quality.gpu_count
        self.q = quality.quality_mbps.tolist()
        self.locality = quality.locality.tolist()
        self.weights = dict(zip(SIZES, weights, strict=True))
        full = (1 << self.n) - 1
        self.ideal = [max(self.q[s] for s in _subsets(full, k)) for k in range(self.n + 1)]
        self.packed = cache(self._packed)
        self.count = cache(self._count)
        self.value = cache(self._value)

    def ratio(self, chosen: int) -> int:
        ideal = self.ideal[chosen.bit_count()]
        return int(self.q[chosen] * 1_000_000 // ideal) if ideal else 1_000_000

    def worth(self, chosen: int) -> int:
        return 1_000_000 if chosen.bit_count() == 1 else 50_000 + 950_000 * self.ratio(chosen) // 1_000_000

    def _packed(self, k: int, mask: int) -> int:
        return max((self.worth(s) + self.packed(k, mask ^ s) for s in _subsets(mask, k)), default=0)

    def _count(self, k: int, mask: int) -> int:
        ideal = (s for s in _subsets(mask, k) if self.q[s] == self.ideal[k])
        return max((1 + self.count(k, mask ^ s) for s in ideal), default=0)

    def _value(self, mask: int) -> int:
        return sum(self.weights[k] * k * self.packed(k, mask) for k in SIZES if k <= self.n) // 1000

    def choices(self, k: int, mask: int, value: object = None) -> tuple[int, int, int]:
        """Return the sets that prefer, none and quality take; `value(mask)` may be given."""
        worth = self.value if value is None else value
        assert callable(worth)
        options = []
        for chosen in _subsets(mask, k):
            kept = worth(mask ^ chosen)
            tie = (self.locality[chosen], tuple(-gpu for gpu in _bits(chosen)))
            bonus = 4_000_000_000 * k * self.ratio(chosen) // 1_000_000
            options.append((chosen, (bonus + kept, tie), (kept, tie), (self.q[chosen], kept, tie)))
        if not options:
            return 0, 0, 0
        return tuple(max(options, key=lambda o: o[at])[0] for at in (1, 2, 3))  # type: ignore[return-value]


def _assert_equal(quality: SetQuality, weights: tuple[int, ...] = DEFAULT_WEIGHTS) -> None:
    table, slow = build_link_table(quality, weights), Slow(quality, weights)
    n = quality.gpu_count
    assert table.ideal.tolist() == slow.ideal
    assert table.sizes.tolist() == [k for k in SIZES if k <= n]
    for mask in range(1 << n):
        assert table.ratio[mask] == slow.ratio(mask)
        assert table.value[mask] == slow.value(mask)
        for s, k in enumerate(table.sizes.tolist()):
            assert table.packed[s, mask] == slow.packed(k, mask)
            assert table.count[s, mask] == slow.count(k, mask)
        for k in range(n + 1):
            found = (table.best_prefer[k, mask], table.best_none[k, mask], table.best_quality[k, mask])
            assert found == slow.choices(k, mask), (k, mask)


@pytest.mark.parametrize("name", SMALL)
def test_every_mask_and_size_of_every_machine_equals_brute_force(name: str) -> None:
    _assert_equal(set_quality(catalog.machine(name)))


def _random(n: int, seed: int, levels: int) -> SetQuality:
    rng = np.random.default_rng(seed)
    quality = rng.integers(0, levels, 1 << n)
    quality[k_sets(n, 0)] = quality[k_sets(n, 1)] = 0
    return SetQuality(n, quality, (quality > 0).astype(np.uint8), rng.integers(0, 3, 1 << n))


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 5),
    st.integers(0, 1000),
    st.sampled_from([1, 2, 3, 1_000_000]),
    st.lists(st.integers(0, 200_000), min_size=5, max_size=5),
)
def test_arbitrary_qualities_and_weights_equal_brute_force(n: int, seed: int, levels: int, weights: list[int]) -> None:
    _assert_equal(_random(n, seed, levels) if n else flat_quality(0), tuple(weights))


@lru_cache(maxsize=1)
def _sixteen() -> tuple[SetQuality, LinkTable]:
    quality = _random(16, 7, 5)
    return quality, build_link_table(quality)


def test_choices_of_sixteen_gpus_equal_brute_force_on_500_masks() -> None:
    quality, table = _sixteen()
    slow = Slow(quality, DEFAULT_WEIGHTS)
    rng = np.random.default_rng(0)
    for mask in rng.integers(0, 1 << 16, 500).tolist():
        for k in (int(rng.integers(0, 7)), int(rng.integers(0, 7))):
            found = (table.best_prefer[k, mask], table.best_none[k, mask], table.best_quality[k, mask])
            assert found == slow.choices(k, mask, value=lambda rest: int(table.value[rest]))


def test_packings_of_sixteen_gpus_equal_brute_force_on_500_masks() -> None:
    quality, table = _sixteen()
    slow = Slow(quality, DEFAULT_WEIGHTS)
    rng = np.random.default_rng(1)
    for _ in range(500):
        mask = _mask(*rng.choice(16, int(rng.integers(0, 9)), replace=False).tolist())
        assert table.value[mask] == slow.value(mask)
        for s, k in enumerate(SIZES):
            assert table.packed[s, mask] == slow.packed(k, mask)
            assert table.count[s, mask] == slow.count(k, mask)


def test_the_whole_of_sixteen_switched_gpus() -> None:
    table = _table("dgx2-v100")
    assert table.count[:, -1].tolist() == [16, 8, 4, 2, 1]
    assert table.value[-1] == 16 * 10**9
    assert table.best_prefer[16, -1] == (1 << 16) - 1


def test_default_weights_are_demand_shares_over_the_root_of_the_size() -> None:
    raw = [share * size**-0.5 for share, size in zip((0.45, 0.25, 0.20, 0.10), SIZES, strict=False)]
    assert sum(DEFAULT_WEIGHTS) == 1_000_000
    for weight, share in zip(DEFAULT_WEIGHTS, raw, strict=False):
        assert abs(weight - 1e6 * share / sum(raw)) < 1


def test_an_empty_machine_of_eight_is_worth_its_gpus() -> None:
    assert _table("dgx1-v100").value[255] == 8 * 10**9
    assert _table("dgx1-v100").value[0] == 0


def test_worth_of_a_set_keeps_a_floor_for_being_a_set() -> None:
    assert set_worth(1, 0) == 1_000_000
    assert set_worth(4, 0) == 50_000
    assert set_worth(4, 1_000_000) == 1_000_000


def test_dgx1v_takes_double_links_and_whole_quads() -> None:
    table = _table("dgx1-v100")
    assert table.best_prefer[4, 255] == _mask(0, 1, 2, 3)
    assert table.best_prefer[2, _mask(0, 1, 4, 5)] == _mask(0, 4)
    assert table.best_quality[2, _mask(0, 1, 5)] == _mask(1, 5)


def test_one_gpu_is_taken_where_its_bridge_partner_is_gone() -> None:
    table = _table("a100-8-pcie-nvlink-pairs")
    for free in (_mask(0, 1, 2, 3, 5), _mask(0, 1, 5, 6, 7)):
        assert table.best_prefer[1, free] == table.best_none[1, free] == _mask(5)
    assert table.count[1, _mask(0, 1, 2, 3)] == 2
    assert table.count[1, _mask(0, 2, 4)] == 0


def test_bridged_pairs_are_taken_whole_and_side_by_side() -> None:
    table = _table("a100-8-pcie-nvlink-pairs")
    first = int(table.best_prefer[2, 255])
    second = int(table.best_prefer[2, 255 & ~first])
    assert first in {_mask(0, 1), _mask(2, 3), _mask(4, 5), _mask(6, 7)}
    assert second in {_mask(0, 1), _mask(2, 3), _mask(4, 5), _mask(6, 7)} - {first}


def test_on_a_switched_machine_ties_fall_to_one_pcie_switch() -> None:
    table = _table("azure-nd96-a100-v4")
    assert table.best_prefer[2, _mask(0, 2, 3)] == _mask(2, 3)
    assert _table("hgx-h100-8").best_prefer[2, _mask(1, 2, 3)] == _mask(2, 3)


def test_without_knowledge_of_links_the_lowest_indices_are_taken() -> None:
    table = build_link_table(flat_quality(8))
    assert (table.ratio == 1_000_000).all()
    for best in (table.best_prefer, table.best_none, table.best_quality):
        assert best[3, 0b1101_0110] == 0b1_0110


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(SMALL), st.integers(0, 255), st.integers(0, 255))
def test_value_grows_with_the_free_set(name: str, one: int, other: int) -> None:
    table = _table(name)
    top = len(table.value) - 1
    assert table.value[one & other & top] <= table.value[one & top]


def test_tables_are_read_only_and_of_one_type() -> None:
    table = _table("dgx1-v100")
    for name in LinkTable.__slots__:
        array = getattr(table, name)
        assert array.dtype == (np.uint16 if name.startswith("best") else np.int64)
        assert array.flags.c_contiguous
        assert not array.flags.writeable


@pytest.mark.parametrize("weights", [(1, 1), (-1, 0, 0, 0, 0), (500_000, 500_001, 0, 0, 0)])
def test_weights_out_of_range_are_refused(weights: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match="size_weights"):
        build_link_table(flat_quality(2), weights)


def test_each_kernel_is_compiled_for_one_signature() -> None:
    _table("dgx1-v100")
    build_link_table(flat_quality(3))
    for kernel in (pack_disjoint, choose_sets):
        assert len(getattr(kernel, "signatures", [None])) <= 1
