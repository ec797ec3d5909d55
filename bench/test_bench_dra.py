"""How long an allocation takes on 5,000 nodes of 8 A100 that offer GPUs, MIG placements and shares, and a card each.

*Fast*: what `place()` decides. *General*: what is searched node by node, here for a GPU and a card in one claim. First
is an ask never seen, on nodes that all differ from it by nothing; then the same ask again after every allocation.
"""

from __future__ import annotations

from functools import cache

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from packing.dra.inventory import Inventory
from packing.dra.ledger import Ledger
from packing.dra.model import Ask
from tests.packing.dra.builders import (
    GPUS,
    NICS,
    Machine,
    allocator_of,
    amount,
    ask,
    devices,
    exactly,
    inventory_of,
    nic_pool,
    of_type,
)

NODES = 5000
SHARE = {"memory": amount("10Gi"), "computeMilli": amount(250)}
FAST = {
    "gpu": lambda: exactly(GPUS),
    "pair": lambda: exactly(GPUS, 2),
    "partition": lambda: exactly(of_type("mig", profile="1g.10gb")),
    "share": lambda: exactly(of_type("share", sharing="mps"), capacity=SHARE),
}


@cache
def inventory() -> Inventory:
    cards = nic_pool("pci0000:00", "pci0000:01")
    return inventory_of(*(Machine(f"node-{n:04}", "dgx-a100-80", beside=(cards,)) for n in range(NODES)))


def after_each(benchmark: BenchmarkFixture, ledger: Ledger, make) -> list[list[list[str]]]:
    """Time an ask again and again, each allocation taken up before the next."""
    allocator = allocator_of(ledger)
    allocator.allocate(make())
    found = []

    def setup() -> tuple[tuple[Ask], dict]:
        return (make(),), {}

    def allocate(asked: Ask) -> None:
        allocation = allocator.allocate(asked).allocation
        found.append((asked, allocation))

    def teardown(asked: Ask) -> None:
        ledger.add_claim(asked.claims[0].uid, found[-1][1].claims[0])

    benchmark.pedantic(allocate, setup=setup, teardown=teardown, rounds=300)
    return [devices(allocation) for _, allocation in found]


@pytest.mark.parametrize("kind", FAST)
def test_fast_path(benchmark: BenchmarkFixture, kind: str) -> None:
    make = FAST[kind]
    ledger = Ledger(inventory())
    found = after_each(benchmark, ledger, lambda: ask(make(), signature=kind))
    assert all(found)
    assert ledger.exact.all()


def test_general_path(benchmark: BenchmarkFixture) -> None:
    def make() -> Ask:
        return ask(exactly(GPUS), exactly(NICS, name="nic"), signature="gpu and card")

    found = after_each(benchmark, Ledger(inventory()), make)
    assert all(len(claim) == 2 and claim[1].startswith("nic-") for (claim,) in found)


def test_general_path_first(benchmark: BenchmarkFixture) -> None:
    ledger = Ledger(inventory())

    def allocate() -> list[list[str]]:
        asked = ask(exactly(GPUS), exactly(NICS, name="nic"))
        allocation = allocator_of(ledger).allocate(asked).allocation
        assert allocation is not None
        return devices(allocation)

    (claim,) = benchmark.pedantic(allocate, rounds=5)
    assert claim[1] == "nic-0"
