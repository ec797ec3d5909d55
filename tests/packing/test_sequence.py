"""A row of arrivals at once decides as one `place` and `apply` after the other, and both as the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packing import reference
from packing.kernels.arrays import NONE
from packing.model import ClaimId, Snapshot
from packing.pack import pack
from packing.place import place
from packing.policy import POLICIES, make_policy
from packing.sequence import place_sequence
from tests.packing.clusters import World, clusters, demands, examples, mixes
from tests.packing.openb import openb


def step_by_step(world, pods):
    """Return (node, GPUs of all requests as one set, GPU in use so far) per arrival, from `place` and `apply`."""
    steps = []
    used = 0
    for number, demand in enumerate(pods):
        placement = world.admit(f"pod-{number}", demand)
        if placement is None:
            steps.append((NONE, 0, used))
            continue
        used += world.usage.taken_milli(ClaimId(f"pod-{number}"))
        gpus = sum(1 << gpu for gpu in {gpu for devices in placement.devices for gpu in devices.gpus})
        steps.append((world.fabric.index[placement.node], gpus, used))
    return steps


def at_once(world, pods):
    kinds = list(dict.fromkeys(pods))
    order = np.array([kinds.index(demand) for demand in pods], dtype=np.int64)
    trace = place_sequence(world.fabric, world.usage, kinds, order, world.policy)
    return list(zip(trace.node.tolist(), trace.devices.tolist(), trace.used_milli.tolist(), strict=True))


@pytest.mark.parametrize("policy", ["dovetail", "fgd", "best-fit"])
def test_the_first_1500_arrivals_of_openb_go_where_one_by_one_they_would(policy):
    nodes, mix, arrivals = openb()
    pods = arrivals[:1500]
    steps = step_by_step(World.of(nodes, mix, policy), pods)
    assert at_once(World.of(nodes, mix, policy), pods) == steps
    assert sum(node != NONE for node, _, _ in steps) == 1500, "at this load nothing is refused"


@examples(40)
@given(
    nodes=clusters(),
    mix=mixes(),
    policy=st.sampled_from(POLICIES),
    pods=st.lists(demands(), min_size=5, max_size=15),
)
def test_any_row_goes_where_one_by_one_it_would_and_uses_as_much(nodes, mix, policy, pods):
    one_by_one, row = World.of(nodes, mix, policy), World.of(nodes, mix, policy)
    assert at_once(row, pods) == step_by_step(one_by_one, pods)
    for name in ("nodes", "gpus", "hosted", "version", "recent", "events"):
        assert np.array_equal(getattr(row.usage.arrays, name), getattr(one_by_one.usage.arrays, name)), name


@pytest.mark.parametrize("policy", ["dovetail", "fgd", "gpu-packing", "upstream"])
def test_real_pods_go_where_the_reference_puts_them(policy):
    """Forty nodes of openb under their full mix, filled until every tenth pod is refused."""
    nodes, mix, arrivals = openb()
    some = nodes[::30]
    fabric, usage = pack(Snapshot(nodes=some))
    known = make_policy(policy, mix, fabric)
    slow, reference_policy = reference.Cluster(some), reference.ReferencePolicy(policy, mix, some)
    refused = 0
    for number, demand in enumerate(arrivals[:400]):
        decision = place(fabric, usage, demand, known)
        refused += decision.placement is None
        if number % 5 == 0:
            expected, score = reference.place(slow, demand, reference_policy)
            assert decision.placement == expected
            assert decision.placement is None or decision.score == score
        if decision.placement is not None:
            usage.apply(ClaimId(f"pod-{number}"), demand, decision.placement)
            slow.apply(ClaimId(f"pod-{number}"), demand, decision.placement)
    assert refused > 10
