"""Pods of several requests, mixes of them, and wishes between kinds of machine: cases that a review found."""

from __future__ import annotations

from itertools import permutations

import pytest

from packing.mix import DemandMix
from packing.model import Demand, MigMode, PartitionRequest, Selector, ShareRequest, Snapshot, WholeRequest
from packing.pack import pack
from packing.place import place
from packing.policy import POLICIES, make_policy
from tests.packing.clusters import A100, flat_shape, machine_shape, node

ONE_DGX = (node("a", machine_shape("hgx-h100-8")),)


def decide(nodes, demand, policy="dovetail"):
    fabric, usage = pack(Snapshot(nodes=nodes))
    return place(fabric, usage, demand, make_policy(policy, DemandMix.from_demands([(demand, 1)]), fabric))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("pairs", [2, 6, 8])
def test_shares_that_fit_only_in_pairs_are_placed(policy, pairs):
    small = tuple(ShareRequest(compute_milli=400) for _ in range(pairs))
    large = tuple(ShareRequest(compute_milli=600) for _ in range(pairs))
    free = node("a", machine_shape("hgx-h100-8"), unhealthy=frozenset(range(pairs, 8)))
    assert decide((free,), Demand(requests=small + large), policy).placement is not None


@pytest.mark.parametrize(("sets", "fits"), [(5, True), (6, False)])
def test_whole_sets_that_do_not_add_up_are_refused_without_a_search(sets, fits):
    decision = decide((node("a", machine_shape("dgx2-v100")),), Demand(requests=(WholeRequest(count=3),) * sets))
    assert (decision.placement is not None) == fits
    assert not decision.undecided


def test_every_request_of_a_pod_is_known_to_the_mix():
    requests = (ShareRequest(compute_milli=500), PartitionRequest(profile="1g.5gb"), WholeRequest(count=2))
    mix = DemandMix.from_demands([(Demand(requests=requests), 100)])
    assert {spec.request for spec in mix.specs()} == set(requests)


def test_the_order_of_a_history_does_not_matter_also_for_selectors_that_differ_in_memory_or_architecture():
    selectors = [Selector(min_memory_mib=n) for n in (1, 2)] + [Selector(architectures=(name,)) for name in "AB"]
    history = [(Demand(requests=(WholeRequest(selector=one),)), 25) for one in selectors]
    history.append((Demand(requests=(WholeRequest(count=2),)), 3))
    views = {
        (mix.counts, mix.specs(), mix.typical_pods())
        for order in permutations(history)
        for mix in [DemandMix.from_demands(order)]
    }
    assert len(views) == 1


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_a_wish_for_links_prefers_nvlink_also_between_kinds_of_machine(names):
    slow, fast = names
    nodes = (node(slow, machine_shape("l40s-4-pcie")), node(fast, machine_shape("hgx-h100-8")))
    placement = decide(nodes, Demand(requests=(WholeRequest(count=4),))).placement
    assert placement is not None
    assert placement.node == fast


def test_the_order_of_requests_does_not_decide_what_links_are_worth():
    nodes = (node("a", machine_shape("dgx1-v100"), unhealthy=frozenset(range(3, 8))), node("b", flat_shape()))
    pair, share = WholeRequest(count=2), ShareRequest(compute_milli=1000)
    scores = {decide(nodes, Demand(requests=order)).score for order in permutations((pair, share))}
    assert len(scores) == 1


@pytest.mark.parametrize(("least", "profile"), [(5000, "1g.10gb"), (9000, "1g.10gb"), (15_000, "3g.20gb")])
def test_a_partition_by_size_is_the_smallest_that_will_do(least, profile):
    shape = flat_shape(*[A100] * 2)
    demand = Demand(requests=(PartitionRequest(min_memory_mib=least),))
    decision = decide((node("a", shape, mig_mode=MigMode.DYNAMIC),), demand)
    assert decision.placement is not None
    assert decision.placement.devices[0].profile == profile
