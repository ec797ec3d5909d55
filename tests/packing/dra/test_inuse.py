"""What claims hold follows them by UID, whatever comes twice, late or in another order (T33)."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from packing.dra.inuse import InUse
from packing.dra.inventory import build_inventory
from packing.dra.ledger import Ledger
from packing.dra.model import Capacity, ClaimUid, CounterUse, DeviceId, DeviceShape, Given, PoolShape, Reach
from packing.fabric import build_fabric
from packing.model import NodeName
from tests.packing.clusters import examples, node
from tests.packing.dra.builders import (
    GPU_DRIVER,
    GPUS,
    NIC_DRIVER,
    NICS,
    NO_GPUS,
    Machine,
    allocator_of,
    amount,
    ask,
    exactly,
    inventory_of,
)

MACHINE = "azure-nc96ads-a100-v4"


def given_device(name: str, pool: str = "a", **fields) -> Given:
    return Given("gpu", DeviceId(GPU_DRIVER, f"{pool}/{GPU_DRIVER}", name), **fields)


SHARE = {"memory": amount("10Gi"), "computeMilli": amount(250)}
HOLDINGS = (
    (given_device("gpu-0"),),
    (given_device("gpu-0"), given_device("gpu-1")),
    (given_device("gpu-1-mig-1g10gb-19-0"),),
    (given_device("gpu-2-mps", consumed=SHARE),),
    (given_device("gpu-2-mps", consumed=SHARE), given_device("gpu-3-time-slicing", consumed=SHARE)),
    (given_device("gpu-0", admin=True),),
    (given_device("gone-9"),),
    (given_device("gpu-3", pool="unknown"),),
)
EVENTS = st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.sampled_from(HOLDINGS))), max_size=14)


def state_of(ledger: Ledger) -> tuple:
    """All that a decision can look at."""
    (reach,) = ledger.inventory.reach[0]
    use = ledger.in_use.pool(reach.pool)
    usage = ledger.usage.arrays
    gpus = usage.gpus.tolist(), usage.nodes.tolist()
    return use.content(), dict(use.taken), dict(use.counters(reach.pool.shape)), gpus, ledger.exact.tolist()


@examples(200)
@given(events=EVENTS, order=st.randoms(use_true_random=False))
def test_only_what_claims_hold_now_counts(events, order) -> None:
    """Claims that come, change, go and come again leave what they would have left had each come once, at last."""
    inventory = inventory_of(Machine("a", MACHINE))
    ledger, last = Ledger(inventory), {}
    for claim, holding in events:
        uid = ClaimUid(f"claim-{claim}")
        for _ in range(2):
            if holding is None:
                ledger.remove_claim(uid)
                last.pop(uid, None)
            else:
                ledger.add_claim(uid, holding)
                last[uid] = holding
    fresh = Ledger(inventory)
    for uid, holding in last.items():
        fresh.add_claim(uid, holding)
    ours, theirs = state_of(ledger), state_of(fresh)
    assert ours[:3] == theirs[:3]
    for uid in order.sample(sorted(last), len(last)):
        ledger.remove_claim(uid)
    assert state_of(ledger) == state_of(Ledger(inventory))


def test_a_second_seeing_changes_nothing() -> None:
    in_use = InUse()
    assert in_use.add(ClaimUid("c"), HOLDINGS[0])
    assert not in_use.add(ClaimUid("c"), HOLDINGS[0])
    assert in_use.remove(ClaimUid("c"))
    assert not in_use.remove(ClaimUid("c"))


def test_a_device_of_two_claims_is_free_when_both_are_gone() -> None:
    """Two allocators may have given it away twice: nothing else may be given on that node before both have left."""
    ledger = Ledger(inventory_of(Machine("a", MACHINE)))
    allocator, wanted = allocator_of(ledger), ask(exactly(GPUS, 4))
    for uid in "ab":
        ledger.add_claim(ClaimUid(uid), HOLDINGS[0])
    assert not ledger.exact[0]
    assert ledger.in_use.holders(HOLDINGS[0][0].device) == ("a", "b")
    for uid in "ab":
        assert allocator.allocate(wanted).allocation is None
        assert allocator.allocate(ask(exactly(GPUS, 3))).allocation is not None
        ledger.remove_claim(ClaimUid(uid))
    assert ledger.exact[0]
    assert allocator.allocate(wanted).allocation is not None


def test_what_is_let_go_for_a_question_is_held_again() -> None:
    ledger = Ledger(inventory_of(Machine("a", MACHINE)))
    ledger.add_claim(ClaimUid("a"), HOLDINGS[1])
    ledger.add_pod("pod", ledger.inventory.fabric.nodes[0].name, 1000, 512)
    before = state_of(ledger)
    with ledger.without([ClaimUid("a"), ClaimUid("unknown")], ["pod"]):
        assert allocator_of(ledger).allocate(ask(exactly(GPUS, 4))).allocation is not None
    assert state_of(ledger) == before


def test_pods_beyond_what_a_node_has_take_what_is_left() -> None:
    """Static pods and late events may hold more than the node says it has."""
    ledger = Ledger(inventory_of(Machine("a", cpu_milli=1000)))
    name = ledger.inventory.fabric.nodes[0].name
    ledger.add_pod("one", name, 800, 0)
    ledger.add_pod("two", name, 800, 0)
    assert ledger.usage.arrays.nodes[0, 0] == 0
    ledger.remove_pod("one")
    assert ledger.usage.arrays.nodes[0, 0] == 200
    assert not ledger.add_pod("three", type(name)("unknown"), 1, 1)


def test_a_share_keeps_a_device_that_is_not_to_be_shared_any_more() -> None:
    """Found in review: republished without allowMultipleAllocations, a device with live shares was given away whole."""
    device = DeviceShape(name="card", capacity={"bw": Capacity(amount(10))})
    pool = PoolShape(driver=NIC_DRIVER, devices=(device,), counters={})
    ledger = Ledger(inventory_of(Machine("a", beside=(pool,))))
    share = Given("nic", DeviceId(NIC_DRIVER, f"a/{NIC_DRIVER}", "card"), consumed={"bw": amount(5)})
    ledger.add_claim(ClaimUid("held"), [share])
    assert allocator_of(ledger).allocate(ask(exactly(NICS))).allocation is None
    ledger.remove_claim(ClaimUid("held"))
    assert allocator_of(ledger).allocate(ask(exactly(NICS))).allocation is not None


def test_a_share_keeps_a_gpu_of_which_it_was_taken() -> None:
    """The same where `place()` would decide: what holds a share of a whole GPU holds the GPU."""
    ledger = Ledger(inventory_of(Machine("a", "rtx3090-2-nvlink")))
    ledger.add_claim(ClaimUid("held"), [given_device("gpu-0", consumed=SHARE)])
    assert allocator_of(ledger).allocate(ask(exactly(GPUS, 2))).allocation is None
    (found,) = allocator_of(ledger).allocate(ask(exactly(GPUS))).allocation.claims[0]
    assert found.device.name == "gpu-1"


def test_devices_of_one_pool_reached_twice_share_its_counters() -> None:
    """Found in review: a pool that lists nodes per device gave out its counters once to each of its two parts."""
    devices = tuple(
        DeviceShape(name=name, consumes=(CounterUse("set", "x", amount(6)),)) for name in ("of the node", "of all")
    )
    shape = PoolShape(driver=NIC_DRIVER, devices=devices, counters={("set", "x"): amount(10)})
    (one,) = inventory_of(Machine("a", beside=(shape,))).reach[0]
    parts = [Reach(one.pool, 0b01, True), Reach(replace(one.pool), 0b10, False)]
    inventory = build_inventory(build_fabric((node("a", NO_GPUS),)), {NodeName("a"): parts})
    allocator = allocator_of(Ledger(inventory))
    assert allocator.allocate(ask(exactly(NICS))).allocation is not None
    assert allocator.allocate(ask(exactly(NICS, 2))).allocation is None
    assert allocator.predict(ask(exactly(NICS, 2))) == []


def test_a_claim_that_waits_on_one_of_its_nodes_waits_on_another_inventory_too() -> None:
    """Found in review: taken over as it was held on the other node, it was not given anew where it waited."""
    ledger = Ledger(inventory_of(Machine("a", MACHINE), Machine("b", MACHINE)))
    ledger.add_claim(ClaimUid("first"), [given_device("gpu-0", "b")])
    ledger.add_claim(ClaimUid("both"), [given_device("gpu-0"), given_device("gpu-0", "b")])
    assert ledger.exact.tolist() == [True, False]
    assert ledger.moved(ledger.inventory).exact.tolist() == [True, False]
