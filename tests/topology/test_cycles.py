"""Link-disjoint Hamiltonian cycles: the search against the derived DGX classes, brute force and an integer program."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from topology import catalog, cycles
from topology.cycleprogram import pack_by_integer_program
from topology.cycles import disjoint_cycles, hamiltonian_cycles, pairs
from topology.rates import nvlink_counts

DATA = Path(__file__).parent / "data" / "topology"
Links = tuple[tuple[int, ...], ...]


def _links(k: int, counts: tuple[int, ...]) -> Links:
    matrix = [[0] * k for _ in range(k)]
    for (i, j), count in zip(pairs(k), counts, strict=True):
        matrix[i][j] = matrix[j][i] = count
    return tuple(map(tuple, matrix))


def _graphs(sizes: st.SearchStrategy[int], most: int) -> st.SearchStrategy[Links]:
    def of(k: int) -> st.SearchStrategy[Links]:
        count = k * (k - 1) // 2
        return st.tuples(*[st.integers(0, most)] * count).map(lambda counts: _links(k, counts))

    return sizes.flatmap(of)


def _by_trying_everything(links: Links) -> int:
    """Return the answer by taking every cycle first, and the rest by the same rule."""
    k = len(links)
    number = {pair: at for at, pair in enumerate(pairs(k))}
    orders = {
        frozenset(Counter(number[min(a, b), max(a, b)] for a, b in zip(o, o[1:] + o[:1], strict=True)).elements())
        for o in permutations(range(k))
    }

    @cache
    def most(left: tuple[int, ...]) -> int:
        fitting = [order for order in orders if all(left[pair] for pair in order)]
        return max((1 + most(tuple(c - (p in o) for p, c in enumerate(left))) for o in fitting), default=0)

    return most(tuple(links[i][j] for i, j in pairs(k)))


@pytest.mark.parametrize(("machine", "file"), [("dgx1-v100", "dgx1v"), ("dgx1-p100", "dgx1p")])
def test_all_subsets_of_a_dgx1_have_the_derived_number_of_rings(machine: str, file: str) -> None:
    counts = nvlink_counts(catalog.machine(machine))
    expected: Counter[tuple[int, int]] = Counter()
    for entry in yaml.safe_load((DATA / f"{file}-subset-classes.yaml").read_text())["classes"]:
        if entry["k"] >= 3:
            expected[entry["k"], entry["directed_nvlink_rings"]] += entry["subsets"]
            chosen = counts[np.ix_(entry["representative"], entry["representative"])].tolist()
            assert 2 * disjoint_cycles(tuple(map(tuple, chosen))) == entry["directed_nvlink_rings"]
    found: Counter[tuple[int, int]] = Counter()
    for k in range(3, 9):
        for gpus in combinations(range(8), k):
            inner = tuple(map(tuple, counts[np.ix_(gpus, gpus)].tolist()))
            found[k, 2 * disjoint_cycles(inner)] += 1
    assert found == expected


@settings(deadline=None, max_examples=150)
@given(_graphs(st.integers(3, 5), 3))
def test_small_graphs_against_trying_everything(links: Links) -> None:
    assert disjoint_cycles(links) == _by_trying_everything(links)


@settings(deadline=None, max_examples=60)
@given(_graphs(st.integers(5, 7), 4))
def test_larger_graphs_against_an_integer_program(links: Links) -> None:
    found = hamiltonian_cycles(links)
    counts = tuple(links[i][j] for i, j in pairs(len(links)))
    assert disjoint_cycles(links) == (pack_by_integer_program(counts, found) if found else 0)


@settings(deadline=None, max_examples=30)
@given(_graphs(st.integers(3, 5), 3))
def test_a_search_cut_short_still_gives_the_exact_answer(links: Links) -> None:
    kept = cycles.MAX_STEPS
    cycles.MAX_STEPS = 0
    try:
        assert disjoint_cycles.__wrapped__(links) == _by_trying_everything(links)
    finally:
        cycles.MAX_STEPS = kept


@settings(deadline=None, max_examples=60)
@given(_graphs(st.integers(3, 6), 3), st.data())
def test_relabelling_changes_nothing_and_a_link_never_hurts(links: Links, data: st.DataObject) -> None:
    k = len(links)
    order = data.draw(st.permutations(range(k)))
    assert disjoint_cycles(tuple(tuple(links[i][j] for j in order) for i in order)) == disjoint_cycles(links)
    i, j = data.draw(st.sampled_from(pairs(k)))
    more = [list(row) for row in links]
    more[i][j] += 1
    more[j][i] += 1
    assert disjoint_cycles(tuple(map(tuple, more))) >= disjoint_cycles(links)


@pytest.mark.parametrize(("k", "links", "rings"), [(3, 1, 1), (4, 6, 9), (5, 1, 2), (8, 1, 3), (8, 2, 7), (7, 1, 3)])
def test_complete_graphs_split_into_rings(k: int, links: int, rings: int) -> None:
    # An odd complete graph is a union of (k-1)/2 rings; an even one leaves a matching, which a second copy completes.
    assert disjoint_cycles(_links(k, (links,) * (k * (k - 1) // 2))) == rings


def test_every_hamiltonian_cycle_is_listed_once() -> None:
    for k, count in ((3, 1), (4, 3), (5, 12), (6, 60), (8, 2520)):
        found = hamiltonian_cycles(_links(k, (1,) * (k * (k - 1) // 2)))
        assert len(found) == len({frozenset(cycle) for cycle in found}) == count
