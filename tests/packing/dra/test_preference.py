"""Which of the possible allocations it is: the policy's choice, the same by either way, and never an invalid one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packing.dra.inventory import build_inventory
from packing.dra.ledger import Ledger
from packing.dra.model import Constraint, DeviceShape, Effect, SubRequest, Taint, Toleration
from packing.dra.reference import is_valid
from packing.dra.why import Why
from packing.mix import DemandMix
from packing.model import LinkWish
from packing.policy import make_policy
from tests.packing.clusters import examples
from tests.packing.dra.builders import (
    GPUS,
    NICS,
    Machine,
    all_of,
    allocator_of,
    amount,
    ask,
    claim,
    devices,
    exactly,
    first_available,
    inventory_of,
    nic_pool,
    of_type,
)

PAIRS = "azure-nc96ads-a100-v4"
"""Four A100, NVLink joins 0-1 and 2-3."""
MPS = of_type("share", sharing="mps")
MIG = of_type("mig", profile="3g.40gb")
SELECTIONS = {
    "gpu": (GPUS, {}),
    "mig": (MIG, {}),
    "any mig": (of_type("mig"), {}),
    "share": (MPS, {"capacity": {"memory": amount("10Gi"), "computeMilli": amount(250)}}),
    "all memory": (MPS, {}),
}


def slowly(selection):
    """The same selection, which nobody may take for the same on all pools of a shape: only the search serves it."""
    return replace(selection, by_shape=False)


def single(kind: str, count: int, *, slow: bool, name: str = "gpu"):
    selection, fields = SELECTIONS[kind]
    return exactly(slowly(selection) if slow else selection, count, name=name, **fields)


KINDS = st.sampled_from(
    [("gpu", 1), ("gpu", 2), ("gpu", 3), ("mig", 1), ("any mig", 1), ("share", 1), ("all memory", 1)]
)


@examples(60)
@given(before=st.lists(KINDS, max_size=8), leaving=st.integers(0, 7), wanted=st.lists(KINDS, min_size=1, max_size=2))
def test_place_and_search_agree(before, leaving, wanted) -> None:
    """What `place()` can decide, the search decides alike: whether it fits, and for one request at the same score."""
    ledger = Ledger(inventory_of(Machine("a", PAIRS), Machine("b", "hgx-a100-4gpu"), Machine("c", "l4-8-pcie")))
    allocator = allocator_of(ledger)
    held = []
    for kind, count in before:
        asked = ask(single(kind, count, slow=False))
        found = allocator.allocate(asked).allocation
        if found is not None:
            held.append((asked.claims[0].uid, found.claims[0]))
            ledger.add_claim(*held[-1])
    if leaving < len(held):
        ledger.remove_claim(held.pop(leaving)[0])
    requests = {
        slow: [single(*each, slow=slow, name=f"r{at}") for at, each in enumerate(wanted)] for slow in (False, True)
    }
    fast, slow = (allocator.allocate(ask(*requests[way])) for way in (False, True))
    assert (fast.allocation is None) == (slow.allocation is None)
    assert ledger.exact.all()
    if fast.allocation is None or slow.allocation is None:
        return
    taken = [given for _, results in held for given in results]
    for outcome, way in ((fast, False), (slow, True)):
        node = ledger.inventory.fabric.index[outcome.allocation.node]
        assert is_valid(ledger.inventory.reach[node], taken, ask(*requests[way]), outcome.allocation.claims)
    if len(wanted) == 1:
        assert fast.score == slow.score


@pytest.mark.parametrize("slow", [False, True])
def test_a_true_nvlink_pair_is_chosen_where_first_fit_takes_two_halves(slow: bool) -> None:
    ledger = Ledger(inventory_of(Machine("a", PAIRS)))
    allocator = allocator_of(ledger)
    one = claim(exactly(GPUS))
    names = [[given.device.name for given in results] for results in first_fit_names(allocator, ledger, one)]
    assert names == [["gpu-0"]]
    pair = ask(single("gpu", 2, slow=slow))
    assert devices(allocator.allocate(pair).allocation) == [["gpu-2", "gpu-3"]]
    predicted, _ = allocator.predict(pair)[0]
    assert devices(predicted) == [["gpu-1", "gpu-2"]]


def first_fit_names(allocator, ledger, one):
    """Let first fit take a device."""
    found, _ = allocator.predict(ask(one))[0]
    ledger.add_claim(one.uid, found.claims[0])
    return found.claims


def test_links_may_be_required_of_a_set_found_by_search() -> None:
    ledger = Ledger(inventory_of(Machine("a", PAIRS)))
    allocator = allocator_of(ledger)
    asked = ask(exactly(slowly(GPUS), 2, link=LinkWish.REQUIRE), exactly(GPUS, name="other"))
    found = devices(allocator.allocate(asked).allocation)
    assert sorted(found[0][:2]) in (["gpu-0", "gpu-1"], ["gpu-2", "gpu-3"])
    four = ask(exactly(slowly(GPUS), 4, link=LinkWish.REQUIRE))
    assert allocator.allocate(four).allocation is None
    (lack,) = Why(ledger, make_policy("dovetail", DemandMix(()), ledger.inventory.fabric), four).node(0)
    assert lack.text == "request gpu: no 4 free GPUs joined by NVLink"


def test_a_gpu_and_a_card_at_one_root_over_two_drivers() -> None:
    roots = tuple(dict.fromkeys(d.attributes["resource.kubernetes.io/pcieRoot"].values[0] for d in gpu_devices()))
    inventory = inventory_of(Machine("a", PAIRS, beside=(nic_pool("elsewhere", roots[-1]),)))
    one_root = Constraint(attribute="resource.kubernetes.io/pcieRoot")
    asked = ask(claim(exactly(GPUS), exactly(NICS, name="nic"), constraints=[one_root]))
    ledger = Ledger(inventory)
    allocator = allocator_of(ledger)
    found = allocator.allocate(asked).allocation
    assert devices(found)[0][1] == "nic-1"
    ledger.add_claim(asked.claims[0].uid, found.claims[0])
    again = ask(claim(exactly(GPUS), exactly(NICS, name="nic"), constraints=[one_root]))
    assert allocator.allocate(again).allocation is None
    (lack,) = Why(ledger, make_policy("dovetail", DemandMix(()), inventory.fabric), again).node(0)
    assert lack.text == "no free devices satisfy matchAttribute resource.kubernetes.io/pcieRoot"


def gpu_devices() -> list[DeviceShape]:
    (reach,) = inventory_of(Machine("a", PAIRS)).reach[0]
    return [device for device in reach.pool.shape.devices if device.part.kind == "whole"]


def test_first_alternatives_are_taken_wherever_some_node_has_them() -> None:
    inventory = inventory_of(Machine("a", "l4-8-pcie"), Machine("b", PAIRS))
    big = SubRequest(name="gpu/big", selection=of_type("gpu", architecture="Ampere"), count=4)
    small = SubRequest(name="gpu/small", selection=GPUS)
    ledger = Ledger(inventory)
    for node, request in (("b", "gpu/big"), ("a", "gpu/small")):
        asked = ask(first_available("gpu", big=big, small=small))
        found = allocator_of(ledger).allocate(asked).allocation
        assert (found.node, found.claims[0][0].request) == (node, request)
        ledger.add_claim(asked.claims[0].uid, found.claims[0])


def test_nodes_within_the_slack_come_best_first() -> None:
    inventory = inventory_of(*(Machine(name, PAIRS) for name in "abcd"))
    outcome = allocator_of(Ledger(inventory)).allocate(ask(exactly(GPUS, 2)), slack=10**9, most=3)
    scores = [outcome.score, *(score for _, score in outcome.others)]
    assert [outcome.allocation.node, *(each.node for each, _ in outcome.others)] == ["a", "b", "c"]
    assert scores == sorted(scores, reverse=True)


def test_a_toleration_brings_a_tainted_gpu_back() -> None:
    (reach,) = inventory_of(Machine("a", PAIRS)).reach[0]
    sick = {
        at: (Taint("gpu.dovetail.dev/unhealthy", "", Effect.NO_EXECUTE),)
        for at, device in enumerate(reach.pool.shape.devices)
        if device.part.gpu == 0
    }
    inventory = inventory_of(Machine("a", PAIRS, tainted=sick, unhealthy=frozenset({0})))
    assert inventory.plain[0]
    allocator = allocator_of(Ledger(inventory))
    assert allocator.allocate(ask(exactly(GPUS, 4))).allocation is None
    tolerant = exactly(GPUS, 4, tolerations=(Toleration("", True, "", ""),))
    assert allocator.allocate(ask(tolerant)).allocation is not None


def test_a_gpu_with_binding_conditions_is_not_given() -> None:
    """Found in review: `place()` knows of no such conditions, and gave the GPUs that nobody can wait for."""
    (reach,) = inventory_of(Machine("a", PAIRS)).reach[0]
    waiting = [
        replace(device, binding_conditions=("ready",) if device.part.gpu else ()) for device in reach.pool.shape.devices
    ]
    pool = replace(reach.pool, shape=replace(reach.pool.shape, devices=tuple(waiting)))
    fabric = inventory_of(Machine("a", PAIRS)).fabric
    allocator = allocator_of(Ledger(build_inventory(fabric, {fabric.nodes[0].name: [all_of(pool)]})))
    assert allocator.allocate(ask(exactly(GPUS, 2))).allocation is None
    assert devices(allocator.allocate(ask(exactly(GPUS))).allocation) == [["gpu-0"]]


# Bugs that happened to others (reliability): each stays away.


def test_t20_shares_spread_no_more_thinly_than_they_must() -> None:
    """Sixteen halves on eight GPUs: exactly two on each, whoever came first."""
    ledger = Ledger(inventory_of(Machine("a", "l4-8-pcie")))
    for _ in range(16):
        asked = ask(exactly(MPS, capacity={"memory": amount("1Gi"), "computeMilli": amount(500)}))
        ledger.add_claim(asked.claims[0].uid, allocator_of(ledger).allocate(asked).allocation.claims[0])
    (reach,) = ledger.inventory.reach[0]
    assert set(ledger.in_use.pool(reach.pool).shares.values()) == {2}


@pytest.mark.parametrize("slow", [False, True])
def test_t31_memory_of_shares_never_exceeds_that_of_the_gpu(slow: bool) -> None:
    """Three times 12 GiB do not fit on one GPU of 24."""
    ledger = Ledger(inventory_of(Machine("a", "rtx3090-2-nvlink")))
    allocator, fitted = allocator_of(ledger), 0
    selection = slowly(MPS) if slow else MPS
    for _ in range(6):
        asked = ask(exactly(selection, capacity={"memory": amount("12Gi")}))
        found = allocator.allocate(asked).allocation
        if found is not None:
            fitted += 1
            ledger.add_claim(asked.claims[0].uid, found.claims[0])
    assert fitted == 4
    (reach,) = ledger.inventory.reach[0]
    for name, consumed in ledger.in_use.pool(reach.pool).consumed.items():
        (device,) = [device for device in reach.pool.shape.devices if device.name == name]
        assert consumed["memory"] <= device.capacity["memory"].value


def test_t37_all_devices_and_counters() -> None:
    """k/k 138885: allocationMode All over devices with counters panicked."""
    ledger = Ledger(inventory_of(Machine("a", PAIRS)))
    allocator = allocator_of(ledger)
    found = allocator.allocate(ask(exactly(GPUS, all_devices=True))).allocation
    assert sorted(devices(found)[0]) == ["gpu-0", "gpu-1", "gpu-2", "gpu-3"]
    assert allocator.allocate(ask(exactly(of_type("mig"), all_devices=True))).allocation is None


def test_t37_counters_are_given_back_on_the_way_back() -> None:
    """k/k 140326: what a path given up had taken stayed taken, and the next way looked full."""
    ledger = Ledger(inventory_of(Machine("a", "rtx3090-2-nvlink")))
    asked = ask(exactly(slowly(MPS), name="share"), exactly(slowly(GPUS), name="whole"))
    found = devices(allocator_of(ledger).allocate(asked).allocation)
    assert {name.split("-")[1] for name in found[0]} == {"0", "1"}


def test_t37_a_device_that_lacks_capacity_does_not_hide_the_next() -> None:
    """k/k 133705: a device without the capacity asked for ended the search for others."""
    ledger = Ledger(inventory_of(Machine("a", "rtx3090-2-nvlink")))
    allocator = allocator_of(ledger)
    for _ in range(2):
        asked = ask(exactly(slowly(MPS), capacity={"memory": amount("20Gi")}))
        found = allocator.allocate(asked).allocation
        assert found is not None
        ledger.add_claim(asked.claims[0].uid, found.claims[0])
    assert allocator.allocate(ask(exactly(slowly(MPS), capacity={"memory": amount("20Gi")}))).allocation is None


def test_the_shares_of_one_pod_on_one_device_take_its_counters_once() -> None:
    """The first share of a GPU takes all of it from whole and partitioned use, the second nothing more."""
    ledger = Ledger(inventory_of(Machine("a", "rtx3090-2-nvlink")))
    half = {"capacity": {"memory": amount("12Gi")}}
    requests = [exactly(slowly(MPS), name=f"share-{at}", **half) for at in range(2)]
    asked = ask(*requests, exactly(slowly(GPUS), name="whole"))
    found = allocator_of(ledger).allocate(asked).allocation
    assert len({given.device for given in found.claims[0]}) == 2
