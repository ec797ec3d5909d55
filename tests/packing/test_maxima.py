"""The two structures that spare a decision its pass over the nodes, each against the plain pass it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packing.kernels.arrays import INFEASIBLE, NONE, UNDECIDED
from packing.kernels.decide import changed_nodes
from packing.kernels.jit import hot_kernel
from packing.kernels.maxima import best_node, empty_trees, level_starts, update_maxima
from packing.mix import DemandMix
from packing.model import Demand, Devices, Placement, ShareRequest
from tests.packing.clusters import World, examples, machine_shape, node

MIX = DemandMix.from_demands([(Demand(requests=(ShareRequest(compute_milli=500),)), 1)])
scores = st.one_of(st.just(INFEASIBLE), st.just(UNDECIDED), st.integers(-3, 3), st.integers(-(10**15), 10**15))


@hot_kernel
def set_and_find(tree, starts, at, score):
    """Give a node a score and return the best one."""
    tree[at] = score
    update_maxima(tree, starts, at)
    return best_node(tree, starts)


@hot_kernel
def changed_since(usage, seen, out):
    return changed_nodes(usage, seen, out)


def first_best(row):
    """The plain pass: the first node with the highest score, NONE where none is feasible."""
    best = max(row)
    return NONE if best <= UNDECIDED else row.index(best)


@examples(200)
@given(st.sampled_from([1, 2, 7, 8, 9, 63, 64, 65, 520]), st.data())
def test_the_tree_finds_the_first_node_with_the_highest_score(nodes, data):
    starts = level_starts(nodes)
    tree, row = empty_trees(1, starts)[0], [INFEASIBLE] * nodes
    for _ in range(data.draw(st.integers(1, 30))):
        at, score = data.draw(st.integers(0, nodes - 1)), data.draw(scores)
        row[at] = score
        assert set_and_find(tree, starts, at, score) == first_best(row)
        assert tree[-1] == max(row)
    assert tree[:nodes].tolist() == row


def test_a_tree_over_no_node_has_no_best():
    starts = level_starts(0)
    assert (empty_trees(3, starts) == INFEASIBLE).all()
    assert starts.tolist() == [0, 8]


@pytest.mark.parametrize("nodes", [1, 8, 1213, 100_000])
def test_the_maxima_take_a_seventh_of_the_scores_and_padding(nodes):
    starts = level_starts(nodes)
    assert starts[-1] + 1 <= nodes * 8 / 7 + 8 * len(starts)
    assert 8 ** (len(starts) - 1) < 8 * max(nodes, 8)


@examples(60)
@given(
    count=st.integers(0, 40),
    changes=st.lists(st.integers(0, 39), max_size=60),
    seen=st.integers(NONE, 60),
    twist=st.integers(0, 2),
)
def test_the_changed_nodes_are_those_a_pass_over_all_versions_finds(count, changes, seen, twist):
    world = World.of(tuple(node(f"n{i:02}", machine_shape("dgx1-v100")) for i in range(count)), MIX, "best-fit")
    share = Demand(requests=(ShareRequest(compute_milli=1),))
    for number, at in enumerate(changes if count else []):
        mark = world.usage.checkpoint()
        where = world.nodes[at % count]
        world.usage.apply(f"c{number}", share, placed_on(where))
        if number % 3 < twist:
            world.usage.rollback(mark)
        else:
            world.usage.forget(mark)
    arrays = world.usage.arrays
    out = np.zeros(count, dtype=np.int64)
    found = out[: changed_since(arrays, seen, out)]
    assert sorted(found.tolist()) == np.flatnonzero(arrays.version > seen).tolist()
    assert sorted(follow(arrays.recent)) == list(range(count))


def placed_on(where):
    return Placement(node=where.name, devices=(Devices(gpus=(0,)),))


def follow(recent):
    """The nodes of the ring, latest change first; the way back must be the same."""
    ring = len(recent) - 1
    order, at = [], int(recent[ring, 1])
    while at != ring:
        assert recent[recent[at, 1], 0] == at
        order.append(at)
        at = int(recent[at, 1])
    return order
