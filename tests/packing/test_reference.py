"""Kernels on packed arrays decide exactly as the slow reference does on domain values: node, devices, score.

One law tests packing, tables, kernels and decoding at once.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packing import reference
from packing.kernels.arrays import INFEASIBLE, UNDECIDED
from packing.memory import memory_of
from packing.model import ClaimId
from packing.place import place
from packing.policy import POLICIES
from tests.packing.clusters import World, clusters, examples, histories, mixes


@pytest.mark.parametrize("policy", POLICIES)
@examples(40)
@given(nodes=clusters(), mix=mixes(), history=histories(), seed=st.integers(0, 3))
def test_every_policy_decides_as_the_reference(policy, nodes, mix, history, seed):
    world = World.of(nodes, mix, policy, seed)
    slow = reference.Cluster(nodes)
    known = reference.ReferencePolicy(policy, mix, slow.nodes, seed=seed)
    for number, step in enumerate(history):
        claim = f"pod-{number}"
        if isinstance(step, int):
            gone = world.evict(step)
            if gone is not None:
                slow.release(ClaimId(gone))
            continue
        decision = place(world.fabric, world.usage, step, world.policy)
        placement, score = reference.place(slow, step, known)
        assert decision.placement == placement
        assert scores(world, step) == reference_scores(slow, step, known)
        if placement is None:
            continue
        assert decision.score == score
        world.usage.apply(ClaimId(claim), step, placement)
        slow.apply(ClaimId(claim), step, placement)


def scores(world, demand):
    """Return the score of every node in tie order, None where it cannot serve."""
    memory = memory_of(world.usage, world.policy)
    row = memory.cache.scores[memory.row(world.usage.classes.index(demand)), : len(world.nodes)]
    return [None if score in (INFEASIBLE, UNDECIDED) else int(score) for score in row]


def reference_scores(slow, demand, known):
    answers = [reference.serve(slow, at, state, demand, known) for at, state in enumerate(slow.states())]
    return [None if answer is None else answer[0] for answer in answers]
